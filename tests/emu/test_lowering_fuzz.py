"""Random small kernels through the device lowering, emitted and emulated, against the interpreter; exact.

`KERNELAGENT_FUZZ=500 pytest tests/emu/test_lowering_fuzz.py` takes 500 further seeds of each family.
What that found is kept below as tests with names.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from kernelagent.dsl.diagnostics import KernelError
from support.lowered import assert_emulated
from support.random_products import FAMILIES

COUNTS = {"elementwise": 18, "product": 10, "chain": 4, "gathered": 5, "ragged": 3}
REFUSED = {"cuda-unsupported", "shared-limit", "mma-tile"}
"""What a random kernel may ask for in vain: some reshapes, more shared memory than there is, warps without a piece."""

FURTHER = 1000
MORE = int(os.environ.get("KERNELAGENT_FUZZ", "0"))
SEEDS = [(family, seed) for family, count in COUNTS.items() for seed in range(count)]
SEEDS += [(family, FURTHER + seed) for family in COUNTS for seed in range(MORE)]


@pytest.mark.parametrize(("family", "seed"), SEEDS)
def test_random_kernels_mean_what_the_interpreter_means(family: str, seed: int) -> None:
    program = FAMILIES[family](seed)
    completion = ("late", "early", "random")[seed % 3]
    try:
        assert_emulated(program.text, program.arrays, program.scalars, completion=completion, seed=seed, rtol=0, atol=0)
    except KernelError as refused:
        if seed < FURTHER or not {d.code for d in refused.diagnostics} <= REFUSED:
            raise


# Found by longer runs -------------------------------------------------------------------------------------


def whole(*shape: int, low: int = -4, high: int = 5, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def exactly(text: str, **arrays: np.ndarray) -> None:
    assert_emulated(f"edition(1)\n@kernel\n{text}", arrays, rtol=0, atol=0)


def test_integer_extrema_shuffle_once() -> None:
    """The shuffle stood inside the comparison's arms, where lanes part."""
    exactly(
        """def f(x: In[i32, M, N], y: Out[i32, M], z: Out[i32, M]):
    assume(N <= 64)
    for i in tiles((M,), (4,)):
        v = load(x, (i, 0), (4, 64))
        store(y, (i,), max(v, axis=1))
        store(z, (i,), min(v, axis=1))
""",
        x=whole(6, 50, low=-99, high=99, dtype=np.int32), y=np.zeros(6, np.int32), z=np.zeros(6, np.int32),
    )  # fmt: skip


def test_argmax_where_registers_are_not_neighbours() -> None:
    """A register's number was taken for its position."""
    exactly(
        """def f(x: In[f32, M, N], y: Out[i32, M]):
    assume(N <= 256)
    for i in tiles((M,), (4,)):
        store(y, (i,), argmax(load(x, (i, 0), (4, 256)), axis=1))
""",
        x=whole(5, 203), y=np.zeros(5, np.int32),
    )  # fmt: skip


def test_integers_divided_by_zero_and_by_minus_one() -> None:
    x = np.array([5, -5, -(2**31), 7, 0, -(2**31)], np.int32)
    d = np.array([0, 0, -1, -1, 0, 3], np.int32)
    exactly(
        """def f(x: In[i32, N], d: In[i32, N], q: Out[i32, N], r: Out[i32, N]):
    for i in tiles((N,), (8,)):
        a, b = load(x, (i,), (8,)), load(d, (i,), (8,))
        store(q, (i,), a // b)
        store(r, (i,), a % b)
""",
        x=x, d=d, q=np.zeros(6, np.int32), r=np.zeros(6, np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
def test_prefixes_along_both_axes_of_a_tile_with_warps_over_rows(axis: int) -> None:
    exactly(
        f"""def f(x: In[f32, M, N], y: Out[f32, M, N]):
    for i, j in tiles((M, N), (64, 64)):
        store(y, (i, j), scan(load(x, (i, j), (64, 64)), axis={axis}, op=sum))
""",
        x=whole(70, 90), y=np.zeros((70, 90), np.float32),
    )  # fmt: skip


def test_whole_reductions_decide_branches() -> None:
    """The rank-0 result had a distribution and was not found again."""
    exactly(
        """def f(x: In[f32, M, N], y: Out[f32, M, N]):
    for i, j in tiles((M, N), (4, 64)):
        v = load(x, (i, j), (4, 64))
        if sum(v) > 0.0:
            w = v + 1.0
        else:
            w = v - 1.0
        store(y, (i, j), w)
""",
        x=whole(9, 100), y=np.zeros((9, 100), np.float32),
    )  # fmt: skip


def test_updates_in_place_wait_for_other_threads_loads() -> None:
    """More threads than elements: a thread with a copy loaded after the owner's store."""
    exactly(
        """def f(x: InOut[f32, M, N]):
    for i, j in tiles((M, N), (2, 16)):
        v = load(x, (i, j), (2, 16))
        store(x, (i, j), v * 2.0 + max(v, axis=0)[None, :])
""",
        x=whole(5, 40),
    )  # fmt: skip


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_narrow_operands_without_a_matrix_instruction(dtype: str) -> None:
    """Tiles that no atom divides: single threads multiply, f16 operands as f32."""
    name = {"float16": "f16", "float32": "f32"}[dtype]
    exactly(
        f"""def f(a: In[{name}, M, K], b: In[{name}, N, K], o: Out[f32, M, N]):
    for i, j in tiles((M, N), (17, 9)):
        acc = zeros((17, 9), f32)
        for k in pipeline(0, K, 5):
            acc += mma(load(a, (i, k), (17, 5)), load(b, (j, k), (9, 5)).T)
        store(o, (i, j), acc)
""",
        a=whole(20, 13).astype(dtype), b=whole(11, 13, seed=1).astype(dtype), o=np.zeros((20, 11), np.float32),
    )  # fmt: skip


def test_a_carried_name_is_live_where_the_loop_leaves_it_also_when_it_does_not_run() -> None:
    """Rows beyond M are void after a product, whether or not one is made: the column sum must not count them."""
    exactly(
        """def f(a: In[f32, M, K], b: In[f32, K, N], o: Out[f32, M, N]):
    for i, j in tiles((M, N), (48, 24)):
        acc = full((48, 24), 2, f32)
        for k in pipeline(48, K, 48):
            acc += mma(load(a, (i, k), (48, 48)), load(b, (k, j), (48, 24)))
        store(o, (i, j), acc - sum(acc, axis=0)[None, :])
""",
        a=whole(95, 45), b=whole(45, 24, seed=1), o=np.zeros((95, 24), np.float32),
    )  # fmt: skip


@pytest.mark.parametrize("word", ["max(v, axis=2)[:, :, None]", "scan(v, axis=2, op=max)"])
def test_rows_that_warps_share_in_odd_parts(word: str) -> None:
    """Four warps over 4 x 3 rows: three of them were given rows, and the block's fourth was forgotten."""
    exactly(
        f"""def f(x: In[f32, L, M, N], y: Out[f32, L, M, N]):
    for i, j, k in tiles((L, M, N), (4, 3, 32)):
        v = load(x, (i, j, k), (4, 3, 32))
        store(y, (i, j, k), v + {word})
""",
        x=whole(5, 4, 40), y=np.zeros((5, 4, 40), np.float32),
    )  # fmt: skip


# Shapes of programs that the generator does not draw -------------------------------------------------------

LOADED = "load(a, (i, {0}), (32, 32)), load(b, (j, {0}), (32, 32)).T"
NESTED = f"""def f(a: In[f16, M, K], b: In[f16, N, K], o: Out[f32, M, N]):
    on(cuda, stages=2)
    for i, j in tiles((M, N), (32, 32)):
        acc = zeros((32, 32), f32)
        for k in pipeline(0, K, 32):
            acc += mma({LOADED.format("k")})
            for t in range(0, 2, 1):
                for l in pipeline(0, K, 32):
                    acc += mma({LOADED.format("l")})
        store(o, (i, j), acc)
"""
BRANCHING = f"""def f(a: In[f16, M, K], b: In[f16, N, K], o: Out[f32, M, N]):
    for i, j in tiles((M, N), (32, 32)):
        acc, rows = zeros((32, 32), f32), zeros((32,), f32)
        for k in pipeline(0, K, 32):
            x = load(a, (i, k), (32, 32))
            rows += sum(cast(x, f32), axis=1)
            if k < 40:
                acc = acc + mma(x, load(b, (j, k), (32, 32)).T)
            else:
                acc = acc - mma({LOADED.format("k")})
        store(o, (i, j), acc + rows[:, None])
"""


@pytest.mark.parametrize("text", [NESTED, BRANCHING], ids=["rings in rings", "products under an if"])
def test_products_in_nested_loops_and_branches(text: str) -> None:
    a, b = (whole(40, 96, seed=s).astype(np.float16) for s in (0, 1))
    exactly(text, a=a, b=b, o=np.zeros((40, 40), np.float32))
