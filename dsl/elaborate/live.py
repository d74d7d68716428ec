"""Live positions: which part of each tile axis holds data, for every operation.

One function, `live_of`, states the rule of each operation; the elaborator, `instantiate` and `spec` all use it.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import Index, index

Shape = tuple[Index, ...]
Lives = tuple[ir.Live, ...]


class PartlyLive(Exception):
    """A reshaped axis is not shown to be wholly live. `axis` counts in the operand."""

    def __init__(self, axis: int) -> None:
        super().__init__(axis)
        self.axis = axis


def full(shape: Shape) -> Lives:
    return tuple(ir.Live(index(0), extent) for extent in shape)


def wholly(interval: ir.Live, extent: Index, facts: Facts) -> bool:
    """Whether every position of the axis is shown to be live."""
    return facts.less_equal(interval.lo, index(0)) and facts.less_equal(extent, interval.hi)


def intersect(a: ir.Live, b: ir.Live, facts: Facts) -> ir.Live:
    if a == b:
        return a
    return ir.Live(facts.maximum(a.lo, b.lo), facts.minimum(a.hi, b.hi))


def within(inner: ir.Live, outer: ir.Live, facts: Facts) -> bool:
    """Whether everything live in `inner` is shown to be live in `outer`."""
    return facts.less_equal(outer.lo, inner.lo) and facts.less_equal(inner.hi, outer.hi)


def all_within(inner: Lives, outer: Lives, facts: Facts) -> bool:
    return all(within(a, b, facts) for a, b in zip(inner, outer, strict=True))


def intersect_all(operands: Sequence[Lives], facts: Facts) -> Lives:
    first, *others = operands
    for other in others:
        first = tuple(intersect(a, b, facts) for a, b in zip(first, other, strict=True))
    return first


def loaded(view: ir.View, start: Shape, shape: Shape, facts: Facts) -> Lives:
    """The positions of `start .. start + shape` that lie inside the view, at both ends."""
    return tuple(
        ir.Live(facts.maximum(index(0), axis.lo - at), facts.minimum(extent, axis.hi - at))
        for axis, at, extent in zip(view.axes, start, shape, strict=True)
    )


def live_of(operation: ir.Operation, shape: Shape, facts: Facts) -> Lives:
    """Live intervals of the operation's result, which has this shape. Raises PartlyLive for a bad reshape."""
    match operation:
        case ir.Load(view, start, fill):
            return full(shape) if fill is not None else loaded(view, start, shape, facts)
        case ir.Gather(view, start, axis, indices, fill):
            if fill is not None:
                return full(shape)
            lives = loaded(view, start, shape, facts)
            return (*lives[:axis], indices.type.live[0], *lives[axis + 1 :])
        case ir.Unary(_, x) | ir.Cast(x) | ir.Tag(x):
            return x.type.live
        case ir.Binary(_, a, b):
            return intersect_all([a.type.live, b.type.live], facts)
        case ir.Where(condition, a, b):
            return intersect_all([condition.type.live, a.type.live, b.type.live], facts)
        case ir.Scan(_, x, _):
            return x.type.live
        case ir.Broadcast(x):
            return _stretched(x.type, shape)
        case ir.ExpandDims(x, axes):
            return _expanded(x.type.live, axes)
        case ir.Reshape(x):
            return _reshaped(x.type, shape, facts)
        case ir.Permute(x, axes):
            return tuple(x.type.live[a] for a in axes)
        case ir.Reduce(_, x, axis) | ir.ArgReduce(_, x, axis):
            return x.type.live[:axis] + x.type.live[axis + 1 :]
        case ir.Mma(a, b):
            return (a.type.live[0], b.type.live[1])
        case ir.Stack(parts):
            return (*intersect_all([p.type.live for p in parts], facts), ir.Live(index(0), index(len(parts))))
        case ir.Take(x, position):
            last = x.type.live[-1]
            inside = facts.less_equal(last.lo, index(position)) and facts.less_equal(index(position + 1), last.hi)
            if not inside:
                raise PartlyLive(x.type.rank - 1)
            return x.type.live[:-1]
        case ir.Fill() | ir.Full() | ir.Iota() | ir.FromIndex() | ir.FromCondition() | ir.ScalarParam():
            return full(shape)


def _stretched(source: ir.TileType, shape: Shape) -> Lives:
    """A stretched axis is live everywhere or nowhere, as its one position was."""
    if source.rank == 0:
        return full(shape)
    return tuple(
        live if extent == wanted else ir.Live(live.lo * wanted, live.hi * wanted)
        for live, extent, wanted in zip(source.live, source.shape, shape, strict=True)
    )


def _expanded(live: Lives, axes: tuple[int, ...]) -> Lives:
    remaining = list(live)
    return tuple(
        ir.Live(index(0), index(1)) if axis in axes else remaining.pop(0) for axis in range(len(live) + len(axes))
    )


# Reshape -----------------------------------------------------------------------------------------


def _reshaped(source: ir.TileType, shape: Shape, facts: Facts) -> Lives:
    result: dict[int, ir.Live] = {}
    for old, new in axis_groups(source.shape, shape, facts) or [(range(source.rank), range(len(shape)))]:
        if len(old) == len(new) == 1:
            result[new[0]] = source.live[old[0]]
            continue
        for axis in old:
            if not wholly(source.live[axis], source.shape[axis], facts):
                raise PartlyLive(axis)
        result.update({axis: ir.Live(index(0), shape[axis]) for axis in new})
    return tuple(result[axis] for axis in range(len(shape)))


def axis_groups(old: Shape, new: Shape, facts: Facts) -> list[tuple[range, range]] | None:
    """Pair runs of old axes with runs of new axes of equal product; None if the sizes differ.

    Unit axes that come or go stand in a group of their own (with nothing on the other side).
    """
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(old) or j < len(new):
        if i < len(old) and j < len(new) and facts.equal(old[i], new[j]):
            i, j = i + 1, j + 1
            groups.append((range(i - 1, i), range(j - 1, j)))
        elif j < len(new) and new[j] == index(1):
            groups.append((range(i, i), range(j, j + 1)))
            j += 1
        elif i < len(old) and old[i] == index(1):
            groups.append((range(i, i + 1), range(j, j)))
            i += 1
        else:
            ends = _matching_run(old, new, i, j, facts)
            if ends is None:
                return None
            groups.append((range(i, ends[0]), range(j, ends[1])))
            i, j = ends
    return groups


def _matching_run(old: Shape, new: Shape, i: int, j: int, facts: Facts) -> tuple[int, int] | None:
    """The shortest runs old[i:a], new[j:b] with equal products."""
    candidates = [(a, b) for a in range(i + 1, len(old) + 1) for b in range(j + 1, len(new) + 1)]
    for a, b in sorted(candidates, key=sum):
        if facts.equal(product(old[i:a]), product(new[j:b])):
            return a, b
    return None


def product(extents: Shape) -> Index:
    total = index(1)
    for extent in extents:
        total = total * extent
    return total
