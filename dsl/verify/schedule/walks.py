"""Which tiles a block computes, in which order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import ReadElement, cdiv


class Unmodelled(Exception):
    """Something that the engine does not know; the text names it. Never a pass."""


def tile_counts(grid: dev.Grid, sizes: Mapping[str, int], cluster: int, read: ReadElement | None) -> list[int]:
    """Tiles along each variable. The row before last is filled up to whole clusters."""
    pairs = zip(grid.lo, grid.hi, grid.step, strict=True)
    counts = [max(0, cdiv(hi - lo, step).evaluate(sizes, read)) for lo, hi, step in pairs]
    if cluster > 1:
        counts[-2] = -(-counts[-2] // cluster) * cluster
    return counts


def place(grid: dev.Grid, counts: list[int], number: int) -> tuple[int, ...]:
    """The position of tile `number` along each variable, in tiles. The raster orders the last two."""
    if len(counts) < 2:
        return (number,) * len(counts)
    rows, columns = counts[-2:]
    outer, within = divmod(number, rows * columns)
    leading: list[int] = []
    for count in reversed(counts[1:-2]):
        outer, digit = divmod(outer, count)
        leading.insert(0, digit)
    if len(counts) > 2:
        leading.insert(0, outer)
    return (*leading, *_raster(grid, within, rows, columns))


def _raster(grid: dev.Grid, tile: int, rows: int, columns: int) -> tuple[int, int]:
    match grid.raster:
        case "row":
            return divmod(tile, columns)
        case "column":
            column, row = divmod(tile, rows)
            return row, column
        case "grouped":
            width = grid.group * columns
            first = tile // width * grid.group
            high = min(rows - first, grid.group)
            column, row = divmod(tile % width, high)
            return first + row, column
        case other:
            raise Unmodelled(f"the raster {other}")


def tiles(
    grid: dev.Grid, counts: list[int], sizes: Mapping[str, int], block: int, blocks: int | None,
    read: ReadElement | None,
) -> Iterator[dict[str, int]]:  # fmt: skip
    """Values of the loop variables, tile by tile. `blocks`: how many blocks stride over the tiles; None: one tile
    each."""
    total = prod(counts)
    for number in range(block, total, blocks or total or 1):
        at = place(grid, counts, number)
        yield {
            v.name: lo.evaluate(sizes, read) + p * step.evaluate(sizes, read)
            for v, lo, step, p in zip(grid.variables, grid.lo, grid.step, at, strict=True)
        }
