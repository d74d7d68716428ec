"""Register functions of the emitter against distributions, element by element."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.lanes import Distribution, Mode, drop, permuted, striped, unit
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    Term,
    Terms,
    composed,
    coordinate_terms,
    follow,
    identity,
    merged,
    run_along,
)

FAST = settings(max_examples=80)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    """Axes split into digits that are dealt to threads and registers in any order."""
    shape = tuple(draw(st.lists(st.sampled_from([1, 2, 4, 6, 8]), min_size=1, max_size=3)))
    pieces: list[Mode] = [Mode(2, -1, 0)]
    for axis, extent in enumerate(shape):
        stride = 1
        while stride < extent:
            part = draw(st.sampled_from([p for p in range(2, extent // stride + 1) if extent // stride % p == 0]))
            pieces.append(Mode(part, axis, stride))
            stride *= part
    pieces = draw(st.permutations(pieces))
    lane = [m.axis < 0 or draw(st.booleans()) for m in pieces]
    return Distribution(
        shape,
        tuple(m for m, it in zip(pieces, lane, strict=True) if it),
        tuple(m for m, it in zip(pieces, lane, strict=True) if not it),
    )


def value(terms: Terms, register: int) -> int:
    return sum(t(register) for t in terms)


def run_loops(loops: Loops, *functions: Terms) -> list[tuple[int, ...]]:
    """The functions' values in the order in which the emitted loops visit registers."""
    visited = []
    for digits in itertools.product(*(range(extent) for _, extent, _ in reversed(loops.variables))):
        names = {name: d for (_, _, name), d in zip(reversed(loops.variables), digits, strict=True)}
        texts = [loops.sum(f).replace(" / ", " // ") for f in functions]
        visited.append(tuple(eval(t, {}, names) for t in texts))
    return visited


@FAST
@given(distributions())
def test_coordinates_are_the_threads_first_plus_terms(d: Distribution) -> None:
    for thread, register, at in d.elements():
        first = d.coordinates(thread, 0)
        assert at == tuple(f + value(coordinate_terms(d, a), register) for a, f in enumerate(first))


@FAST
@given(distributions(), st.data())
def test_followed_registers_hold_the_same_element(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape) - 1))
    dropped, axes = drop(d, axis), {a: a - (a > axis) for a in range(len(d.shape)) if a != axis}
    terms = follow(d, dropped, axes)
    for thread, register, at in d.elements():
        there = dropped.coordinates(thread, value(terms, register))
        assert there == (*at[:axis], *at[axis + 1 :])


@FAST
@given(distributions(), st.data())
def test_broadcasts_and_permutations_rename_registers(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape) - 1))
    stretched = follow(d, unit(d, axis), {a: a for a in range(len(d.shape)) if a != axis})
    order = data.draw(st.permutations(range(len(d.shape))))
    turned = follow(permuted(d, tuple(order)), d, dict(enumerate(order)))
    assert turned == identity(d.registers)
    for thread, register, at in d.elements():
        there = unit(d, axis).coordinates(thread, value(stretched, register))
        assert there == (*at[:axis], 0, *at[axis + 1 :])


def test_other_threads_are_refused() -> None:
    rows, columns = striped((32, 4), 32, 1, first=0), striped((32, 4), 32, 1, first=1)
    with pytest.raises(LayoutMismatch, match="threads"):
        follow(rows, columns, {0: 0, 1: 1})


def test_loops_visit_every_register_once_and_agree_with_the_functions() -> None:
    rows = (Term(2, 4, 3),)
    loops = Loops(32, [rows, (Term(1, 2, 5), Term(8, 4, 7))])
    assert [e for _, e, _ in loops.variables] == [2, 4, 4]
    visited = run_loops(loops, identity(32), rows)
    assert sorted(r for r, _ in visited) == list(range(32))
    assert all(x == value(rows, r) for r, x in visited)


@pytest.mark.parametrize("step", [1, 2])
def test_loops_over_digits_that_do_not_nest_divide_instead(step: int) -> None:
    first, second = (Term(2, 6, 10),), (Term(4, 3, 100),)
    third = (Term(1, 6, 1000),) if step == 1 else (Term(6, 2, 1000),)
    loops = Loops(12, [first, second, third], step)
    assert len(loops.variables) == 1
    visited = run_loops(loops, first, second, third)
    expected = [tuple(value(f, r) for f in (first, second, third)) for r in range(0, 12, step)]
    assert visited == expected


@FAST
@given(distributions(), st.data())
def test_composition_is_one_function_after_the_other(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape) - 1))
    once, axes = drop(d, axis), {a: a - (a > axis) for a in range(len(d.shape)) if a != axis}
    inner = follow(d, once, axes)
    if not once.shape:
        return
    twice = drop(once, 0)
    outer = follow(once, twice, {a: a - 1 for a in range(1, len(once.shape))})
    both = composed(outer, inner)
    assert all(value(both, r) == value(outer, value(inner, r)) for r in range(d.registers))


def test_composition_that_cuts_digits_is_refused() -> None:
    with pytest.raises(LayoutMismatch, match="does not fit"):
        composed((Term(1, 2, 1), Term(2, 3, 4)), (Term(1, 3, 1),))


def test_terms_that_continue_each_other_are_one() -> None:
    assert merged([Term(4, 2, 4), Term(1, 4, 1), Term(8, 1, 9), Term(16, 2, 0)]) == (Term(1, 8, 1),)


def test_runs_of_neighbours_bound_the_access_width() -> None:
    assert run_along(striped((8, 64), 32, 4), 1) == 4
    assert run_along(striped((8, 64), 32, 4), 0) == 1
