"""Kernels of whole rows at any size and address: streamed stores, their shared end lines, buffers moved in a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import moves
from kernelagent.dsl.targets import cpu
from numpy.typing import NDArray

from kernelagent import problems
from tests.support.compiled import loaded

Array = NDArray[Any]
KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"
GUARD = 64
SHAPES = [
    (1, 1, 4096),
    (1, 4093, 4096),
    (3, 17, 4096),
    (257, 4093, 4096),  # streamed, several rows an item of work
    (1031, 1021, 1024),  # streamed, most rows begin and end inside a line
    (9, 131071, 131072),  # streamed, one row an item of work
    (1031, 1024, 1024),  # streamed in whole lines: a softmax stores a row while it computes the next
    (301, 4080, 4096),  # the same with an end that no block divides
]


def placed(data: Array, offset: int) -> tuple[Array, Array]:
    """A copy that begins `offset` floats behind a page, and the whole memory around it."""
    whole = np.full(data.size + 2048 + 2 * GUARD, 7.0, np.float32)
    begin = (-whole.ctypes.data // 4) % 1024 + GUARD + offset
    view = whole[begin : begin + data.size].reshape(data.shape)
    view[...] = data
    return view, whole


def softmax(x: Array) -> Array:
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    result: Array = e / e.sum(axis=1, keepdims=True)
    return result


def rmsnorm(x: Array, w: Array) -> Array:
    wide = x.astype(np.float64)
    result: Array = wide / np.sqrt((wide * wide).mean(axis=1, keepdims=True) + 1e-6) * w
    return result


def run(kernel: cpu.LoadedKernel, arrays: dict[str, Array], scalars: dict[str, float], offset: int) -> Array:
    y, whole = placed(np.zeros_like(arrays["x"]), offset)
    for threads in (1, 2):
        kernel.bind({**arrays, "y": y}, scalars, threads)()
    y_begin = (y.ctypes.data - whole.ctypes.data) // 4
    assert (whole[:y_begin] == 7.0).all()
    assert (whole[y_begin + y.size :] == 7.0).all()
    return y


@pytest.mark.parametrize(("rows", "columns", "block"), SHAPES)
@pytest.mark.parametrize("offsets", [(0, 0), (4, 4), (0, 5), (15, 1008)])
def test_rows_at_any_address(rows: int, columns: int, block: int, offsets: tuple[int, int]) -> None:
    random = np.random.default_rng(rows)
    x, _ = placed(random.standard_normal((rows, columns)).astype(np.float32), offsets[0])
    w = random.standard_normal(columns).astype(np.float32)
    for name, arrays, scalars, wanted in (
        ("softmax", {"x": x}, {}, softmax(x)),
        ("rmsnorm", {"x": x, "w": w}, {"eps": 1e-6}, rmsnorm(x, w)),
    ):
        text = (KERNELS / f"{name}.tile").read_text()
        kernel = loaded(text, {**arrays, "y": x}, tunables={"BN": block})
        np.testing.assert_allclose(run(kernel, arrays, scalars, offsets[1]), wanted, rtol=2e-5, atol=1e-6)


def test_a_row_has_the_same_bits_wherever_it_is_stored() -> None:
    """On whole lines the store runs with the next row's pass, elsewhere on its own."""
    x, _ = placed(np.random.default_rng(5).standard_normal((301, 4080)).astype(np.float32), 0)
    kernel = loaded((KERNELS / "softmax.tile").read_text(), {"x": x, "y": x})
    late, apart = (run(kernel, {"x": x}, {}, offset) for offset in (0, 5))
    assert late.tobytes() == apart.tobytes()
    np.testing.assert_allclose(late, softmax(x), rtol=2e-5, atol=1e-6)


def test_a_fast_path_for_short_rows_is_right_in_both_arms() -> None:
    seed = problems.load("softmax").seed_kernel
    text = moves.apply("share_value", moves.apply("whole_row", seed, size=1024, rows=1))
    for columns in (1024, 1040):
        x, _ = placed(np.random.default_rng(6).standard_normal((1100, columns)).astype(np.float32), 0)
        kernel = loaded(text, {"x": x, "y": x})
        np.testing.assert_allclose(run(kernel, {"x": x}, {}, 0), softmax(x), rtol=2e-5, atol=1e-6)
