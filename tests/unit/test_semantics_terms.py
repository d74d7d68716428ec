"""Laws of the normal form: equal formulas have equal keys, and a term evaluates to what its formula evaluates to."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.compare import cancelled, equal
from kernelagent.dsl.verify.semantics.constants import literal
from kernelagent.dsl.verify.semantics.program import known_of
from kernelagent.dsl.verify.semantics.reductions import fresh, reduction
from kernelagent.dsl.verify.semantics.terms import (
    ONE,
    Binder,
    Element,
    Parameter,
    Poly,
    atom,
    constant_power,
    from_index,
    number,
)

SPAN = Span(1, 1, 1, 1)
KERNEL = ir.Kernel("k", (), (), (), ("M", "N"), (), (), (), (), (), SPAN)
KNOWN = known_of(KERNEL, (), ())
N = ix.symbol("N", "dim")
A, B, C = (atom(Parameter(name)) for name in "abc")
VALUES = {"a": 0.75, "b": 1.5, "c": 0.4}


def value(p: Poly) -> float:
    """A term without reductions, in floats."""
    total = 0.0
    for mono, coefficient in p.terms:
        product = float(coefficient)
        for factor, exponent in mono.factors:
            inner = VALUES[factor.name] if isinstance(factor, Parameter) else value(factor.base)  # type: ignore[attr-defined]
            product *= inner ** float(exponent)
        total += product * math.exp(value(mono.exponent) if mono.exponent else 0.0)
    return total


Formula = tuple[Poly, float]


def _formulas() -> st.SearchStrategy[Formula]:
    leaves = st.sampled_from([(A, 0.75), (B, 1.5), (C, 0.4), (number(Fraction(1, 2)), 0.5), (ONE, 1.0)])

    def grown(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
        pair = st.tuples(inner, inner)
        return st.one_of(
            pair.map(lambda t: (t[0][0] + t[1][0], t[0][1] + t[1][1])),
            pair.map(lambda t: (t[0][0] * t[1][0], t[0][1] * t[1][1])),
            inner.map(lambda t: (fn.exp(t[0].scaled(Fraction(1, 8))), math.exp(t[1] / 8))),
            inner.map(lambda t: (fn.power(t[0] + ONE, Fraction(-1)), 1 / (t[1] + 1))),
            inner.map(lambda t: (fn.power(t[0] + ONE, Fraction(1, 2)), math.sqrt(t[1] + 1))),
        )

    return st.recursive(leaves, grown, max_leaves=6)


@given(_formulas())
def test_the_normal_form_keeps_the_value(formula: Formula) -> None:
    term, expected = formula
    assert math.isclose(value(term), expected, rel_tol=1e-9)


@given(_formulas(), _formulas(), _formulas())
def test_ring_laws_are_equality_of_keys(x: Formula, y: Formula, z: Formula) -> None:
    a, b, c = x[0], y[0], z[0]
    assert a * (b + c) == a * b + a * c
    assert (a + b) + c == c + (b + a)
    assert not (a - a).terms


def test_exponentials_roots_and_quotients() -> None:
    assert fn.exp(A) * fn.exp(B) == fn.exp(A + B)
    assert fn.divide(A * B, B) == A
    assert fn.power(fn.power(A + B, Fraction(1, 2)), Fraction(2)) == A + B
    assert fn.log(fn.exp(A) * B) == A + fn.log(B)
    assert fn.divide(ONE, ONE + fn.exp(-A)) == fn.divide(fn.exp(A), ONE + fn.exp(A))
    assert cancelled(fn.divide(A * A - B * B, A + B)) == A - B
    assert equal(fn.divide(A, A + B) + fn.divide(B, A + B), ONE, KNOWN)


def test_literals_stand_for_the_constants_that_they_round() -> None:
    assert literal(math.sqrt(0.5)) == literal(0.70710678)
    assert literal(math.sqrt(0.5)) * literal(math.sqrt(2.0)) == ONE
    assert literal(1.4426950408889634) * literal(0.6931471805599453) == ONE
    assert literal(0.1) == number(Fraction(1, 10))
    assert literal(0.7070) != literal(0.7071067811865476)


def _sum(body: Callable[[ix.Index], Poly], lo: ix.Index, hi: ix.Index) -> Poly:
    binder = Binder(fresh(), (lo,), (hi,))
    return reduction("sum", binder, body(binder.symbol), KNOWN)


def _x(*place: ix.Index) -> Poly:
    return atom(Element("x", place))


def test_sums_are_linear_and_do_not_know_their_names() -> None:
    zero = ix.index(0)
    first = _sum(lambda u: _x(u) * A + B, zero, N)
    assert first == A * _sum(_x, zero, N) + B * from_index(N)
    centred = _sum(lambda u: (_x(u) - A) * (_x(u) - A), zero, N)
    assert centred == _sum(lambda u: _x(u) * _x(u), zero, N) - (A * _sum(_x, zero, N)).scaled(
        Fraction(2)
    ) + A * A * from_index(N)
    stable = _sum(lambda u: fn.exp(_x(u) - A), zero, N)
    assert stable == fn.exp(-A) * _sum(lambda u: fn.exp(_x(u)), zero, N)


def test_a_condition_on_the_bound_name_is_a_bound() -> None:
    zero, m = ix.index(0), ix.symbol("M", "dim")
    masked = _sum(lambda u: fn.holds(">=", m - u, KNOWN) * _x(u), zero, N)
    binder = Binder(fresh(), (zero,), (N, m + 1))
    assert masked == reduction("sum", binder, _x(binder.symbol), KNOWN)
    assert masked != _sum(_x, zero, N)


def test_products_of_sums_may_be_summed_in_any_order() -> None:
    zero, m = ix.index(0), ix.symbol("M", "dim")

    def chain(u: ix.Index, v: ix.Index) -> Poly:
        return atom(Element("a", (u,))) * atom(Element("b", (u, v))) * atom(Element("c", (v,)))

    rows_first = _sum(lambda v: _sum(lambda u: chain(u, v), zero, N), zero, m)
    assert rows_first == _sum(lambda u: _sum(lambda v: chain(u, v), zero, m), zero, N)


def _real(p: Poly) -> float:
    """As `value`, with named constants."""
    constants = {"ln2": math.log(2.0), "pi": math.pi}
    total = 0.0
    for mono, coefficient in p.terms:
        product = float(coefficient)
        for factor, exponent in mono.factors:
            base = constants[factor.name] if isinstance(factor, Parameter) else _real(factor.base)  # type: ignore[attr-defined]
            product *= base ** float(exponent)
        total += product
    return total


SPECIAL = [f / math.sqrt(n) for n in (2, 3, 12, 32, 96, 1000) for f in (1.0, 1 / math.log(2.0), -0.05, 0.044715)]


@given(st.one_of(st.floats(1e-9, 1e9), st.sampled_from(SPECIAL), st.floats(0.125, 8, width=32)))
def test_a_literal_is_read_as_a_number_within_a_rounding_step_of_f32(x: float) -> None:
    assert math.isclose(_real(literal(x)), x, rel_tol=2.0**-24)


@given(st.fractions(Fraction(1, 5000), 5000, max_denominator=5000), st.sampled_from((-3, -2, -1, 1, 2, 3)))
def test_powers_of_numbers_are_what_they_are_and_have_one_form(x: Fraction, halves: int) -> None:
    root = constant_power(x, Fraction(halves, 2))
    assert math.isclose(_real(root), float(x) ** (halves / 2), rel_tol=1e-12)
    assert root * root == number(x**halves)
    assert fn.power(root, Fraction(-1)) == constant_power(x, Fraction(-halves, 2))


def test_scales_of_scores_have_one_form_however_they_are_written() -> None:
    assert literal(0.17677669529663687) == fn.power(literal(5.656854249492381), Fraction(-1))
    assert literal(0.25503486164919736) == literal(0.17677669529663687) * literal(1.4426950408889634)
    assert literal(0.1) + literal(0.9) == ONE


def test_logistic_terms_have_one_form() -> None:
    e = fn.exp(A)
    below = fn.power(ONE + e, Fraction(-1))
    assert e * below == ONE - below
    assert e * e * below == e - ONE + below
    assert fn.sigmoid(A) + fn.sigmoid(-A) == ONE
    assert fn.tanh(A) == fn.sigmoid(A.scaled(Fraction(2))).scaled(Fraction(2)) - ONE
    assert fn.log(ONE - fn.sigmoid(A)) == fn.log(fn.sigmoid(A)) - A


def test_lengths_of_tiles_over_the_places_of_a_tile_are_the_whole() -> None:
    """Hermite's identity."""
    name, four = fresh(), ix.index(4)
    u = ix.symbol(name, "loop")
    for length in (ix.floordiv(N - 1 - u, four), ix.floordiv(N - 4 + u, four)):
        binder = Binder(name, (ix.index(0),), (four,))
        assert reduction("sum", binder, from_index(length) + ONE, KNOWN) - number(4) == from_index(N - 4)
