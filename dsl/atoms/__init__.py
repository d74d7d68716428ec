"""Instruction atoms: one record each, with layouts, templates and numpy references; one family a file."""

from __future__ import annotations

from kernelagent.dsl.atoms.choose import Choice, Detour, mma_for
from kernelagent.dsl.atoms.fetch import Fetch, fetch, held
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.atoms.support import Cell, support, support_markdown
from kernelagent.dsl.atoms.tables import atom, atoms

__all__ = [
    "Atom",
    "Cell",
    "Choice",
    "Detour",
    "Fetch",
    "Operand",
    "atom",
    "atoms",
    "fetch",
    "held",
    "mma_for",
    "support",
    "support_markdown",
]
