"""What keeps one block, at each trip count, from standing for all: branches and stages that ask for more than that.

A branch may ask how far the iteration is behind the first one or in front of the last, wherever the loop begins and
ends, and not where the tile lies. A stage, or the parity of a phase, is a function of the number of the iteration, and
repeats with the state of the block: `(k // 16) % 3`, not `(k // 16 + i // 5000) % 3`, nor `(k // 16 + k // 5000) % 3`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import FloorDiv, Index, Mod, Symbol, index
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.schedule.any_walk import stages_of
from kernelagent.dsl.verify.schedule.control import ordering
from kernelagent.dsl.verify.schedule.thresholds import distances
from kernelagent.dsl.verify.schedule.trips import compared


def asking(kernel: dev.DeviceKernel) -> Iterator[str]:
    """Branches that ask where the tile lies."""
    places = {v for grid in every_grid(kernel) for v in grid.variables}
    for s in dev.statements(kernel):
        asked = compared(s.condition) if isinstance(s, dev.If) and not isinstance(s.condition, dev.Fragment) else ()
        if any(places & d.symbols() and not _of_loop(d, kernel, places) for d in asked):
            yield f"line {line_of(s)} asks where the tile lies"


def uncounted(kernel: dev.DeviceKernel, period: int | None) -> str:
    """The first stage or parity that is not known for all iterations, "" if there is none. After `period` of them the
    state of the block comes back; None: all that there are were run."""
    numbers = list(_numbers(kernel))
    for s in dev.statements(kernel):
        for stage in stages_of(s):
            if reason := _unlike(stage, numbers, period):
                return f"the stage of line {line_of(s)} {reason}"
    return ""


def nested(kernel: dev.DeviceKernel) -> str:
    """The line of a loop inside of another that orders something, as often as sizes say: its trip counts were not all
    run. "" if there is none."""
    for outer in (s for s in dev.statements(kernel) if isinstance(s, dev.For)):
        for loop in (s for s in dev.walk(outer.body) if isinstance(s, dev.For)):
            fixed = all((hi - lo).constant is not None for lo, hi in zip(loop.lo, loop.hi, strict=True))
            if not fixed and any(map(ordering, dev.walk(loop.body))):
                return f"the loop of line {line_of(loop)} lies in another, and was not run at all trip counts"
    return ""


def _of_loop(d: Index, kernel: dev.DeviceKernel, places: set[Symbol]) -> bool:
    """Whether a difference is how far an iteration lies from an end of its loop, but for what does not tell places."""
    both = ((d - sign * found.value) for found in distances(kernel) for sign in (1, -1))
    return any(not places & rest.symbols() for rest in both)


# Stages --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Number:
    """How many iterations of a loop lie before one, and its variables."""

    value: Index
    variables: frozenset[str]


def _numbers(kernel: dev.DeviceKernel) -> Iterator[_Number]:
    """Of every loop, and what counts over all tiles."""
    for loop in (s for s in dev.statements(kernel) if isinstance(s, dev.For)):
        number, total = index(0), index(1)
        for v, lo, hi, step in reversed(list(zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True))):
            number += total * ((index(v) - lo) // step)
            total *= -((lo - hi) // step)
        yield _Number(number, frozenset(v.name for v in loop.variables))
        if loop.counter is not None:
            yield _Number(index(loop.counter), frozenset({loop.counter.name}))
    for grid in every_grid(kernel):
        if grid.counter is not None:
            yield _Number(index(grid.counter), frozenset())


def _unlike(stage: Index, numbers: list[_Number], period: int | None) -> str:
    if stage.constant is not None:
        return ""
    atom = next((a for m, _ in stage.terms for a in m), None)
    if not isinstance(atom, Mod) or stage != index(atom) or atom.b.constant is None:
        return "is not counted by the iterations"
    found = [(n, repeats) for n in numbers if (repeats := _repeats(atom, n)) is not None]
    if not found:
        return "is not counted by the iterations"
    if period and all(n.variables and period % repeats for n, repeats in found):
        return "repeats more slowly than the state of the block"
    return ""


def _repeats(stage: Mod, number: _Number) -> int | None:
    """After how many iterations a stage comes back that is `(n + c) % S` or `((n + c) // T + d) % S` of their number n;
    None for any other."""
    wraps = stage.b.constant
    assert wraps is not None
    if _congruent(stage.a - number.value, wraps):
        return wraps
    divided = [a for m, _ in stage.a.terms for a in m if isinstance(a, FloorDiv)]
    match divided:
        case [FloorDiv(inner, by)] if by.constant is not None and (inner - number.value).constant is not None:
            rest = stage.a - index(divided[0])
            return wraps * by.constant if rest.constant is not None else None
    return None


def _congruent(difference: Index, modulus: int) -> bool:
    """Whether a difference is a constant but for multiples."""
    return all(coefficient % modulus == 0 for monomial, coefficient in difference.terms if monomial)


def line_of(s: dev.Statement) -> int:
    return s.fragment.origin.span.line if isinstance(s, dev.Let) else s.origin.span.line


__all__ = ["asking", "line_of", "nested", "uncounted"]
