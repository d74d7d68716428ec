"""Where each element comes from: its coordinate along every axis of the arrays, carried through loads and moves.

Axes of arrays with the same dim (`K` of x and of w) are one axis. An element has a coordinate, none (a constant, or one
that a reduction has used up), or a mixture (two elements of different coordinates met). Elements beyond a view keep the
coordinate that they would have, and are not live.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.ir import Array
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.places import Integers, Truths

NONE, MIXED = -(1 << 30), -(1 << 30) - 1
"""No coordinate; several."""
Tags: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
"""(axes, *shape)."""


Reduced: TypeAlias = Mapping[int, Mapping[int, Tags]]
"""Reduction: execution: hashes of the elements that one result has taken."""


class Axes:
    """The axes that coordinates are kept of, in order. `of[array]`: the number of each axis of an array."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self.names: list[str] = []
        self.dims: set[str] = set()
        self.extents: list[Index] = []
        self.of: dict[str, tuple[int, ...]] = {a.name: tuple(self._axes(a)) for a in arrays}

    def _axes(self, array: Array) -> Iterator[int]:
        named = [_dim(d) for d in array.dims]
        for number, name in enumerate(named):
            single = name is not None and named.count(name) == 1
            key = name if name is not None and single else f"{array.name}.{number}"
            if single:
                self.dims.add(key)
            if key not in self.names:
                self.names.append(key)
                self.extents.append(array.dims[number])
            yield self.names.index(key)

    def named(self, array: str) -> Iterator[tuple[int, int]]:
        """(axis of the array, number) of axes that have a dim of their own."""
        for place, number in enumerate(self.of[array]):
            if self.names[number] in self.dims:
                yield place, number


def _dim(extent: Index) -> str | None:
    match extent.terms:
        case (((Symbol(name, "dim"),), 1),):
            return name
    return None


@dataclass(frozen=True)
class Tagged:
    """A tile. `value`: its numbers if they are known; `used`: what each product has added up so far, as hashes of the
    elements' coordinates; `reduced`: the same of each reduction, by its execution."""

    value: Any
    tags: Tags
    live: Truths
    used: Mapping[int, Tags] = field(default_factory=dict)
    reduced: Reduced = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """What the current statement does wrong, at element `at` of its tile; `expected` and `found` are coordinates."""

    kind: str
    message: str
    at: tuple[int, ...]
    expected: str
    found: str
    count: int = 1


class Traced:
    """The coordinates of one call. The statement that runs is made known by `begin`."""

    def __init__(self, axes: Axes, arrays: Mapping[str, Any], scalars: Mapping[str, float | int | bool]) -> None:
        self.axes, self.known = axes, Unknown(arrays, scalars)
        self.channels = len(axes.names) + 2
        self.faults: list[Fault] = []
        self.statement = 0
        self.loose: frozenset[int] = frozenset()
        self.conform: dict[int, set[int]] = {}  # product: axes along which its operands agree
        self.sums: dict[int, set[int]] = {}  # product: how many were added up where its result is taken
        self.reductions = Reductions()

    def begin(self, statement: int, loose: frozenset[int] = frozenset()) -> None:
        """`loose`: axes of the array that is accessed whose coordinates come from data."""
        self.statement, self.loose = statement, loose

    # Values without a place ----------------------------------------------------------------------------

    def _plain(self, value: Any, shape: tuple[int, ...]) -> Tagged:
        return Tagged(value, np.full((len(self.axes.names), *shape), NONE, np.int64), np.ones(shape, np.bool_))

    def constant(self, value: float | int | bool, dtype: str, shape: tuple[int, ...]) -> Tagged:
        return self._plain(self.known.constant(value, dtype, shape), shape)

    def numbers(self, values: Integers | Truths, dtype: str) -> Tagged:
        return self._plain(self.known.numbers(values, dtype), np.shape(values))

    def parameter(self, name: str, dtype: str) -> Tagged:
        return self._plain(self.known.parameter(name, dtype), ())

    def load(self, array: str, at: tuple[Integers, ...], inside: Truths, fill: float | int, dtype: str) -> Tagged:
        made = self._plain(self.known.load(array, at, inside, fill, dtype), inside.shape)
        for place, (number, coordinates) in enumerate(zip(self.axes.of[array], at, strict=True)):
            if place not in self.loose:
                made.tags[number] = coordinates
        return Tagged(made.value, made.tags, inside)

    # Elements that meet -------------------------------------------------------------------------------

    def pointwise(self, word: str, arguments: Sequence[Tagged], sources: Sequence[str], dtype: str) -> Tagged:
        value = self.known.pointwise(word, [a.value for a in arguments], sources, dtype)
        tags, live = arguments[0].tags, arguments[0].live
        for other in arguments[1:]:
            tags, live = joined(*_level(tags, other.tags)), live & other.live
        self.reductions.meet([a.reduced for a in arguments])
        return Tagged(value, tags, live, _together(arguments), merged(a.reduced for a in arguments))

    def rename(self, parts: Sequence[Tagged], move: Callable[..., Any]) -> Tagged:
        value = self.known.rename([p.value for p in parts], move)
        tags = [move(*(p.tags[k] for p in parts)) for k in range(len(self.axes.names))]
        live = np.asarray(move(*(p.live for p in parts)))
        stacked = np.stack(tags) if tags else np.zeros((0, *live.shape), np.int64)
        return Tagged(value, stacked, live, _together(parts), merged(p.reduced for p in parts))

    def reduce(self, word: str, x: Tagged, axis: int, dtype: str) -> Tagged:
        self._taken(x)
        made = self.known.reduce(word, x.value, axis, dtype)
        taken = self.reductions.reduce(self.statement, x.tags, x.live, axis)
        return Tagged(made, consumed(x.tags, axis), _any(x.live, axis), {}, taken)

    def position_of(self, word: str, x: Tagged, axis: int, source: str, dtype: str) -> Tagged:
        value = self.known.position_of(word, x.value, axis, source, dtype)
        return Tagged(value, consumed(x.tags, axis), _any(x.live, axis))

    def scan(self, word: str, x: Tagged, axis: int, dtype: str) -> Tagged:
        return Tagged(self.known.scan(word, x.value, axis, dtype), x.tags, x.live, x.used)

    # Products ------------------------------------------------------------------------------------------

    def mma(self, a: Tagged, b: Tagged, acc: Tagged, sources: tuple[str, str], dtype: str, precision: str) -> Tagged:
        self._taken(a)
        self._taken(b)
        self._conform(a, b)
        used = _union(acc.used, {self.statement: self._used_once(a, b, acc)})
        rows, columns = consumed(a.tags, 1), consumed(b.tags, 0)
        tags = joined(acc.tags, joined(rows[:, :, None], columns[:, None, :]))
        return Tagged(None, tags, _any(a.live, 1)[:, None] & _any(b.live, 0)[None, :], used)

    def _conform(self, a: Tagged, b: Tagged) -> None:
        """Where both operands have coordinates of one axis that runs along k, they are equal for every k."""
        left, right = _varies(a.tags, 1), _varies(b.tags, 0)
        known = (a.tags > NONE).any((1, 2)) & (b.tags > NONE).any((1, 2))
        pairs = [(int(k), int(k)) for k in np.flatnonzero((left | right) & known)]
        for mine, theirs in pairs or self._alike(np.flatnonzero(left), np.flatnonzero(right)):
            self.conform.setdefault(self.statement, set()).add(mine)
            self._compare(mine, a, b, theirs)

    def _alike(self, left: Any, right: Any) -> list[tuple[int, int]]:
        """The only axis of each operand that runs along k, if both have the same extent: rows of 64 constants."""
        if len(left) != 1 or len(right) != 1 or self.axes.extents[left[0]] != self.axes.extents[right[0]]:
            return []
        return [(int(left[0]), int(right[0]))]

    def _taken(self, x: Tagged) -> None:
        """A sum of products goes on into something else."""
        for statement, marks in x.used.items():
            self.sums.setdefault(statement, set()).add(len(marks))
        self.reductions.take(x.reduced)

    def _compare(self, number: int, a: Tagged, b: Tagged, other: int) -> None:
        """Elements of a (m, k) against those of b (k, n): all of one k have one coordinate, on both sides."""
        name, mine, theirs = self.axes.names[number], a.tags[number], b.tags[other]
        left, right = a.live & (mine > NONE), b.live & (theirs > NONE)
        (low, high), (least, most) = _range(mine, left, 1), _range(theirs, right, 0)
        both = left.any(0) & right.any(1)
        off = both & ((low != high) | (least != most) | (low != least))
        if not off.any():
            return
        k = int(np.flatnonzero(off)[0])
        x = low[k] if low[k] != least[k] or least[k] != most[k] else high[k]
        y = least[k] if least[k] != x else most[k]
        at = _first(left[:, k] & (mine[:, k] == x)), _first(right[k] & (theirs[k] == y))
        message = f"the operands meet at different {name}: at k={k} of the tile a has {name}={x}, b has {name}={y}"
        self.faults.append(Fault("other-k", message, at, f"{name}={x}", f"{name}={y}", int(off.sum())))

    def _used_once(self, a: Tagged, b: Tagged, acc: Tagged) -> Tags:
        """The products of one element that this statement has added to it, with the new ones."""
        row, column = _first(_any(a.live, 1)), _first(_any(b.live, 0))
        live = a.live[row] & b.live[:, column]
        marks: Tags = _hashed(np.concatenate([a.tags[:, row], b.tags[:, :, column]]))[live]
        before = acc.used.get(self.statement)
        if before is None:
            return marks
        twice = np.isin(marks, before)
        if twice.any() and _identified(a.tags[:, row], b.tags[:, :, column]):
            k = int(np.flatnonzero(live)[np.flatnonzero(twice)[0]])
            where = _said(self.axes, joined(a.tags[:, row, k], b.tags[:, k, column]))
            message = f"products of {where} are added twice"
            self.faults.append(Fault("twice", message, (row, column), "once", "twice", int(twice.sum())))
        return np.union1d(before, marks)

    # Moves ---------------------------------------------------------------------------------------------

    def positions(self, x: Tagged) -> Integers:
        return self.known.positions(x.value)

    def decide(self, x: Tagged) -> bool | None:
        return self.known.decide(x.value)

    def pack(self, x: Tagged, dtype: str, shape: tuple[int, ...]) -> Any:
        """Coordinates, life, and the number where it is known."""
        self._taken(x)
        value = np.full(shape, np.nan) if x.value is None else np.asarray(x.value, np.float64)
        parts = (x.tags, x.live[None], value[None])
        return np.concatenate([np.broadcast_to(p, (len(p), *shape)).astype(np.float64) for p in parts])

    def unpack(self, x: Any, dtype: str) -> Tagged:
        tags = np.where(np.isnan(x[:-2]), MIXED, x[:-2]).astype(np.int64)
        known = self.known.constant(0, dtype, ())
        value = None if known is None or np.isnan(x[-1]).any() else x[-1].astype(known.dtype)
        return Tagged(value, tags, x[-2] == 1)

    def sum(self, old: Any, new: Any, dtype: str) -> Any:
        return new


# Reductions --------------------------------------------------------------------------------------------


class Reductions:
    """Which elements each reduction takes, over all iterations that come together in one result. `along`: the axes that
    run along what is reduced; `counts`: how many elements there are in results that go on; `twice`: reductions of
    which one result takes an element again."""

    def __init__(self) -> None:
        self.along: dict[int, set[int]] = {}
        self.counts: dict[int, set[int]] = {}
        self.twice: set[int] = set()
        self.executions = 0

    def reduce(self, statement: int, tags: Tags, live: Truths, axis: int) -> Reduced:
        """Nothing is known of elements that are mixtures, or that have no coordinate along the axis."""
        extent = live.shape[axis]
        rows = np.moveaxis(tags, axis + 1, -1).reshape(len(tags), -1, extent)
        there = np.moveaxis(live, axis, -1).reshape(-1, extent)
        row = _first(_any(there, -1))
        mine, alive = rows[:, row], there[row]
        vary = [int(n) for n in np.flatnonzero((mine != mine[:, :1]).any(1))]
        if not vary or not alive.any() or (mine[vary][:, alive] <= NONE).any():
            return {}
        marks = np.unique(_hashed(mine)[alive])
        self.along.setdefault(statement, set()).update(vary)
        if len(marks) < int(alive.sum()):
            self.twice.add(statement)
        self.executions += 1
        return {statement: {self.executions: marks}}

    def meet(self, parts: Sequence[Reduced]) -> None:
        """Results that come together: of different executions, with an element in common."""
        for number, mine in enumerate(parts):
            for other in parts[:number] if mine else ():
                for statement in mine.keys() & other.keys():
                    left, right = (_beyond(x[statement], y[statement]) for x, y in ((mine, other), (other, mine)))
                    if len(left) and len(right) and np.isin(left, right).any():
                        self.twice.add(statement)

    def take(self, reduced: Reduced) -> None:
        """A result goes on into something else."""
        for statement, executions in reduced.items():
            count = len(np.unique(np.concatenate(list(executions.values()))))
            self.counts.setdefault(statement, set()).add(count)


def _beyond(mine: Mapping[int, Tags], other: Mapping[int, Tags]) -> Tags:
    """Elements of executions that the other result has no part of."""
    parts = [marks for execution, marks in mine.items() if execution not in other]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def merged(parts: Iterable[Reduced]) -> Reduced:
    found: dict[int, Mapping[int, Tags]] = {}
    for part in parts:
        for statement, executions in part.items():
            found[statement] = {**found.get(statement, {}), **executions}
    return found


# Coordinates -------------------------------------------------------------------------------------------


def joined(a: Tags, b: Tags) -> Tags:
    """Of two elements that meet."""
    same = np.where((a == b) | (b == NONE), a, np.where(a == NONE, b, MIXED))
    return np.asarray(same)


def consumed(tags: Tags, axis: int) -> Tags:
    """Of all elements along an axis of the tile: what differs along it is used up."""
    axis += 1
    low, high = tags.min(axis), tags.max(axis)
    return np.where(low == high, low, np.where((tags == MIXED).any(axis), MIXED, NONE))


def _varies(tags: Tags, axis: int) -> Any:
    """(axes,): whether coordinates change along an axis of the tile."""
    return (tags.min(axis + 1) != tags.max(axis + 1)).any(axis=tuple(range(1, tags.ndim - 1)))


def _range(tags: Tags, there: Truths, k_axis: int) -> tuple[Tags, Tags]:
    """Smallest and largest coordinate for each k, over the elements that count."""
    top = np.iinfo(np.int64).max
    return np.where(there, tags, top).min(1 - k_axis), np.where(there, tags, -top).max(1 - k_axis)


def _level(a: Tags, b: Tags) -> tuple[Tags, Tags]:
    """Tiles of rank 0 beside others."""
    rank = max(a.ndim, b.ndim)
    return tuple(x.reshape(len(x), *((1,) * (rank - x.ndim)), *x.shape[1:]) for x in (a, b))  # type: ignore[return-value]


def _together(parts: Sequence[Tagged]) -> dict[int, Tags]:
    found: dict[int, Tags] = {}
    for part in parts:
        found = _union(found, part.used)
    return found


def _union(a: Mapping[int, Tags], b: Mapping[int, Tags]) -> dict[int, Tags]:
    if not b:
        return dict(a)
    return {**a, **{k: np.union1d(a[k], v) if k in a else v for k, v in b.items()}}


def _any(live: Truths, axis: int) -> Truths:
    return np.asarray(live.any(axis))


def _first(live: Truths) -> int:
    return int(np.argmax(live))


def _identified(a: Tags, b: Tags) -> bool:
    """Whether coordinates tell the products apart: no two positions along k of one operand have the same."""
    marks = _hashed(np.concatenate([a, b]))
    mixed = (a == MIXED).any() or (b == MIXED).any()
    return len(np.unique(marks)) == len(marks) and not mixed


def _hashed(tags: Tags) -> Tags:
    """A number for each position along k; rows are axes."""
    with np.errstate(over="ignore"):
        total = np.zeros(tags.shape[1:], np.uint64)
        for row in tags:
            total = (total ^ row.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            total ^= total >> np.uint64(29)
    return total.astype(np.int64)


def _said(axes: Axes, tags: Tags) -> str:
    parts = [f"{n}={int(t)}" for n, t in zip(axes.names, tags, strict=True) if t > NONE and n in axes.dims]
    return ", ".join(parts) or "the same elements"


__all__ = ["MIXED", "NONE", "Axes", "Fault", "Tagged", "Traced", "consumed", "joined"]
