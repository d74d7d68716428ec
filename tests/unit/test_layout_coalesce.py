"""Law 1 and the simpler forms of a layout: coalesce, flatten, filter."""

from __future__ import annotations

import itertools

from hypothesis import given
from kernelagent.dsl.layout import Layout, coalesce, filter_modes, filter_zeros, flatten, image, modes, rank, size
from support.layouts import layouts, table

SIGNED = (-6, -4, -1, 0, 1, 2, 3, 4, 6, 8, 12)


@given(layouts(SIGNED))
def test_coalesce_keeps_size_and_function(a: Layout) -> None:
    simple = coalesce(a)
    assert size(simple) == size(a)
    assert table(simple) == table(a)


@given(layouts(SIGNED))
def test_coalesce_is_flat_and_idempotent(a: Layout) -> None:
    simple = coalesce(a)
    assert isinstance(simple.shape, int) or all(isinstance(extent, int) for extent in simple.shape)
    assert coalesce(simple) == simple


def test_coalesce_is_a_normal_form() -> None:
    """Equal functions have equal coalesced layouts: all layouts of up to three modes with small extents, strides."""
    seen: dict[tuple[int, ...], Layout] = {}
    count = 0
    for modes_ in range(1, 4):
        for shape in itertools.product((2, 3, 4), repeat=modes_):
            for stride in itertools.product(range(7), repeat=modes_):
                a = Layout(shape, stride)
                assert seen.setdefault(tuple(table(a)), coalesce(a)) == coalesce(a)
                count += 1
    assert len(seen) < count == sum((3 * 7) ** k for k in range(1, 4))


@given(layouts(SIGNED))
def test_coalesce_by_profile_works_in_each_mode(a: Layout) -> None:
    by_mode = coalesce(a, (1,) * rank(a))
    assert modes(by_mode) == tuple(coalesce(m) for m in modes(a))
    assert table(by_mode) == table(a)
    first_only = coalesce(a, (1,))
    assert modes(first_only) == (coalesce(modes(a)[0]), *modes(a)[1:])


@given(layouts(SIGNED))
def test_flatten_keeps_the_function(a: Layout) -> None:
    assert table(flatten(a)) == [flatten(a)(i) for i in range(size(a))] == table(a)
    assert all(isinstance(m.shape, int) for m in modes(flatten(a)))


@given(layouts(SIGNED))
def test_filters_keep_the_image_and_drop_stride_zero(a: Layout) -> None:
    assert image(filter_zeros(a)) == image(filter_modes(a)) == image(a)
    assert all(m.shape == 1 or m.stride != 0 for m in modes(filter_modes(a)))


def test_examples() -> None:
    assert str(coalesce(Layout((2, (1, 6)), (1, (6, 2))))) == "12:1"
    assert str(coalesce(Layout(((4, 3), 5), ((15, 1), 3)), (1, 1))) == "((4,3),5):((15,1),3)"
    assert str(filter_zeros(Layout((4, 8), (0, 1)))) == "(1,8):(0,1)"
    assert str(filter_modes(Layout((4, 8), (0, 1)))) == "8:1"
    assert str(coalesce(Layout((1, 1), (5, 7)))) == "1:0"
