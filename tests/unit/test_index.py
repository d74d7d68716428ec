"""Laws of symbolic integers, and the small prover over them, against evaluation on numbers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import (
    Compare,
    Condition,
    Index,
    Negation,
    Symbol,
    cdiv,
    decide,
    element,
    evaluate_condition,
    index,
    maximum,
    minimum,
    select,
    substitute_condition,
    symbol,
)
from kernelagent.dsl.ir import Assume

NAMES = ("M", "N", "i")
ENVIRONMENTS = st.fixed_dictionaries({n: st.integers(0, 40) for n in NAMES})


def expressions() -> st.SearchStrategy[Index]:
    leaves = st.one_of(
        st.integers(-9, 9).map(index), st.sampled_from([symbol("M", "dim"), symbol("N", "dim"), symbol("i", "loop")])
    )

    def combine(inner: st.SearchStrategy[Index]) -> st.SearchStrategy[Index]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] - p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            pairs.map(lambda p: minimum(*p)),
            pairs.map(lambda p: maximum(*p)),
            st.tuples(inner, st.integers(1, 7)).map(lambda p: p[0] // p[1]),
            st.tuples(inner, st.integers(1, 7)).map(lambda p: p[0] % p[1]),
            st.tuples(inner, inner, inner).map(lambda p: select(Compare("<", p[0], p[1]), p[1], p[2])),
        )

    return st.recursive(leaves, combine, max_leaves=8)


@given(expressions(), expressions(), ENVIRONMENTS)
def test_operations_are_those_of_integers(a: Index, b: Index, at: dict[str, int]) -> None:
    x, y = a.evaluate(at), b.evaluate(at)
    assert (a + b).evaluate(at) == x + y
    assert (a - b).evaluate(at) == x - y
    assert (a * b).evaluate(at) == x * y
    assert minimum(a, b).evaluate(at) == min(x, y)
    assert maximum(a, b).evaluate(at) == max(x, y)


@given(expressions(), expressions(), expressions())
def test_the_form_is_canonical_under_ring_laws(a: Index, b: Index, c: Index) -> None:
    assert a + b == b + a
    assert a * b == b * a
    assert (a + b) * c == a * c + b * c
    assert a - a == index(0)
    assert (a + b) - b == a


@given(expressions(), expressions(), ENVIRONMENTS)
def test_division_floors(a: Index, b: Index, at: dict[str, int]) -> None:
    divisor = b.evaluate(at)
    if divisor == 0 or b.constant == 0:
        return
    assert (a // b).evaluate(at) == a.evaluate(at) // divisor
    assert (a % b).evaluate(at) == a.evaluate(at) % divisor
    if divisor > 0:
        assert cdiv(a, b).evaluate(at) == -(-a.evaluate(at) // divisor)


@given(expressions(), ENVIRONMENTS, st.integers(0, 20))
def test_substitution_commutes_with_evaluation(a: Index, at: dict[str, int], value: int) -> None:
    assert a.substitute({"M": value}).evaluate(at) == a.evaluate(at | {"M": value})


@given(expressions(), expressions(), ENVIRONMENTS)
def test_decided_conditions_are_right(a: Index, b: Index, at: dict[str, int]) -> None:
    condition: Condition = Compare("<=", a, b)
    known = decide(condition)
    assert known is None or known == evaluate_condition(condition, at)
    assert evaluate_condition(Negation(condition), at) != evaluate_condition(condition, at)
    concrete = substitute_condition(condition, at)
    assert decide(concrete) == evaluate_condition(condition, at)


@given(expressions(), ENVIRONMENTS)
def test_affine_parts(a: Index, at: dict[str, int]) -> None:
    parts = a.affine(Symbol("i", "loop"))
    if parts is not None:
        coefficient, rest = parts
        assert coefficient.evaluate(at) * at["i"] + rest.evaluate(at) == a.evaluate(at)


def test_texts_read_as_people_write() -> None:
    m, i = symbol("M", "dim"), symbol("i", "loop")
    assert str(i + m - 1) in ("M + i - 1", "i + M - 1")
    assert str((m + 1) // 2 * 3) == "3 * ((M + 1) // 2)"
    assert str(element("t", [i, m - 4])) == "t[i, M - 4]"
    assert str(index(0)) == "0"


def test_division_by_a_literal_zero() -> None:
    with pytest.raises(ZeroDivisionError):
        symbol("M", "dim") // 0
    with pytest.raises(ZeroDivisionError):
        (symbol("M", "dim") // symbol("N", "dim")).substitute({"N": 0})


# The prover --------------------------------------------------------------------------------------


@settings(max_examples=300)
@given(expressions(), st.integers(0, 12), st.integers(0, 12))
def test_what_is_shown_is_true(a: Index, m: int, n: int) -> None:
    """Sound: with i in [M // 2, N), whatever is shown to be >= 0 is so for every i."""
    facts = Facts()
    lo, hi = symbol("M", "dim") // 2, symbol("N", "dim")
    facts.enter([Symbol("i", "loop")], [lo], [hi])
    if facts.nonnegative(a):
        assert all(a.evaluate({"M": m, "N": n, "i": i}) >= 0 for i in range(m // 2, n))


@settings(max_examples=200)
@given(st.lists(expressions(), min_size=1, max_size=4), ENVIRONMENTS)
def test_simplified_extrema_keep_their_value(parts: list[Index], at: dict[str, int]) -> None:
    facts = Facts()
    assert facts.minimum(*parts).evaluate(at) == min(p.evaluate(at) for p in parts)
    assert facts.maximum(*parts).evaluate(at) == max(p.evaluate(at) for p in parts)


def test_bounds_of_loops_and_elements_are_used() -> None:
    facts = Facts()
    m, i, t = symbol("M", "dim"), symbol("i", "loop"), element("t", [symbol("i", "loop")])
    facts.enter([Symbol("i", "loop")], [index(0)], [m])
    assert facts.nonnegative(m - i - 1)
    assert not facts.nonnegative(m - i - 2)
    assert facts.minimum(index(1), m - i) == index(1)
    assert not facts.nonnegative(t)
    facts.add(Assume(None, ("range", "t", (index(0), m)), "0 <= t < M", Span(1, 1, 1, 2)))
    assert facts.nonnegative(t)
    assert facts.nonnegative(m - t - 1)
    facts.leave(1)
    assert not facts.nonnegative(m - i - 1)


def test_divisibility() -> None:
    facts = Facts()
    k = symbol("K", "dim")
    quotient = k // 128 * 128
    assert not facts.equal(quotient, k)
    facts.add_condition(Compare("==", k % 128, index(0)))
    assert facts.equal(quotient, k)
    assert facts.divides(index(64), k)
    assert not facts.divides(index(256), k)
