"""The held-out mutants: a sample of them every time, all of them by `benchmarks/gpu/mutation.py`."""

from __future__ import annotations

import pytest
from support.heldout import Heldout, bases, heldout, is_wrong, outcome, schedule, score, verdict
from support.heldout_edits import drawn, places, touched
from support.mutants import Outcome

ALL = {m.name: m for base in bases() for m in heldout(base)}
SAMPLED = 6
"""One of so many is run."""
OPEN: frozenset[str] = frozenset()
"""Judged wrongly. Nothing may be added."""


@pytest.mark.parametrize("base", bases())
def test_the_files_are_what_the_seed_draws(base: str) -> None:
    lines = schedule(base).rstrip("\n").split("\n")
    again = [(e.operator, e.first, e.removed, e.new, e.families) for e in drawn(base, lines)]
    assert [(m.operator, m.first, m.removed, m.new, m.families) for m in heldout(base)] == again
    for mutant, edit in zip(heldout(base), drawn(base, lines), strict=True):
        assert mutant.lines == set(places(lines, edit))
        assert mutant.touched == set(touched(lines, edit)) <= mutant.lines


def test_enough_bases_and_operators() -> None:
    assert len(bases()) >= 12
    assert len(ALL) >= 300
    assert len({m.operator for m in ALL.values()}) >= 40


@pytest.mark.parametrize("base", bases())
def test_bases_are_not_refuted(base: str) -> None:
    assert not outcome(base, schedule(base)).refuted


@pytest.mark.parametrize("base", bases())
def test_a_sample(base: str) -> None:
    sample = heldout(base)[bases().index(base) % SAMPLED :: SAMPLED]
    judged = [(m, verdict(m, outcome(base, m.text))) for m in sample]
    print(score(judged))
    assert {m.name for m, said in judged if is_wrong(m, said)} <= OPEN


def test_what_is_open_exists() -> None:
    assert set(ALL) >= OPEN
    assert all(not ALL[name].undecided for name in OPEN)


def test_what_counts_as_right() -> None:
    mutant: Heldout = next(m for m in ALL.values() if m.is_fault)
    family, line = min(mutant.families), min(mutant.lines)
    assert verdict(mutant, Outcome((family,), (line,))) == "right"
    assert verdict(mutant, Outcome((family,), (10_000,))) == "elsewhere"
    assert verdict(mutant, Outcome(("resources-of-another-kind",), (line,))) == "elsewhere"
    assert verdict(mutant, Outcome(("schedule",), (line,))) == "refused"
    assert verdict(mutant, Outcome()) == "survives"
