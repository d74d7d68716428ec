"""Orders of tiles: each tile once, neighbours near each other, clusters whole."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.raster import RASTERS, filled, hilbert, place

TOGETHER = [(1, 1), (2, 1), (4, 1), (8, 1), (1, 2), (1, 4)]


@pytest.mark.parametrize("rows", range(1, 49))
def test_the_curve_reaches_each_tile_once(rows: int) -> None:
    """For every grid up to 48 x 48; a step leads to a neighbour, in odd rectangles at times across a corner."""
    for columns in range(1, 49):
        found = [hilbert(t, rows, columns) for t in range(rows * columns)]
        assert sorted(found) == [(i, j) for i in range(rows) for j in range(columns)]
        steps = [(abs(a - c), abs(b - d)) for (a, b), (c, d) in pairwise(found)]
        assert all(max(step) == 1 for step in steps)
        assert sum(step == (1, 1) for step in steps) <= 1


@pytest.mark.parametrize("side", [2, 4, 8, 16, 32])
def test_on_squares_of_powers_of_two_it_is_hilberts(side: int) -> None:
    """Each quarter of the curve fills a quadrant, and so do the quarters of a quarter."""
    size = side
    while size > 1:
        for block in range(side * side // (size * size)):
            run = [hilbert(block * size * size + t, side, side) for t in range(size * size)]
            assert len({(r // size, c // size) for r, c in run}) == 1
        size //= 2


@given(st.integers(2, 48), st.integers(2, 48), st.integers(8, 132))
def test_a_wave_reads_few_rows_and_columns(rows: int, columns: int, wave: int) -> None:
    """Tiles of a wave of blocks: rows plus columns at most thrice those of a square of as many tiles."""
    total = rows * columns
    for first in range(0, total - wave, wave):
        at = [hilbert(first + k, rows, columns) for k in range(wave)]
        side = max(wave**0.5, wave / min(rows, columns))
        assert len({r for r, _ in at}) + len({c for _, c in at}) <= 3 * 2 * side


@given(
    st.sampled_from(RASTERS), st.integers(1, 9), st.sampled_from(TOGETHER), st.lists(st.integers(0, 9), min_size=2,
    max_size=4),
)  # fmt: skip
def test_every_order_reaches_each_tile_once(
    raster: str, group: int, together: tuple[int, int], counts: list[int]
) -> None:
    full = filled(counts, together)
    found = [place(raster, group, together, full, n) for n in range(prod(full))]
    assert len(set(found)) == len(found)
    assert all(0 <= x < n for at in found for x, n in zip(at, full, strict=True))


@given(st.sampled_from(RASTERS), st.integers(1, 9), st.sampled_from(TOGETHER), st.integers(1, 9), st.integers(1, 9))
def test_the_tiles_of_a_cluster_stand_side_by_side(
    raster: str, group: int, together: tuple[int, int], rows: int, columns: int
) -> None:
    size, full = prod(together), filled([rows, columns], together)
    for first in range(0, prod(full), size):
        at = [place(raster, group, together, full, first + k) for k in range(size)]
        top, left = at[0]
        assert top % together[0] == left % together[1] == 0
        assert at == [(top + k % together[0], left + k // together[0]) for k in range(size)]


def test_other_orders() -> None:
    assert [place("row", 8, (1, 1), [2, 3], n) for n in range(4)] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert [place("column", 8, (1, 1), [2, 3], n) for n in range(4)] == [(0, 0), (1, 0), (0, 1), (1, 1)]
    assert [place("grouped", 2, (1, 1), [3, 2], n) for n in range(6)][:5] == [(0, 0), (1, 0), (0, 1), (1, 1), (2, 0)]
    assert place("row", 8, (1, 1), [7], 5) == (5,)
    assert [place("row", 8, (1, 1), [3, 2, 2], n) for n in (0, 4, 11)] == [(0, 0, 0), (1, 0, 0), (2, 1, 1)]
    with pytest.raises(ValueError, match="no order"):
        place("diagonal", 8, (1, 1), [2, 2], 0)
