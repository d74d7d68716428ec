"""The CPU's atoms (products, packing, transposition, elementwise) as the same record, from the CPU target's own table.

Names get the prefix `cpu_`; `archs` are its feature levels. Memory layouts in words stay in that table.
"""

from __future__ import annotations

from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.targets.cpu import atoms as cpu


def _operand(operand: cpu.Operand) -> Operand:
    direction = "out" if operand.name == "dst" else "inout" if operand.name == "acc" else "in"
    return Operand(operand.name, operand.dtype, operand.space, direction)  # type: ignore[arg-type]


def _precision(atom: cpu.Atom) -> str:
    if atom.ulp is not None:
        return f"{atom.ulp} ulp"
    return f"sums in {atom.accumulator}" if atom.accumulator else "exact"


def _record(atom: cpu.Atom) -> Atom:
    return Atom(
        name=f"cpu_{atom.name}",
        kind=atom.kind,
        archs=atom.levels,
        shape=tuple(atom.shape),
        operands=tuple(map(_operand, atom.operands)),
        reference=atom.reference,
        source=f"prelude of the CPU target: {atom.header}, {atom.function}",
        accumulator=atom.accumulator,
        precision=_precision(atom),
        alignment=max((o.alignment for o in atom.operands), default=1) or 1,
    )


ATOMS: tuple[Atom, ...] = tuple(map(_record, cpu.ATOMS.values()))
