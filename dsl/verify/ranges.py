"""Interval and divisibility reasoning about index integers at one point of a concrete kernel.

`Facts` (of the elaborator) knows loops, assumptions and signs; this adds exact quotients and the two equivalences

    R - a // b >= 0   iff   (R + 1) * b - 1 - a >= 0        (b > 0)
    R + a // b >= 0   iff   R * b + a >= 0                  (b > 0)

which turn a division into a question without one. Sound and incomplete: False means "not shown".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import (
    Atom,
    Compare,
    Condition,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Monomial,
    Symbol,
    index,
    symbol,
)  # fmt: skip
from kernelagent.dsl.ir import For, Kernel

_DEPTH = 6


class Ranges:
    """What is known where a statement stands. `inside` and `where` give a larger knowledge, leaving this one."""

    def __init__(self, facts: Facts, groups: Mapping[str, Index] | None = None) -> None:
        self._facts = facts
        self._shown: dict[Index, bool] = {}
        self.groups = dict(groups or {})  # partitioning array -> number of its groups

    @classmethod
    def of(cls, kernel: Kernel) -> Ranges:
        facts, assumes = Facts(), kernel.assumes
        for assume in assumes:
            facts.add(assume)
            if assume.condition is not None:
                facts.know(*(b - 1 for b in _divisors(assume.condition)))
        for name, values in facts.members.items():
            facts.know(symbol(name, "dim") - min(values))
        lengths = {a.name: a.dims[0] - 1 for a in kernel.arrays if a.name in facts.partitions}
        return cls(facts, lengths)

    def inside(self, loop: For) -> Ranges:
        """Knowledge in the body of a loop: its variables are in range, and the range is not empty."""
        facts = self._facts.copied()
        facts.enter_loop(loop)
        facts.know(*(hi - 1 - lo for lo, hi in zip(loop.lo, loop.hi, strict=True)))
        return Ranges(facts, self.groups)

    def counting(self, variable: Symbol, lo: Index, hi: Index) -> Ranges:
        """Knowledge about something that runs over [lo, hi), where there is such a thing."""
        facts = self._facts.copied()
        facts.enter((variable,), (lo,), (hi,))
        facts.know(hi - 1 - lo)
        return Ranges(facts, self.groups)

    def data_range(self, array: str) -> tuple[Index, Index] | None:
        """[lo, hi) that the kernel assumes for the elements of an integer array."""
        return self._facts.ranges.get(array)

    def where(self, condition: Condition) -> Ranges:
        facts = self._facts.copied()
        facts.add_condition(condition)
        return Ranges(facts, self.groups)

    def nonnegative(self, value: Index) -> bool:
        """Whether `value >= 0` is shown."""
        if value not in self._shown:
            self._shown[value] = self._nonnegative(value, _DEPTH)
        return self._shown[value]

    def positive(self, value: Index) -> bool:
        return self.nonnegative(value - 1)

    def equal(self, a: Index, b: Index) -> bool:
        if a == b or self._facts.equal(a, b):
            return True
        return self.nonnegative(a - b) and self.nonnegative(b - a)

    @property
    def partitions(self) -> dict[str, Index]:
        return self._facts.partitions

    @property
    def distinct(self) -> set[str]:
        """Integer arrays of which no two elements are equal."""
        return self._facts.distinct

    @property
    def members(self) -> dict[str, tuple[int, ...]]:
        """Dims with the values that the kernel assumes for them."""
        return self._facts.members

    def statements(self) -> Iterator[Index]:
        """Everything known, as indices that are >= 0."""
        yield from self._facts.known
        for variable, lo, hi in self._facts.loops:
            yield index(variable) - lo
            yield hi - 1 - index(variable)

    def divisibilities(self) -> list[tuple[Index, Index]]:
        """Pairs (a, b) with a % b == 0."""
        return list(self._facts.divisible)

    def _nonnegative(self, value: Index, depth: int) -> bool:
        value = self._exact_products(value)
        if self._facts.nonnegative(value):
            return True
        if depth == 0:
            return False
        if any(self._nonnegative(question, depth - 1) for question in self._without_division(value, depth)):
            return True
        return self._either_side(value, depth) or self._at_the_extreme(value, depth)

    def _without_division(self, value: Index, depth: int) -> Iterator[Index]:
        """Questions each of which implies `value >= 0`."""
        for monomial, coefficient in value.terms:
            if len(monomial) != 1:
                continue
            rest = value - Index(((monomial, coefficient),))
            match monomial[0]:
                case FloorDiv(a, b) if abs(coefficient) == 1 and self._nonnegative(b - 1, depth - 1):
                    yield (rest + 1) * b - 1 - a if coefficient < 0 else rest * b + a
                    if coefficient > 0 and self._facts.divides(b, a) and self._facts.nonnegative(a - 1):
                        yield rest + 1
                case FloorDiv(a, b) if (divisor := b.constant or 0) > 0 and coefficient % divisor == 0:
                    # a - b + 1 <= b * (a // b) <= a
                    yield rest + coefficient // divisor * (a if coefficient < 0 else a - divisor + 1)
                case Mod(_, b) if abs(coefficient) == 1 and self._nonnegative(b - 1, depth - 1):
                    yield rest - (b - 1) if coefficient < 0 else rest

    def _either_side(self, value: Index, depth: int) -> bool:
        """Replace the first minimum or maximum by its arguments: one of them, or both, must do."""
        for monomial, coefficient in value.terms:
            if len(monomial) == 1 and isinstance(extremum := monomial[0], Extremum):
                rest = value - Index(((monomial, coefficient),))
                both = (coefficient > 0) == (extremum.which == "min")
                parts = (self._nonnegative(rest + coefficient * x, depth - 1) for x in (extremum.a, extremum.b))
                return all(parts) if both else any(parts)
        return False

    def _at_the_extreme(self, value: Index, depth: int) -> bool:
        """Put the innermost counted variable at the end of its range that makes `value` smallest."""
        used = value.symbols()
        for variable, lo, hi in reversed(self._facts.loops):
            if variable not in used or (parts := value.affine(variable)) is None:
                continue
            slope, rest = parts
            if self._facts.nonnegative(slope):
                return self._nonnegative(rest + slope * lo, depth - 1)
            if self._facts.nonnegative(-slope):
                return self._nonnegative(rest + slope * (hi - 1), depth - 1)
        return False

    def _exact_products(self, value: Index) -> Index:
        """Replace b * (a // b) by a where b is known to divide a."""
        total = index(0)
        for monomial, coefficient in value.terms:
            total = total + self._exact_product(monomial, coefficient)
        return total

    def _exact_product(self, monomial: Monomial, coefficient: int) -> Index:
        for atom in monomial:
            if not isinstance(atom, FloorDiv) or not self._facts.divides(atom.b, atom.a):
                continue
            others = list(monomial)
            others.remove(atom)
            quotient = _divided(Index(((tuple(others), coefficient),)), atom.b)
            if quotient is not None:
                return quotient * atom.a
        return Index(((monomial, coefficient),))


def _divided(value: Index, divisor: Index) -> Index | None:
    """value / divisor as a polynomial, None when it is not one."""
    quotient = value // divisor
    return quotient if quotient * divisor == value else None


def _divisors(condition: Condition) -> Iterator[Index]:
    """Divisors that the dispatcher has evaluated: a call with a zero divisor was refused."""
    if isinstance(condition, Compare):
        for side in (condition.a, condition.b):
            for atom in side.atoms():
                yield from _divisor(atom)


def _divisor(atom: Atom) -> Iterator[Index]:
    if isinstance(atom, FloorDiv | Mod) and atom.b.constant is None:
        yield atom.b
