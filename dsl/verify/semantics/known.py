"""What is known about index integers at one point, and index expressions made simpler by it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Condition, Index, Symbol
from kernelagent.dsl.ir import For
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.semantics.samples import Samples


@dataclass(frozen=True)
class Counted:
    """`name` runs over [lo, hi), by `step`."""

    name: str
    lo: Index
    hi: Index
    step: int = 1


Answers: TypeAlias = dict[tuple[Counted | Condition, ...], dict[Index, bool]]
"""What was shown, by what had been learned: the classes of a kernel ask the same of the same names."""


class Known:
    """Interval and divisibility reasoning (`verify.ranges`) with its answers kept; False means "not shown"."""

    def __init__(
        self,
        ranges: Ranges,
        samples: Samples,
        trail: tuple[Counted | Condition, ...] = (),
        answers: Answers | None = None,
    ) -> None:
        self.ranges, self.samples, self.trail = ranges, samples, trail
        self._answers: Answers = {} if answers is None else answers
        self._shown = self._answers.setdefault(trail, {})
        self._tidied: dict[Index, Index] = {}

    def inside(self, loop: For) -> Known:
        """In the body of a loop."""
        ranges, samples, trail = self.ranges.inside(loop), self.samples, list(self.trail)
        for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            samples = samples.counting(variable.name, lo, hi, step.constant or 1)
            trail.append(Counted(variable.name, lo, hi, step.constant or 1))
        return Known(ranges, samples, tuple(trail), self._answers)

    def counting(self, name: str, lo: Index, hi: Index) -> Known:
        """Also: `name` runs over [lo, hi)."""
        ranges, samples = self.ranges.counting(Symbol(name, "loop"), lo, hi), self.samples.counting(name, lo, hi)
        return Known(ranges, samples, (*self.trail, Counted(name, lo, hi)), self._answers)

    def where(self, condition: Condition) -> Known:
        trail = (*self.trail, condition)
        return Known(self.ranges.where(condition), self.samples.where(condition), trail, self._answers)

    def moved(self, base: Known, symbols: Mapping[str, Index]) -> Known:
        """What was learned here since the beginning, said in other symbols, on top of `base`."""
        result = base
        for step in self.trail:
            if isinstance(step, Counted):
                result = result.counting(step.name, step.lo.substitute(symbols), step.hi.substitute(symbols))
            else:
                result = result.where(ix.substitute_condition(step, symbols))
        return result

    def nonnegative(self, i: Index) -> bool:
        known = i.constant
        if known is not None:
            return known >= 0
        lowest = primitive(i)
        if lowest not in self._shown:
            self._shown[lowest] = not self.samples.refute(lowest) and self.ranges.nonnegative(lowest)
        return self._shown[lowest]

    def truth(self, relation: str, i: Index) -> bool | None:
        """Whether `i >= 0`, or `i == 0`, holds or fails; None: neither is shown."""
        if relation == "==":
            if i.constant is not None:
                return i.constant == 0
            if self.nonnegative(i - 1) or self.nonnegative(-i - 1):
                return False
            return True if self.nonnegative(i) and self.nonnegative(-i) else None
        if self.nonnegative(i):
            return True
        return False if self.nonnegative(-i - 1) else None

    def tidy(self, i: Index) -> Index:
        """The same integer with quotients, remainders and minima replaced where they are known.

        A remainder becomes a - b * (a // b), so that quotient and remainder of the same division cancel.
        """
        if not any(not isinstance(a, Symbol) for a in i.atoms()):
            return i
        if i not in self._tidied:
            self._tidied[i] = self._tidy(i)
        return self._tidied[i]

    def _tidy(self, i: Index) -> Index:
        total = ix.index(0)
        for monomial, coefficient in i.terms:
            product = ix.index(coefficient)
            for atom in monomial:
                product = product * self._atom(atom)
            total = total + product
        return total

    def _atom(self, atom: ix.Atom) -> Index:
        match atom:
            case ix.FloorDiv(a, b):
                return self.quotient(self.tidy(a), self.tidy(b))
            case ix.Mod(a, b):
                dividend, divisor = self.tidy(a), self.tidy(b)
                return dividend - divisor * self.quotient(dividend, divisor)
            case ix.Extremum(which, a, b):
                return self.extremum(which, (self.tidy(a), self.tidy(b)))
            case ix.Element(array, place):
                return ix.element(array, map(self.tidy, place))
            case _:
                return ix.index(atom)

    def quotient(self, a: Index, b: Index) -> Index:
        """a // b: the terms that b divides leave the division when the rest is known to be a remainder."""
        whole, rest = ix.index(0), ix.index(0)
        for monomial, coefficient in a.terms:
            term = Index(((monomial, coefficient),))
            divided = ix.floordiv(term, b)
            exact = divided * b == term
            whole, rest = (whole + divided, rest) if exact else (whole, rest + term)
        if self.nonnegative(rest) and self.nonnegative(b - 1 - rest):
            return whole
        if (b.constant or 0) > 0:
            for sides in _sides(rest):
                return whole + self.extremum(sides[0], (self.quotient(sides[1], b), self.quotient(sides[2], b)))
        if self.nonnegative(b - 1) and whole.terms and rest.terms:
            return whole + ix.floordiv(rest, b)
        return ix.floordiv(a, b)

    def extremum(self, which: str, arguments: Iterable[Index]) -> Index:
        given = tuple(arguments)
        if len(given) == 1:
            return given[0]  # -max(a, b) stays what it is: as min(-a, -b) it would not cancel
        kept = self.prune(which, given)
        result = kept[0]
        for other in kept[1:]:
            result = ix.minimum(result, other) if which == "min" else ix.maximum(result, other)
        return result

    def prune(self, which: str, arguments: Iterable[Index]) -> tuple[Index, ...]:
        """The arguments of a minimum (or maximum) that may be the smallest (largest), in canonical order."""
        kept = sorted(_recombined(which, set(_flattened(which, arguments))), key=str)
        for candidate in list(kept):
            others = [k for k in kept if k != candidate]
            if others and self._dominated(which, candidate, others):
                kept = others
        return tuple(kept)

    def _dominated(self, which: str, candidate: Index, others: list[Index]) -> bool:
        sign = 1 if which == "min" else -1
        if any(self.nonnegative(sign * (candidate - other)) for other in others):
            return True
        if len(others) < 2:
            return False
        least = others[0]
        for other in others[1:]:
            least = ix.minimum(least, other) if which == "min" else ix.maximum(least, other)
        return self.nonnegative(sign * (candidate - least))


def primitive(i: Index) -> Index:
    """The index with coefficients in lowest terms that is >= 0 exactly where `i` is."""
    divisor = gcd(*(c for m, c in i.terms if m))
    if divisor < 2:
        return i
    return Index(tuple((m, c // divisor) for m, c in i.terms if m or c // divisor))


def _recombined(which: str, arguments: set[Index]) -> set[Index]:
    """max(a + r - max(a, b), b + r - max(a, b)) is r."""
    for argument in arguments:
        for monomial, coefficient in argument.terms:
            term = Index(((monomial, coefficient),))
            for side, first, second in _sides(-term):
                for a, b in ((first, second), (second, first)) if side == which else ():
                    rest, partner = argument - term - a, argument - a + b
                    if partner in arguments:
                        return _recombined(which, {*arguments, rest} - {argument, partner})
    return arguments


def _sides(i: Index) -> Iterator[tuple[str, Index, Index]]:
    """(which, a, b) with i the minimum (or maximum) of a and b, for an extremum that is one of its terms."""
    for monomial, coefficient in i.terms:
        inner = monomial[0] if len(monomial) == 1 else None
        if isinstance(inner, ix.Extremum):
            rest = i - Index(((monomial, coefficient),))
            which = inner.which if coefficient > 0 else {"min": "max", "max": "min"}[inner.which]
            yield which, rest + inner.a * coefficient, rest + inner.b * coefficient


def _flattened(which: str, arguments: Iterable[Index]) -> Iterable[Index]:
    """A minimum of minima is one minimum, and i + min(a, b) the minimum of i + a and i + b."""
    for argument in arguments:
        sides = next((s for s in _sides(argument) if s[0] == which), None)
        if sides is None:
            yield argument
        else:
            yield from _flattened(which, sides[1:])
