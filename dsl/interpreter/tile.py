"""A tile at run time: data of the full extent, and the live interval of each axis."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from kernelagent.dsl.interpreter.held import Array

Interval: TypeAlias = tuple[int, int]
"""[lo, hi) with 0 <= lo <= hi <= extent; (0, 0) when nothing is live."""


class Tile(NamedTuple):
    data: Array
    live: tuple[Interval, ...]


class Unreshapable(ValueError):
    """A reshape merges or splits an axis that is not wholly live."""


def interval(lo: int, hi: int, extent: int) -> Interval:
    """Clamp to the axis; every empty interval is (0, 0)."""
    lo, hi = max(lo, 0), min(hi, extent)
    return (lo, hi) if lo < hi else (0, 0)


def whole(shape: Sequence[int]) -> tuple[Interval, ...]:
    return tuple((0, extent) for extent in shape)


def nothing(rank: int) -> tuple[Interval, ...]:
    return ((0, 0),) * rank


def common(first: tuple[Interval, ...], *others: tuple[Interval, ...]) -> tuple[Interval, ...]:
    """Intersect live intervals axis by axis."""
    result = first
    for other in others:
        if other != result:
            pairs = zip(result, other, strict=True)
            result = tuple(interval(max(a[0], b[0]), min(a[1], b[1]), max(a[1], b[1])) for a, b in pairs)
    return result


def box(live: Sequence[Interval]) -> tuple[slice, ...]:
    return tuple(slice(lo, hi) for lo, hi in live)


def wholly_live(tile: Tile) -> bool:
    return all(lo == 0 and hi == extent for (lo, hi), extent in zip(tile.live, tile.data.shape, strict=True))


def refill(tile: Tile, value: object) -> Array:
    """The data with every void element replaced by `value`."""
    data = np.full(tile.data.shape, value, tile.data.dtype)
    inside = box(tile.live)
    data[inside] = tile.data[inside]
    return data


def broadcast(tile: Tile, shape: tuple[int, ...]) -> Tile:
    """Stretch extent-1 axes (or rank 0) to `shape`; a void unit axis stays void."""
    if not tile.live:
        return Tile(np.broadcast_to(tile.data, shape), whole(shape))
    axes = zip(tile.live, tile.data.shape, shape, strict=True)
    live = tuple(_stretched(here, old, new) for here, old, new in axes)
    return Tile(np.broadcast_to(tile.data, shape), live)


def _stretched(live: Interval, old: int, new: int) -> Interval:
    return live if old == new else (0, new if live == (0, 1) else 0)


def reshape(tile: Tile, shape: tuple[int, ...]) -> Tile:
    """Row-major reshape. Raises Unreshapable when a merged or split axis is not wholly live."""
    live = _reshaped_live(tile, shape)
    return Tile(tile.data.reshape(shape), live)


def _reshaped_live(tile: Tile, shape: tuple[int, ...]) -> tuple[Interval, ...]:
    old = [(extent, live) for extent, live in zip(tile.data.shape, tile.live, strict=True) if extent != 1]
    if any(live == (0, 0) for extent, live in zip(tile.data.shape, tile.live, strict=True) if extent == 1):
        return nothing(len(shape))
    kept = _grouped_live(old, [extent for extent in shape if extent != 1])
    return tuple((0, 1) if extent == 1 else kept.pop(0) for extent in shape)


def _grouped_live(old: list[tuple[int, Interval]], new: list[int]) -> list[Interval]:
    result: list[Interval] = []
    old = list(old)
    new = list(new)
    while new:
        sources, targets = [old.pop(0)], [new.pop(0)]
        while (left := _product(extent for extent, _ in sources)) != (right := _product(targets)):
            if left < right:
                sources.append(old.pop(0))
            else:
                targets.append(new.pop(0))
        result += _group(sources, targets)
    return result


def _group(sources: list[tuple[int, Interval]], targets: list[int]) -> list[Interval]:
    if len(sources) == len(targets) == 1:
        return [sources[0][1]]
    for extent, live in sources:
        if live != (0, extent):
            raise Unreshapable(f"axis of extent {extent} is live only at [{live[0]}, {live[1]})")
    return [(0, extent) for extent in targets]


def _product(extents: Iterable[int]) -> int:
    return math.prod(extents)
