"""The winner of a run is compared with its reference over the reals, and the leaderboard says how far it is equal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl.verify.summary import level_text
from kernelagent.harness import Evaluation

from kernelagent import problems
from kernelagent.agent.workbench import _with_semantics
from kernelagent.reports.leaderboard import Entry, entry_of, to_html, to_json, to_markdown

PASSED = Evaluation("softmax", "sha", "PASSED", (), proofs={"PROVED": 7}, verdict="PROVED")
RECORD = {
    "run": "r", "problem": "softmax", "workload": "w", "target": "cpu",
    "best": {"status": "PASSED", "time_ms": 1.0, "proofs": {"PROVED": 7}, "verdict": "PROVED"},
}  # fmt: skip


@pytest.mark.parametrize("name", ["softmax", "gemm_nn", "rope"])
def test_a_right_kernel_has_its_level(name: str) -> None:
    problem = problems.load(name)
    found = _with_semantics(PASSED, problem.seed_kernel, problem)
    assert (found.status, found.verdict, found.semantics) == ("PASSED", "PROVED", "EQUAL_OVER_REALS")
    assert found.proofs["PROVED"] > 7
    assert Evaluation.from_dict(found.to_dict()) == found


def test_a_kernel_that_is_only_near_does_not_win() -> None:
    """One part in ten million passes every tolerance."""
    problem = problems.load("softmax")
    stored = "store(y, (i, j), cast("
    text = problem.seed_kernel
    assert text.count(stored) == 1
    found = _with_semantics(PASSED, text.replace(stored, "store(y, (i, j), cast(1.000001 * "), problem)
    assert (found.status, found.verdict, found.semantics) == ("REFUTED", "REFUTED", "")
    assert found.report[0].startswith("semantics: y[")


def entry(semantics: str) -> Entry:
    record = {**RECORD, "best": {**RECORD["best"], "semantics": semantics}}  # type: ignore[dict-item]
    return entry_of(Path("nowhere"), record, ())


def test_the_leaderboard_says_how_far() -> None:
    told = level_text("EQUAL_OVER_REALS")
    for rows, there in (([entry("EQUAL_OVER_REALS")], True), ([entry("")], False)):
        assert (f"PASSED, {told}" in to_markdown(rows)) is there
        assert (f"; {told}" in to_html(rows)) is there
    assert to_json([entry("FIELD_TESTED(6)")])["entries"][0]["semantics"] == "FIELD_TESTED(6)"


def test_old_runs_have_no_level() -> None:
    old = entry_of(Path("nowhere"), RECORD, ())
    assert old == replace(entry(""), semantics="")
    assert old.standing == "PASSED"
