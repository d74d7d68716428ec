"""Hopper's calls on a Hopper: a product of matrices through tensor maps, clusters, roles and asynchronous products."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.targets.cuda import cache, launch, tensor_maps
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.tensor_map import TensorMapSpec
from support.cuda import source


def _is_hopper() -> bool:
    if importlib.util.find_spec("cupy") is None:
        return False
    import cupy

    return bool(cupy.is_available() and cupy.cuda.Device(0).compute_capability == "90")


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not _is_hopper(), reason="needs CuPy and a Hopper GPU")]

SHARED_BYTES = 3 * (16384 + 32768) + 65536 + 48
BF16 = numpy_dtype("bf16")


def mapped(array: Any, box: tuple[int, int]) -> Any:
    """The encoded map of a row-major matrix of 16-bit elements on the device."""
    spec = TensorMapSpec("array", "bf16", (1, 0), box, 128)
    return tensor_maps.encode(spec.bind(array.data.ptr, array.shape, [s // 2 for s in array.strides]))


@pytest.mark.parametrize(("m", "n", "k"), [(256, 256, 64), (512, 512, 64 * 7), (1024, 768, 512)])
def test_a_product_of_matrices(tmp_path: Path, m: int, n: int, k: int) -> None:
    """Small integers: every sum is exact, and exact in bf16 after rounding once."""
    import cupy

    body = source("gemm_sm_90a.cu")
    entry = cache.cached_cubin(prelude("sm_90a", body) + body, "sm_90a", cache_dir=tmp_path)
    kernel = launch.load(entry.path, "gemm")
    numbers = np.random.default_rng(1)
    a, b = numbers.integers(-3, 4, (m, k)), numbers.integers(-3, 4, (k, n))
    on_device = [cupy.asarray(x.astype(BF16).view(np.uint16)) for x in (a, b)]
    c = cupy.full((m, n), 0x7FC0, cupy.uint16)
    maps = (mapped(on_device[0], (64, 128)), mapped(on_device[1], (64, 64)), mapped(c, (64, 64)))
    kernel((4, 1, 1), 384, (np.int32(m), np.int32(n), np.int32(k), *maps), shared_bytes=SHARED_BYTES)
    assert (c.get().view(BF16) == (a @ b).astype(np.float32).astype(BF16)).all()
