"""What decides whether a held-out mutant is a fault: the emulator and the interpreter, late, early and at random."""

from __future__ import annotations

import pytest
from support.heldout import bases, heldout, schedule
from support.heldout_truth import SIZES, shown


def test_every_base_has_sizes() -> None:
    assert set(SIZES) == set(bases())


@pytest.mark.parametrize("base", ["tf32_tn", "add_parts", "grouped"])
def test_bases_do_what_their_kernels_do(base: str) -> None:
    """tf32_tn: a Hilbert curve beside more hoisted indices than the curve has variables."""
    assert shown(base, schedule(base)) == ""


@pytest.mark.parametrize("base", ["tf32_tn", "grouped"])
def test_mutants_are_what_their_files_say(base: str) -> None:
    fault = next(m for m in heldout(base) if m.operator == "drop-sync")
    good = next(m for m in heldout(base) if m.operator == "walk")
    assert good.equivalent
    assert shown(base, fault.text)
    assert shown(base, good.text) == ""
