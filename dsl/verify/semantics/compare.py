"""Whether two terms are equal: the same normal form, or the same after their denominators are cleared."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import opened, reduction
from kernelagent.dsl.verify.semantics.terms import Binder, Group, Mono, Poly, Reduction, Undenoted

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


def joined_ranges(p: Poly, known: Known) -> Poly:
    """Sums over [a, b) and [b, c) of the same body become one sum over [a, c)."""
    for _ in range(_ROUNDS):
        found = next(_adjacent(p, known), None)
        if found is None:
            return p
        p = found
    return p


def _adjacent(p: Poly, known: Known) -> Iterator[Poly]:
    terms = [(m, c, a) for m, c in p.terms for a in _single_sums(m)]
    for mono, coefficient, first in terms:
        for other, other_coefficient, second in terms:
            if mono == other or coefficient != other_coefficient or not _same_but_range(mono, first, other, second):
                continue
            (x,), body = opened(first, known)
            y = second.binders[0]
            if len(x.hi) != 1 or len(y.lo) != 1 or x.hi[0] != y.lo[0]:
                continue
            joined = reduction("sum", Binder(x.name, x.lo, y.hi), body, known)
            rest = Mono(((a, e) for a, e in mono.factors if a != first), mono.exponent)
            pair = Poly({mono: coefficient, other: coefficient})
            yield p - pair + joined * Poly({rest: coefficient})


def _single_sums(mono: Mono) -> Iterator[Reduction]:
    for a, e in mono.factors:
        if isinstance(a, Reduction) and a.word == "sum" and e == 1 and len(a.binders) == 1:
            yield a


def _same_but_range(mono: Mono, first: Reduction, other: Mono, second: Reduction) -> bool:
    rest = Mono(((a, e) for a, e in mono.factors if a != first), mono.exponent)
    return first.body == second.body and rest == Mono(((a, e) for a, e in other.factors if a != second), other.exponent)
