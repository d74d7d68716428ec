"""A store that finds its value void is told with the load whose axis ends there."""

from __future__ import annotations

import pytest
from kernelagent.dsl.check_text import check
from kernelagent.dsl.verify.records import Counterexample
from kernelagent.dsl.verify.telling import told

GEMM = """edition(1)

@kernel
def gemm(a: In[f32, M, K], w: In[f32, N, K], bias: In[f32, N], y: Out[f32, M, N], BM=8, BN=8, BK=8):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        b = load(bias, (j,), (BN,))
        store(y, (i, j), acc + b[None, :])
"""


def refuted(text: str) -> Counterexample:
    return next(c for c in check(text).counterexamples if c.family == "coverage")


@pytest.mark.parametrize(
    ("change", "load", "line"),
    [(("bias, (j,)", "bias, (i,)"), "load(bias, (i,))", 9), (("w, (j, k)", "w, (i, k)"), "load(w, (i, k))", 8)],
)
def test_the_load_that_ends_is_named(change: tuple[str, str], load: str, line: int) -> None:
    text = GEMM.replace(*change)
    found = refuted(text)
    assert found.lines == (10,)  # the store, not the array
    assert found.why == f"void there because of {load} of line {line} (its axis of N={found.sizes['N']} ends)"
    assert f"why: {found.why}" in told([found], text)[0]


def test_an_element_that_no_store_reaches_is_told_at_the_store_and_its_loop() -> None:
    found = refuted(GEMM.replace("tiles((M, N), (BM, BN))", "tiles((M, N - 1), (BM, BN))"))
    assert found.lines == (10, 5)
    assert "line 10 stores" in found.why
