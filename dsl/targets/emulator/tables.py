"""Index tables of the runner, generated from the atoms' distributions: where each lane's values lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from kernelagent.dsl.atoms import Atom, atom
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import WARP, Distribution

_Place: TypeAlias = Callable[[tuple[int, ...]], int]

MMA = ("bf16", "f16", "tf32", "s8", "u8", "e4m3", "e5m2")
"""In the order of `enum ka_mma_atom`."""
_SHAPES = {"bf16": "m16n8k16", "f16": "m16n8k16", "tf32": "m16n8k8"}


def tables_header() -> str:
    """C++ text of `tables.h`."""
    mma = ",\n".join(_mma(atom(f"mma_{_SHAPES.get(name, 'm16n8k32')}_{name}")) for name in MMA)
    matrix = ",\n".join(_matrix(atom(f"ldmatrix_x1{suffix}")) for suffix in ("", "_trans"))
    return (
        '#include "tables_type.h"\n'
        f"static const MmaTable ka_mma_tables[] = {{\n{mma}\n}};\n"
        f"// Elements of an 8 x 8 matrix in a lane's register, row * 8 + column; then for .trans.\n"
        f"static const unsigned char ka_ldmatrix_table[2][32][2] = {{\n{matrix}\n}};\n"
    )


def _mma(record: Atom) -> str:
    a, b, d = (record.operand(name) for name in ("a", "b", "d"))
    layouts = [_layout(x.layout) for x in (a, b, d)]
    k = layouts[0].shape[1]
    numbers = ", ".join(str(n) for n in (k, bits(a.dtype), *(x.registers for x in layouts)))
    placed = (
        _table(layouts[0], lambda at: at[0] * k + at[1]),
        _table(layouts[1], lambda at: at[1] * k + at[0]),
        _table(layouts[2], lambda at: at[0] * layouts[2].shape[1] + at[1]),
    )
    return f"{{{numbers},\n" + ",\n".join(placed) + "}"


def _matrix(record: Atom) -> str:
    return _table(_layout(record.operand("r").layout), lambda at: at[1] * 8 + at[2])


def _layout(layout: Distribution | None) -> Distribution:
    assert layout is not None, "operands of warp-wide atoms are distributed"
    return layout


def _table(layout: Distribution, place: _Place) -> str:
    rows = ([place(layout.coordinates(lane, v)) for v in range(layout.registers)] for lane in range(WARP))
    return "{" + ", ".join(_braced(row) for row in rows) + "}"


def _braced(numbers: Iterable[int]) -> str:
    return "{" + ", ".join(map(str, numbers)) + "}"
