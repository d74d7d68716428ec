"""Which tiles a block computes, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import ReadElement, cdiv
from kernelagent.dsl.raster import filled, place


class Unmodelled(Exception):
    """Something that the engine does not know; the text names it. Never a pass."""


def tile_counts(grid: dev.Grid, sizes: Mapping[str, int], read: ReadElement | None) -> list[int]:
    """Tiles along each variable, filled up to whole clusters."""
    pairs = zip(grid.lo, grid.hi, grid.step, strict=True)
    return filled([max(0, cdiv(hi - lo, step).evaluate(sizes, read)) for lo, hi, step in pairs], grid.together)


def tiles(
    grid: dev.Grid, counts: list[int], sizes: Mapping[str, int], block: int, blocks: int | None,
    read: ReadElement | None,
) -> Iterator[dict[str, int]]:  # fmt: skip
    """Values of the loop variables, tile by tile. `blocks`: how many blocks stride over the tiles; None: one tile
    each."""
    total = prod(counts)
    for number in range(block, total, blocks or total or 1):
        at = place(grid.raster, grid.group, grid.together, counts, number)
        yield {
            v.name: lo.evaluate(sizes, read) + p * step.evaluate(sizes, read)
            for v, lo, step, p in zip(grid.variables, grid.lo, grid.step, at, strict=True)
        }
