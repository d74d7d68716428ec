"""Two ways to store the same elements are one store: a whole tile by a bulk copy, a cut one element by element.

A branch stores in both arms. Where its condition holds, the store of the first arm touches exactly the elements that
the one of the other arm would: element by element they lie at the same places of the array, and along each axis the
same ones lie inside the view, or all do in both. Then the branch stores what the other arm's store alone would, and
how it covers the output can be argued of that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.ir import position
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.sites import Place, walk


def joined(kernel: ir.Kernel) -> ir.Kernel:
    """The kernel with such branches replaced by the store of the other arm."""
    places = {id(s): place for s, place in walk(kernel) if isinstance(s, ir.If)}
    return replace(kernel, body=_body(kernel.body, places))


def _body(statements: Sequence[ir.Statement], places: Mapping[int, Place]) -> tuple[ir.Statement, ...]:
    found: list[ir.Statement] = []
    for s in statements:
        match s:
            case ir.For():
                found.append(replace(s, body=_body(s.body, places)))
            case ir.If():
                found += _branch(s, places)
            case _:
                found.append(s)
    return tuple(found)


def _branch(s: ir.If, places: Mapping[int, Place]) -> Sequence[ir.Statement]:
    then, otherwise = _body(s.then, places), _body(s.otherwise, places)
    mine, others = ([x for x in arm if isinstance(x, ir.Store)] for arm in (then, otherwise))
    kept = replace(s, then=then, otherwise=otherwise)
    if isinstance(s.condition, ir.Value) or not mine or len(mine) != len(others):
        return [kept]
    ranges = places[id(s)].ranges.where(s.condition)
    if not all(_same(a, b, ranges) for a, b in zip(mine, others, strict=True)):
        return [kept]
    rest = [tuple(x for x in arm if not isinstance(x, ir.Store)) for arm in (then, otherwise)]
    return [*others, replace(s, then=rest[0], otherwise=rest[1])] if any(rest) else others


def _same(a: ir.Store, b: ir.Store, ranges: Ranges) -> bool:
    """Whether two stores touch the same elements."""
    if a.view.array != b.view.array or a.value.type.shape != b.value.type.shape:
        return False
    if len(a.start) != len(b.start) or _lying(a) != _lying(b):
        return False
    return all(_inside(a, b, axis, ranges) for axis in range(len(a.start)))


def _lying(store: ir.Store) -> tuple[Index, ...]:
    """Where the element of a tile's positions lies in the array."""
    moved = {position(k).name: index(position(k)) + at for k, at in enumerate(store.start)}
    return tuple(c.substitute(moved) for c in store.view.coordinates)


def _inside(a: ir.Store, b: ir.Store, axis: int, ranges: Ranges) -> bool:
    """Whether the same positions of the tile lie inside both views along an axis."""
    ends = [(s.view.axes[axis].lo - s.start[axis], s.view.axes[axis].hi - s.start[axis]) for s in (a, b)]
    if ends[0] == ends[1]:
        return True
    extent = a.value.type.shape[axis]
    return all(ranges.nonnegative(-lo) and ranges.nonnegative(hi - extent) for lo, hi in ends)


__all__ = ["joined"]
