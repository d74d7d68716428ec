"""What a condition on index integers asks: whether a sum of sizes, `base`, is above a threshold.

`k + 64 < K` at k = 128 asks whether K > 192, and a loop's end the same. All roles of a block ask about the same bases,
so one answer serves them all, and roles whose loops differ ask for different thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import TypeAlias

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
    Relation,
    Select,
    Symbol,
    condition_indices,
    index,
)  # fmt: skip

MOST_ENDS = 16
"""Ways to replace the least and the largest of several in one value."""
Ask = Callable[[Index, int], bool]
"""Whether base > threshold."""


@dataclass(frozen=True)
class Above:
    """Whether `base` is above `threshold`; `wanted` False: whether it is not."""

    base: Index
    threshold: int
    wanted: bool = True


@dataclass(frozen=True)
class Several:
    """All of the parts (`every`), or any of them; asked in this order, and no further than needed."""

    parts: tuple[Decision, ...]
    every: bool


Decision: TypeAlias = bool | Above | Several
"""What decides a condition: nothing (it is known), or questions about sizes."""


def decided(decision: Decision, ask: Ask) -> bool:
    match decision:
        case bool():
            return decision
        case Above(base, threshold, wanted):
            return ask(base, threshold) == wanted
        case Several(parts, every):
            return (all if every else any)(decided(p, ask) for p in parts)


def negated(decision: Decision) -> Decision:
    match decision:
        case bool():
            return not decision
        case Above(base, threshold, wanted):
            return Above(base, threshold, not wanted)
        case Several(parts, every):
            return Several(tuple(negated(p) for p in parts), not every)


def positive(d: Index) -> Decision:
    """Whether d > 0."""
    value = d.constant
    if value is not None:
        return value > 0
    if cap(d) is not None and (ends := _each_end(d)) is not None:
        return ends
    offset = next((c for m, c in d.terms if m == ()), 0)
    base = d - offset
    if base.terms[0][1] < 0:
        return negated(positive(-d + 1))
    common = gcd(*(c for _, c in base.terms))
    threshold = -offset // common
    reduced = Index(tuple((m, c // common) for m, c in base.terms))
    match reduced.terms:
        case (((Extremum(which, a, b),), 1),) if a.constant is not None or b.constant is not None:
            return Several(tuple(positive(x - threshold) for x in (a, b)), which == "min")
        case (((FloorDiv(a, b),), 1),) if b.constant is not None and b.constant > 0:
            return positive(a - b.constant * (threshold + 1) + 1)
        case _:
            return Above(reduced, threshold)


def _each_end(d: Index) -> Decision | None:
    """Of a length that has a cap: the least of several is above 0, in a sum, if each of them is. So roles ask the same
    whose loops end at `min(N, i + 128)` and at `min(64, N, i + 128)`, and for no threshold beyond the cap. Taken apart
    is first what leaves lengths with a cap: `min(lo + 64, hi) - lo` is 64 and `hi - lo`."""
    found: list[tuple[bool, tuple[Index, Index]]] = []
    for monomial, coefficient in d.terms:
        match monomial:
            case (Extremum(which, a, b),):
                rest = d - Index(((monomial, coefficient),))
                found.append(((which == "min") == (coefficient > 0), (rest + coefficient * a, rest + coefficient * b)))
    if not found:
        return None
    every, parts = next((f for f in found if all(cap(x) is not None for x in f[1])), found[0])
    return Several(tuple(positive(x) for x in parts), every)


def holds(condition: Condition, decide: Callable[[Compare], Decision], ask: Ask) -> bool:
    """The truth of a condition, of whose comparisons no more are decided than needed."""
    match condition:
        case Negation(part):
            return not holds(part, decide, ask)
        case AllOf(parts):
            return all(holds(p, decide, ask) for p in parts)
        case AnyOf(parts):
            return any(holds(p, decide, ask) for p in parts)
        case Compare():
            return decided(decide(condition), ask)


def related(relation: Relation, d: Index) -> Decision:
    """Whether d has the relation to 0."""
    match relation:
        case "<":
            return positive(-d)
        case "<=":
            return positive(-d + 1)
        case ">":
            return positive(d)
        case ">=":
            return positive(d + 1)
        case "==":
            return Several((positive(d + 1), positive(-d + 1)), True)
        case "!=":
            return Several((positive(d), positive(-d)), False)


def cap(value: Index) -> int | None:
    """A number that a value is never above, whatever the sizes: `min(N, i + 128) - max(0, i - 128)` is at most 256."""
    known = [n for v in _above(value, MOST_ENDS) if (n := v.constant) is not None]
    return min(known, default=None)


def _above(value: Index, most: int) -> list[Index]:
    """Values that are nowhere below: the least of two is not above either of them, nor is less the largest."""
    for monomial, coefficient in value.terms:
        match monomial:
            case (Extremum(which, a, b),) if most > 1 and (which == "min") == (coefficient > 0):
                rest = value - index(Index(((monomial, coefficient),)))
                return [v for part in (a, b) for v in _above(rest + coefficient * part, most // 2)]
    return [value]


def bounded(value: Index) -> bool:
    """Whether a value is at most some number, whatever the sizes, and its form says so."""
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


__all__ = [
    "Above", "Ask", "Decision", "Several", "bounded", "cap", "compared", "constants", "decided", "holds", "positive",
    "related", "shift",
]  # fmt: skip
