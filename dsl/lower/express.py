"""Tile values as element expressions: what one element of a virtual value is computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import AllOf, Compare, Condition, Index, decide, index
from kernelagent.dsl.lower.unsupported import Unsupported

Coordinates = tuple[Index, ...]


@dataclass
class Expressions:
    """Expressions of one nest; equal requests give the same node, so shared values are computed once.

    `guarded` requests may be evaluated at void positions (below a `fill`): every fetch then checks its view.
    """

    definition: Mapping[int, ir.Operation]
    buffers: Mapping[int, sch.Buffer]
    memo: dict[tuple[int, Coordinates, bool], sch.Expression] = field(default_factory=dict)

    def of(self, value: ir.Value, at: Coordinates, guarded: bool = False) -> sch.Expression:
        key = (value.number, at, guarded)
        if key not in self.memo:
            self.memo[key] = self._express(value, at, guarded)
        return self.memo[key]

    def _express(self, value: ir.Value, at: Coordinates, guarded: bool) -> sch.Expression:
        buffer = self.buffers.get(value.number)
        if buffer is not None:
            return sch.Read(buffer, at, value.type.dtype)
        operation = self.definition[value.number]
        leaf = self._leaf(operation, value, at, guarded)
        return leaf if leaf is not None else self._compute(operation, value, at, guarded)

    def _leaf(self, operation: ir.Operation, value: ir.Value, at: Coordinates, guarded: bool) -> sch.Expression | None:
        dtype = value.type.dtype
        match operation:
            case ir.Full(number):
                return sch.Constant(number, dtype)
            case ir.FromIndex(position):
                return sch.Position(position, dtype)
            case ir.FromCondition(condition):
                return sch.Truth(condition)
            case ir.ScalarParam(name):
                return sch.Parameter(name, dtype)
            case ir.Iota(start):
                return sch.Position(start + at[0], dtype)
            case ir.Load():
                return fetch(operation, at, dtype, guarded)
            case ir.Gather():
                return self._gather(operation, at, dtype, guarded)
            case _:
                return None

    def _compute(self, operation: ir.Operation, value: ir.Value, at: Coordinates, guarded: bool) -> sch.Expression:
        dtype = value.type.dtype
        match operation:
            case ir.Unary(word, x):
                return sch.Apply(word, (self.of(x, at, guarded),), dtype)
            case ir.Binary(word, a, b):
                return sch.Apply(word, (self.of(a, at, guarded), self.of(b, at, guarded)), dtype)
            case ir.Where(condition, a, b):
                return sch.Apply("where", tuple(self.of(v, at, guarded) for v in (condition, a, b)), dtype)
            case ir.Cast(x):
                return sch.Apply("cast", (self.of(x, at, guarded),), dtype)
            case ir.Fill(x, number):
                chosen = self.of(x, at, True), sch.Constant(number, dtype)
                return sch.Apply("where", (sch.Truth(live_condition(x.type, at)), *chosen), dtype)
            case ir.Stack(parts):
                return self._stack(parts, at, guarded)
            case _:
                x, where = source_of_move(operation, value, at)
                return self.of(x, where, guarded)

    def _stack(self, parts: tuple[ir.Value, ...], at: Coordinates, guarded: bool) -> sch.Expression:
        last = at[-1]
        chosen = self.of(parts[-1], at[:-1], guarded)
        for k in range(len(parts) - 2, -1, -1):
            condition = Compare("==", last, index(k))
            known = decide(condition)
            if known is False:
                continue
            part = self.of(parts[k], at[:-1], guarded)
            chosen = part if known else sch.Apply("where", (sch.Truth(condition), part, chosen), part.dtype)
        return chosen

    def _gather(self, gather: ir.Gather, at: Coordinates, dtype: str, guarded: bool) -> sch.Expression:
        """The data coordinate is one array axis's own coordinate: views place it there unchanged or shifted."""
        data = self.of(gather.indices, (at[gather.axis],), guarded)
        view = gather.view
        positions = [s + c for s, c in zip(gather.start, at, strict=True)]
        coordinates: list[Index | sch.Expression] = []
        for coordinate in view.coordinates:
            coordinates.append(place_data(coordinate, positions, gather.axis, data))
        others = [k for k in range(len(at)) if k != gather.axis]
        checked = guarded or gather.fill is not None
        inside = tuple(b for k in others if checked and (b := view_bound(view, k, positions[k])) is not None)
        fill = 0 if gather.fill is None else gather.fill
        return sch.Fetch(view.array, tuple(coordinates), dtype, inside, fill)


def place_data(coordinate: Index, positions: list[Index], axis: int, data: sch.Expression) -> Index | sch.Expression:
    """`coordinate` with its own positions replaced; an expression where it follows the data position."""
    symbol = ir.position(axis)
    known = {ir.position(k).name: p for k, p in enumerate(positions) if k != axis}
    placed = coordinate.substitute(known)
    if symbol not in placed.symbols():
        return placed
    affine = placed.affine(symbol)
    if affine is None:
        raise Unsupported(f"a data position that is not affine in its view: {coordinate}")
    factor, rest = affine
    scaled: sch.Expression = sch.Apply("cast", (data,), "i64")
    if factor.constant != 1:
        scaled = sch.Apply("mul", (scaled, sch.Position(factor, "i64")), "i64")
    return scaled if rest.constant == 0 else sch.Apply("add", (scaled, sch.Position(rest, "i64")), "i64")


def fetch(load: ir.Load, at: Coordinates, dtype: str, guarded: bool) -> sch.Fetch:
    positions = [s + c for s, c in zip(load.start, at, strict=True)]
    coordinates = array_coordinates(load.view, positions)
    checked = guarded or load.fill is not None
    bounds = (view_bound(load.view, k, p) for k, p in enumerate(positions)) if checked else ()
    fill = 0 if load.fill is None else load.fill
    return sch.Fetch(load.view.array, coordinates, dtype, tuple(b for b in bounds if b is not None), fill)


def array_coordinates(view: ir.View, positions: list[Index]) -> tuple[Index, ...]:
    known = {ir.position(k).name: p for k, p in enumerate(positions)}
    return tuple(c.substitute(known) for c in view.coordinates)


def view_bound(view: ir.View, axis: int, position: Index) -> sch.Bound | None:
    """Where `position` is inside the memory of the view; None if that is known."""
    bound = sch.Bound(position, view.axes[axis].lo, view.axes[axis].hi)
    low = decide(Compare(">=", position, bound.lo))
    high = decide(Compare("<", position, bound.hi))
    return None if low and high else bound


def live_condition(tile: ir.TileType, at: Coordinates) -> Condition:
    parts: list[Condition] = []
    for live, extent, c in zip(tile.live, tile.shape, at, strict=True):
        if live.lo.constant != 0:
            parts.append(Compare(">=", c, live.lo))
        if live.hi != extent:
            parts.append(Compare("<", c, live.hi))
    return AllOf(tuple(parts))


def source_of_move(operation: ir.Operation, value: ir.Value, at: Coordinates) -> tuple[ir.Value, Coordinates]:
    """Where the element at `at` comes from, for operations that only move elements."""
    match operation:
        case ir.Broadcast(x):
            kept = at[len(at) - x.type.rank :] if x.type.rank else ()
            return x, tuple(index(0) if e.constant == 1 else c for e, c in zip(x.type.shape, kept, strict=True))
        case ir.ExpandDims(x, axes):
            return x, tuple(c for k, c in enumerate(at) if k not in axes)
        case ir.Permute(x, axes):
            source = [index(0)] * len(axes)
            for j, axis in enumerate(axes):
                source[axis] = at[j]
            return x, tuple(source)
        case ir.Take(x, position):
            return x, (*at, index(position))
        case ir.Reshape(x):
            return x, reshaped(constants(value.type.shape), constants(x.type.shape), at)
        case _:
            raise Unsupported(type(operation).__name__.lower())


def constants(shape: tuple[Index, ...]) -> tuple[int, ...]:
    found = tuple(extent.constant for extent in shape)
    assert None not in found, f"extents {shape} are not constants"
    return tuple(e for e in found if e is not None)


def reshaped(to: tuple[int, ...], source: tuple[int, ...], at: Coordinates) -> Coordinates:
    """Row-major: coordinates in `source` of the element at `at` of `to`. Unit axes come and go freely.

    Axes are matched in the smallest groups of equal size, so an untouched axis keeps a plain coordinate.
    """
    result: list[Index] = []
    for to_axes, source_axes in axis_groups(to, source):
        linear = index(0)
        for axis in to_axes:
            linear = linear * to[axis] + at[axis]
        result.extend(_split(linear, [source[axis] for axis in source_axes]))
    places = [axis for _, axes in axis_groups(to, source) for axis in axes]
    return tuple(result[places.index(k)] if k in places else index(0) for k in range(len(source)))


def axis_groups(to: tuple[int, ...], source: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of non-unit axes with equal numbers of elements on both sides."""
    left = [k for k, e in enumerate(to) if e != 1]
    right = [k for k, e in enumerate(source) if e != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while left and right:
        a, b = [left.pop(0)], [right.pop(0)]
        while (size := prod(to[k] for k in a)) != (other := prod(source[k] for k in b)):
            (a if size < other else b).append((left if size < other else right).pop(0))
        groups.append((a, b))
    return groups


def _split(linear: Index, extents: list[int]) -> list[Index]:
    parts: list[Index] = []
    for extent in reversed(extents[1:]):
        parts.append(linear % extent)
        linear = linear // extent
    return [linear, *reversed(parts)]
