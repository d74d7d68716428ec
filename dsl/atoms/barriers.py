"""Barriers: all threads of a block arrive, and see each other's earlier accesses to memory afterwards."""

from __future__ import annotations

from kernelagent.dsl.atoms.record import Atom

ATOMS: tuple[Atom, ...] = (
    Atom(
        name="barrier",
        kind="barrier",
        archs=("sm_80",),
        shape=(),
        operands=(),
        reference=None,
        source="PTX ISA 9.0, bar, barrier",
        scope="block",
        ptx="barrier.sync.aligned 0;",
        sass=(("sm_80", r"BAR\.SYNC"),),
    ),
)
