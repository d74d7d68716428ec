"""Clusters of two and four, down a column and along a row, with multicast: emulated in every order of completion."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.targets.emulator.execute import emulate
from kernelagent.dsl.targets.emulator.launch import Completion
from support.gpu_texts import gemm_by_policy

GEMM = gemm_by_policy("on(sm_90a, {policy})", out="f32", tile=(64, 64, 64))
BF16 = numpy_dtype("bf16")


def checked(policy: str, m: int, n: int, k: int, completion: Completion, text: str = GEMM) -> None:
    """Small integers: every sum is exact."""
    numbers = np.random.default_rng(5)
    a, b = (numbers.integers(-3, 4, (rows, k)).astype(BF16) for rows in (m, n))
    c = np.full((m, n), np.nan, np.float32)
    report = emulate(parse(text.format(policy=policy)), {"a": a, "b": b, "c": c}, {}, "sm_90a", completion, seed=2)
    assert report.classes == ("aligned",)
    assert not report.findings, [f.message for f in report.findings]
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32).T)


@pytest.mark.parametrize("completion", ["late", "early", "random"])
@pytest.mark.parametrize("cluster", ["(2, 1)", "(1, 2)", "(4, 1)", "(1, 4)"])
def test_an_odd_number_of_tiles_in_every_order(cluster: str, completion: Completion) -> None:
    """3 x 5 tiles, the last ones ragged: clusters are filled up with empty tiles."""
    checked(f"cluster={cluster}, stages=2", 136, 264, 200, completion)


@pytest.mark.parametrize("raster", ["row", "column", "grouped", "hilbert", "3"])
@pytest.mark.parametrize("cluster", ["(2, 1)", "(1, 4)"])
def test_persistent_clusters_in_every_raster(cluster: str, raster: str) -> None:
    checked(f"cluster={cluster}, stages=3, persistent=True, raster={raster}", 200, 328, 136, "random")


@pytest.mark.parametrize("cluster", ["(4, 1)", "(1, 4)"])
def test_an_operand_that_lies_along_its_other_axis(cluster: str) -> None:
    """Panels of several boxes: each block copies whole panels, or rows of each."""
    text = GEMM.replace("b: In[bf16, N, K]", "b: In[bf16, K, N]").replace(
        "load(b, (j, k), (BN, BK)).T", "load(b, (k, j), (BK, BN))"
    )
    numbers = np.random.default_rng(6)
    a, b = numbers.integers(-3, 4, (130, 72)).astype(BF16), numbers.integers(-3, 4, (72, 520)).astype(BF16)
    c = np.full((130, 520), np.nan, np.float32)
    module = parse(text.format(policy=f"cluster={cluster}, BN=256, stages=2"))
    report = emulate(module, {"a": a, "b": b, "c": c}, {}, "sm_90a", "late", seed=3)
    assert not report.findings, [f.message for f in report.findings]
    np.testing.assert_array_equal(c, a.astype(np.float32) @ b.astype(np.float32))


def test_fewer_steps_than_stages_and_one_tile() -> None:
    checked("cluster=4, stages=4", 8, 8, 16, "late")
