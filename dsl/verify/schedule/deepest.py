"""The block with the most iterations, where the first one has few whatever the sizes: `minimum(S, i + 64)` at i = 0.

What a block does to shared memory depends on its trip counts alone, so any block with as many iterations stands for the
others; only in kernels of this kind none is to be had from the first tile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.raster import place
from kernelagent.dsl.verify.schedule.trips import bounded, cap
from kernelagent.dsl.walks import tile_at, tile_counts

Sizes = Mapping[str, int]
_ALONG = 64
"""Tiles of an axis that are looked at, the first and the last among them."""


def later_longer(kernel: dev.DeviceKernel, loops: Sequence[dev.For]) -> bool:
    """Whether a loop's end is bounded in the first tile and not in others. Only where every block has one tile and
    all its roles take the same."""
    grid = kernel.grid
    if (
        grid.inner is not None
        or grid.persistent
        or kernel.cluster > 1
        or not all(_alike(grid, g) for g in _others(kernel))
    ):
        return False
    first = {v.name: lo for g in (grid, *_others(kernel)) for v, lo in zip(g.variables, g.lo, strict=True)}
    lengths = [hi - lo for loop in loops for lo, hi in zip(loop.lo, loop.hi, strict=True)]
    return any(not bounded(n) and bounded(n.substitute(first)) for n in lengths)


def _others(kernel: dev.DeviceKernel) -> list[dev.Grid]:
    return [role.grid for role in kernel.roles]


def _alike(grid: dev.Grid, other: dev.Grid) -> bool:
    mine, theirs = ((g.lo, g.hi, g.step, g.raster, g.group, g.together) for g in (grid, other))
    return mine == theirs and other.inner is None and not other.persistent


def iterations(loop: dev.For, known: Sizes) -> int:
    """How many there are; of nested variables, all together. Raises KeyError for what `known` does not have."""
    return prod(
        max(0, -(-(hi.evaluate(known) - lo.evaluate(known)) // step.evaluate(known)))
        for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True)
    )


def longest_tile(kernel: dev.DeviceKernel, loops: Sequence[dev.For], found: Sizes) -> tuple[tuple[int, ...], int]:
    """The place of the tile whose longest loop has the most iterations, and how many. Raises KeyError."""
    counted = [(at, max(iterations(f, known) for f in loops)) for at, known in _tiles(kernel, loops, found)]
    return max(counted, key=lambda pair: pair[1], default=((), 0))


def _tiles(kernel: dev.DeviceKernel, loops: Sequence[dev.For], found: Sizes) -> Iterator[tuple[tuple[int, ...], Sizes]]:
    """Places along the axes that loops end at, and the sizes and variables there."""
    bounds: set[Index] = {b for loop in loops for b in (*loop.lo, *loop.hi)}
    asked = {s.name for b in bounds for s in b.symbols()}
    every = (kernel.grid, *_others(kernel))
    counts = tile_counts(kernel.grid, found)
    axes = [
        _some(n) if any(g.variables[axis].name in asked for g in every) else range(min(n, 1))
        for axis, n in enumerate(counts)
    ]
    for at in itertools.product(*axes):
        known = dict(found)
        for grid in every:
            known |= tile_at(grid, at, found)
        yield at, known


def kinds(
    kernel: dev.DeviceKernel, loops: Sequence[dev.For], found: Sizes
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Tiles, and how many iterations each of the loops has there. Raises KeyError."""
    for at, known in _tiles(kernel, loops, found):
        yield at, tuple(iterations(loop, known) for loop in loops)


def most_iterations(loop: dev.For) -> int | None:
    """That a loop has anywhere, None where nothing bounds it."""
    total = 1
    for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True):
        length, each = cap(hi - lo), step.constant
        if length is None or not each:
            return None
        total *= max(0, -(-length // each))
    return total


def _some(count: int) -> Sequence[int]:
    step = max(1, -(-count // _ALONG))
    return sorted({*range(0, count, step), *range(max(0, count - 1), count)})


def block_of(kernel: dev.DeviceKernel, at: Sequence[int], found: Sizes) -> int:
    """The block that takes the tile at this place."""
    grid, counts = kernel.grid, tile_counts(kernel.grid, found)
    walk = (tuple(place(grid.raster, grid.group, grid.together, counts, n)) for n in range(prod(counts)))
    return list(walk).index(tuple(at))


__all__ = ["block_of", "iterations", "kinds", "later_longer", "longest_tile", "most_iterations"]
