"""Instruction atoms: one record each, with layouts, templates and numpy references; one family a file."""

from __future__ import annotations

from kernelagent.dsl.atoms.choose import Choice, Detour, mma_for, wgmma_for
from kernelagent.dsl.atoms.fetch import Fetch, fetch, held
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.atoms.shared_operand import Descriptor, Panels, descriptor, widest_swizzle
from kernelagent.dsl.atoms.support import Cell, support, support_markdown, warpgroup_support
from kernelagent.dsl.atoms.tables import atom, atoms

__all__ = [
    "Atom",
    "Cell",
    "Choice",
    "Descriptor",
    "Detour",
    "Fetch",
    "Operand",
    "Panels",
    "atom",
    "atoms",
    "descriptor",
    "fetch",
    "held",
    "mma_for",
    "support",
    "support_markdown",
    "warpgroup_support",
    "wgmma_for",
    "widest_swizzle",
]
