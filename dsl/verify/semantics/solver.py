"""z3 over the reals where canonical forms differ: maxima, selections and powers are given their meaning, other
functions are uninterpreted with axioms instantiated for the terms at hand. Imported only when asked; seed and limit
are fixed.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics.terms import (
    Atom,
    Bracket,
    Call,
    Extremum,
    Group,
    Infinity,
    Mono,
    Poly,
    Reduction,
    Whole,
)

RESOURCES = 3_000_000
"""z3's own count of work (rlimit): reproducible where a time limit is not; about a second."""

_TERMS = 120
_NESTED = 2


def proves_equal(a: Poly, b: Poly, depth: int = _NESTED) -> bool:
    """Whether z3 shows a == b for all values of their elements. False: not shown."""
    if len(a.terms) + len(b.terms) > _TERMS or not _piecewise(a - b):
        return False
    import z3  # type: ignore[import-untyped]

    encoder = _Encoder(z3, depth)
    try:
        goal = encoder.poly(a) != encoder.poly(b)
    except _NoEncoding:
        return False
    solver = z3.Solver()
    solver.set("random_seed", 0)
    solver.set("rlimit", RESOURCES)
    solver.add(*encoder.side, *encoder.exponentials())
    solver.add(goal)
    return bool(solver.check() == z3.unsat)


class _NoEncoding(Exception):
    """A formal infinity, or a power that is neither whole nor a half."""


def _piecewise(difference: Poly) -> bool:
    """Only what the normal form does not look into is worth asking about."""
    return any(_has_pieces(m) for m, _ in difference.terms)


def _has_pieces(mono: Mono) -> bool:
    atoms = [a for a, _ in mono.factors]
    if mono.exponent is not None and _piecewise(mono.exponent):
        return True
    return any(
        isinstance(a, Extremum | Bracket | Group)
        or (isinstance(a, Call) and any(_piecewise(p) for p in a.args))
        or (isinstance(a, Reduction) and _piecewise(a.body))
        for a in atoms
    )


class _Encoder:
    """Terms as z3 reals. `side` collects what holds of the variables that were made."""

    def __init__(self, z3: Any, depth: int) -> None:
        self.z3, self.depth = z3, depth
        self.side: list[Any] = []
        self._atoms: dict[str, Any] = {}
        self._functions: dict[tuple[str, int], Any] = {}
        self._exponents: dict[str, tuple[Poly, Any]] = {}
        self._reductions: list[tuple[Reduction, Any]] = []

    def poly(self, p: Poly) -> Any:
        total: Any = self.z3.RealVal(0)
        for mono, coefficient in p.terms:
            total = total + self.z3.RealVal(str(coefficient)) * self._mono(mono)
        return total

    def _mono(self, mono: Mono) -> Any:
        product: Any = self.z3.RealVal(1)
        for factor, exponent in mono.factors:
            product = product * self._power(factor, exponent)
        if mono.exponent is not None:
            product = product * self._exponential(mono.exponent)
        return product

    def _power(self, a: Atom, exponent: Fraction) -> Any:
        base, of_root = self.atom(a), exponent.denominator == 2
        if of_root:
            base, exponent = self._root(a, base), exponent * 2
        if exponent.denominator != 1 or abs(exponent) > 8:
            raise _NoEncoding
        if exponent < 0:
            base, exponent = self._inverse(a, base, "root" if of_root else ""), -exponent
        product = base
        for _ in range(int(exponent) - 1):
            product = product * base
        return product

    def _root(self, a: Atom, value: Any) -> Any:
        root = self.z3.Real(f"root!{a.key}")
        self.side += [root >= 0, root * root == value]
        return root

    def _inverse(self, a: Atom, value: Any, text: str) -> Any:
        inverse = self.z3.Real(f"inverse!{a.key}!{text}")
        self.side.append(inverse * value == 1)
        return inverse

    def _exponential(self, p: Poly) -> Any:
        if p.key not in self._exponents:
            self._exponents[p.key] = p, self._function("exp", (self.poly(p),))
        return self._exponents[p.key][1]

    def exponentials(self) -> list[Any]:
        """exp is positive, exp(a) * exp(-a) is 1, exp(2 a) is exp(a) squared."""
        axioms: list[Any] = []
        known = list(self._exponents.values())
        for p, value in known:
            axioms.append(value > 0)
            for other, second in known:
                if not (p + other).terms:
                    axioms.append(value * second == 1)
                if p == other.scaled(Fraction(2)):
                    axioms.append(value == second * second)
        return axioms

    def _function(self, word: str, args: tuple[Any, ...]) -> Any:
        key = (word, len(args))
        if key not in self._functions:
            self._functions[key] = self.z3.Function(word, *[self.z3.RealSort()] * (len(args) + 1))
        return self._functions[key](*args)

    def atom(self, a: Atom) -> Any:
        if a.key not in self._atoms:
            self._atoms[a.key] = self._atom(a)
        return self._atoms[a.key]

    def _atom(self, a: Atom) -> Any:
        match a:
            case Infinity():
                raise _NoEncoding
            case Group(base):
                return self.poly(base)
            case Call(word, args):
                return self._function(word, tuple(self.poly(p) for p in args))
            case Extremum(word, args):
                values = [self.poly(p) for p in args]
                best = values[0]
                for value in values[1:]:
                    best = self.z3.If((value > best) if word == "max" else (value < best), value, best)
                return best
            case Bracket():
                return self.z3.If(self._holds(a), self.z3.RealVal(1), self.z3.RealVal(0))
            case Reduction():
                return self._reduction(a)
            case Whole():
                return self.z3.Real(f"size!{a.key}")
        return self.z3.Real(a.key)

    def _holds(self, bracket: Bracket) -> Any:
        subject = bracket.subject
        if isinstance(subject, Poly):
            return self.poly(subject) > 0
        opposite = -subject - 1
        if bracket.relation == ">=" and str(opposite) < str(subject):
            return self.z3.Not(self._fact(">=", opposite))
        return self._fact(bracket.relation, subject)

    def _fact(self, relation: str, subject: Index) -> Any:
        return self.z3.Bool(f"{subject} {relation} 0")

    def _reduction(self, a: Reduction) -> Any:
        """Alike reductions of bodies that are equal are one variable."""
        if self.depth:
            for other, variable in self._reductions:
                if (other.word, other.binders) == (a.word, a.binders) and proves_equal(
                    a.body, other.body, self.depth - 1
                ):
                    return variable
        variable = self.z3.Real(f"reduction!{a.key}")
        self._reductions.append((a, variable))
        return variable
