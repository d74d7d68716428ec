"""Deliberate faults, written from the specification: each is reported at its line; correct programs never are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.faults import MODES, Program, akin, programs, reports, right

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


def cases(group: list[Program]) -> list[object]:
    """Parameters of a test; a fault that the emulator is known to miss must go on failing until it is found."""
    marks = {p.name: [pytest.mark.xfail(strict=True, reason=p.missed)] if p.missed else [] for p in group}
    return [pytest.param(p, id=p.name.replace(" ", "-"), marks=marks[p.name]) for p in group]


@pytest.mark.parametrize("fault", cases(FAULTS))
def test_reported_at_its_line(fault: Program, score: dict[str, bool]) -> None:
    """On every shape and in every order that shows it; and what is said first has to do with it."""
    score[fault.name] = False
    for dims in fault.shapes:
        for completion in fault.modes:
            found = reports(fault, dims, completion)
            where = f"{completion}, {dict(dims)}: {found}"
            assert any(right(fault, report) for report in found), where
            assert akin(fault, found[0]), where
    score[fault.name] = True


@pytest.mark.parametrize("program", cases(CORRECT))
def test_silent(program: Program, score: dict[str, bool]) -> None:
    """Correct programs have right values and no findings, in every order."""
    score[program.name] = False
    for dims in program.shapes:
        for completion in MODES:
            assert not reports(program, dims, completion), f"{completion}, {dict(dims)}"
    score[program.name] = True


def test_enough() -> None:
    names = [p.name for p in (*FAULTS, *CORRECT)]
    assert len(set(names)) == len(names)
    assert len(FAULTS) >= 30
    assert len(CORRECT) >= 10
