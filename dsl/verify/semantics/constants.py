"""Literals of a text as exact numbers.

A literal is a rational, or a named irrational constant that it is the rounding of: 0.7071067811865476 is 2^(-1/2),
1.44269504 is 1 / ln 2. So exp2(x * 1.44269504) is exp(x). A literal that f32 holds no better than the constant stands
for the constant; which literals were read so is reported.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from kernelagent.dsl.verify.semantics.terms import INFINITY, ONE, Parameter, Poly, atom, constant_power, number

CLOSE = 2.0**-25
"""Relative distance within which a literal stands for a constant: half a unit in the last place of f32."""

UNREACHED = 1e30
"""Literals at least this large stand for infinity: initial maxima and fills of masks."""

_LONG, _SHORT = 9, 5
"""Digits of a literal that may be a product, and of the factor in it."""

_LARGEST_RADICAND = 1 << 20

LN2 = atom(Parameter("ln2"))
PI = Parameter("pi")


@lru_cache(maxsize=1)
def _named() -> tuple[tuple[float, Poly], ...]:
    half, per_ln2 = Fraction(1, 2), atom(Parameter("ln2"), -1)
    two, pi = constant_power(Fraction(2), half), atom(PI, half)
    per_root_pi = atom(PI, -half)
    return (
        (math.log(2.0), LN2),
        (1.0 / math.log(2.0), per_ln2),
        (math.sqrt(2.0), two),
        (math.sqrt(0.5), constant_power(Fraction(2), -half)),
        (math.pi, atom(PI)),
        (1.0 / math.pi, atom(PI, -1)),
        (math.sqrt(2.0 / math.pi), two * per_root_pi),
        (math.sqrt(1.0 / math.pi), per_root_pi),
        (math.sqrt(0.5 / math.pi), constant_power(Fraction(2), -half) * per_root_pi),
        (math.sqrt(math.pi), pi),
        (math.sqrt(3.0), constant_power(Fraction(3), half)),
        (math.sqrt(2.0 / math.pi) / math.log(2.0), two * per_root_pi * per_ln2),
    )


_SCALES = ((1.0, ONE), (1.0 / math.log(2.0), atom(Parameter("ln2"), -1)))


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
    distance = abs(exact - simple) / abs(exact) if exact else Fraction(0)
    if simple and distance <= min(CLOSE, 10.0 ** (1 - _digits(value))):
        return number(simple)
    if _digits(value) < _LONG:
        return number(Fraction(repr(value)))
    found = _radical(value) or _multiple(value)
    return found if found is not None else number(simple if simple and distance <= CLOSE else exact)


def _digits(value: float) -> int:
    return len(repr(abs(value)).partition("e")[0].replace(".", "").strip("0"))


def _radical(value: float) -> Poly | None:
    """A long literal that is the root of a whole number, or of its inverse, perhaps over ln 2: 0.17677669529663687 is
    1 / sqrt(32), a scale of scores."""
    close = 10.0 ** (2 - min(_digits(value), 16))
    for near, constant in _SCALES:
        square = (value / near) ** 2
        inverted = square < 1.0
        n = round(1.0 / square if inverted else square)
        root = math.sqrt(1.0 / n if inverted else n) * near if 1 < n <= _LARGEST_RADICAND else math.inf
        if abs(abs(value) - root) <= close * root < math.inf:
            sign = Fraction(1 if value > 0 else -1)
            return (constant * constant_power(Fraction(n), Fraction(-1 if inverted else 1, 2))).scaled(sign)
    return None


def _multiple(value: float) -> Poly | None:
    """A long literal that is a short decimal times a named constant: 0.035677408136 is 0.044715 * sqrt(2 / pi)."""
    for near, constant in _named():
        factor = float(f"{value / near:.{_SHORT}g}")
        if abs(value - near * factor) <= CLOSE * abs(value):
            return constant.scaled(_as_number(factor))
    return None


def _as_number(value: float) -> Fraction:
    """A short decimal as `literal` reads it."""
    found = literal(value).constant
    return Fraction(value) if found is None else found
