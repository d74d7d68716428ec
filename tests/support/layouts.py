"""Random layouts for the laws of the layout algebra, and the plainest possible meaning of a layout."""

from __future__ import annotations

import itertools
import random
from typing import Any

from hypothesis import strategies as st
from kernelagent.dsl.layout import Layout, LayoutError, leaves, size

EXTENTS = (1, 2, 3, 4, 6)
STRIDES = (0, 1, 2, 3, 4, 6, 8, 12, 24)


def nestings(flat: st.SearchStrategy[list[tuple[int, Any]]]) -> st.SearchStrategy[Layout]:
    """Layouts with the given leaves, some of them grouped."""

    def group(drawn: tuple[list[tuple[int, Any]], int, int]) -> Layout:
        found, a, b = drawn
        low, high = sorted((a % (len(found) + 1), b % (len(found) + 1)))
        nested: list[Any] = list(found)
        if low < high:
            nested[low:high] = [tuple(zip(*found[low:high], strict=True))]
        shape, stride = zip(*nested, strict=True)
        return Layout(*found[0]) if len(found) == 1 and a % 2 else Layout(shape, stride)

    return st.tuples(flat, st.integers(0, 11), st.integers(0, 11)).map(group)


def layouts(strides: tuple[int, ...] = STRIDES, largest: int = 3) -> st.SearchStrategy[Layout]:
    """Up to `largest` leaves with arbitrary strides: images overlap and have holes."""
    leaf = st.tuples(st.sampled_from(EXTENTS), st.sampled_from(strides))
    return nestings(st.lists(leaf, min_size=1, max_size=largest))


def compact(largest: int = 3, gaps: bool = False) -> st.SearchStrategy[Layout]:
    """Bijections onto [0, size): modes in any order of strides; with `gaps`, regular holes between them."""

    def build(drawn: tuple[list[tuple[int, int]], random.Random]) -> list[tuple[int, int]]:
        found, shuffle = drawn
        order = list(range(len(found)))
        shuffle.shuffle(order)
        strides, step = [0] * len(found), 1
        for mode in order:
            extent, gap = found[mode]
            strides[mode] = step * (gap if gaps else 1)
            step = strides[mode] * extent
        return [(extent, strides[k]) for k, (extent, _) in enumerate(found)]

    leaf = st.tuples(st.sampled_from(EXTENTS), st.sampled_from((1, 1, 2, 3)))
    drawn = st.tuples(st.lists(leaf, min_size=1, max_size=largest), st.randoms(use_true_random=False))
    return nestings(drawn.map(build))


def table(a: Any) -> list[Any]:
    """The offsets of a layout by enumerating its flat coordinates, leftmost fastest, without evaluating it."""
    found = list(leaves(a))
    coordinates = itertools.product(*(range(extent) for extent, _ in reversed(found)))
    return [sum(c * d for c, (_, d) in zip(reversed(at), found, strict=True)) for at in coordinates]


def compatible(coarse: Any, fine: Any) -> bool:
    """Whether `fine` refines the shape `coarse`: every coordinate of `coarse` is one of `fine`."""
    if isinstance(coarse, int):
        return coarse == size(fine)
    return (
        isinstance(fine, tuple)
        and len(coarse) == len(fine)
        and all(compatible(c, f) for c, f in zip(coarse, fine, strict=True))
    )


def attempt(operation: Any, *operands: Any) -> Layout | None:
    """The result, or None if the operation refuses its operands."""
    try:
        result: Layout = operation(*operands)
    except LayoutError:
        return None
    return result
