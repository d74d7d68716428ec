"""Hopper programs that look dangerous and are not: never reported, and right in every order."""

from __future__ import annotations

import pytest
from support.faults import Program, cases, check_silent, programs

FAULTS = ("hopper", "hopper_products", "hopper_blocks", "hopper_bodies")


@pytest.mark.parametrize("program", cases(programs("hopper_correct")))
def test_silent(program: Program) -> None:
    check_silent(program)


def test_enough() -> None:
    names = [p.name for p in programs(*FAULTS, "hopper_correct")]
    assert len(set(names)) == len(names)
    assert len(programs("hopper_correct")) >= 12
    assert len(programs(*FAULTS)) >= 130
