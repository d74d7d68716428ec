"""Instruction atoms: one record each, with layouts, templates and numpy references; one family a file."""

from __future__ import annotations

from functools import cache

from kernelagent.dsl.atoms.record import Atom, Operand


@cache
def table() -> dict[str, Atom]:
    """Every atom by name. CPU atoms are prefixed `cpu_`."""
    from kernelagent.dsl.atoms import (
        atomics,
        barriers,
        conversions,
        copies,
        elementary,
        ldmatrix,
        mma,
        shuffles,
    )

    families = (mma, ldmatrix, copies, shuffles, barriers, atomics, conversions, elementary)
    return {a.name: a for family in families for a in family.ATOMS}


def atom(name: str) -> Atom:
    """The atom of this name. Raises KeyError for others."""
    return table()[name]


def atoms(kind: str | None = None, arch: str | None = None) -> tuple[Atom, ...]:
    """Atoms of a kind that an architecture has, in table order."""
    found = (a for a in table().values() if kind in (None, a.kind))
    return tuple(a for a in found if arch is None or a.runs_on(arch))


__all__ = ["Atom", "Operand", "atom", "atoms", "table"]
