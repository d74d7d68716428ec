"""Schedules written by hand run in the emulator: the values are right, and it finds nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.targets.cuda.emit import emit, entry_name, launch_blocks
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorReport, ScalarArgument, run
from numpy.typing import NDArray
from support.device_kernels import ROLES
from support.level2_texts import TEXTS

Array = NDArray[Any]
RNG = np.random.default_rng(0)


def emulated(
    text: str, arrays: Mapping[str, Array], dims: Mapping[str, int], scalars: Mapping[str, float] | None = None
) -> EmulatorReport:
    kernel = parse_schedule(text)
    arguments = [ArrayArgument(a.name, arrays[a.name], ROLES[a.role]) for a in kernel.arrays]
    values = [ScalarArgument((scalars or {})[s.name], s.dtype) for s in kernel.scalars]
    return run(
        emit(kernel), entry_name(kernel), kernel.threads, launch_blocks(kernel, dict(dims), 3), kernel.shared_bytes,
        arguments, [dims[d] for d in kernel.dims], values, completion="random", buffers=kernel.buffers,
    )  # fmt: skip


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype("f4")


def bf16(*shape: int) -> Array:
    return normal(*shape).astype(ml_dtypes.bfloat16)


def blank(dtype: Any, *shape: int) -> Array:
    return np.zeros(shape, dtype)


def check(report: EmulatorReport) -> None:
    assert report.ok, [f.message for f in report.findings]


@pytest.mark.parametrize(("m", "n", "k"), [(128, 64, 128), (130, 70, 40)])
def test_gemm(m: int, n: int, k: int) -> None:
    a, w, y = bf16(m, k), bf16(n, k), blank(ml_dtypes.bfloat16, m, n + n % 2)
    check(emulated(TEXTS["gemm"], {"a": a, "w": w, "y": y}, {"M": m, "K": k, "N": n}, {"alpha": 0.5}))
    np.testing.assert_allclose(y.astype("f4"), 0.5 * a.astype("f4") @ w.astype("f4").T, rtol=1e-2, atol=5e-2)


def test_softmax() -> None:
    x, y = bf16(3, 2056), blank(ml_dtypes.bfloat16, 3, 2056)
    check(emulated(TEXTS["softmax"], {"x": x, "y": y}, {"M": 3, "N": 2056}))
    e = np.exp(x.astype("f8"))
    np.testing.assert_allclose(y.astype("f4"), e / e.sum(1, keepdims=True), rtol=1e-2, atol=1e-4)


def test_transpose() -> None:
    x, y = normal(36, 68), blank("f4", 68, 36)
    check(emulated(TEXTS["transpose"], {"x": x, "y": y}, {"M": 36, "N": 68}))
    np.testing.assert_array_equal(y, x.T)


def test_attention() -> None:
    q, k, v = bf16(2, 70, 64), bf16(2, 100, 64), bf16(2, 100, 64)
    o = blank(ml_dtypes.bfloat16, 2, 70, 64)
    dims = {"H": 2, "M": 70, "N": 100}
    check(emulated(TEXTS["attention"], {"q": q, "k": k, "v": v, "o": o}, dims, {"scale": 0.125}))
    scores = 0.125 * q.astype("f4") @ k.astype("f4").transpose(0, 2, 1)
    p = np.exp(scores - scores.max(2, keepdims=True))
    np.testing.assert_allclose(o.astype("f4"), p / p.sum(2, keepdims=True) @ v.astype("f4"), rtol=3e-2, atol=3e-2)


def test_ragged() -> None:
    offsets = np.array([0, 3, 3, 10], "i4")
    x, y = normal(10, 40), blank("f4", 10, 40)
    arrays = {"x": x, "offsets": offsets, "spare": normal(3), "y": y}
    check(emulated(TEXTS["ragged"], arrays, {"M": 10, "N": 40, "E": 3}))
    np.testing.assert_array_equal(y, 2 * x)


def test_scatter() -> None:
    m, n = 19, 40
    x, rows = normal(m, n), RNG.permutation(m).astype("i4")
    y, total = blank("f4", m, n), blank("f4", n)
    check(emulated(TEXTS["scatter"], {"x": x, "rows": rows, "y": y, "total": total}, {"M": m, "N": n}))
    np.testing.assert_array_equal(y, x)
    whole = (np.arange(m) // 8 * 8 + 8 <= m)[:, None] & (np.arange(n) >= 32)[None, :]
    np.testing.assert_allclose(total, (x[rows] * (1 + whole)).sum(0), rtol=1e-5, atol=1e-5)
