"""A second set of kernels, written from the specification alone and frozen before the verifier was tried on them.

`tests/support/semantics2.py` judges all of them; a sample of each kind is judged here. `first_run.json` is what was
said before anything was mended, `last_run.json` what is said now.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.semantics2 import judge
from support.semantics2_cases import FOLDER, cases

CASES = cases()
EVERY = {"equal": 10, "wrong": 32}
FIRST = {"equal": 120, "wrong": 260}
"""As expected in the first run, of 155 equal and 261 wrong kernels."""

FLOOR = {"equal": 151, "wrong": 261}


def sample(expect: str) -> list[int]:
    return [n for n, case in enumerate(CASES) if case.expect == expect][:: EVERY[expect]]


def kept(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return record


def as_expected(record: dict[str, Any]) -> dict[str, int]:
    return {kind: int(text.partition("/")[0]) for kind, text in record["score"]["as_expected"].items()}


@pytest.mark.parametrize("number", sample("equal"), ids=lambda n: CASES[n].name)
def test_right_kernels_are_never_refuted(number: int) -> None:
    known = {j["name"]: j["said"] for j in kept("last_run.json")["verdicts"]}
    judged = judge(number)
    assert not judged.false, judged.detail
    assert judged.said == known[judged.name], judged.detail


@pytest.mark.parametrize("number", sample("wrong"), ids=lambda n: CASES[n].name)
def test_wrong_kernels_are_refuted_by_values_that_differ(number: int) -> None:
    judged = judge(number)
    assert judged.good, judged.detail


def test_the_set_is_what_was_frozen() -> None:
    counted = {kind: sum(c.expect == kind for c in CASES) for kind in EVERY}
    assert counted == {"equal": 155, "wrong": 261}
    assert len({c.of.name for c in CASES}) == 46


def test_the_score_of_the_whole_set_does_not_fall() -> None:
    first, last = kept("first_run.json"), kept("last_run.json")
    assert as_expected(first) == FIRST
    assert last["score"]["kernels"] == len(CASES)
    assert last["score"]["false"] == []
    assert all(as_expected(last)[kind] >= FLOOR[kind] for kind in FLOOR)
