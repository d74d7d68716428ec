"""Literals of a text as exact numbers.

A literal is a rational, or a named irrational constant that it is the rounding of: 0.7071067811865476 is 2^(-1/2),
1.44269504 is 1 / ln 2. So exp2(x * 1.44269504) is exp(x). A literal that f32 holds no better than the constant stands
for the constant; which literals were read so is reported.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from kernelagent.dsl.verify.semantics.terms import INFINITY, Group, Parameter, Poly, atom, number

CLOSE = 2.0**-25
"""Relative distance within which a literal stands for a constant: half a unit in the last place of f32."""

UNREACHED = 1e30
"""Literals at least this large stand for infinity: initial maxima and fills of masks."""

_LONG, _SHORT = 9, 5
"""Digits of a literal that may be a product, and of the factor in it."""

LN2 = atom(Parameter("ln2"))
PI = Parameter("pi")


def _root(n: int) -> Poly:
    return atom(Group(number(n)), Fraction(1, 2))


@lru_cache(maxsize=1)
def _named() -> tuple[tuple[float, Poly], ...]:
    half = Fraction(1, 2)
    two, pi = atom(Group(number(2)), half), atom(PI, half)
    return (
        (math.log(2.0), LN2),
        (1.0 / math.log(2.0), atom(Parameter("ln2"), -1)),
        (math.sqrt(2.0), two),
        (math.sqrt(0.5), atom(Group(number(2)), -half)),
        (math.pi, atom(PI)),
        (1.0 / math.pi, atom(PI, -1)),
        (math.sqrt(2.0 / math.pi), two * atom(PI, -half)),
        (math.sqrt(1.0 / math.pi), atom(PI, -half)),
        (math.sqrt(0.5 / math.pi), atom(Group(number(2)), -half) * atom(PI, -half)),
        (math.sqrt(math.pi), pi),
        (math.sqrt(3.0), _root(3)),
    )


@lru_cache(maxsize=1 << 12)
def literal(value: float | int) -> Poly:
    """The number that a literal stands for. NaN has none: raises ValueError."""
    if isinstance(value, int):
        return number(value)
    if math.isnan(value):
        raise ValueError("NaN is no real number")
    if abs(value) >= UNREACHED:
        return INFINITY if value > 0 else -INFINITY
    exact = Fraction(value)
    for near, constant in _named():
        for factor in (1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2)):
            if abs(value - near * float(factor)) <= CLOSE * abs(near):
                return constant.scaled(Fraction(factor))
    simple = exact.limit_denominator(10_000)
    if simple and abs(exact - simple) <= abs(exact) * Fraction(CLOSE):
        return number(simple)
    return _multiple(value) or number(exact)


def _multiple(value: float) -> Poly | None:
    """A long literal that is a short decimal times a named constant: 0.035677408136 is 0.044715 * sqrt(2 / pi)."""
    if len(repr(abs(value)).replace(".", "").strip("0")) < _LONG:
        return None
    for near, constant in _named():
        factor = float(f"{value / near:.{_SHORT}g}")
        if abs(value - near * factor) <= CLOSE * abs(value):
            return constant.scaled(_as_number(factor))
    return None


def _as_number(value: float) -> Fraction:
    """A short decimal as `literal` reads it."""
    found = literal(value).constant
    return Fraction(value) if found is None else found
