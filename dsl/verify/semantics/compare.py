"""Whether two terms are equal: the same normal form, or the same after their denominators are cleared."""

from __future__ import annotations

from fractions import Fraction

from kernelagent.dsl.verify.semantics.adjacent import joined_ranges
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.terms import Atom, Group, Mono, Poly, Undenoted

_ROUNDS = 6


def equal(a: Poly, b: Poly, known: Known) -> bool:
    """Sound and incomplete: False means that the normal forms differ."""
    difference = a - b
    if not difference.terms:
        return True
    try:
        difference = joined_ranges(without_denominators(difference), known)
    except Undenoted:
        return False
    return not difference.terms


def without_denominators(p: Poly) -> Poly:
    """p times all groups that divide one of its terms: zero iff p is, where the divisors are not zero."""
    for _ in range(_ROUNDS):
        divisors = {
            a: e for m, _ in p.terms for a, e in m.factors if isinstance(a, Group) and e < 0 and e.denominator == 1
        }
        if not divisors:
            return p
        for divisor in divisors:
            lowest = min((dict(m.factors).get(divisor, Fraction(0)) for m, _ in p.terms), default=Fraction(0))
            if lowest < 0:
                p = (
                    p * Poly({Mono(((divisor, -lowest),)): Fraction(1)})
                    if lowest > -1
                    else _times(p, divisor, int(-lowest))
                )
    return p


def _times(p: Poly, divisor: Group, power: int) -> Poly:
    """Raise the exponent of `divisor` by `power` in every term; what becomes positive is multiplied out."""
    total = Poly({})
    for mono, coefficient in p.terms:
        factors = dict(mono.factors)
        exponent = factors.pop(divisor, Fraction(0)) + power
        rest = Poly({Mono(factors.items(), mono.exponent): coefficient})
        whole = int(exponent) if exponent >= 1 else 0
        for _ in range(whole):
            rest = rest * divisor.base
        if exponent - whole:
            rest = rest * Poly({Mono(((divisor, exponent - whole),)): Fraction(1)})
        total = total + rest
    return total


# Division ----------------------------------------------------------------------------------------


def cancelled(p: Poly) -> Poly:
    """p with common factors of numerator and denominator taken out, for denominators linear in some atom."""
    for divisor in {
        a for m, _ in p.terms for a, e in m.factors if isinstance(a, Group) and e < 0 and e.denominator == 1
    }:
        power = -min(dict(m.factors).get(divisor, Fraction(0)) for m, _ in p.terms)
        if power.denominator != 1:
            continue
        numerator = _times(p, divisor, int(power))
        for remaining in range(int(power) + 1):
            quotient = numerator
            for _ in range(int(power) - remaining):
                divided = _divided(quotient, divisor.base)
                if divided is None:
                    break
                quotient = divided
            else:
                inverse = Poly({Mono(((divisor, Fraction(-remaining)),)): Fraction(1)})
                p = quotient * inverse
                break
    return p


def _divided(p: Poly, divisor: Poly) -> Poly | None:
    """p / divisor where the divisor is c * x + d, c rational, x an atom that d does not have; None: not exact."""
    variable = next((a for m, _ in divisor.terms for a, e in m.factors if len(m.factors) == 1 and e == 1), None)
    if variable is None:
        return None
    leading = _coefficients(divisor, variable)
    slope = leading.get(1, Poly({})).constant
    if set(leading) != {0, 1} or not slope:
        return None
    rest, quotient = _coefficients(p, variable), Poly({})
    for degree in range(max(rest, default=0), 0, -1):
        factor = rest.pop(degree, Poly({})).scaled(1 / slope)
        quotient = quotient + factor * Poly({Mono(((variable, Fraction(degree - 1)),)): Fraction(1)})
        rest[degree - 1] = rest.get(degree - 1, Poly({})) - factor * leading[0]
    return None if rest.get(0, Poly({})).terms or any(d < 0 for d in rest) else quotient


def _coefficients(p: Poly, variable: Atom) -> dict[int, Poly]:
    """Coefficients of the powers of an atom; a degree of -1 stands for any that is no whole number."""
    found: dict[int, Poly] = {}
    for mono, coefficient in p.terms:
        factors = dict(mono.factors)
        degree = factors.pop(variable, Fraction(0))
        key = int(degree) if degree.denominator == 1 and degree >= 0 else -1
        rest = Poly({Mono(factors.items(), mono.exponent): coefficient})
        found[key] = found.get(key, Poly({})) + rest
    return found
