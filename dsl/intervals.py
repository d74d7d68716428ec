"""Smallest and largest values of index integers: loop variables at their ends, sizes and data within what is known.

Exact where a value is affine in its loop variables, else by interval arithmetic: never too narrow, at times too wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from kernelagent.dsl.index import (
    Atom,
    Element,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Monomial,
    Select,
    Symbol,
)

Interval: TypeAlias = tuple[int, int]
"""Both ends included."""
Loop: TypeAlias = tuple[Symbol, Index, Index]
"""A variable and the half-open range that it runs over."""


class Intervals:
    """What is known where an index is computed: `symbols` and elements of `arrays` by name, loops outermost first.

    `reached` is False inside a loop that has no iteration for any of the known sizes.
    """

    def __init__(
        self, symbols: Mapping[str, Interval], arrays: Mapping[str, Interval], loops: Sequence[Loop] = ()
    ) -> None:
        self._symbols, self._arrays = dict(symbols), arrays
        self._loops: list[Loop] = []
        self._known: dict[Index, Interval] = {}
        self.reached = True
        for loop in loops:
            self._enter(loop)

    def _enter(self, loop: Loop) -> None:
        variable, lo, hi = loop
        first, last = self.of(lo)[0], self.of(hi - 1)[1]
        self.reached = self.reached and first <= last
        self._symbols[variable.name] = (first, max(first, last))
        self._loops.append(loop)
        self._known = {}

    def inside(self, loops: Sequence[Loop]) -> Intervals:
        """What is known in the body of further loops."""
        made = Intervals(self._symbols, self._arrays)
        made._loops, made.reached = list(self._loops), self.reached
        for loop in loops:
            made._enter(loop)
        return made

    def of(self, value: Index) -> Interval:
        """Raises KeyError for a symbol or an array of which nothing is known."""
        if value not in self._known:
            self._known[value] = self._of(value)
        return self._known[value]

    def _of(self, value: Index) -> Interval:
        low, high = self._polynomial(value)
        if len(value.terms) < 2:
            return low, high
        for variable, lo, hi in reversed(self._loops):
            affine = value.affine(variable) if variable in value.symbols() else None
            if affine is None:
                continue
            slope, rest = affine
            least, most = self._polynomial(slope)
            if least >= 0 or most <= 0:
                first, last = (lo, hi - 1) if least >= 0 else (hi - 1, lo)
                return max(low, self.of(rest + slope * first)[0]), min(high, self.of(rest + slope * last)[1])
        return low, high

    def _polynomial(self, value: Index) -> Interval:
        low = high = 0
        for monomial, coefficient in value.terms:
            least, most = self._product(monomial)
            low += min(coefficient * least, coefficient * most)
            high += max(coefficient * least, coefficient * most)
        return low, high

    def _product(self, monomial: Monomial) -> Interval:
        low = high = 1
        for atom in monomial:
            least, most = self._atom(atom)
            ends = (low * least, low * most, high * least, high * most)
            low, high = min(ends), max(ends)
        return low, high

    def _atom(self, atom: Atom) -> Interval:
        match atom:
            case Symbol(name, _):
                return self._symbols[name]
            case Element(array, _):
                return self._arrays[array]
            case FloorDiv(a, b):
                return self._at_ends(a, b) or _quotient(self.of(a), self.of(b))
            case Mod(a, b):
                least, most = self.of(a)
                rest = max(self.of(b)[1] - 1, 0)  # by 0 nothing is divided
                return (0, min(rest, most)) if least >= 0 else (0, rest)
            case Extremum(which, a, b):
                pick = min if which == "min" else max
                (a_low, a_high), (b_low, b_high) = self.of(a), self.of(b)
                return pick(a_low, b_low), pick(a_high, b_high)
            case Select(_, then, otherwise):
                (a_low, a_high), (b_low, b_high) = self.of(then), self.of(otherwise)
                return min(a_low, b_low), max(a_high, b_high)

    def _at_ends(self, a: Index, b: Index) -> Interval | None:
        """A quotient rises or falls with a loop variable of its dividend: (s + 1) * M // S ends at M for s < S."""
        if b.constant is not None or self.of(b)[0] < 0:
            return None
        for variable, lo, hi in reversed(self._loops):
            affine = a.affine(variable) if variable in a.symbols() and variable not in b.symbols() else None
            if affine is not None:
                slope, rest = affine
                ends = [self._polynomial((rest + slope * end) // b) for end in (lo, hi - 1)]
                least, most = self._polynomial(slope)
                if least >= 0 or most <= 0:
                    first, last = ends if least >= 0 else reversed(ends)
                    return first[0], last[1]
        return None


def _quotient(a: Interval, b: Interval) -> Interval:
    divisors = {d for d in (*b, 1, -1) if d and b[0] <= d <= b[1]}
    ends = [n // d for n in a for d in divisors] or [0]  # by 0 nothing is divided
    return min(ends), max(ends)


__all__ = ["Interval", "Intervals", "Loop"]
