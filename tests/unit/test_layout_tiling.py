"""Laws 4, 5 and 9: division, products, and blocks repeated over a shape."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernelagent.dsl.layout import (
    Layout,
    LayoutError,
    composition,
    image,
    is_bijective,
    is_injective,
    modes,
    rank,
    size,
)
from kernelagent.dsl.tiling import (
    blocked_product,
    flat_divide,
    logical_divide,
    logical_product,
    raked_product,
    tile_to_shape,
    tiled_divide,
    zipped_divide,
    zipped_product,
)
from support.layouts import attempt, compact, compatible, layouts, table

TILES = st.one_of(layouts((1, 2, 3, 4, 6), 2), compact(2, gaps=True))
MATRICES = st.tuples(st.sampled_from((4, 6, 12)), st.sampled_from((4, 8)), st.integers(0, 3)).map(
    lambda m: Layout((m[0], m[1]), (m[1] + m[2], 1))
)


@given(st.one_of(compact(), layouts()), TILES)
def test_division_is_the_tile_and_a_permutation(a: Layout, b: Layout) -> None:
    divided = attempt(logical_divide, a, b)
    assume(divided is not None)
    assert divided is not None
    tile, _ = modes(divided)
    assert tile == composition(a, b)
    assert sorted(table(divided)) == sorted(table(a))


@given(MATRICES, st.sampled_from((1, 2, 4)), st.sampled_from((1, 2, 4, None)))
def test_divisions_by_mode_differ_in_grouping_only(a: Layout, m: int, n: int | None) -> None:
    assume(a.shape[0] % m == 0)  # type: ignore[index]
    tiles = (m, n)
    by_mode = logical_divide(a, tiles)
    (t0, r0), (t1, r1) = (modes(x) for x in modes(by_mode))
    assert [modes(x) for x in modes(zipped_divide(a, tiles))] == [(t0, t1), (r0, r1)]
    tile, *rests = modes(tiled_divide(a, tiles))
    assert (modes(tile), tuple(rests)) == ((t0, t1), (r0, r1))
    assert modes(flat_divide(a, tiles)) == (t0, t1, r0, r1)
    assert sorted(table(by_mode)) == sorted(table(a))
    for i in range(size(t0)):
        for j in range(size(t1)):
            for p in range(size(r0)):
                assert zipped_divide(a, tiles)((i, j), (p, 0)) == a(p * m + i, j)


def test_modes_without_a_tile_stay_with_the_rests() -> None:
    a = Layout((8, 4, 5), (1, 8, 32))
    assert str(zipped_divide(a, (2,))) == "((2),(4,4,5)):((1),(2,8,32))"
    assert modes(logical_divide(a, (2,)))[1:] == modes(a)[1:]


def test_a_tile_must_divide() -> None:
    with pytest.raises(LayoutError, match=r"coordinate 11 of mode 0 \(extent 10\)") as caught:
        logical_divide(Layout(10, 1), 4)
    assert caught.value.numbers == (11, 10)
    with pytest.raises(LayoutError, match="rank 2"):
        zipped_divide(Layout((4, 4), (1, 4)), (2, 2, 2))


@given(compact(3, gaps=True), st.one_of(compact(2), layouts((0, 1, 2, 4), 2)))
def test_product_repeats_the_block(a: Layout, b: Layout) -> None:
    product = attempt(logical_product, a, b)
    assume(product is not None)
    assert product is not None
    block, copies = modes(product)
    assert block == a
    assert compatible(b.shape, copies.shape)
    assert is_injective(product) == (is_injective(a) and is_injective(b))
    assert image(block) & image(copies) == {0}


@given(compact(2), compact(2))
def test_zipped_product_gathers(a: Layout, b: Layout) -> None:
    tiles = tuple(size(m) for m in modes(b))[: rank(a)]
    parts = [attempt(logical_product, m, t) for m, t in zip(modes(a), tiles, strict=False)]
    if None in parts:
        assert attempt(zipped_product, a, tiles) is None
        return
    pairs = [modes(p) for p in parts if p is not None]
    blocks, copies = modes(zipped_product(a, tiles))
    assert modes(blocks) == tuple(p[0] for p in pairs)
    assert modes(copies) == (*(p[1] for p in pairs), *modes(a)[len(tiles) :])


@given(compact(3), compact(3))
def test_blocked_and_raked_products_have_equal_images(a: Layout, b: Layout) -> None:
    blocked, raked = attempt(blocked_product, a, b), attempt(raked_product, a, b)
    assume(blocked is not None)
    assert blocked is not None
    assert raked is not None
    assert image(blocked) == image(raked)
    assert is_bijective(blocked)
    assert rank(blocked) == rank(raked) == max(rank(a), rank(b))
    for mode, other in zip(modes(blocked), modes(raked), strict=True):
        assert modes(mode) == modes(other)[::-1]


def test_products_place_the_block() -> None:
    block, grid = Layout((2, 5), (5, 1)), Layout((3, 4), (1, 3))
    assert str(blocked_product(block, grid)) == "((2,3),(5,4)):((5,10),(1,30))"
    assert str(raked_product(block, grid)) == "((3,2),(4,5)):((10,5),(30,1))"
    assert str(logical_product(Layout((2, 2), (4, 1)), Layout(6, 1))) == "((2,2),(2,3)):((4,1),(2,8))"


@given(compact(2), st.integers(1, 3), st.integers(1, 3), st.permutations((0, 1)))
def test_tile_to_shape_fills_the_shape(a: Layout, m: int, n: int, order: list[int]) -> None:
    assume(rank(a) == 2)
    block = modes(a)
    shape = (m * size(block[0]), n * size(block[1]))
    made = tile_to_shape(a, shape, tuple(order))
    assert tuple(size(x) for x in modes(made)) == shape
    assert is_bijective(made)
    block_size, step = size(a), (1, m) if order[0] == 0 else (n, 1)
    for i in range(shape[0]):
        for j in range(shape[1]):
            (p, x), (q, y) = divmod(i, size(block[0])), divmod(j, size(block[1]))
            assert made(i, j) == a(x, y) + block_size * (p * step[0] + q * step[1])


def test_tile_to_shape_refuses_what_does_not_fit() -> None:
    with pytest.raises(LayoutError, match="extent 20 of mode 1 is not a multiple of the block's 8") as caught:
        tile_to_shape(Layout((8, 8), (8, 1)), (16, 20))
    assert (caught.value.mode, caught.value.numbers) == (1, (20, 8))
