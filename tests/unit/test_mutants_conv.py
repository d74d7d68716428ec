"""Changed schedules: faults are refuted by the right family at the right line, what is as good as before is not."""

from __future__ import annotations

import pytest
from support.mutants import check

REFUTED = {"conv": 34}
"""Faults that the verifier refutes, by base; they may not become fewer."""


@pytest.mark.parametrize("base", REFUTED)
def test_mutants(base: str) -> None:
    check(base, REFUTED[base])
