"""Checks against a problem find what only shows past the first tile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl.verify.families import Effort
from kernelagent.problems import load, names

from kernelagent.checking import check_for

NO_RESCALE = """\
edition(1)

@kernel
def softmax(x: In[T, R, C], y: Out[T, R, C], BR=4, BC=1024):
    for i in tiles((R,), (BR,)):
        m, l = full((BR,), -1e30, f32), zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            s = cast(load(x, (i, j), (BR, BC)), f32)
            m_new = maximum(m, max(s, axis=1))
            l = l + sum(exp(s - m_new[:, None]), axis=1)
            m = m_new
        for j in pipeline(0, C, BC):
            store(y, (i, j), cast(exp(load(x, (i, j), (BR, BC)) - m[:, None]) / l[:, None], T))
"""
FIRST_COLUMNS_ONLY = """\
edition(1)

@kernel
def rmsnorm(x: In[T, R, C], w: In[T, C], y: Out[T, R, C], eps: f32, BN=512):
    for i in tiles((R,), (1,)):
        s = zeros((1,), f32)
        for j in pipeline(0, 64, BN):
            v = load(x, (i, j), (1, BN))
            s += sum(v * v, axis=1)
        r = rsqrt(s / C + eps)
        for j in pipeline(0, 64, BN):
            store(y, (i, j), cast(load(x, (i, j), (1, BN)) * r[:, None] * load(w, (j,), (BN,))[None, :], T))
"""


@pytest.mark.parametrize(
    ("text", "problem", "family"),
    [(NO_RESCALE, "softmax", "numeric"), (FIRST_COLUMNS_ONLY, "rmsnorm", "coverage")],
)
def test_what_shows_past_the_first_tile_is_refuted(text: str, problem: str, family: str) -> None:
    report = check_for(text, load(problem), "cpu", quick=True)
    assert report.verdict == "REFUTED"
    assert family in {o.family for o in report.obligations if o.verdict == "REFUTED"}


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quick check leaves out runs when its time is up; here they are made however busy the machine is."""
    patient = replace(Effort.quick(), seconds=10.0)
    monkeypatch.setattr(Effort, "quick", lambda: patient)


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("name", names())
def test_seeds_agree_at_sizes_with_several_tiles(name: str) -> None:
    report = check_for(load(name).seed_kernel, load(name), "cpu", quick=True)
    assert report.ok, report.counterexamples
    detail = next(o.detail for o in report.obligations if o.family == "numeric")
    assert detail.count("(") >= 2


def test_a_text_with_other_names_is_told_so() -> None:
    report = check_for(load("row_sum").seed_kernel, load("gemm_nn"), "cpu", quick=True)
    assert not report.ok
    assert report.diagnostics
