"""Orders of a grid's tiles, as numbers: which tile a block takes, exactly as the emitted code computes it.

`row`: along rows; `column`: along columns; `grouped`: some rows of tiles at a time, column by column; `hilbert`: along
a curve that stays within a square of tiles as long as it can, so that any run of neighbours reads few rows and columns.
Where `together` tiles (rows, columns) are one cluster's, these follow each other, and the order is that of clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

RASTERS = ("row", "column", "grouped", "hilbert")
Pair = tuple[int, int]


def filled(counts: Sequence[int], together: Pair) -> list[int]:
    """Tiles along each variable, the last two filled up to whole clusters."""
    if together == (1, 1):
        return list(counts)
    return [*counts[:-2], *(-(-n // t) * t for n, t in zip(counts[-2:], together, strict=True))]


def place(raster: str, group: int, together: Pair, counts: Sequence[int], number: int) -> tuple[int, ...]:
    """The position of tile `number` along each variable of a filled grid. The raster orders the last two variables;
    those before them are slower."""
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
    down, right = together
    cluster, member = divmod(within, down * right)
    row, column = _ordered(raster, max(1, group // down), cluster, rows // down, columns // right)
    return (*leading, row * down + member % down, column * right + member // down)


def _ordered(raster: str, group: int, tile: int, rows: int, columns: int) -> Pair:
    match raster:
        case "row":
            return tile // columns, tile % columns
        case "column":
            return tile % rows, tile // rows
        case "grouped":
            width = group * columns
            first = tile // width * group
            high = min(rows - first, group)
            return first + tile % width % high, tile % width // high
        case "hilbert":
            return hilbert(tile, rows, columns)
        case _:
            raise ValueError(f"{raster} is no order of tiles; there are {', '.join(RASTERS)}")


def hilbert(tile: int, rows: int, columns: int) -> Pair:
    """The `tile`-th place of a Hilbert curve over any rectangle.

    A rectangle of w steps along `a` and h along `b` is halved along `a` if it is long, else parted in three: up its
    first half, along the rest, and down again. Halves are even where they can be, so that neighbours on the curve
    are neighbours in the grid (in odd rectangles a few lie across a corner).
    """
    row, column = 0, 0
    (w, h), a, b = ((columns, rows), (0, 1), (1, 0)) if columns >= rows else ((rows, columns), (1, 0), (0, 1))
    while w > 1 and h > 1:
        if 2 * w > 3 * h:
            half = w // 2 + (w // 2 & 1)
            if tile < half * h:
                w = half
            else:
                tile -= half * h
                row, column, w = row + a[0] * half, column + a[1] * half, w - half
            continue
        half, near = h // 2 + (h // 2 & 1 if h > 2 else 0), w // 2
        if tile < half * near:
            w, h, a, b = half, near, b, a
        elif tile < half * near + w * (h - half):
            tile -= half * near
            row, column, h = row + b[0] * half, column + b[1] * half, h - half
        else:
            tile -= half * near + w * (h - half)
            row += a[0] * (w - 1) + b[0] * (half - 1)
            column += a[1] * (w - 1) + b[1] * (half - 1)
            w, h, a, b = half, w - near, (-b[0], -b[1]), (-a[0], -a[1])
    along = a if h == 1 else b
    return row + along[0] * tile, column + along[1] * tile
