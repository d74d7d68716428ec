"""Sizes at both ends: dims of 0, and arrays of more than 2^31 elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl import interpret, parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.fault import RunError
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.shapes import emptied, sizes

from tests.support.compiled import assert_same, loaded

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kernels"
CONSTS = {"attention": {"causal": True}}
NAMES = (
    "attention", "column_sums_atomic", "conv3x3_s2", "cross_entropy", "cumsum", "gemm_grouped", "gemm_nn",
    "gemm_splitk", "layernorm", "rope", "softmax", "transpose",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_dims_of_0_give_what_the_interpreter_gives(name: str) -> None:
    text = (FOLDER / f"{name}.tile").read_text(encoding="utf-8")
    module = parse(text)
    consts = CONSTS.get(name, {})
    dtypes = dict.fromkeys(module.entry.dtype_variables, "f32")
    found = list(emptied(module, next(sizes(module, {}))))
    assert found
    for dims in found:
        trial = draw(module.entry, dims, dtypes, consts)
        assert_same(text, trial.arrays, {**trial.scalars}, consts=consts, dtypes=dtypes, dims=_fixed(name, dims))


def _fixed(name: str, dims: dict[str, int]) -> dict[str, int]:
    return {"D": dims["D"]} if name == "attention" else {}


def test_a_product_over_nothing_stores_zeros() -> None:
    text = (FOLDER / "gemm_nn.tile").read_text(encoding="utf-8")
    c = np.full((5, 7), np.nan, np.float32)
    arrays = {"a": np.zeros((5, 0), np.float32), "b": np.zeros((0, 7), np.float32), "c": c}
    loaded(text, arrays, dtypes={"T": "f32"})(arrays)
    assert (c == 0).all()


ROWS = """edition(1)

@kernel
def rows(x: In[i8, M, N], y: Out[i32, M], BN=4096):
    for i in tiles((M,), (1,)):
        acc = zeros((1,), i32)
        for j in pipeline(0, N, BN):
            acc += sum(cast(load(x, (i, j), (1, BN), fill=0), i32), axis=1)
        store(y, (i,), acc)
"""


def _free_bytes() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0


@pytest.mark.skipif(not Path("/proc/meminfo").exists() or _free_bytes() < 4 << 30, reason="needs 4 GB of memory")
def test_elements_beyond_2_31_are_found() -> None:
    """The last rows begin behind the 2^31st byte; an index of 32 bits would be negative there."""
    x = np.zeros((2**16 + 3, 2**15), np.int8)
    for row, column, value in ((0, 0, 1), (2**16 - 1, 2**15 - 1, 2), (2**16, 0, 3), (2**16 + 2, 2**15 - 1, 4)):
        x[row, column] = value
    y = np.full(len(x), -1, np.int32)
    loaded(ROWS, {"x": x, "y": y})({"x": x, "y": y})
    assert {int(r): int(y[r]) for r in np.flatnonzero(y)} == {0: 1, 2**16 - 1: 2, 2**16: 3, 2**16 + 2: 4}


def test_an_index_that_does_not_fit_its_dtype_is_refused() -> None:
    text = ROWS.replace("store(y, (i,), acc)", "store(y, (i,), acc + cast(cast(acc, i8) + N, i32))")
    x, y = np.zeros((2, 128), np.int8), np.zeros(2, np.int32)
    with pytest.raises(KernelError, match="128 and has 8 bits"):
        loaded(text, {"x": x, "y": y})({"x": x, "y": y})
    with pytest.raises(RunError, match="does not fit"):
        interpret(parse(text), {"x": x, "y": y}, {})
