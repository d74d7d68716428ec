"""What a condition on index integers asks: whether a sum of sizes, `base`, is above a threshold.

`k + 64 < K` at k = 128 asks whether K > 192, and a loop's end the same. All roles of a block ask about the same bases,
so one answer serves them all, and roles whose loops differ ask for different thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import gcd

from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Atom,
    Compare,
    Condition,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    Negation,
    Select,
    Symbol,
    condition_indices,
)  # fmt: skip

Ask = Callable[[Index, int], bool]
"""Whether base > threshold."""


def positive(d: Index, ask: Ask) -> bool:
    """Whether d > 0."""
    value = d.constant
    if value is not None:
        return value > 0
    offset = next((c for m, c in d.terms if m == ()), 0)
    base = d - offset
    if base.terms[0][1] < 0:
        return not positive(-d + 1, ask)
    common = gcd(*(c for _, c in base.terms))
    threshold = -offset // common
    reduced = Index(tuple((m, c // common) for m, c in base.terms))
    match reduced.terms:
        case (((Extremum(which, a, b),), 1),) if a.constant is not None or b.constant is not None:
            both = (positive(x - threshold, ask) for x in (a, b))
            return all(both) if which == "min" else any(both)
        case (((FloorDiv(a, b),), 1),) if b.constant is not None and b.constant > 0:
            return positive(a - b.constant * (threshold + 1) + 1, ask)
        case _:
            return ask(reduced, threshold)


def holds(condition: Condition, reduce: Callable[[Index], Index], ask: Ask) -> bool:
    """The truth of a condition. `reduce` puts in the numbers that are known."""
    match condition:
        case Negation(part):
            return not holds(part, reduce, ask)
        case AllOf(parts):
            return all(holds(p, reduce, ask) for p in parts)
        case AnyOf(parts):
            return any(holds(p, reduce, ask) for p in parts)
        case Compare(relation, a, b):
            d = reduce(a - b)
            match relation:
                case "<":
                    return positive(-d, ask)
                case "<=":
                    return positive(-d + 1, ask)
                case ">":
                    return positive(d, ask)
                case ">=":
                    return positive(d + 1, ask)
                case "==":
                    return positive(d + 1, ask) and positive(-d + 1, ask)
                case "!=":
                    return positive(d, ask) or positive(-d, ask)


def bounded(value: Index) -> bool:
    """Whether a value is at most some number, whatever the sizes."""
    match [(m, c) for m, c in value.terms if m]:
        case []:
            return True
        case [((Extremum("min", a, b),), c)] if c > 0:
            return a.constant is not None or b.constant is not None
        case _:
            return False


# How expressions repeat -------------------------------------------------------------------------------


def shift(expression: Index, steps: Mapping[str, int]) -> int | None:
    """How much the value grows when each symbol grows by its step, wherever it starts; None if that depends."""
    total = 0
    for monomial, coefficient in expression.terms:
        moved = [_atom_shift(a, steps) for a in monomial]
        if all(m == 0 for m in moved):
            continue
        if len(monomial) > 1 or moved[0] is None:
            return None
        total += coefficient * moved[0]
    return total


def _atom_shift(atom: Atom, steps: Mapping[str, int]) -> int | None:
    match atom:
        case Symbol(name, _):
            return steps.get(name, 0)
        case FloorDiv(a, b) | Mod(a, b):
            inner, below = shift(a, steps), shift(b, steps)
            if inner == 0 and below == 0:
                return 0
            if inner is None or b.constant is None or inner % b.constant:
                return None
            return inner // b.constant if isinstance(atom, FloorDiv) else 0
        case Extremum(_, a, b):
            return 0 if shift(a, steps) == shift(b, steps) == 0 else None
        case Select(condition, then, otherwise):
            parts = (*condition_indices(condition), then, otherwise)
            return 0 if all(shift(p, steps) == 0 for p in parts) else None
        case _:
            return 0 if all(shift(c, steps) == 0 for c in atom.coordinates) else None


def compared(condition: Condition) -> Iterator[Index]:
    """The differences whose sign a condition asks for."""
    match condition:
        case Compare(_, a, b):
            yield a - b
        case Negation(part):
            yield from compared(part)
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from compared(part)


def constants(expression: Index) -> Iterator[int]:
    """Every number that occurs in an expression."""
    for monomial, coefficient in expression.terms:
        yield abs(coefficient)
        for atom in monomial:
            match atom:
                case FloorDiv(a, b) | Mod(a, b) | Extremum(_, a, b):
                    yield from constants(a)
                    yield from constants(b)
                case Select(condition, then, otherwise):
                    for part in (*condition_indices(condition), then, otherwise):
                        yield from constants(part)
                case _:
                    pass


__all__ = ["Ask", "bounded", "compared", "constants", "holds", "positive", "shift"]
