"""Swizzles: offsets with some bits xored by others, layouts behind them, and the bank conflicts that they remove."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from kernelagent.dsl.layout import Layout, LayoutError, Module, slice_

BANKS, WORD = 32, 4  # shared memory: banks, bytes of a bank's word (CUDA C++ Programming Guide, "Shared Memory")


# Law: an involution, and a bijection on [0, 2**(base + |shift| + bits)).
@dataclass(frozen=True)
class Swizzle:
    """Xors `bits` bits of an offset, from bit `base` on, with the `bits` bits that lie `shift` higher.

    A negative shift takes the lower bits and changes the higher ones. Raises LayoutError if both groups overlap.
    """

    bits: int
    base: int
    shift: int

    def __post_init__(self) -> None:
        if self.bits < 0 or self.base < 0 or abs(self.shift) < self.bits:
            raise LayoutError(f"{self}: needs bits >= 0, base >= 0 and |shift| >= bits", None, (self.shift, self.bits))

    @property
    def period(self) -> int:
        """Offsets that differ by a multiple of this are swizzled alike; 1 without bits."""
        return 1 << (self.base + abs(self.shift) + self.bits) if self.bits else 1

    def __call__(self, offset: Module) -> Module:
        """The swizzled offset: an int, a z3 bit vector, or (bit by bit) an `Index` or a z3 integer."""
        target, source = self.base + max(0, -self.shift), self.base + max(0, self.shift)
        if not hasattr(offset, "__xor__"):
            return offset + sum(_flip(offset, target + k, source + k) for k in range(self.bits))
        taken = offset & (((1 << self.bits) - 1) << source)
        return offset ^ (taken >> self.shift if self.shift >= 0 else taken << -self.shift)

    def __str__(self) -> str:
        return f"Sw<{self.bits},{self.base},{self.shift}>"


def _flip(offset: Module, target: int, source: int) -> Module:
    """What xoring bit `target` with bit `source` adds: xor(a, b) - a = b (1 - 2a)."""
    a, b = _bit(offset, target), _bit(offset, source)
    return (b - 2 * (a * b)) * (1 << target)


def _bit(offset: Module, position: int) -> Module:
    weight = 1 << position
    quotient = offset // weight if hasattr(offset, "__floordiv__") else offset / weight
    return quotient % 2


# Law: C(c) = swizzle(offset + layout(c)).
@dataclass(frozen=True)
class ComposedLayout:
    """A swizzle after an offset after a layout. The offset stays inside: it commutes only if the period divides it."""

    swizzle: Swizzle
    offset: Module
    layout: Layout

    def __call__(self, *coordinate: Module) -> Module:
        return self.swizzle(self.offset + self.layout(*coordinate))

    def __str__(self) -> str:
        return f"{self.swizzle} o {self.offset} o {self.layout}"


# Law: over(C, f)(i) = C(g(i)) wherever f(A)(i) = A(g(i)): composition, division, coalesce, flatten.
def over(c: ComposedLayout, change: Callable[[Layout], Layout]) -> ComposedLayout:
    """The same swizzle and offset over a changed layout: `over(c, lambda a: logical_divide(a, tile))`."""
    return replace(c, layout=change(c.layout))


# Law: slice_composed(C, c)(free coordinates) = C(c with the free coordinates filled in).
def slice_composed(c: ComposedLayout, coordinate: Module) -> ComposedLayout:
    """Fixes the coordinates that are not None; their offset joins the one inside the swizzle."""
    part, offset = slice_(c.layout, coordinate)
    return ComposedLayout(c.swizzle, c.offset + offset, part)


# Law: if it commutes, swizzle(offset + x) = offset + swizzle(x) for all x.
def commutes(swizzle: Swizzle, offset: int) -> bool:
    """Whether an offset may be added after the swizzle instead of before."""
    return offset % swizzle.period == 0


# Bank conflicts -----------------------------------------------------------------------------------


# Law: for a map that is affine over GF(2) in the lane's bits the degree is 2**(rank W - rank B): W the matrix from
# lane bits to word address bits, B its five bank rows.
def bank_conflicts(address: Callable[[int], int], access_bytes: int, lanes: int = 32) -> int:
    """How often the worst bank is accessed in one wavefront of a warp's access to shared memory; 1: no conflict.

    `address` is the byte address of each lane's access of `access_bytes` (1, 2, 4, 8 or 16), which must be aligned to
    it. Wavefronts serve 32 lanes up to 4 bytes, 16 lanes for 8 bytes, 8 lanes for 16 bytes (as each 8x8 matrix of
    ldmatrix). Affine maps are decided by rank, which also holds for every base that only flips bits; other maps
    (padding with carries) by counting. Raises LayoutError for an unaligned address or width.
    """
    if access_bytes not in (1, 2, 4, 8, 16):
        raise LayoutError(f"bank_conflicts: no access of {access_bytes} bytes", None, (access_bytes, 16))
    addresses = [address(lane) for lane in range(lanes)]
    for lane, at in enumerate(addresses):
        if at % access_bytes:
            reason = f"bank_conflicts: address {at} of lane {lane} is not a multiple of {access_bytes} bytes"
            raise LayoutError(reason, None, (at, access_bytes))
    group = min(lanes, BANKS * WORD // max(access_bytes, WORD))
    columns = affine_columns(addresses)
    if columns is None:
        groups = (addresses[k : k + group] for k in range(0, lanes, group))
        return max(_counted(part, access_bytes) for part in groups)
    words = [c // WORD for c in columns[: group.bit_length() - 1]]
    words += [1 << k for k in range(max(access_bytes // WORD, 1).bit_length() - 1)]
    return 1 << (gf2_rank(words) - gf2_rank(word % BANKS for word in words))


# Law: values[i] = values[0] ^ xor of columns[k] over the set bits k of i.
def affine_columns(values: list[int]) -> list[int] | None:
    """The matrix over GF(2), one column per index bit, of an affine map on 2**k values; None if it is not affine."""
    if len(values) & (len(values) - 1):
        return None
    columns = [values[1 << k] ^ values[0] for k in range(len(values).bit_length() - 1)]
    for i, value in enumerate(values):
        for k, column in enumerate(columns):
            value ^= column if i >> k & 1 else 0
        if value != values[0]:
            return None
    return columns


# Law: 2**rank is the number of different xors of subsets of the columns.
def gf2_rank(columns: Iterable[int]) -> int:
    """Rank over GF(2) of a matrix whose columns are the bits of integers."""
    found: list[int] = []
    for column in columns:
        for pivot in found:
            column = min(column, column ^ pivot)
        if column:
            found.append(column)
    return len(found)


def _counted(addresses: list[int], access_bytes: int) -> int:
    """Different words of the fullest bank."""
    width = max(access_bytes // WORD, 1)
    words = {at // WORD + k for at in addresses for k in range(width)}
    banks: dict[int, int] = {}
    for word in words:
        banks[word % BANKS] = banks.get(word % BANKS, 0) + 1
    return max(banks.values())
