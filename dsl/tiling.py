"""Division and product of layouts: tiles of a layout, and copies of a layout.

Division splits the coordinates of a layout into a tile and the positions of the tiles; product repeats a block.
Both raise `LayoutError` unless tiles and layout fit exactly.
"""

from __future__ import annotations

from collections.abc import Callable

from kernelagent.dsl.layout import (
    Layout,
    LayoutError,
    Tiler,
    by_mode,
    coalesce,
    column_major,
    complement,
    composition,
    concatenate,
    cosize,
    modes,
    ordered,
    rank,
    size,
)


# Law: mode 0 is composition(A, B); the offsets are a permutation of A's. For a tuple the law holds in each mode.
def logical_divide(a: Layout, b: Tiler) -> Layout:
    """(the tile B of A, the positions of the tiles). Raises LayoutError unless the tiles fill A exactly."""
    if b is None:
        return concatenate(a, Layout(1, 0))
    if isinstance(b, int):
        return logical_divide(a, Layout(b, 1))
    if isinstance(b, tuple):
        return concatenate(*(logical_divide(m, t) for m, t in by_mode(a, b)), *modes(a)[len(b) :])
    return composition(a, concatenate(b, complement(b, size(a))))


# Law: as logical_divide; a tuple's tiles are gathered in mode 0, the rests in mode 1.
def zipped_divide(a: Layout, b: Tiler) -> Layout:
    """((tile, tile, ...), (rest, rest, ...))."""
    return _zipped(logical_divide, a, b)


# Law: as zipped_divide, with mode 1 unpacked.
def tiled_divide(a: Layout, b: Tiler) -> Layout:
    """((tile, tile, ...), rest, rest, ...)."""
    tile, rest = modes(zipped_divide(a, b))
    return concatenate(tile, *modes(rest))


# Law: as zipped_divide, with both modes unpacked.
def flat_divide(a: Layout, b: Tiler) -> Layout:
    """(tile, tile, ..., rest, rest, ...)."""
    tile, rest = modes(zipped_divide(a, b))
    return concatenate(*modes(tile), *modes(rest))


# Law: mode 0 is A, mode 1 has B's shape refined; injective if A and B are.
def logical_product(a: Layout, b: Tiler) -> Layout:
    """(A, the positions of its copies, laid out as B)."""
    if b is None:
        return concatenate(a, Layout(1, 0))
    if isinstance(b, int):
        return logical_product(a, Layout(b, 1))
    if isinstance(b, tuple):
        return concatenate(*(logical_product(m, t) for m, t in by_mode(a, b)), *modes(a)[len(b) :])
    return concatenate(a, composition(complement(a, size(a) * cosize(b)), b))


# Law: as logical_product; a tuple's blocks are gathered in mode 0, the copies in mode 1.
def zipped_product(a: Layout, b: Tiler) -> Layout:
    """((block, block, ...), (copies, copies, ...))."""
    return _zipped(logical_product, a, b)


# Law: the offsets of logical_product; mode k is (mode k of A, mode k of B): blocks stay together.
def blocked_product(a: Layout, b: Layout) -> Layout:
    """A block repeated over the grid B, mode by mode, block coordinate fastest."""
    block, grid = modes(logical_product(*_same_rank(a, b)))
    return concatenate(*(concatenate(x, y) for x, y in zip(modes(block), modes(grid), strict=True)))


# Law: the same image as blocked_product; mode k is (mode k of B, mode k of A): blocks are interleaved.
def raked_product(a: Layout, b: Layout) -> Layout:
    """A block repeated over the grid B, mode by mode, grid coordinate fastest."""
    return concatenate(*(concatenate(*reversed(modes(m))) for m in modes(blocked_product(a, b))))


# Law: mode k has extent shape[k]; the offsets are those of A repeated, without holes if A has none.
def tile_to_shape(a: Layout, shape: tuple[int, ...], order: tuple[int, ...] | None = None) -> Layout:
    """Copies of the block A fill `shape`, copies along order[0] first. Raises LayoutError if they do not fit."""
    block, _ = _same_rank(a, column_major(shape))
    grid: list[int] = []
    for mode, (extent, part) in enumerate(zip(shape, modes(block), strict=True)):
        if size(part) == 0 or extent % size(part):
            reason = f"tile_to_shape: extent {extent} of mode {mode} is not a multiple of the block's {size(part)}"
            raise LayoutError(reason, mode, (extent, size(part)))
        grid.append(extent // size(part))
    copies = ordered(tuple(grid), order or tuple(range(len(shape))))
    return coalesce(blocked_product(block, copies), (1,) * len(shape))


def _same_rank(a: Layout, b: Layout) -> tuple[Layout, Layout]:
    """Both with modes 1:0 appended up to the larger rank."""
    wide = max(rank(a), rank(b))
    x, y = (concatenate(*modes(c), *[Layout(1, 0)] * (wide - rank(c))) for c in (a, b))
    return x, y


def _zipped(operation: Callable[[Layout, Tiler], Layout], a: Layout, b: Tiler) -> Layout:
    """Gathers, for a tuple of tiles, the first parts of each mode and then the second parts."""
    if not isinstance(b, tuple):
        return operation(a, b)
    pairs = [modes(_zipped(operation, m, t)) for m, t in by_mode(a, b)]
    rests = (*(second for _, second in pairs), *modes(a)[len(b) :])
    return concatenate(concatenate(*(first for first, _ in pairs)), concatenate(*rests))
