"""Kernels written from the guide and the problems alone: what is right is shown to be, what is wrong is refuted.

`benchmarks/semantics.py` runs `check` on all of them and keeps the score, which may not fall; here some of each kind
are checked, by their terms, whole, or by the interpreter alone.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.semantics.prove import EQUAL, prove_semantics
from support.semantics_cases import AGREES, DIFFERS, Case, cases, difference

from kernelagent.checking import check_for, graph_of

CASES = cases()
SCORE = Path(__file__).parents[2] / "benchmarks" / "results" / "semantics.json"
FLOOR = {"equal": 85, "wrong": 114, "near": 2}
SLOW = ("attention", "attention_causal")
"""Problems whose kernels take seconds each: a few stand for all here, the script has them all."""

LIGHT = [c for c in CASES if c.problem not in SLOW]
HEAVY = [c for c in CASES if c.name in ("scores transposed", "weights are masked, not scores")]


def sample(expect: str, every: int, of: list[Case]) -> list[Case]:
    return [c for c in of if c.expect == expect][::every]


def shown_equal(case: Case) -> bool:
    """By the terms alone: no run can refute anything."""
    findings = prove_semantics(parse(case.text), Choice({}, {}, {}), graph_of(case.of))
    return all(o.level == EQUAL for o in findings.obligations if o.family == "semantics")


@pytest.mark.parametrize("case", sample("equal", 2, LIGHT) + HEAVY, ids=str)
def test_right_kernels_are_equal_over_the_reals(case: Case) -> None:
    assert shown_equal(case)


@pytest.mark.parametrize("case", sample("wrong", 3, LIGHT), ids=str)
def test_wrong_kernels_are_not_equal_over_the_reals(case: Case) -> None:
    assert not shown_equal(case)


@pytest.mark.parametrize("case", sample("wrong", 9, LIGHT), ids=str)
def test_wrong_kernels_are_refuted_with_an_input_on_which_outputs_differ(case: Case) -> None:
    report = check_for(case.text, case.of, target="cpu", quick=False)
    assert any(o.family in ("semantics", "numeric") and o.verdict == "REFUTED" for o in report.obligations)
    assert any(c.expected is not None and c.expected != c.found and c.sizes for c in report.counterexamples)


@pytest.mark.parametrize(
    "case", [c for c in LIGHT if c.stability or c.nan or (c.problem, c.expect) == ("relu", "equal")], ids=str
)
def test_what_floats_lose_is_told(case: Case) -> None:
    report = check_for(case.text, case.of, target="cpu", quick=False)
    warned = [o for o in report.obligations if o.family == "stability" and o.verdict == "UNKNOWN"]
    assert any(o.subject == "nan" for o in warned) == bool(case.nan)
    assert any(o.subject != "nan" for o in warned) == bool(case.stability)
    assert all("NaN at x[" in o.detail and "the reference NaN" in o.detail for o in warned if o.subject == "nan")


@pytest.mark.parametrize("case", CASES[::3], ids=str)
def test_the_fixtures_are_what_they_say(case: Case) -> None:
    """Judged by the interpreter and the problem's reference, without the verifier."""
    found = difference(case)
    assert found > DIFFERS if case.expect == "wrong" else found < AGREES


def test_the_score_does_not_fall() -> None:
    score = json.loads(SCORE.read_text(encoding="utf-8"))["now"]
    assert {kind: score["as_expected"][kind] >= floor for kind, floor in FLOOR.items()} == dict.fromkeys(FLOOR, True)
    assert (score["false"], score["silent"]) == (0, 0)
    assert score["kernels"] == len(CASES)
