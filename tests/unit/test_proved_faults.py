"""The programs of the emulator's tests: correct ones are never refuted, faults in the schedule's text are."""

from __future__ import annotations

import pytest
from support.faults import Program
from support.proved_faults import CORRECT, FAULTS, named, said, written

REFUTED, NAMED = 135, 129
"""Of the faults; they may not become fewer. The rest are wrong values, which without a kernel nobody can tell."""


@pytest.mark.parametrize("program", written(*CORRECT), ids=lambda p: p.name.replace(" ", "-"))
def test_correct_programs_are_not_refuted(program: Program) -> None:
    assert said(program).refuted == ()


def test_faults_are_refuted() -> None:
    reports = [(program, said(program)) for program in written(*FAULTS)]
    refuted = [p for p, report in reports if report.refuted]
    right = [p for p, report in reports if named(p, report)]
    print(f"{len(reports)} faults, {len(refuted)} refuted, {len(right)} at lines that have to do with them")
    assert len(refuted) >= REFUTED
    assert len(right) >= NAMED
