"""Kernels whose operands and results are boxes in part: groups, windows, zeros of a load; sums on two levels."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units
from kernelagent.dsl.targets.emulator.launch import Completion
from numpy.typing import NDArray
from support.lowered import assert_emulated

ORDERS: tuple[Completion, ...] = ("late", "early", "random")
HEAD = """edition(1)

@kernel
def f({x}, w: In[bf16, N, K], c: Out[f32, M, N]{more}, BM=128, BN=64, BK=64):
    on(sm_90a, stages=2)
    {facts}
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma({load}, load(w, (j, k), (BN, BK)).T)
        store(c, (i, j), acc)
"""
HALF = HEAD.format(x="x: In[bf16, M, K]", more="", facts="", load="load(x[0:M // 2], (i, k), (BM, BK), fill=0)")
WHOLE = HALF.replace("[0:M // 2]", "")
STEPPED = HEAD.format(
    x="x: In[bf16, H, K]", more="", facts="assume(H == 2 * M)",
    load="load(window(x, offset=(1, 0), stride=(2, 1), shape=(M, K)), (i, k), (BM, BK))",
)  # fmt: skip
GROUPS = """edition(1)

@kernel
def grouped(x: In[bf16, M, K], offsets: In[i32, E + 1], w: In[bf16, E, N, K], c: Out[f32, M, N], BM=64, BN=64, BK=64):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i, j in tiles((hi - lo, N), (BM, BN)):
            acc = zeros((BM, BN), f32)
            for k in pipeline(0, K, BK):
                acc += mma(load(x[lo:hi], (i, k), (BM, BK)), load(w[e], (j, k), (BN, BK)).T)
            store(c[lo:hi], (i, j), acc)
"""
FP8 = """edition(1)

@kernel
def gemm(a: In[f8e4m3, M, K], w: In[f8e4m3, N, K], c: Out[f32, M, N], BM=64, BN=64, BK=64):
    on(sm_90a, stages=2, promote=PROMOTE)
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        store(c, (i, j), acc)
"""


def normal(*shape: int, dtype: Any = ml_dtypes.bfloat16) -> NDArray[Any]:
    return np.random.default_rng(5).standard_normal(shape).astype(dtype)


def has_roles(text: str) -> bool:
    return bool(device_units(parse(text), Choices({}, {}, {}, {}), "sm_90a")[0].classes[0].schedule.roles)


@pytest.mark.parametrize(("text", "roles"), [(HALF, False), (WHOLE, True)], ids=["inside the array", "at its end"])
def test_zeros_that_a_load_fills_in_are_not_read_from_the_array(text: str, roles: bool) -> None:
    assert has_roles(text) is roles
    assert_emulated(
        text, {"x": normal(200, 64), "w": normal(72, 64), "c": np.zeros((200, 72), np.float32)}, arch="sm_90a"
    )


@pytest.mark.parametrize("order", ORDERS)
def test_every_second_row_is_a_box(order: Completion) -> None:
    assert has_roles(STEPPED)
    arrays = {"x": normal(288, 136), "w": normal(72, 136), "c": np.zeros((144, 72), np.float32)}
    assert_emulated(STEPPED, arrays, arch="sm_90a", completion=order)


@pytest.mark.parametrize("order", ORDERS)
def test_groups_of_whole_tiles_overhanging_ones_and_none(order: Completion) -> None:
    offsets = np.array([0, 64, 64, 197, 200], np.int32)
    arrays = {"x": normal(200, 72), "offsets": offsets, "w": normal(4, 72, 72), "c": np.zeros((200, 72), np.float32)}
    assert has_roles(GROUPS)
    assert_emulated(GROUPS, arrays, arch="sm_90a", completion=order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("promote", [0, 2, 4, 8])
def test_sums_on_two_levels_lose_no_step(promote: int, order: Completion) -> None:
    """Five steps of 64 elements: after every one, every second or fourth, or at the end, with some left over."""
    a, w = (normal(rows, 320, dtype=ml_dtypes.float8_e4m3fn) for rows in (72, 64))
    text = FP8.replace("PROMOTE", str(promote))
    assert has_roles(text)
    assert_emulated(text, {"a": a, "w": w, "c": np.zeros((72, 64), np.float32)}, arch="sm_90a", completion=order)
