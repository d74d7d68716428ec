"""Distributions: which thread of a block holds which element of a tile, in which of its registers.

A distribution is a lane-value layout with one unit stride per tile axis: the thread index and the register index
are split into digits (mixed radix, first mode fastest), and each digit moves along one axis of the tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

WARP = 32


class DistributionError(ValueError):
    """A tile that cannot be distributed as asked; the message names the axis and the numbers."""


@dataclass(frozen=True)
class Mode:
    """A digit of `extent` values that steps `stride` elements along `axis`; axis -1: all values hold copies."""

    extent: int
    axis: int
    stride: int

    def __str__(self) -> str:
        return f"({self.extent}, {self.axis}, {self.stride})"


@dataclass(frozen=True)
class Distribution:
    """`shape` elements over prod(lanes) threads with prod(values) registers each.

    Law: every element of the tile is held, by one register of one thread or by all members of its copies
    (lane modes with axis -1), and every register holds exactly one element.
    """

    shape: tuple[int, ...]
    lanes: tuple[Mode, ...]
    values: tuple[Mode, ...]

    @property
    def threads(self) -> int:
        return prod(m.extent for m in self.lanes)

    @property
    def registers(self) -> int:
        """Elements that each thread holds."""
        return prod(m.extent for m in self.values)

    @property
    def copies(self) -> int:
        """How many threads hold each element."""
        return prod(m.extent for m in self.lanes if m.axis < 0)

    def coordinates(self, thread: int, value: int) -> tuple[int, ...]:
        """The element of the tile in register `value` of `thread`."""
        at = [0] * len(self.shape)
        for modes, number in ((self.lanes, thread), (self.values, value)):
            for mode, digit in zip(modes, digits(modes, number), strict=True):
                if mode.axis >= 0:
                    at[mode.axis] += digit * mode.stride
        return tuple(at)

    def elements(self) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """(thread, value, coordinates) of everything held."""
        for thread, value in itertools.product(range(self.threads), range(self.registers)):
            yield thread, value, self.coordinates(thread, value)

    def extent_of(self, axis: int, modes: Iterable[Mode]) -> int:
        """How many positions of `axis` the given modes reach."""
        return prod(m.extent for m in modes if m.axis == axis)

    def contiguous(self) -> int:
        """Consecutive registers that hold consecutive elements along the last axis: the widest vector access."""
        run = 1
        for mode in self.values:
            if mode.axis != len(self.shape) - 1 or mode.stride != run:
                break
            run *= mode.extent
        return run


def digits(modes: Iterable[Mode], number: int) -> tuple[int, ...]:
    """The mixed-radix digits of a thread or register index, first mode fastest."""
    found = []
    for mode in modes:
        found.append(number % mode.extent)
        number //= mode.extent
    return tuple(found)


def covers(d: Distribution) -> bool:
    """Whether each element is held equally often: the law of `Distribution`, by enumeration of modes."""
    return all(_exact(extent, [m for m in (*d.lanes, *d.values) if m.axis == k]) for k, extent in enumerate(d.shape))


def _exact(extent: int, modes: list[Mode]) -> bool:
    reached = {0}
    for m in modes:
        reached = {r + k * m.stride for r in reached for k in range(m.extent)}
    return len(reached) == prod(m.extent for m in modes) == extent and max(reached) == extent - 1


def normal(modes: Iterable[Mode]) -> tuple[Mode, ...]:
    """Modes of extent 1 dropped and mergeable neighbours merged: equal functions, equal tuples."""
    kept: list[Mode] = []
    for mode in modes:
        if mode.extent == 1:
            continue
        last = kept[-1] if kept else None
        if last and last.axis == mode.axis and (mode.axis < 0 or mode.stride == last.stride * last.extent):
            kept[-1] = Mode(last.extent * mode.extent, last.axis, last.stride)
        else:
            kept.append(Mode(mode.extent, mode.axis, mode.stride if mode.axis >= 0 else 0))
    return tuple(kept)


def same(a: Distribution, b: Distribution) -> bool:
    """Whether two distributions place every element alike."""
    return a.shape == b.shape and normal(a.lanes) == normal(b.lanes) and normal(a.values) == normal(b.values)


def drop(d: Distribution, axis: int) -> Distribution:
    """The distribution of a reduction's result along `axis`: threads that differed only there hold copies."""
    shape = (*d.shape[:axis], *d.shape[axis + 1 :])
    lanes = tuple(Mode(m.extent, -1, 0) if m.axis == axis else _shifted(m, axis, -1) for m in d.lanes)
    values = tuple(_shifted(m, axis, -1) for m in d.values if m.axis != axis)
    return Distribution(shape, normal(lanes), normal(values))


def insert(d: Distribution, axis: int) -> Distribution:
    """A new axis of extent 1 at position `axis` (`x[:, None]`)."""
    shape = (*d.shape[:axis], 1, *d.shape[axis:])
    move = lambda m: Mode(m.extent, m.axis + 1, m.stride) if m.axis >= axis else m  # noqa: E731
    return Distribution(shape, tuple(map(move, d.lanes)), tuple(map(move, d.values)))


def unit(d: Distribution, axis: int) -> Distribution:
    """As `drop`, but the axis stays with extent 1: what a tile must be to stretch to `d` along `axis`."""
    return insert(drop(d, axis), axis)


def permuted(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    """Axis j of the result is axis `axes[j]` of d."""
    where = {old: new for new, old in enumerate(axes)} | {-1: -1}
    shape = tuple(d.shape[a] for a in axes)
    move = lambda m: Mode(m.extent, where[m.axis], m.stride)  # noqa: E731
    return Distribution(shape, tuple(map(move, d.lanes)), tuple(map(move, d.values)))


def tiled(atom: Distribution, shape: tuple[int, ...], warps: tuple[int, ...]) -> Distribution:
    """An atom's fragment repeated over a tile: neighbouring repetitions go to the same warp's registers, the
    outermost ones to `warps[axis]` warps along each axis (axis 0 slowest). Raises DistributionError."""
    lanes, values = list(atom.lanes), list(atom.values)
    outer: list[Mode] = []
    for axis in reversed(range(len(shape))):
        each, count = atom.shape[axis], warps[axis]
        if shape[axis] % (each * count):
            raise DistributionError(f"axis {axis}: {shape[axis]} elements over {count} warps of {each}-element atoms")
        per_warp = shape[axis] // count
        values.append(Mode(per_warp // each, axis, each))
        outer.append(Mode(count, axis, per_warp))
    return Distribution(shape, normal((*lanes, *outer)), normal(values))


def striped(shape: tuple[int, ...], threads: int, vector: int, first: int | None = None) -> Distribution:
    """Threads side by side along axis `first` (default: the last), `vector` consecutive elements each, the other
    axes behind it, then registers: neighbouring threads touch neighbouring memory.

    The published blocked layout of tile compilers. Extents need not be powers of two, but each must be divisible by
    what is laid along it; threads that the tile cannot use hold copies.
    """
    order = [len(shape) - 1 if first is None else first]
    order += [k for k in reversed(range(len(shape))) if k != order[0]]
    lanes: list[Mode] = []
    values: list[Mode] = []
    left = threads
    for k, axis in enumerate(order):
        width = _divisor(shape[axis], vector) if k == 0 else 1
        many = _divisor(shape[axis] // width, left)
        left //= many
        if width > 1:
            values.insert(0, Mode(width, axis, 1))
        lanes.append(Mode(many, axis, width))
        values.append(Mode(shape[axis] // (width * many), axis, width * many))
    lanes.append(Mode(left, -1, 0))
    return Distribution(shape, normal(lanes), normal(values))


def _divisor(number: int, largest: int) -> int:
    """The largest power of two (or `largest` itself) that divides `number` and is at most `largest`."""
    if number % largest == 0:
        return largest
    found = 1
    while found * 2 <= largest and number % (found * 2) == 0 and largest % (found * 2) == 0:
        found *= 2
    return found


def _shifted(mode: Mode, axis: int, by: int) -> Mode:
    return Mode(mode.extent, mode.axis + by, mode.stride) if mode.axis > axis else mode
