"""Bank conflicts: the rank law against simulated banks."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.layout import LayoutError, row_major
from kernelagent.dsl.swizzle import ComposedLayout, Swizzle, affine_columns, bank_conflicts, gf2_rank

WIDTHS = (1, 2, 4, 8, 16)


def simulated(address: Callable[[int], int], width: int) -> int:
    """Byte by byte: different words that the fullest bank serves, over the wavefronts of a warp."""
    group, worst = {8: 16, 16: 8}.get(width, 32), 0
    for start in range(0, 32, group):
        served: list[set[int]] = [set() for _ in range(32)]
        for lane in range(start, start + group):
            for byte in range(address(lane), address(lane) + width):
                served[byte // 4 % 32].add(byte // 4)
        worst = max(worst, *map(len, served))
    return worst


def test_the_rank_law_on_random_affine_maps() -> None:
    rng = random.Random(3)
    seen = set()
    for _ in range(3000):
        width = rng.choice(WIDTHS)
        columns = [rng.choice((0, 1 << rng.randint(0, 9), rng.randrange(1 << 10))) * width for _ in range(5)]
        base = rng.randrange(1 << 10) * width
        table = [base] * 32
        for lane in range(32):
            for k in range(5):
                table[lane] ^= columns[k] if lane >> k & 1 else 0
        assert affine_columns(table) == columns
        degree = bank_conflicts(table.__getitem__, width)
        assert degree == simulated(table.__getitem__, width)
        seen.add(degree)
    assert {1, 2, 4, 8} <= seen


@given(st.lists(st.integers(0, 200), min_size=32, max_size=32), st.sampled_from(WIDTHS))
def test_any_map(words: list[int], width: int) -> None:
    address = lambda lane: words[lane] * width  # noqa: E731
    assert bank_conflicts(address, width) == simulated(address, width)


@given(st.integers(0, 80), st.sampled_from(WIDTHS))
def test_strided_rows(stride: int, width: int) -> None:
    address = lambda lane: stride * lane * width  # noqa: E731
    assert bank_conflicts(address, width) == simulated(address, width)


@given(st.lists(st.integers(0, 255), max_size=6))
def test_rank(columns: list[int]) -> None:
    span = {0}
    for column in columns:
        span |= {x ^ column for x in span}
    assert len(span) == 2 ** gf2_rank(columns)


@pytest.mark.parametrize(
    ("row_bytes", "swizzle", "degree"),
    [
        (128, Swizzle(0, 4, 3), 8), (128, Swizzle(3, 4, 3), 1), (144, Swizzle(0, 4, 3), 1),
        (64, Swizzle(0, 4, 3), 4), (64, Swizzle(2, 4, 3), 1), (32, Swizzle(0, 4, 3), 2), (32, Swizzle(1, 4, 3), 1),
    ],
)  # fmt: skip
def test_ldmatrix_rows(row_bytes: int, swizzle: Swizzle, degree: int) -> None:
    """Each 8x8 matrix reads one 16-byte chunk of 8 rows."""
    tile = ComposedLayout(swizzle, 0, row_major((32, row_bytes)))
    for chunk in range(row_bytes // 16 if row_bytes != 144 else 8):
        assert bank_conflicts(lambda lane, c=chunk: tile(lane, 16 * c), 16) == degree  # type: ignore[misc]


def test_accumulator_pairs_to_128_byte_rows() -> None:
    """Lane l stores the packed columns 2(l % 4), +1 of row l // 4 (PTX: mma.m16n8k16 accumulator, 16-bit pairs)."""
    rows = row_major((8, 128))
    store = lambda swizzle: lambda lane: swizzle(rows(lane // 4, 4 * (lane % 4)))  # noqa: E731
    assert bank_conflicts(store(Swizzle(0, 4, 3)), 4) == 8
    assert bank_conflicts(store(Swizzle(3, 4, 3)), 4) == 1


def test_refusals() -> None:
    with pytest.raises(LayoutError, match="address 2 of lane 1 is not a multiple of 4") as caught:
        bank_conflicts(lambda lane: 2 * lane, 4)
    assert caught.value.numbers == (2, 4)
    with pytest.raises(LayoutError, match="no access of 32 bytes"):
        bank_conflicts(lambda lane: 0, 32)
