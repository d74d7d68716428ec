"""A launch on a real device: the first thing to run where there is one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl.targets.cuda import cache, launch
from kernelagent.dsl.targets.cuda.archs import archs


def _arch() -> str | None:
    """The architecture of the first device, None without a device, CuPy or an entry in the table."""
    if importlib.util.find_spec("cupy") is None:
        return None
    import cupy

    if not cupy.is_available():
        return None
    capability = tuple(int(digit) for digit in cupy.cuda.Device(0).compute_capability)
    return next((name for name, row in archs().items() if row.capability == capability), None)


ARCH = _arch()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(ARCH is None, reason="needs CuPy and an NVIDIA GPU of the table")]

SCALE = """
struct array { float* data; long long stride[2]; };
extern "C" __global__ void scale(array x, array y, int rows, float factor) {
    extern __shared__ float staged[];
    const int row = blockIdx.x, column = threadIdx.x;
    float* last = staged + 16 * 1024;  // beyond the 48 KB that need no opting in
    last[column] = x.data[row * x.stride[0] + column * x.stride[1]];
    __syncthreads();
    if (row < rows) y.data[row * y.stride[0] + column * y.stride[1]] = factor * last[blockDim.x - 1 - column];
}
"""


def test_structures_scalars_and_much_shared_memory(tmp_path: Path) -> None:
    import cupy

    entry = cache.cached_cubin(SCALE, str(ARCH), cache_dir=tmp_path)
    kernel = launch.load(entry.path, "scale")
    x = cupy.arange(6 * 64, dtype=cupy.float32).reshape(6, 64)
    y = cupy.zeros((64, 6), dtype=cupy.float32).T
    arrays = tuple(launch.array_argument(a.data.ptr, [s // a.itemsize for s in a.strides]) for a in (x, y))
    kernel((6, 1, 1), 64, (*arrays, np.int32(5), np.float32(2.0)), shared_bytes=64 * 1024 + 256)
    expected = 2.0 * x.get()[:, ::-1]
    expected[5] = 0.0
    np.testing.assert_array_equal(y.get(), expected)
