"""Laws 2 and 12: composition means composition wherever it returns, and raises wherever it would not."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.layout import Basis, Layout, LayoutError, coalesce, column_major, composition, cosize, modes, size
from support.layouts import attempt, compact, compatible, layouts, table

SMALL = (0, 1, 2, 3, 4, 6)
RIGHT = st.one_of(layouts(SMALL, 3), compact(3, gaps=True))


@given(st.one_of(layouts(), compact(gaps=True)), RIGHT)
def test_an_accepted_composition_is_the_composed_function(a: Layout, b: Layout) -> None:
    made = attempt(composition, a, b)
    if made is not None:
        inner = table(a)
        assert table(made) == [inner[i] for i in table(b)]
        assert compatible(b.shape, made.shape)


@given(layouts())
def test_identity(a: Layout) -> None:
    assert table(composition(a, Layout(size(a), 1))) == table(a)
    assert composition(a, None) == a
    by_mode = composition(a, tuple(size(m) for m in modes(a)))
    assert [coalesce(m) for m in modes(by_mode)] == [coalesce(m) for m in modes(a)]


@given(compact(4), compact(3, gaps=True), compact(2))
def test_associative_where_defined(a: Layout, b: Layout, c: Layout) -> None:
    ab, bc = attempt(composition, a, b), attempt(composition, b, c)
    left = attempt(composition, ab, c) if ab else None
    right = attempt(composition, a, bc) if bc else None
    if left and right:
        assert table(left) == table(right)


@given(layouts(largest=3), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_tuple_composes_mode_by_mode(a: Layout, tile: list[int]) -> None:
    made = attempt(composition, a, tuple(tile))
    parts = [attempt(composition, m, Layout(t, 1)) for m, t in zip(modes(a), tile, strict=False)]
    if len(tile) > len(modes(a)) or None in parts:
        assert made is None
    else:
        assert made is not None
        assert modes(made) == (*parts, *modes(a)[len(tile) :])


def _corpus(count: int) -> list[tuple[Layout, Layout]]:
    """Random pairs A, s:d with the image of s:d in A's domain; A's strides satisfy no small relation."""
    rng = random.Random(7)
    pairs = []
    while len(pairs) < count:
        n = rng.randint(1, 3)
        shape = tuple(rng.choice((2, 3, 4, 5, 6)) for _ in range(n))
        a = Layout(shape, tuple(rng.sample((1, 101, 10_007), n)))
        b = Layout(rng.randint(1, 12), rng.randint(0, 12))
        if cosize(b) <= size(a):
            pairs.append((a, b))
    return pairs


def test_a_random_corpus_has_accepted_and_refused_pairs_and_every_refusal_is_needed() -> None:
    accepted = refused = 0
    for a, b in _corpus(4000):
        made = attempt(composition, a, b)
        inner = table(a)
        wanted = [inner[i] for i in table(b)]
        if made is None:
            refused += 1
            assert not _is_layout(tuple(wanted)), f"{a} o {b} is a layout"
        else:
            accepted += 1
            assert table(made) == wanted
    assert min(accepted, refused) > 400


@cache
def _is_layout(values: tuple[int, ...]) -> bool:
    """Whether some layout takes these values: the first mode has n elements, the others are those of the n-th ones."""
    if len(values) == 1:
        return values[0] == 0
    for n in range(2, len(values) + 1):
        if len(values) % n == 0 and all(v == values[i - i % n] + i % n * values[1] for i, v in enumerate(values)):
            return _is_layout(values[::n])
    return False


REFUSED: list[tuple[Layout, Any, int | None, tuple[int, ...]]] = [
    (Layout((2, 2), (6, 1)), Layout(3, 1), 0, (3, 2)),  # shape: a public implementation returns 2:6
    (Layout((4, 6), (1, 10)), Layout(4, 3), 0, (5, 4)),  # stride: 0, 3, 6, 9 is 3 + 2 in the first digit
    (Layout((4, 6), (1, 10)), Layout(7, 4), 1, (6, 6)),  # leaves the domain
    (Layout(6, 5), Layout(2, 9), 0, (9, 6)),
    (Layout((2, 2), (1, 10)), Layout((2, 2), (1, 1)), 0, (2, 2)),  # both modes of B in one digit of A
    (Layout((2, 2), (1, 10)), (1, Layout(3, 1)), 0, (2, 2)),
    (Layout((0, 2), (1, 0)), Layout(2, 1), None, (0, 2)),
    (Layout((2, 2), (1, 10)), Layout(2, -1), None, (-1, 0)),
    (Layout((2, 2), (1, 10)), (2, 2, 2), 2, (3, 2)),
]


@pytest.mark.parametrize(("a", "b", "mode", "numbers"), REFUSED)
def test_refusals_name_the_mode_and_the_numbers(a: Layout, b: Any, mode: int | None, numbers: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError) as caught:
        composition(a, b)
    assert (caught.value.mode, caught.value.numbers) == (mode, numbers)
    assert all(str(n) in str(caught.value) for n in numbers if n)


def test_the_right_operand_gives_numbers() -> None:
    with pytest.raises(LayoutError, match="not a known integer"):
        composition(column_major((4, 4)), Layout(2, Basis((1, 0))))


def test_examples() -> None:
    assert str(composition(Layout((6, 2), (8, 2)), Layout((4, 3), (3, 1)))) == "((2,2),3):((24,2),8)"
    assert str(composition(Layout((10, 2), (16, 4)), Layout((5, 4), (1, 5)))) == "(5,(2,2)):(16,(80,4))"
    assert str(composition(Layout((7, 3), (1, 10)), Layout(3, 2))) == "3:2"
    assert str(composition(Layout((8, 8), (1, 9)), Layout(8, 9))) == "8:10"  # the diagonal
