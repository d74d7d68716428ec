"""Evaluation of layouts: coordinates in every form give the same offset; construction, sizes, slices, printing."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.layout import (
    Layout,
    LayoutError,
    column_major,
    cosize,
    flatten,
    image,
    is_bijective,
    is_injective,
    leaves,
    modes,
    ordered,
    rank,
    row_major,
    size,
    slice_,
)
from support.layouts import compact, layouts, table


@given(layouts())
def test_one_number_counts_with_the_leftmost_mode_fastest(a: Layout) -> None:
    assert [a(i) for i in range(size(a))] == table(a)


@given(layouts())
def test_flat_and_nested_coordinates_agree_with_one_number(a: Layout) -> None:
    extents = [extent for extent, _ in leaves(a)]
    for i, reverse in enumerate(itertools.product(*(range(e) for e in reversed(extents)))):
        digits = iter(reverse[::-1])
        nested = _fill(a.shape, digits)
        assert a(nested) == a(i)
        assert flatten(a)(tuple(reversed(reverse))) == a(i)
        if rank(a) != len(extents):
            assert a(tuple(reversed(reverse))) == a(i)


def _fill(shape: object, digits: object) -> object:
    return tuple(_fill(part, digits) for part in shape) if isinstance(shape, tuple) else next(digits)  # type: ignore[call-overload]


@given(layouts())
def test_one_coordinate_per_mode(a: Layout) -> None:
    sizes = [range(size(m)) for m in modes(a)]
    for at in itertools.product(*sizes):
        assert a(*at) == sum(m(c) for m, c in zip(modes(a), at, strict=True))


@given(layouts(), st.data())
def test_slice_keeps_the_free_coordinates(a: Layout, data: st.DataObject) -> None:
    free = data.draw(st.lists(st.booleans(), min_size=rank(a), max_size=rank(a)))
    fixed = [data.draw(st.integers(0, size(m) - 1)) for m in modes(a)]
    part, offset = slice_(a, tuple(None if f else c for f, c in zip(free, fixed, strict=True)))
    assert rank(part) == sum(free)
    kept = [m for m, f in zip(modes(a), free, strict=True) if f]
    for at in itertools.product(*(range(size(m)) for m in kept)):
        moving = iter(at)
        full = [next(moving) if f else c for f, c in zip(free, fixed, strict=True)]
        assert offset + part(at) == a(*full)


def test_slice_reaches_into_a_nested_mode() -> None:
    part, offset = slice_(Layout(((2, 3), 4), ((1, 10), 100)), ((1, None), None))
    assert (str(part), offset) == ("(3,4):(10,100)", 1)


@given(layouts())
def test_cosize_is_the_largest_offset_plus_one(a: Layout) -> None:
    assert cosize(a) == max(table(a)) + 1 == a.cosize


@given(layouts())
def test_image_and_injectivity(a: Layout) -> None:
    assert image(a) == set(table(a))
    assert is_injective(a) == (len(set(table(a))) == len(table(a)))
    assert is_bijective(a) == (sorted(table(a)) == list(range(size(a))))


@given(compact())
def test_compact_layouts_are_bijections(a: Layout) -> None:
    assert is_bijective(a)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_orders(shape: list[int], shuffle: object) -> None:
    order = list(range(len(shape)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    made = ordered(tuple(shape), tuple(order))
    assert is_bijective(made)
    assert table(column_major(tuple(shape))) == list(range(size(made)))
    positions = itertools.product(*(range(e) for e in shape))
    assert [row_major(tuple(shape))(*at) for at in positions] == list(range(size(made)))


def test_empty_and_scalar_layouts() -> None:
    assert (cosize(Layout((0, 3), (3, 1))), size(Layout((0, 3), (3, 1)))) == (0, 0)
    assert (cosize(Layout((), ())), size(Layout((), ())), Layout((), ())(0)) == (1, 1, 0)
    assert row_major(()) == Layout((), ())


def test_printing() -> None:
    assert str(Layout(((2, 2), 3), ((1, 6), 2))) == "((2,2),3):((1,6),2)"
    assert str(Layout(8, 1)) == "8:1"


@pytest.mark.parametrize(("shape", "stride"), [((2, 3), (1,)), (4, (1,)), (((2, 2), 3), (1, 2))])
def test_shape_and_stride_must_be_congruent(shape: object, stride: object) -> None:
    with pytest.raises(LayoutError, match="differ in form"):
        Layout(shape, stride)  # type: ignore[arg-type]


def test_coordinates_must_fit_the_shape() -> None:
    a = Layout(((2, 2), 3), ((1, 6), 2))
    with pytest.raises(LayoutError, match="coordinate"):
        a(1, 1, 1, 1)
    with pytest.raises(LayoutError, match="extent 3"):
        a(0, (1, 1))
    with pytest.raises(LayoutError, match="rank 2"):
        slice_(a, (None, 1, 1))
