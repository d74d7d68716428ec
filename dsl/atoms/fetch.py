"""How a warp brings the operands of a matrix atom from shared memory into its registers.

An 8 x 8 matrix of ldmatrix is 8 rows of 16 bytes: lane 4 g + t receives the t-th word of row g. The fragments of all
mma atoms are made of such words along k, so any dtype whose k is contiguous loads by plain ldmatrix; `.trans`
exchanges 16-bit elements, so it serves the other order of 16-bit operands only. The tests prove every case.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kernelagent.dsl.atoms.record import Atom
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import Mode, digits

Side = Literal["a", "b"]
Via = Literal["ldmatrix", "ldmatrix_trans", "words", "elements"]


@dataclass(frozen=True)
class Fetch:
    """One operand's way into registers; coordinates are (m, k) for a and (k, n) for b, however memory is ordered.

    ldmatrix, ldmatrix_trans: one call of `atom` fills the registers of `repeats` mma atoms that are neighbours along n,
    one after the other; lane l passes the address of the 16-byte row that starts at `row(l)`.
    words: one 32-bit load a register. elements: one load an element, then packing. Both at `held(...)`.
    `detour` says why an operand comes by elements, None for the straight ways.
    """

    side: Side
    via: Via
    atom: str
    tile: tuple[int, int]
    repeats: int = 1
    rows: tuple[Mode, ...] = ()
    detour: str | None = None

    def row(self, lane: int) -> tuple[int, int]:
        """Where the row that `lane` names starts in the tile; lanes beyond the matrices repeat others' rows."""
        at = [0, 0]
        for mode, digit in zip(self.rows, digits(self.rows, lane), strict=True):
            if mode.axis >= 0:
                at[mode.axis] += digit * mode.stride
        return at[0], at[1]


def fetch(atom: Atom, side: Side, k_contiguous: bool, wide: bool = False) -> Fetch:
    """How operand `side` of a matrix atom is fetched from a tile whose rows in memory run along k, or along m or n.

    `wide` takes b for two neighbouring atoms along n in one ldmatrix; elsewhere it changes nothing.
    """
    operand = atom.operand(side)
    width = bits(operand.dtype)
    if k_contiguous or width == 16:
        return _by_matrices(atom, side, k_contiguous, wide and side == "b")
    tile = _tile(atom, side, 1)
    if width == 32:
        return Fetch(side, "words", "lds_b32", tile)
    reason = f"ldmatrix.trans moves 16-bit elements: {width}-bit operands whose k is not contiguous come one by one"
    return Fetch(side, "elements", f"lds_b{width}", tile, detour=reason)


def held(atom: Atom, side: Side, lane: int, register: int) -> tuple[tuple[int, ...], ...]:
    """Coordinates of the elements in a register, lowest bits first."""
    operand = atom.operand(side)
    assert operand.layout is not None
    first = register * operand.per_register
    return tuple(operand.layout.coordinates(lane, first + i) for i in range(operand.per_register))


def _by_matrices(atom: Atom, side: Side, k_contiguous: bool, wide: bool) -> Fetch:
    tile = _tile(atom, side, 2 if wide else 1)
    span = 128 // bits(atom.operand(side).dtype)  # elements of a 16-byte row
    k_axis, other = (1, 0) if side == "a" else (0, 1)
    along_k = Mode(tile[k_axis] // span, k_axis, span)
    along_other = Mode(tile[other] // 8, other, 8)
    line = Mode(8, other, 1) if k_contiguous else Mode(8, k_axis, 1)
    # registers run over m before k in a; over k before the next atom in b
    steps = (along_other, along_k) if side == "a" else (along_k, along_other)
    count = along_k.extent * along_other.extent
    rows = tuple(m for m in (line, *steps, Mode(4 // count, -1, 0)) if m.extent > 1)
    suffix = "" if k_contiguous else "_trans"
    via: Via = "ldmatrix" if k_contiguous else "ldmatrix_trans"
    return Fetch(side, via, f"ldmatrix_x{count}{suffix}", tile, 2 if wide else 1, rows)


def _tile(atom: Atom, side: Side, repeats: int) -> tuple[int, int]:
    layout = atom.operand(side).layout
    assert layout is not None
    rows, columns = layout.shape
    return (rows, columns) if side == "a" else (rows, columns * repeats)
