"""Deliberate faults, written from the specification: each is reported at its line; correct programs never are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.faults import Program, cases, check_reported, check_silent, programs

FAULTS = programs("asynchronous", "barriers", "memory", "values")
CORRECT = programs("correct")


@pytest.fixture(scope="module")
def score(request: pytest.FixtureRequest) -> Iterator[dict[str, bool]]:
    """What came out, by name; told when all programs have run."""
    outcomes: dict[str, bool] = {}
    yield outcomes
    faults, correct = ([outcomes[p.name] for p in group if p.name in outcomes] for group in (FAULTS, CORRECT))
    reported = f"faults: {sum(faults)} of {len(faults)} reported at the right line"
    capture = request.config.pluginmanager.get_plugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        print(f"\n{reported}; {sum(correct)} of {len(correct)} correct programs silent")


@pytest.mark.parametrize("fault", cases(FAULTS))
def test_reported_at_its_line(fault: Program, score: dict[str, bool]) -> None:
    score[fault.name] = False
    check_reported(fault)
    score[fault.name] = True


@pytest.mark.parametrize("program", cases(CORRECT))
def test_silent(program: Program, score: dict[str, bool]) -> None:
    score[program.name] = False
    check_silent(program)
    score[program.name] = True


def test_enough() -> None:
    names = [p.name for p in (*FAULTS, *CORRECT)]
    assert len(set(names)) == len(names)
    assert len(FAULTS) >= 30
    assert len(CORRECT) >= 10
