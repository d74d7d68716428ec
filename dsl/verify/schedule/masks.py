"""Masks of values: numbers that follow from the place, `minimum(32, K - k)`, are the kernel's own at all sizes.

A mask is right at the sizes that were run; it is at others if it is made of nothing but sums of sizes and loop
variables, expressions of sizes and places that the kernel has, and constants no larger than a step, which every run
goes past: `minimum(K, 8192)`, `5000 - i` and `i // 5000` say nothing in short runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Atom, Element, Extremum, Index, Symbol
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.schedule.trips import compared


def masked_beyond(kernel: dev.DeviceKernel, own: Collection[Atom]) -> str:
    """The line of a mask that may change at sizes that were not run, "" if there is none. `own`: the expressions of
    sizes and places that the kernel of tiles has."""
    loops: list[dev.Grid | dev.For] = list(every_grid(kernel))
    loops += [s for s in dev.statements(kernel) if isinstance(s, dev.For)]
    largest = max((s.constant or 1 for loop in loops for s in loop.step), default=1)
    for s in dev.statements(kernel):
        if isinstance(s, dev.Let) and any(not _known(v, own, largest) for v in _numbers(s.operation)):
            return f"the mask of line {s.fragment.origin.span.line} may change at sizes that were not run"
    return ""


def _numbers(operation: dev.Operation) -> Iterator[Index]:
    match operation:
        case dev.FromIndex(value) | dev.Positions(value):
            yield value
        case dev.FromCondition(condition):
            yield from compared(condition)


def _known(value: Index, own: Collection[Atom], largest: int) -> bool:
    constant = next((abs(c) for m, c in value.terms if m == ()), 0)
    return constant <= largest and all(_atom(a, own, largest) for m, _ in value.terms for a in m)


def _atom(atom: Atom, own: Collection[Atom], largest: int) -> bool:
    if atom in own:
        return True
    match atom:
        case Extremum(_, a, b):
            return _known(a, own, largest) and _known(b, own, largest)
        case Symbol() | Element():
            return True
    return False


__all__ = ["masked_beyond"]
