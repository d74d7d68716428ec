"""Stores that bring one tile away in parts: side by side in the tile, they count as one store of the whole tile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kernelagent.dsl.index import Index, index
from kernelagent.dsl.ir import Live
from kernelagent.dsl.verify.sites import Touch

WholeAlong = Callable[[Touch, int], bool]
"""Whether every position of a stored part that lies inside the view is live along an axis."""


def joined(stores: list[Touch], whole: WholeAlong) -> list[Touch]:
    """The stores, with those of one view and one iteration joined where the second begins as the first one ends."""
    found = list(stores)
    while (pair := _neighbours(found, whole)) is not None:
        first, second, axis = pair
        kept = [s for s in found if s is not second]
        found = [_both(first, second, axis) if s is first else s for s in kept]
    return found


def _neighbours(stores: list[Touch], whole: WholeAlong) -> tuple[Touch, Touch, int] | None:
    for first in stores:
        for second in stores:
            if second is not first and _together(first, second):
                axis = _next_along(first, second)
                if axis is not None and whole(first, axis) and whole(second, axis):
                    return first, second, axis
    return None


def _together(first: Touch, second: Touch) -> bool:
    """Whether they run in the same iterations and store through the same view."""
    a, b = first.place, second.place
    alike = first.kind == second.kind == "store" and first.view == second.view
    return alike and a.guards == b.guards and len(a.loops) == len(b.loops) and all(map(_is, a.loops, b.loops))


def _is(a: object, b: object) -> bool:
    return a is b


def _next_along(first: Touch, second: Touch) -> int | None:
    """The one axis along which the second begins where the first one ends; they are alike along all others."""
    axes = range(len(first.shape))
    apart = [a for a in axes if second.start[a] != first.start[a]]
    if len(apart) != 1 or len(second.shape) != len(first.shape):
        return None
    axis = apart[0]
    others = all(first.shape[a] == second.shape[a] and first.live[a] == second.live[a] for a in axes if a != axis)
    return axis if others and second.start[axis] - first.start[axis] == first.shape[axis] else None


def _both(first: Touch, second: Touch, axis: int) -> Touch:
    extent = first.shape[axis] + second.shape[axis]
    shape: tuple[Index, ...] = (*first.shape[:axis], extent, *first.shape[axis + 1 :])
    live: tuple[Live, ...] = (*first.live[:axis], Live(index(0), extent), *first.live[axis + 1 :])
    return replace(first, shape=shape, live=live)
