"""Which tiles a block takes, in which order, for known sizes: `raster` in terms of grids and their variables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, ReadElement, cdiv
from kernelagent.dsl.raster import filled, place

Sizes = Mapping[str, int]


def counts_of(grid: dev.Grid) -> list[Index]:
    """Tiles along each variable, negative for empty ranges."""
    return [cdiv(hi - lo, step) for lo, hi, step in zip(grid.lo, grid.hi, grid.step, strict=True)]


def tile_counts(grid: dev.Grid, sizes: Sizes, read: ReadElement | None = None) -> list[int]:
    """Tiles along each variable, filled up to whole clusters. Raises KeyError for what `sizes` does not know."""
    return filled([max(0, count.evaluate(sizes, read)) for count in counts_of(grid)], grid.together)


def tile_at(grid: dev.Grid, places: Sequence[int], sizes: Sizes, read: ReadElement | None = None) -> dict[str, int]:
    """Values of the loop variables at a position along each of them."""
    return {
        v.name: lo.evaluate(sizes, read) + p * step.evaluate(sizes, read)
        for v, lo, step, p in zip(grid.variables, grid.lo, grid.step, places, strict=True)
    }


def tiles(
    grid: dev.Grid, counts: Sequence[int], sizes: Sizes, block: int, blocks: int | None, read: ReadElement | None,
) -> Iterator[dict[str, int]]:  # fmt: skip
    """Values of the loop variables, tile by tile. `blocks`: how many blocks stride over the tiles; None: one tile
    each."""
    total = prod(counts)
    for number in range(block, total, blocks or total or 1):
        yield tile_at(grid, place(grid.raster, grid.group, grid.together, counts, number), sizes, read)
