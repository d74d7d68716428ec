"""Replacement of index symbols and of loop states in terms, bottom up: each goes through its constructor again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernelagent.dsl import index as ix
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.reductions import opened, reduction
from kernelagent.dsl.verify.semantics.terms import (
    ONE,
    ZERO,
    Atom,
    Binder,
    Bracket,
    Call,
    Element,
    Extremum,
    Group,
    Mono,
    Parameter,
    Poly,
    Reduction,
    State,
    Whole,
    atom,
    exponential,
    from_index,
    names,
)

States = Callable[[State], Poly | None]
"""What a state is replaced by; None keeps it."""
Leaves = Callable[[Element | Parameter], Poly]
"""What an element of an array, or a runtime scalar, is replaced by."""


class Rewriting:
    """One replacement. Without `known` symbols are only renamed and nothing is simplified."""

    def __init__(
        self, symbols: Mapping[str, Index], states: States | None, known: Known | None, leaves: Leaves | None = None
    ) -> None:
        self.symbols, self.states, self.known, self.leaves = dict(symbols), states, known, leaves
        self._touched = frozenset(symbols)
        self._polys: dict[str, Poly] = {}

    def _concerns(self, free: frozenset[str]) -> bool:
        return (
            self.leaves is not None
            or bool(free & self._touched)
            or (self.states is not None and any(n[0] in "~^" for n in free))
        )

    def index(self, i: Index) -> Index:
        replaced = i.substitute(self.symbols) if names(i) & self._touched else i
        return self.known.tidy(replaced) if self.known is not None else replaced

    def poly(self, p: Poly) -> Poly:
        if not self._concerns(p.free):
            return p
        if p.key not in self._polys:
            total = ZERO
            for mono, coefficient in p.terms:
                total = total + self._mono(mono).scaled(coefficient)
            self._polys[p.key] = total
        return self._polys[p.key]

    def _mono(self, mono: Mono) -> Poly:
        if not self._concerns(mono.free):
            return Poly({mono: ONE.terms[0][1]})
        result = ONE
        if mono.exponent is not None:
            inner = self.poly(mono.exponent)
            result = exponential(inner) if self.known is None else fn.exp(inner)
        for factor, exponent in mono.factors:
            base = self.atom(factor)
            if self.known is None:
                single = fn.sole_atom(base)
                assert single is not None
                result = result * atom(single, exponent)
            else:
                result = result * fn.power(base, exponent)
        return result

    def atom(self, a: Atom) -> Poly:
        if not self._concerns(a.free):
            return a.base if isinstance(a, Group) and self.known is not None else atom(a)
        return self._renamed(a) if self.known is None else self._rebuilt(a, self.known)

    def _rebuilt(self, a: Atom, known: Known) -> Poly:
        match a:
            case Whole(inner):
                return from_index(self.index(ix.index(inner)))
            case Element(array, place):
                moved_element = Element(array, tuple(map(self.index, place)))
                return atom(moved_element) if self.leaves is None else self.leaves(moved_element)
            case Parameter():
                return atom(a) if self.leaves is None else self.leaves(a)
            case State(loop, which, place, ended):
                moved = State(loop, which, tuple(map(self.index, place)), ended)
                found = self.states(moved) if self.states is not None else None
                return found if found is not None else atom(moved)
            case Call(word, args):
                rebuilt = [self.poly(p) for p in args]
                return fn.log(rebuilt[0]) if word == "log" else fn.call(word, *rebuilt)
            case Group(base):
                return self.poly(base)
            case Extremum(word, args):
                return fn.extremum(word, [self.poly(p) for p in args])
            case Bracket(relation, subject):
                if isinstance(subject, Poly):
                    return fn.split(lambda parts: fn.positive(parts[0]), (self.poly(subject),))
                return fn.holds(relation, self.index(subject), known)
            case Reduction():
                return self._reduction(a, known)
        return atom(a)

    def _reduction(self, found: Reduction, known: Known) -> Poly:
        binders, body = opened(found, known)
        moved = [Binder(b.name, tuple(map(self.index, b.lo)), tuple(map(self.index, b.hi))) for b in binders]
        result = self.poly(body)
        for binder in reversed(moved):
            result = reduction(found.word, binder, result, known)
        return result

    def _renamed(self, a: Atom) -> Poly:
        match a:
            case Whole(inner):
                return from_index(self.index(ix.index(inner)))
            case Element(array, place):
                return atom(Element(array, tuple(map(self.index, place))))
            case State(loop, which, place, ended):
                return atom(State(loop, which, tuple(map(self.index, place)), ended))
            case Call(word, args):
                return atom(Call(word, tuple(self.poly(p) for p in args)))
            case Group(base):
                return atom(Group(self.poly(base)))
            case Extremum(word, args):
                return atom(Extremum(word, tuple(sorted((self.poly(p) for p in args), key=lambda p: p.key))))
            case Bracket(relation, subject):
                moved = self.poly(subject) if isinstance(subject, Poly) else self.index(subject)
                return atom(Bracket(relation, moved))
            case Reduction(word, binders, body):
                renamed = [Binder(b.name, tuple(map(self.index, b.lo)), tuple(map(self.index, b.hi))) for b in binders]
                return atom(Reduction(word, tuple(renamed), self.poly(body)))
        return atom(a)
