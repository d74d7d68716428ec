"""How operands of warpgroup products lie in shared memory, and the descriptors that say so.

A tile is cut into panels, one behind the other: rows of `span` bytes along its contiguous axis, and all of the other
axis. A panel is what one box of a tensor map writes. The instruction walks canonical layouts (PTX ISA 9.0,
"Asynchronous warpgroup level matrix shared memory layout"), here in elements with T = 16 bytes, W = span / 16:

    K-major, swizzled     ((8, m), (T, 2)) : ((W T, SBO), (1, T))
    K-major, plain        ((8, m), (T, 2)) : ((T, SBO), (1, LBO))
    MN-major, swizzled    ((T, W, m), (8, k)) : ((1, T, LBO), (W T, SBO))
    MN-major, plain       ((T, m), (8, k)) : ((1, SBO), (T, LBO))

so LBO and SBO are the distances in the tile to the elements in `_NEXT`, and nothing else need be known about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kernelagent.dsl.atoms.record import Atom
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.tensor_map import CHUNK, SWIZZLES, alignment_of

Side = Literal["a", "b"]
Major = Literal["K", "MN"]

MAJORS: tuple[Major, ...] = ("K", "MN")

FIELD_LIMIT = 1 << 18
"""Offsets and addresses of a descriptor are 14 bits of 16 bytes each."""

TYPES = {0: 0, 128: 1, 64: 2, 32: 3}
"""What a descriptor's bits 62-63 say about the swizzle."""


def majors(atom: Atom) -> tuple[Major, ...]:
    """Orders in which shared memory may hold operands: k along rows for all, m or n for 16-bit elements only."""
    return MAJORS if bits(atom.operand("b").dtype) == 16 else ("K",)


@dataclass(frozen=True)
class Panels:
    """An operand tile of `mn` (m or n) by `k` elements of `width` bits in shared memory."""

    major: Major
    mn: int
    k: int
    width: int
    swizzle: int

    @property
    def span(self) -> int:
        """Bytes of a panel's row."""
        return self.swizzle or CHUNK

    @property
    def span_elements(self) -> int:
        return 8 * self.span // self.width

    @property
    def rows(self) -> int:
        """Rows of a panel; a box of a tensor map has at most 256, more are several boxes one behind the other."""
        return self.mn if self.major == "K" else self.k

    @property
    def count(self) -> int:
        return (self.k if self.major == "K" else self.mn) // self.span_elements

    @property
    def box(self) -> tuple[int, int]:
        """The panel as a box of a tensor map, innermost axis first."""
        return self.span_elements, self.rows

    @property
    def panel_bytes(self) -> int:
        return self.rows * self.span

    def offset(self, mn: int, k: int) -> int:
        """Bytes from the tile's start to an element, before the swizzle."""
        row, column = (mn, k) if self.major == "K" else (k, mn)
        panel, within = divmod(column, self.span_elements)
        return panel * self.panel_bytes + row * self.span + within * self.width // 8


@dataclass(frozen=True)
class Descriptor:
    """What `ka_descriptor` needs for an operand tile at an address that is a multiple of `base_alignment`; in bytes.

    `lbo` 0: the hardware does not look at it. `step_bytes` leads from the first k step to the second; where k crosses
    panels further steps need `start`.
    """

    lbo: int
    sbo: int
    step_bytes: int
    swizzle: int
    base_alignment: int
    step_k: int
    panels: Panels

    @property
    def turn(self) -> int:
        """The instruction's transposition argument: 1 for MN-major."""
        return int(self.panels.major == "MN")

    def start(self, step: int, mn: int = 0) -> int:
        """Bytes from the tile's start to where the descriptor of a k step begins, for rows or columns from `mn` on."""
        return self.panels.offset(mn, step * self.step_k)


def descriptor(atom: Atom, side: Side, tile: tuple[int, int], major: Major, swizzle: int) -> Descriptor:
    """The descriptor of operand `side` in a shared tile of (m, k) elements for a, (k, n) for b.

    `swizzle` in bytes, 0 for none. Raises KernelError (`wgmma-operand`) with the nearest tile or swizzle that works.
    """
    broken = _broken(atom, side, tile, major, swizzle)
    if broken:
        raise KernelError([broken])
    mn, k = _extents(side, tile)
    panels = Panels(major, mn, k, bits(atom.operand(side).dtype), swizzle)
    to_lbo, to_sbo = _next(panels)
    return Descriptor(
        lbo=panels.offset(*to_lbo) if to_lbo else 0,
        sbo=panels.offset(*to_sbo),
        step_bytes=panels.offset(0, _k_of(atom)),
        swizzle=swizzle,
        base_alignment=alignment_of(swizzle),
        step_k=_k_of(atom),
        panels=panels,
    )


def widest_swizzle(atom: Atom, side: Side, tile: tuple[int, int], major: Major) -> int | None:
    """The swizzle over the longest rows that the tile takes, in bytes; None if there is none."""
    fitting = (s for s in reversed(SWIZZLES) if _broken(atom, side, tile, major, s) is None)
    return next(fitting, None)


def encode(start: int, lbo: int, sbo: int, swizzle: int) -> int:
    """The 64 bits that `ka_descriptor` makes of a byte address in shared memory; base offset 0."""
    fields = (start % FIELD_LIMIT, lbo, sbo)
    return sum(value // CHUNK << shift for value, shift in zip(fields, (0, 16, 32), strict=True)) | TYPES[swizzle] << 62


def _next(panels: Panels) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """The elements (mn, k) that lie LBO and SBO behind element (0, 0)."""
    chunk = 8 * CHUNK // panels.width
    if panels.major == "K":
        return (None if panels.swizzle else (0, chunk)), (8, 0)
    if panels.swizzle:
        return ((panels.span_elements, 0) if panels.count > 1 else None), (0, 8)
    return (0, 8), (chunk, 0)


def _broken(atom: Atom, side: Side, tile: tuple[int, int], major: Major, swizzle: int) -> Diagnostic | None:
    found = _instruction_rule(atom, side, major, swizzle) or _tile_rule(atom, side, tile, major, swizzle)
    if found is None:
        return None
    message, hint = found
    facts = {"atom": atom.name, "side": side, "tile": tile, "major": major, "swizzle": swizzle}
    return Diagnostic("wgmma-operand", f"operand {side} of {atom.name}: {message}", hint=hint, facts=facts)


def _instruction_rule(atom: Atom, side: Side, major: Major, swizzle: int) -> tuple[str, str] | None:
    operand = atom.operand(side)
    if operand.space != "descriptor":
        return "comes from registers", f"take {atom.name.removesuffix('_ra')} for operands in shared memory"
    if swizzle not in SWIZZLES:
        return f"no swizzle spans {swizzle} bytes", "take 0, 32, 64 or 128"
    if major not in majors(atom):
        return f"{bits(operand.dtype)}-bit elements have k along rows", "store it K-major: as A[m, k] or B[n, k]"
    return None


def _tile_rule(atom: Atom, side: Side, tile: tuple[int, int], major: Major, swizzle: int) -> tuple[str, str] | None:
    """Atoms cut the tile, and rows of panels divide what is walked along them: all k, or one atom's m or n."""
    mn, k = _extents(side, tile)
    atom_mn, atom_k = int(atom.shape[0 if side == "a" else 1]), _k_of(atom)
    if mn % atom_mn or k % atom_k or not mn or not k:
        fit = f"{_up(mn, atom_mn)} x {_up(k, atom_k)}"
        return f"{mn} x {k} elements are not cut by {atom_mn} x {atom_k}", f"take {fit}"
    row = (k if major == "K" else atom_mn) * bits(atom.operand(side).dtype) // 8
    if row % (swizzle or CHUNK):
        fitting = next(s for s in reversed(SWIZZLES) if row % (s or CHUNK) == 0)
        return f"rows of {swizzle} bytes do not divide {row}", f"take swizzle={fitting}"
    return None


def _extents(side: Side, tile: tuple[int, int]) -> tuple[int, int]:
    """(mn, k) of a tile."""
    return tile if side == "a" else (tile[1], tile[0])


def _k_of(atom: Atom) -> int:
    return int(atom.shape[2])


def _up(extent: int, unit: int) -> int:
    return max(1, -(-extent // unit)) * unit
