"""Law 7: swizzles, and layouts behind them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernelagent.dsl.layout import Layout, LayoutError, composition, image, row_major, size
from kernelagent.dsl.swizzle import ComposedLayout, Swizzle, commutes, over, slice_composed
from support.layouts import attempt, compact, layouts


def _swizzle(drawn: tuple[int, int, int, int]) -> Swizzle:
    bits, base, more, sign = drawn
    return Swizzle(bits, base, sign * (bits + more))


SWIZZLES = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2), st.sampled_from((1, -1))).map(_swizzle)


@given(SWIZZLES)
def test_a_swizzle_is_an_involution_and_a_bijection(swizzle: Swizzle) -> None:
    domain = range(1 << (swizzle.base + abs(swizzle.shift) + swizzle.bits))
    assert [swizzle(swizzle(x)) for x in domain] == list(domain)
    assert {swizzle(x) for x in domain} == set(domain)


@given(SWIZZLES)
def test_a_swizzle_keeps_vectors_of_its_base(swizzle: Swizzle) -> None:
    vector = 1 << swizzle.base if swizzle.shift > 0 else 1
    for x in range(0, 2 * swizzle.period, vector):
        assert [swizzle(x + k) for k in range(vector)] == [swizzle(x) + k for k in range(vector)]


@given(SWIZZLES, st.integers(0, 64), st.integers(0, 5))
def test_aligned_offsets_commute(swizzle: Swizzle, x: int, blocks: int) -> None:
    offset = blocks * swizzle.period
    assert commutes(swizzle, offset)
    assert swizzle(offset + x) == offset + swizzle(x)


@given(SWIZZLES, st.integers(1, 300))
def test_other_offsets_do_not_commute(swizzle: Swizzle, offset: int) -> None:
    assume(not commutes(swizzle, offset))
    assert any(swizzle(offset + x) != offset + swizzle(x) for x in range(2 * swizzle.period))


def test_a_swizzle_is_the_published_formula() -> None:
    swizzle = Swizzle(3, 4, 3)  # 128-byte rows of 16-byte chunks, offsets in bytes
    for row, chunk, byte in itertools.product(range(16), range(8), range(16)):
        assert swizzle(row * 128 + chunk * 16 + byte) == row * 128 + (chunk ^ row % 8) * 16 + byte
    narrow, narrowest = Swizzle(2, 4, 3), Swizzle(1, 4, 3)
    for row, chunk in itertools.product(range(16), range(4)):
        assert narrow(row * 64 + chunk * 16) == row * 64 + (chunk ^ row // 2 % 4) * 16
    for row, chunk in itertools.product(range(16), range(2)):
        assert narrowest(row * 32 + chunk * 16) == row * 32 + (chunk ^ row // 4 % 2) * 16


@given(SWIZZLES, st.integers(0, 40), layouts(largest=3), st.data())
def test_a_slice_keeps_its_offset_inside(swizzle: Swizzle, offset: int, a: Layout, data: st.DataObject) -> None:
    assume(isinstance(a.shape, tuple))
    composed = ComposedLayout(swizzle, offset, a)
    row = data.draw(st.integers(0, size(a.shape[0]) - 1))  # type: ignore[index]
    rest = len(a.shape) - 1  # type: ignore[arg-type]
    part = slice_composed(composed, (row, *[None] * rest))
    at = tuple(data.draw(st.integers(0, size(s) - 1)) for s in a.shape[1:])  # type: ignore[index]
    assert part(at) == composed((row, *at))


@given(SWIZZLES, st.integers(0, 40), compact(3), compact(2))
def test_composition_passes_through(swizzle: Swizzle, offset: int, a: Layout, b: Layout) -> None:
    assume(attempt(composition, a, b) is not None)
    composed = ComposedLayout(swizzle, offset, a)
    made = over(composed, lambda inner: composition(inner, b))
    assert [made(i) for i in range(size(b))] == [composed(b(i)) for i in range(size(b))]


def test_a_swizzled_tile_is_a_bijection() -> None:
    tile = ComposedLayout(Swizzle(3, 3, 3), 0, row_major((8, 64)))
    assert {tile(i) for i in range(512)} == image(tile.layout)
    assert str(tile) == "Sw<3,3,3> o 0 o (8,64):(64,1)"


@pytest.mark.parametrize("parts", [(3, 4, 2), (-1, 0, 3), (1, -1, 1), (2, 0, -1)])
def test_overlapping_bits_are_refused(parts: tuple[int, int, int]) -> None:
    with pytest.raises(LayoutError, match="needs bits"):
        Swizzle(*parts)
