"""A second look at terms whose normal forms differ: every part is rebuilt, which costs more than comparing keys.

Sums side by side are joined wherever they stand (under a root, in a divisor), minima become maxima of the negated.
Then cases are told apart: the sign of what is compared or whose magnitude is taken, the parity of a position. Two terms
are equal if they are in every case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.adjacent import joined_ranges
from kernelagent.dsl.verify.semantics.compare import equal
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import opened, reduction, written_out
from kernelagent.dsl.verify.semantics.rewriting import Rewriting
from kernelagent.dsl.verify.semantics.terms import (
    ONE,
    ZERO,
    Atom,
    Binder,
    Bracket,
    Extremum,
    Mono,
    Poly,
    Reduction,
    Undenoted,
    Whole,
    parts,
)

_DEPTH = 3
_PERIOD = 4
"""Remainders by more than this are not told apart."""


def equal_when_settled(a: Poly, b: Poly, known: Known) -> bool:
    """As `compare.equal`; False means not shown."""
    known = _with_divisors(b, known)
    try:
        first, second = _Settling(known).poly(a), _Settling(known).poly(b)
        return equal(first, second, known) or _by_cases(first, second, known, _DEPTH)
    except Undenoted:
        return False


def _with_divisors(p: Poly, known: Known) -> Known:
    """Sizes that the reference divides by are at least 1: where they are 0 it has no value."""
    for a in {a for m, _ in p.terms for a, e in m.factors if isinstance(a, Whole) and e < 0}:
        if isinstance(a.atom, ix.Symbol) and a.atom.kind == "dim":
            known = known.where(ix.Compare(">=", ix.index(a.atom), ix.index(1)))
    return known


class _Everywhere(Rewriting):
    """Rebuilds every part, also those without a name that is replaced."""

    def __init__(self, known: Known) -> None:
        super().__init__({}, None, known)

    def _concerns(self, free: frozenset[str]) -> bool:
        return True


class _Settling(_Everywhere):
    def poly(self, p: Poly) -> Poly:
        assert self.known is not None
        return joined_ranges(super().poly(p), self.known)

    def _rebuilt(self, a: Atom, known: Known) -> Poly:
        match a:
            case Extremum("min", args):
                return -fn.extremum("max", [-self.poly(p) for p in args])
            case Reduction("min", _, _):
                binders, body = opened(a, known)
                result = -self.poly(body)
                for binder in reversed(binders):
                    result = reduction("max", binder, result, known)
                return -result
        return super()._rebuilt(a, known)

    def _reduction(self, found: Reduction, known: Known) -> Poly:
        """With what its binders say known inside."""
        binders, body = opened(found, known)
        result = _Settling(_within(known, binders)).poly(body)
        for position, binder in reversed(list(enumerate(binders))):
            around = _within(known, binders[:position])
            few = written_out(found.word, binder, result, around)
            result = reduction(found.word, binder, result, around) if few is None else few
        return result


def _within(known: Known, binders: Sequence[Binder]) -> Known:
    for b in binders:
        known = known.counting(b.name, known.extremum("max", b.lo), known.extremum("min", b.hi))
    return known


# Cases --------------------------------------------------------------------------------------------


def _by_cases(a: Poly, b: Poly, known: Known, depth: int) -> bool:
    if depth == 0:
        return False
    for cases in (*_remainders(a - b), *_signs(a - b, known)):
        return all(_in_case(case, a, b, known, depth) for case in cases)
    return False


Case = Sequence[Callable[[Poly, Known], Poly]]
"""Ways to write a term in one case, each of them right; that one of them makes both terms alike is enough."""


def _in_case(case: Case, a: Poly, b: Poly, known: Known, depth: int) -> bool:
    for write in case:
        first, second = write(a, known), write(b, known)
        if equal(first, second, known) or _by_cases(first, second, known, depth - 1):
            return True
        if isinstance(write, _Signed) and write.sign == 0 and not _where_zero(first - second, write.subject).terms:
            return True
    return False


def _where_zero(p: Poly, subject: Poly) -> Poly:
    """p where the subject is 0: one of its atoms is put in terms of the others."""
    for mono, coefficient in subject.terms:
        single = mono.factors[0] if len(mono.factors) == 1 and mono.exponent is None else None
        if single is None or single[1] != 1 or sum(single[0] in dict(m.factors) for m, _ in subject.terms) > 1:
            continue
        found = (subject - Poly({mono: coefficient})).scaled(-1 / coefficient)
        return _with(p, single[0], found)
    return p


def _with(p: Poly, variable: Atom, value: Poly) -> Poly:
    total = ZERO
    for mono, coefficient in p.terms:
        factors = dict(mono.factors)
        exponent = factors.pop(variable, Fraction(0))
        term = Poly({Mono(factors.items(), mono.exponent): coefficient})
        total = total + (term * fn.power(value, exponent) if exponent else term)
    return total


def _remainders(difference: Poly) -> Iterator[list[Case]]:
    """For a position that is divided by a small number in a condition: the position is d * q + r."""
    for a in parts(difference):
        if not isinstance(a, Bracket) or not isinstance(a.subject, Index):
            continue
        for atom in a.subject.atoms():
            if isinstance(atom, ix.FloorDiv) and (symbol := _bare(atom.a)) is not None:
                period = atom.b.constant or 0
                if 1 < period <= _PERIOD:
                    yield [_at(symbol, period, r) for r in range(period)]


def _bare(i: Index) -> str | None:
    """The name of a position that is the whole index."""
    symbols = tuple(i.symbols())
    single = len(symbols) == 1 and i == ix.index(symbols[0]) and not symbols[0].name.startswith(("#", "?"))
    return symbols[0].name if single else None


def _at(name: str, period: int, remainder: int) -> Case:
    value = ix.symbol(f"{name}'", "loop") * period + remainder
    return (lambda p, known: Rewriting({name: value}, None, known).poly(p),)


def _signs(difference: Poly, known: Known) -> Iterator[list[Case]]:
    """For what is compared with 0, or of which a magnitude is taken: it is positive, negative or 0."""
    for a in parts(difference):
        subject = _compared(a)
        if subject is not None and subject.terms and not any(n[0] in "#?~^" for n in subject.free):
            yield [
                (_Signed(subject, 1, 0),),
                (_Signed(subject, -1, 0),),
                (_Signed(subject, 0, 0), _Signed(subject, 0, 1)),
            ]


def _compared(a: Atom) -> Poly | None:
    match a:
        case Bracket(_, Poly() as subject):
            return _primitive(subject)
        case Extremum(_, (first, second)):
            return _primitive(first - second)
    return None


def _primitive(p: Poly) -> Poly:
    return p.scaled(1 / p.content)


class _Signed:
    """Terms where `subject` has a sign; where it is 0, two terms whose difference it is are the same: take either."""

    def __init__(self, subject: Poly, sign: int, either: int) -> None:
        self.subject, self.sign, self.either = subject, sign, either

    def __call__(self, p: Poly, known: Known) -> Poly:
        return _Deciding(self, known).poly(p)

    def of(self, p: Poly) -> int | None:
        """The sign of p where it is that of the subject, or the opposite."""
        scaled = _primitive(p) if p.terms else p
        if scaled == self.subject:
            return self.sign
        return -self.sign if scaled == -self.subject else None


class _Deciding(_Everywhere):
    def __init__(self, signed: _Signed, known: Known) -> None:
        super().__init__(known)
        self.signed = signed

    def _rebuilt(self, a: Atom, known: Known) -> Poly:
        match a:
            case Bracket(_, Poly() as subject):
                sign = self.signed.of(subject)
                if sign is not None:
                    return ONE if sign > 0 else ZERO
            case Extremum(word, (first, second)):
                sign = self.signed.of(first - second)
                if sign is not None:
                    larger = (first, second)[self.signed.either] if sign == 0 else first if sign > 0 else second
                    smaller = larger if sign == 0 else second if sign > 0 else first
                    return self.poly(larger if word == "max" else smaller)
        return super()._rebuilt(a, known)


__all__ = ["equal_when_settled"]
