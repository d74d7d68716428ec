"""All atoms by name."""

from __future__ import annotations

from functools import cache

from kernelagent.dsl.atoms import (
    atomics,
    barriers,
    conversions,
    copies,
    cpu,
    elementary,
    fma,
    ldmatrix,
    mbarrier,
    mma,
    roles,
    shuffles,
    tma,
    wgmma,
)
from kernelagent.dsl.atoms.record import Atom

_FAMILIES = (
    mma, fma, ldmatrix, copies, shuffles, barriers, atomics, conversions, elementary, cpu,
    wgmma, tma, mbarrier, roles,
)  # fmt: skip


@cache
def table() -> dict[str, Atom]:
    """Every atom by its name, in the order of families."""
    return {a.name: a for family in _FAMILIES for a in family.ATOMS}


def atom(name: str) -> Atom:
    """The atom of this name. Raises KeyError for others."""
    return table()[name]


@cache
def atoms(kind: str | None = None, arch: str | None = None) -> tuple[Atom, ...]:
    """Atoms of a kind that an architecture has, in table order."""
    found = (a for a in table().values() if kind in (None, a.kind))
    return tuple(a for a in found if arch is None or a.runs_on(arch))
