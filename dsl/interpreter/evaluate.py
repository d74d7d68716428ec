"""Index expressions and conditions as closures over an environment: built once, called in every iteration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
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
    Negation,
    Select,
    Symbol,
)  # fmt: skip

Environment: TypeAlias = dict[str, Any]
"""Symbol name -> Python int; position symbols may be integer arrays (see `memory`)."""
Reader: TypeAlias = Callable[[str, tuple[Any, ...]], Any]
IndexClosure: TypeAlias = Callable[[], Any]
ConditionClosure: TypeAlias = Callable[[], bool]


class Evaluator:
    """Compiles expressions over one environment. `read` supplies elements of integer arrays."""

    def __init__(self, environment: Environment, read: Reader) -> None:
        self._environment = environment
        self._read = read

    def index(self, expression: Index) -> IndexClosure:
        """A closure with the value of `expression`. Calling it raises ZeroDivisionError, KeyError as needed."""
        constant = expression.constant
        if constant is not None:
            return lambda: constant
        parts = [self._term(monomial, coefficient) for monomial, coefficient in expression.terms]
        if len(parts) == 1:
            return parts[0]
        if len(parts) == 2:
            first, second = parts
            return lambda: first() + second()
        return lambda: sum(part() for part in parts)

    def indices(self, expressions: tuple[Index, ...]) -> Callable[[], tuple[Any, ...]]:
        closures = [self.index(e) for e in expressions]
        if len(closures) == 1:
            only = closures[0]
            return lambda: (only(),)
        return lambda: tuple([closure() for closure in closures])

    def condition(self, condition: Condition) -> ConditionClosure:
        match condition:
            case Compare(relation, a, b):
                return self._compare(relation, self.index(a), self.index(b))
            case Negation(part):
                inner = self.condition(part)
                return lambda: not inner()
            case AllOf(parts):
                every = [self.condition(p) for p in parts]
                return lambda: all(part() for part in every)
            case AnyOf(parts):
                some = [self.condition(p) for p in parts]
                return lambda: any(part() for part in some)

    def _compare(self, relation: str, a: IndexClosure, b: IndexClosure) -> ConditionClosure:
        closures: dict[str, ConditionClosure] = {
            "<": lambda: bool(a() < b()),
            "<=": lambda: bool(a() <= b()),
            ">": lambda: bool(a() > b()),
            ">=": lambda: bool(a() >= b()),
            "==": lambda: bool(a() == b()),
            "!=": lambda: bool(a() != b()),
        }
        return closures[relation]

    def _term(self, monomial: tuple[Atom, ...], coefficient: int) -> IndexClosure:
        if not monomial:
            return lambda: coefficient
        factors = [self._atom(atom) for atom in monomial]
        if len(factors) == 1:
            only = factors[0]
            return only if coefficient == 1 else lambda: coefficient * only()

        def product() -> Any:
            value: Any = coefficient
            for factor in factors:
                value = value * factor()
            return value

        return product

    def _atom(self, atom: Atom) -> IndexClosure:
        environment, read = self._environment, self._read
        match atom:
            case Symbol(name, _):
                return lambda: environment[name]
            case Element(array, coordinates):
                place = self.indices(coordinates)
                return lambda: read(array, place())
            case FloorDiv(a, b):
                dividend, divisor = self.index(a), self.index(b)
                return lambda: dividend() // divisor()
            case Mod(a, b):
                dividend, divisor = self.index(a), self.index(b)
                return lambda: dividend() % divisor()
            case Extremum(which, a, b):
                return _extremum(which, self.index(a), self.index(b))
            case Select(condition, then, otherwise):
                return self._select(self.condition(condition), self.index(then), self.index(otherwise))

    def _select(self, condition: ConditionClosure, then: IndexClosure, otherwise: IndexClosure) -> IndexClosure:
        return lambda: then() if condition() else otherwise()


def _extremum(which: str, a: IndexClosure, b: IndexClosure) -> IndexClosure:
    lesser = which == "min"

    def extremum() -> Any:
        x, y = a(), b()
        if isinstance(x, np.ndarray) or isinstance(y, np.ndarray):
            return np.minimum(x, y) if lesser else np.maximum(x, y)
        return min(x, y) if lesser else max(x, y)

    return extremum
