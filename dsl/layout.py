"""Layout algebra: functions from coordinates to offsets, as nested shapes and strides, and operations on them.

A layout `shape:stride` maps a coordinate to the sum of coordinate times stride. Its 1-D coordinates count
colexicographically: the leftmost mode is fastest. Strides are elements of any module over the integers: ints,
`Index` polynomials (runtime strides), `Basis` vectors (coordinates, for tensor maps); coordinates are ints, `Index`
polynomials or z3 terms. Shapes are ints.

The names and conventions are those of CuTe ("CuTe Layout Representation and Algebra", NVIDIA 2024). An operation
whose law would not hold raises `LayoutError`: nothing is rounded up, neither extents nor strides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any, TypeAlias

Nested: TypeAlias = "int | tuple[Nested, ...]"
Module: TypeAlias = Any  # int, Index, Basis or z3 term, or a nested tuple of them
Leaf: TypeAlias = tuple[int, Module]  # (extent, stride) of a mode that is not nested
Tiler: TypeAlias = "Layout | int | tuple[Tiler, ...] | None"  # None: the whole mode; n: n:1; tuple: by mode


class LayoutError(ValueError):
    """An operation that is not defined on its operands; says on which mode and for which two numbers."""

    def __init__(self, reason: str, mode: int | None = None, numbers: tuple[int, ...] = ()) -> None:
        self.mode, self.numbers = mode, numbers
        super().__init__(reason)


@dataclass(frozen=True)
class Layout:
    """Congruent nested shape and stride: coordinate -> offset, in elements. Raises LayoutError if not congruent."""

    shape: Nested
    stride: Module

    def __post_init__(self) -> None:
        if not _congruent(self.shape, self.stride):
            raise LayoutError(f"shape {nested_text(self.shape)} and stride {nested_text(self.stride)} differ in form")

    def __call__(self, *coordinate: Module) -> Module:
        """The offset of a coordinate: one number, one per mode (each a number or nested), or one per flat mode."""
        at = coordinate[0] if len(coordinate) == 1 else coordinate
        if not isinstance(at, tuple):
            return _offset(at, self.shape, self.stride)
        flat = len(at) != rank(self) and not any(isinstance(c, tuple) for c in at)
        target = flatten(self) if flat else concatenate(*modes(self))
        return _offset(at, target.shape, target.stride)

    @property
    def cosize(self) -> int:
        return cosize(self)

    def __str__(self) -> str:
        return f"{nested_text(self.shape)}:{nested_text(self.stride)}"


@dataclass(frozen=True)
class Basis:
    """A coordinate vector: the module whose layouts give positions instead of offsets (`2@0+1@1` is (2, 1))."""

    coordinates: tuple[Module, ...]

    def __add__(self, other: Basis | int) -> Basis:
        if isinstance(other, int) and other == 0:
            return self
        if not isinstance(other, Basis):
            return NotImplemented
        return Basis(tuple(a + b for a, b in zip(self.coordinates, other.coordinates, strict=True)))

    __radd__ = __add__

    def __mul__(self, factor: Module) -> Basis:
        return Basis(tuple(c * factor for c in self.coordinates))

    __rmul__ = __mul__

    def __str__(self) -> str:
        parts = [f"{c}@{axis}" for axis, c in enumerate(self.coordinates) if not is_zero(c)]
        return "+".join(parts) or "0"


def basis(rank: int) -> tuple[Basis, ...]:
    """The `rank` unit vectors: strides of the layout that maps a coordinate to itself."""
    return tuple(Basis(tuple(int(i == axis) for i in range(rank))) for axis in range(rank))


# Construction -------------------------------------------------------------------------------------


# Law: row_major(shape)(i, j, ...) counts coordinates with the last mode fastest.
def row_major(shape: tuple[int, ...], pad_last_to: int = 1) -> Layout:
    """Dense row-major layout; the last axis is padded to a multiple of `pad_last_to`."""
    padded = (*shape[:-1], *(-(-extent // pad_last_to) * pad_last_to for extent in shape[-1:]))
    return Layout(tuple(shape), ordered(padded, tuple(reversed(range(len(shape))))).stride)


# Law: column_major(shape)(i) = i.
def column_major(shape: Nested) -> Layout:
    """The compact layout of colexicographic order."""
    step = 1

    def strides(part: Nested) -> Nested:
        nonlocal step
        if isinstance(part, tuple):
            return tuple(strides(p) for p in part)
        step, own = step * part, step
        return own

    return Layout(shape, strides(shape))


# Law: a bijection onto [0, size); mode order[0] is fastest.
def ordered(shape: tuple[int, ...], order: tuple[int, ...]) -> Layout:
    """Compact layout whose modes become slower in the given order."""
    strides, step = [0] * len(shape), 1
    for mode in order:
        strides[mode], step = step, step * shape[mode]
    return Layout(tuple(shape), tuple(strides))


def concatenate(*layouts: Layout) -> Layout:
    """The layout whose modes are `layouts`."""
    return Layout(tuple(a.shape for a in layouts), tuple(a.stride for a in layouts))


# Inspection ---------------------------------------------------------------------------------------


def modes(a: Layout) -> tuple[Layout, ...]:
    """The top-level modes; a layout that is not nested is its own only mode."""
    if isinstance(a.shape, int):
        return (a,)
    return tuple(Layout(s, d) for s, d in zip(a.shape, a.stride, strict=True))


def rank(a: Layout) -> int:
    return len(modes(a))


def size(a: Layout | Nested) -> int:
    """Number of coordinates."""
    shape = a.shape if isinstance(a, Layout) else a
    if isinstance(shape, int):
        return shape
    return reduce(lambda n, part: n * size(part), shape, 1)


def cosize(a: Layout) -> int:
    """Largest offset plus one; 0 for an empty layout. For negative strides: the extent that the offsets span."""
    if size(a) == 0:
        return 0
    return 1 + sum((extent - 1) * abs(integer(stride)) for extent, stride in leaves(a))


def leaves(a: Layout) -> Iterator[Leaf]:
    """(extent, stride) of each mode that is not nested, left to right."""
    if isinstance(a.shape, int):
        yield a.shape, a.stride
    else:
        for mode in modes(a):
            yield from leaves(mode)


def image(a: Layout) -> frozenset[Module]:
    """All offsets."""
    return frozenset(a(i) for i in range(size(a)))


def is_injective(a: Layout) -> bool:
    return len(image(a)) == size(a)


def is_bijective(a: Layout) -> bool:
    """Whether the image is exactly [0, size)."""
    return image(a) == frozenset(range(size(a)))


def by_mode(a: Layout, tiler: tuple[Tiler, ...]) -> Iterator[tuple[Layout, Tiler]]:
    """Each tile with its mode; the modes without a tile are left out."""
    if len(tiler) > rank(a):
        raise LayoutError(f"{len(tiler)} tiles for {a} of rank {rank(a)}", rank(a), (len(tiler), rank(a)))
    return zip(modes(a), tiler, strict=False)


# Equal functions, simpler forms ---------------------------------------------------------------------


# Law: flatten(A)(i) = A(i).
def flatten(a: Layout) -> Layout:
    """Depth 1 without merging modes."""
    return from_leaves(list(leaves(a)), keep_rank=True)


# Law: coalesce(A)(i) = A(i) on [0, size A), depth at most 1, idempotent; equal functions have equal results.
def coalesce(a: Layout, profile: Nested | None = None) -> Layout:
    """The shortest form: extents of one dropped, neighbours merged; by mode where `profile` is a tuple."""
    if isinstance(profile, tuple):
        parts = modes(a)
        done = (coalesce(m, p) for m, p in zip(parts, profile, strict=False))
        return concatenate(*done, *parts[len(profile) :])
    merged: list[Leaf] = []
    for extent, stride in leaves(a):
        if extent == 1:
            continue
        if merged and merged[-1][1] * merged[-1][0] == stride:
            merged[-1] = (merged[-1][0] * extent, merged[-1][1])
        else:
            merged.append((extent, stride))
    return from_leaves(merged)


# Law: same image, and the strides of modes that hold more than one element are not zero.
def filter_zeros(a: Layout) -> Layout:
    """Modes of stride 0 shrink to extent 1."""
    return _map_leaves(a, lambda extent, stride: Layout(1, stride) if is_zero(stride) else Layout(extent, stride))


def filter_modes(a: Layout) -> Layout:
    """The shortest layout with the same image: `coalesce(filter_zeros(a))`."""
    return coalesce(filter_zeros(a))


# Composition and complement -------------------------------------------------------------------------


# Law: composition(A, B)(i) = A(B(i)) for all i in [0, size B), and its shape refines that of B.
def composition(a: Layout, b: Tiler) -> Layout:
    """A o B; a tuple composes mode by mode. B's offsets must be coordinates of A.

    Defined exactly where the coordinates in (coalesced) A of B's modes add up without a carry. Raises LayoutError
    otherwise: an extent of B is no multiple of the steps that fit in a mode of A, its stride makes it run past the
    end of one, or its modes do together.
    """
    if b is None:
        return a
    if isinstance(b, int):
        return composition(a, Layout(b, 1))
    if isinstance(b, tuple):
        return concatenate(*(composition(m, t) for m, t in by_mode(a, b)), *modes(a)[len(b) :])
    if size(a) == 0:
        raise LayoutError(f"composition: {a} has no coordinates", None, (0, size(b)))
    simple = coalesce(a)
    rooms = [extent for extent, _ in leaves(simple)]
    reach = [0] * len(rooms)

    def compose(extent: int, stride: Module) -> Layout:
        found: list[Leaf] = []
        for count, step, digits in _runs(simple, extent, _natural(stride)):
            found.append((count, simple(step)))
            reach[:] = [r + (count - 1) * digit for r, digit in zip(reach, digits, strict=True)]
        return from_leaves(found) if found else Layout(extent, 0)

    result = _map_leaves(b, compose)
    for mode, (room, reached) in enumerate(zip(rooms, reach, strict=True)):
        if reached >= room:
            reason = f"composition: {b} reaches coordinate {reached} of mode {mode} (extent {room}) of {simple}"
            raise LayoutError(reason, mode, (reached, room))
    return result


def _runs(a: Layout, count: int, step: int) -> Iterator[tuple[int, int, list[int]]]:
    """0, step, ..., (count - 1) * step as modes (count, step, digits of step in A) whose multiples do not carry."""
    rooms = [extent for extent, _ in leaves(a)]
    while count > 1 and step > 0:
        digits = _digits(rooms, step)
        fits, tight = min(
            ((room - 1) // d + 1, mode) for mode, (room, d) in enumerate(zip(rooms, digits, strict=True)) if d
        )
        if fits >= count or tight == len(rooms) - 1:
            yield count, step, digits
            return
        if count % fits:
            reason = (
                f"composition: extent {count} is not a multiple of the {fits} steps of {step} in mode {tight} of {a}"
            )
            raise LayoutError(reason, tight, (count, fits))
        yield fits, step, digits
        count, step = count // fits, step * fits


def _digits(rooms: list[int], number: int) -> list[int]:
    """The coordinate of a number in a flat shape; the last digit has no bound."""
    digits = []
    for room in rooms[:-1]:
        digits.append(number % room)
        number //= room
    return [*digits, number]


# Law: R = complement(A, M) has increasing positive strides, image(A) and image(R) meet only in 0, (A, R) is injective
# if A is, and cosize (A, R) >= M.
def complement(a: Layout, cotarget: int | None = None) -> Layout:
    """The offsets that A leaves free, up to `cotarget` (default: A's cosize): (A, complement A) has no holes."""
    free: list[Leaf] = []
    covered = 1
    found = [(extent, integer(d), mode) for mode, (extent, d) in enumerate(leaves(a)) if extent != 1 and not is_zero(d)]
    for extent, stride, mode in sorted(found, key=lambda leaf: leaf[1]):
        if stride < covered or stride % covered:
            reason = f"complement: stride {stride} of mode {mode} of {a} is not a multiple of the {covered} covered"
            raise LayoutError(reason, mode, (stride, covered))
        free.append((stride // covered, covered))
        covered = stride * extent
    target = cosize(a) if cotarget is None else cotarget
    return coalesce(from_leaves([*free, (-(-target // covered), covered)]))


# Parts and units ----------------------------------------------------------------------------------


# Law: for (S, offset) = slice_(A, c): offset + S(free coordinates) = A(c with the free coordinates filled in).
def slice_(a: Layout, coordinate: Module) -> tuple[Layout, Module]:
    """Fixes the coordinates that are not None: the layout of the others, and the offset of the fixed ones."""
    kept, offset = _slice(a, coordinate)
    return concatenate(*kept), offset


def _slice(a: Layout, coordinate: Module) -> tuple[list[Layout], Module]:
    if coordinate is None:
        return [a], 0
    if not isinstance(coordinate, tuple):
        return [], a(coordinate)
    if len(coordinate) != rank(a):
        raise LayoutError(f"slice: {len(coordinate)} coordinates for {a} of rank {rank(a)}")
    kept, offset = [], 0
    for mode, c in zip(modes(a), coordinate, strict=True):
        more, step = _slice(mode, c)
        kept += more
        offset += step
    return kept, offset


# Law: image(upcast(A, n)) = {x // n for x in image(A)}; upcast(downcast(A, n), n) = A.
def upcast(a: Layout, n: int) -> Layout:
    """The layout in units of `n` elements: the contiguous mode becomes n times shorter."""
    inside = 0
    for mode, (extent, d) in enumerate(leaves(a)):
        stride = integer(d)
        if stride % n == 0:
            continue
        if not 0 < stride < n or n % stride:
            raise LayoutError(f"upcast: stride {stride} of mode {mode} of {a} and {n} elements", mode, (stride, n))
        width = max(1, min(extent, n // stride))
        if extent % width:
            reason = f"upcast: extent {extent} of mode {mode} of {a} is not a multiple of {width}"
            raise LayoutError(reason, mode, (extent, width))
        inside += (width - 1) * stride
        if inside >= n:
            raise LayoutError(f"upcast: mode {mode} of {a} reaches {inside}, beyond {n} elements", mode, (inside, n))

    def one(extent: int, stride: int) -> Layout:
        return Layout(extent, stride // n) if stride % n == 0 else Layout(-(-extent * stride // n), 1)

    return _map_leaves(a, one)


# Law: image(downcast(A, n)) = {x * n + r for x in image(A), r in [0, n)}.
def downcast(a: Layout, n: int) -> Layout:
    """The layout in units of 1/n element: the contiguous mode becomes n times longer."""
    contiguous = sum(stride == 1 for _, stride in leaves(a))
    if contiguous != 1:
        raise LayoutError(f"downcast: {a} has {contiguous} modes of stride 1, not one", None, (contiguous, 1))
    return _map_leaves(a, lambda extent, d: Layout(extent * n, 1) if d == 1 else Layout(extent, d * n))


# Law: the same bytes, seen as elements of `new_bits`: downcast, then upcast.
def recast(a: Layout, old_bits: int, new_bits: int) -> Layout:
    common = gcd(old_bits, new_bits)
    down, up = old_bits // common, new_bits // common
    finer = downcast(a, down) if down > 1 else a
    return upcast(finer, up) if up > 1 else finer


# Nested tuples ------------------------------------------------------------------------------------


def nested_text(nested: Module) -> str:
    """`((2,2),3)`: without blanks, elements as they print."""
    return f"({','.join(map(nested_text, nested))})" if isinstance(nested, tuple) else str(nested)


def is_zero(element: Module) -> bool:
    """Whether a module element is 0, or the zero of its own module."""
    return bool(element == element * 0)


def integer(stride: Module) -> int:
    """A stride that must be a number; raises LayoutError."""
    if not isinstance(stride, int):
        raise LayoutError(f"stride {stride} is not a known integer")
    return stride


def _natural(stride: Module) -> int:
    if integer(stride) < 0:
        raise LayoutError(f"stride {stride} is negative: not a coordinate", None, (stride, 0))
    return integer(stride)


def _congruent(shape: Nested, stride: Module) -> bool:
    if not isinstance(shape, tuple) or not isinstance(stride, tuple):
        return not isinstance(shape, tuple) and not isinstance(stride, tuple)
    return len(shape) == len(stride) and all(map(_congruent, shape, stride))


def _offset(coordinate: Module, shape: Nested, stride: Module) -> Module:
    if isinstance(shape, int):
        if isinstance(coordinate, tuple):
            raise LayoutError(f"coordinate {nested_text(coordinate)} for a mode of extent {shape}")
        return stride * coordinate
    if isinstance(coordinate, tuple):
        if len(coordinate) != len(shape):
            raise LayoutError(f"coordinate {nested_text(coordinate)} for shape {nested_text(shape)}")
        return sum(map(_offset, coordinate, shape, stride))
    total: Module = 0
    for part, step in zip(shape[:-1], stride[:-1], strict=True):
        total = total + _offset(coordinate % size(part), part, step)
        coordinate = _quotient(coordinate, size(part))
    return total + _offset(coordinate, shape[-1], stride[-1]) if shape else total


def _quotient(coordinate: Module, divisor: int) -> Module:
    """Integer division; z3 writes it `/`."""
    return coordinate // divisor if hasattr(coordinate, "__floordiv__") else coordinate / divisor


def from_leaves(found: list[Leaf], keep_rank: bool = False) -> Layout:
    """The flat layout of some modes; without `keep_rank` one mode is not a tuple, and none is 1:0."""
    if len(found) == 1 and not keep_rank:
        return Layout(*found[0])
    if not found and not keep_rank:
        return Layout(1, 0)
    return Layout(tuple(extent for extent, _ in found), tuple(stride for _, stride in found))


def _map_leaves(a: Layout, change: Callable[[int, Module], Layout]) -> Layout:
    if isinstance(a.shape, int):
        return change(a.shape, a.stride)
    return concatenate(*(_map_leaves(mode, change) for mode in modes(a)))
