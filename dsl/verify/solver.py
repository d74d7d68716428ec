"""z3 for the bounds that interval reasoning leaves open. Imported only when asked; seed and limits are fixed.

Integers are unbounded, `//` and `%` are z3's on a divisor that is assumed positive (the divisor's own obligation
says so), elements of arrays are free integers within their assumed ranges. "Not proved" is all that a failure means:
the model may be one that no call reaches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Atom,
    Compare,
    Condition,
    Element,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Select,
    Symbol,
)  # fmt: skip
from kernelagent.dsl.verify.bounds import Question

RESOURCES = 400_000
"""z3's own count of work (rlimit): reproducible where a time limit is not; about one second."""


def proves(question: Question) -> bool:
    """Whether z3 shows `question.value >= 0` from what is known at its place."""
    import z3  # type: ignore[import-untyped]

    encoder = _Encoder(z3)
    solver = z3.Solver()
    solver.set("random_seed", 0)
    solver.set("rlimit", RESOURCES)
    goal = encoder.index(question.value) < 0
    for fact in question.place.ranges.statements():
        solver.add(encoder.index(fact) >= 0)
    for dividend, divisor in question.place.ranges.divisibilities():
        quotient = z3.Int(f"quotient!{len(encoder.side)}")
        encoder.side.append(encoder.index(dividend) == encoder.index(divisor) * quotient)
    solver.add(*encoder.side)
    solver.add(goal)
    return bool(solver.check() == z3.unsat)


class _Encoder:
    """Index expressions as z3 integers. `side` collects what holds of the symbols that were met."""

    def __init__(self, z3: Any) -> None:
        self.z3 = z3
        self.side: list[Any] = []

    def index(self, value: Index) -> Any:
        total: Any = self.z3.IntVal(0)
        for monomial, coefficient in value.terms:
            product: Any = self.z3.IntVal(coefficient)
            for atom in monomial:
                product = product * self._atom(atom)
            total = total + product
        return total

    def condition(self, condition: Condition) -> Any:
        match condition:
            case Compare(relation, a, b):
                x, y = self.index(a), self.index(b)
                return {"<": x < y, "<=": x <= y, ">": x > y, ">=": x >= y, "==": x == y, "!=": x != y}[relation]
            case AllOf(parts):
                return self.z3.And([self.condition(p) for p in parts])
            case AnyOf(parts):
                return self.z3.Or([self.condition(p) for p in parts])
        return self.z3.Not(self.condition(condition.part))

    def _atom(self, atom: Atom) -> Any:
        match atom:
            case Symbol(name, kind):
                variable = self.z3.Int(name)
                if kind in ("dim", "position"):
                    self.side.append(variable >= 0)
                return variable
            case Element():
                return self.z3.Int(str(atom))
            case FloorDiv(a, b) | Mod(a, b):
                x, y = self.index(a), self.index(b)
                self.side.append(y > 0)
                return x / y if isinstance(atom, FloorDiv) else x % y
            case Extremum(which, a, b):
                x, y = self.index(a), self.index(b)
                return self.z3.If(x <= y, x, y) if which == "min" else self.z3.If(x <= y, y, x)
            case Select(condition, then, otherwise):
                return self.z3.If(self.condition(condition), self.index(then), self.index(otherwise))


def contradicts(conditions: Sequence[Condition]) -> bool:
    """Whether z3 shows that no sizes satisfy all conditions."""
    import z3

    encoder = _Encoder(z3)
    solver = z3.Solver()
    solver.set("random_seed", 0)
    solver.set("rlimit", RESOURCES)
    solver.add(*[encoder.condition(c) for c in conditions])
    solver.add(*encoder.side)
    return bool(solver.check() == z3.unsat)
