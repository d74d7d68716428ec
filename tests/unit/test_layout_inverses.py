"""Law 6: inverses; and the widest vector that two layouts share."""

from __future__ import annotations

import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernelagent.dsl.inverses import left_inverse, max_common_vector, right_inverse
from kernelagent.dsl.layout import Layout, LayoutError, composition, is_injective, ordered, row_major, size
from support.layouts import attempt, compact, layouts


@given(st.one_of(layouts(), compact(gaps=True)))
def test_right_inverse(a: Layout) -> None:
    inverse = right_inverse(a)
    assert [a(inverse(i)) for i in range(size(inverse))] == list(range(size(inverse)))


@given(compact())
def test_a_bijection_has_one_inverse(a: Layout) -> None:
    inverse = right_inverse(a)
    assert size(inverse) == size(a)
    assert inverse == left_inverse(a)
    assert [inverse(a(i)) for i in range(size(a))] == list(range(size(a)))


@given(st.one_of(layouts(), compact(gaps=True)))
def test_left_inverse(a: Layout) -> None:
    inverse = attempt(left_inverse, a)
    assume(inverse is not None)
    assert inverse is not None
    assert is_injective(a)
    assert [inverse(a(i)) for i in range(size(a))] == list(range(size(a)))


@given(compact(gaps=True))
def test_padded_layouts_have_a_left_inverse(a: Layout) -> None:
    inverse = left_inverse(a)
    assert [inverse(a(i)) for i in range(size(a))] == list(range(size(a)))


@pytest.mark.parametrize(
    ("a", "mode", "numbers"),
    [
        (Layout((4, 2), (1, 0)), 1, (2, 0)),
        (Layout((4, 2), (1, 2)), 1, (2, 4)),
        (Layout((2, 2), (2, 5)), 1, (5, 2)),
    ],
)
def test_left_inverse_refuses_what_is_not_regular(a: Layout, mode: int, numbers: tuple[int, int]) -> None:
    with pytest.raises(LayoutError, match=f"mode.* {mode}") as caught:
        left_inverse(a)
    assert (caught.value.mode, caught.value.numbers) == (mode, numbers)


def _same_size(drawn: tuple[list[int], int, int, random.Random]) -> tuple[Layout, Layout]:
    """Two orders of the same extents, one of them padded."""
    shape, order, padding, shuffle = drawn
    orders = [list(range(len(shape))) for _ in range(2)]
    if order:
        shuffle.shuffle(orders[0])
        shuffle.shuffle(orders[1])
    a, b = (ordered(tuple(shape), tuple(o)) for o in orders)
    return Layout(a.shape, tuple(d * padding if d > 4 else d for d in a.stride)), b


PAIRS = st.tuples(
    st.lists(st.sampled_from((2, 3, 4)), min_size=1, max_size=4),
    st.integers(0, 2),
    st.integers(1, 2),
    st.randoms(use_true_random=False),
).map(_same_size)


@given(PAIRS)
def test_a_common_vector_is_contiguous_in_both(pair: tuple[Layout, Layout]) -> None:
    a, b = pair
    width, order = max_common_vector(a, b), right_inverse(b)
    starts = range(0, size(order), width)
    for i in starts:
        assert [b(order(i + r)) for r in range(width)] == [i + r for r in range(width)]
        assert [a(order(i + r)) for r in range(width)] == [a(order(i)) + r for r in range(width)]
    longest = next((i for i in range(size(order)) if a(order(i)) != i), size(order))
    assert width in (longest, 1)
    if attempt(composition, a, order) is not None:
        assert width == longest


def test_vectors_of_different_sizes_are_refused() -> None:
    with pytest.raises(LayoutError, match="8 elements") as caught:
        max_common_vector(Layout(8, 1), Layout(4, 1))
    assert caught.value.numbers == (8, 4)


def test_vectors() -> None:
    row, padded, column = row_major((16, 64)), row_major((16, 64), 72), Layout((16, 64), (1, 16))
    assert max_common_vector(row, row) == 1024
    assert max_common_vector(padded, row) == 64
    assert max_common_vector(row, column) == 1
    assert max_common_vector(Layout(((4, 4), 64), ((1, 256), 4)), column) == 4
