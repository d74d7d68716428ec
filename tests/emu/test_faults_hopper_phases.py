"""Deliberate faults of Hopper, written from the specification: barriers with phases."""

from __future__ import annotations

import pytest
from support.faults import Program, cases, check_reported, programs


@pytest.mark.parametrize("fault", cases(programs("hopper")))
def test_reported_at_its_line(fault: Program) -> None:
    check_reported(fault)
