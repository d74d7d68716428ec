"""Every place of a kernel that touches memory or computes an index, with what is known there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from kernelagent.dsl.dtypes import DTYPES
from kernelagent.dsl.index import (
    Condition,
    Index,
    Negation,
    Symbol,
    condition_indices,
    index,
    maximum,
    minimum,
)  # fmt: skip
from kernelagent.dsl.ir import (
    Binary,
    Broadcast,
    Cast,
    ExpandDims,
    For,
    FromCondition,
    FromIndex,
    Full,
    Gather,
    If,
    Iota,
    Kernel,
    Let,
    Live,
    Load,
    Operation,
    Permute,
    Reshape,
    Scatter,
    Statement,
    Store,
    Take,
    Value,
    View,
)  # fmt: skip
from kernelagent.dsl.verify.ranges import Ranges

ELEMENT = Symbol("an element", "loop")
"""Of an array, in `Touch.clamped`."""
Kind: TypeAlias = Literal["load", "gather", "store", "scatter", "add"]


@dataclass(frozen=True)
class Place:
    """Where a statement stands: enclosing loops (outermost first), guards, line, and knowledge."""

    loops: tuple[For, ...]
    guards: tuple[Condition | Value, ...]
    line: int
    ranges: Ranges

    def loop_of(self, name: str) -> tuple[For, int] | None:
        """The loop that counts symbol `name`, and which of its variables it is."""
        for loop in self.loops:
            for axis, variable in enumerate(loop.variables):
                if variable.name == name:
                    return loop, axis
        return None

    def variables(self) -> tuple[Symbol, ...]:
        return tuple(v for loop in self.loops for v in loop.variables)


@dataclass(frozen=True)
class Touch:
    """One access through a view. `listed` is the axis whose positions are data; `filled`: bad ones are allowed."""

    kind: Kind
    view: View
    start: tuple[Index, ...]
    shape: tuple[Index, ...]
    live: tuple[Live, ...]
    place: Place
    listed: int | None = None
    source: str | None = None  # the array that the listed positions were loaded from, unchanged
    filled: bool = False
    listing: Load | None = None  # what loaded the listed positions, if nothing but their type has changed since
    clamped: tuple[str, Index] | None = None  # the array of listed positions, and what is made of its elements ELEMENT


@dataclass(frozen=True)
class Computed:
    """An index expression that is evaluated at a place."""

    expression: Index
    place: Place


def touches(kernel: Kernel) -> Iterator[Touch]:
    """Every load, gather, store, scatter and atomic addition, in text order."""
    made: dict[int, Operation] = {}
    for statement, place in walk(kernel):
        if isinstance(statement, Let):
            made[statement.value.number] = statement.operation
        match statement:
            case Let(value, Load(view, start, _)):
                yield Touch("load", view, start, value.type.shape, value.type.live, place)
            case Let(value, Gather(view, start, axis, indices, fill)):
                source, filled = _source(indices, made), fill is not None
                shape, live = value.type.shape, value.type.live
                listing, clamped = _listing(indices, made), _clamped(indices, made)
                yield Touch("gather", view, start, shape, live, place, axis, source, filled, listing, clamped)
            case Store(view, start, value, _):
                yield Touch("store", view, start, value.type.shape, value.type.live, place)
            case Scatter(view, start, scattered, indices, value, atomic, _):
                kind: Kind = "add" if atomic else "scatter"
                source = _source(indices, made) if indices is not None else None
                listing = _listing(indices, made) if indices is not None else None
                clamped = _clamped(indices, made) if indices is not None else None
                shape, live = value.type.shape, value.type.live
                yield Touch(kind, view, start, shape, live, place, scattered, source, False, listing, clamped)


def _source(value: Value, made: dict[int, Operation]) -> str | None:
    """The array whose elements `value` holds, moved but not changed."""
    match made.get(value.number):
        case Load(view, _, None) | Gather(view, _, _, _, None):
            return view.array
        case Cast(x) if _keeps(x, value):
            return _source(x, made)
        case Reshape(x) | ExpandDims(x) | Broadcast(x) | Permute(x) | Take(x):
            return _source(x, made)
    return None


def _keeps(x: Value, cast: Value) -> bool:
    """Whether the type of a cast holds every integer of the type before it."""
    before, after = DTYPES[x.type.dtype], DTYPES[cast.type.dtype]
    if before.kind == after.kind:
        return before.kind in ("int", "uint") and after.bits >= before.bits
    return (before.kind, after.kind) == ("uint", "int") and after.bits > before.bits


def _clamped(value: Value, made: dict[int, Operation]) -> tuple[str, Index] | None:
    """The array of positions, moved and kept within limits, and a position as an expression in its element."""
    match made.get(value.number):
        case Load(view, _, None) | Gather(view, _, _, _, None):
            return view.array, index(ELEMENT)
        case Cast(x) if _keeps(x, value):
            return _clamped(x, made)
        case Reshape(x) | ExpandDims(x) | Broadcast(x) | Permute(x) | Take(x):
            return _clamped(x, made)
        case Binary("maximum" | "minimum" as word, a, b):
            for data, limit in ((a, b), (b, a)):
                found, bound = _clamped(data, made), _integer(limit, made)
                if found is not None and bound is not None:
                    return found[0], (maximum if word == "maximum" else minimum)(found[1], bound)
    return None


def _integer(value: Value, made: dict[int, Operation]) -> Index | None:
    """A tile whose elements are all one index integer."""
    match made.get(value.number):
        case Full(number) if isinstance(number, int) and not isinstance(number, bool):
            return index(number)
        case FromIndex(at):
            return at
        case Cast(x) if _keeps(x, value):
            return _integer(x, made)
        case Broadcast(x) | ExpandDims(x) | Reshape(x):
            return _integer(x, made)
    return None


def _listing(value: Value, made: dict[int, Operation]) -> Load | None:
    match made.get(value.number):
        case Load(_, _, None) as load if len(load.view.axes) == 1:
            return load
        case Cast(x):
            return _listing(x, made)
    return None


def computed(kernel: Kernel) -> Iterator[Computed]:
    """Every index expression of the kernel, for checks of divisors and of elements that are read."""
    for statement, place in walk(kernel):
        for expression in _expressions(statement):
            yield Computed(expression, place)


def walk(kernel: Kernel) -> Iterator[tuple[Statement, Place]]:
    yield from _walk(kernel.body, Place((), (), kernel.span.line, Ranges.of(kernel)))


def _walk(statements: Sequence[Statement], place: Place) -> Iterator[tuple[Statement, Place]]:
    for statement in statements:
        here = Place(place.loops, place.guards, _line(statement), place.ranges)
        yield statement, here
        match statement:
            case For():
                inner = Place((*place.loops, statement), place.guards, here.line, place.ranges.inside(statement))
                yield from _walk(statement.body, inner)
            case If(condition, then, otherwise):
                yield from _walk(then, _guarded(here, condition))
                other = condition if isinstance(condition, Value) else Negation(condition)
                yield from _walk(otherwise, Place(place.loops, (*place.guards, other), here.line, place.ranges))


def _guarded(place: Place, condition: Condition | Value) -> Place:
    ranges = place.ranges if isinstance(condition, Value) else place.ranges.where(condition)
    return Place(place.loops, (*place.guards, condition), place.line, ranges)


def _line(statement: Statement) -> int:
    origin = statement.value.origin if isinstance(statement, Let) else statement.origin
    return origin.span.line


def _expressions(statement: Statement) -> Iterator[Index]:
    match statement:
        case Let(_, Load(view, start, _)) | Let(_, Gather(view, start, _, _, _)):
            yield from _of_view(view, start)
        case Store(view, start, _, _) | Scatter(view, start, _, _, _, _, _):
            yield from _of_view(view, start)
        case Let(_, FromIndex(expression)) | Let(_, Iota(expression)):
            yield expression
        case Let(_, FromCondition(condition)):
            yield from condition_indices(condition)
        case For():
            yield from (*statement.lo, *statement.hi, *statement.step)
        case If(condition) if not isinstance(condition, Value):
            yield from condition_indices(condition)


def _of_view(view: View, start: tuple[Index, ...]) -> Iterator[Index]:
    yield from view.coordinates
    yield from start
    for axis in view.axes:
        yield from (axis.length, axis.lo, axis.hi)
