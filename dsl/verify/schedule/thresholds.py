"""What branches that order something may ask of the iteration: whether it is among the first, or among the last.

A block's state that comes back says that all later iterations are as those that were run, if no branch looks for one of
them: `k < 4096`, or `K < 8192`, holds in every short run. Held: a difference that a branch compares is how far the
iteration lies behind the first one or in front of the end, or how many there are, but for a constant number of
iterations that the runs have met; or it repeats with a counter, and then states are told apart by that (`turning`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import AnyOf, Compare, Condition, Element, Index, cdiv, index
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.schedule.control import ordering
from kernelagent.dsl.verify.schedule.trips import compared
from kernelagent.dsl.verify.schedule.turning import repeats


@dataclass(frozen=True)
class Distance:
    """`value` grows or falls by `step` an iteration. `behind`: from the first iteration on; else up to the end."""

    value: Index
    step: int
    behind: bool


def late(kernel: dev.DeviceKernel, first: int, ahead: int) -> str:
    """The line of a branch that asks for an iteration beyond the `first` ones, or for one that more than `ahead` others
    follow; "" if there is none. Branches on where a tile lies are another matter."""
    known = list(distances(kernel))
    for s in dev.statements(kernel):
        if not isinstance(s, dev.If) or isinstance(s.condition, dev.Fragment):
            continue
        if not any(ordering(x) for x in dev.walk((*s.then, *s.otherwise))) or _not_first(kernel, s.condition):
            continue
        for d in compared(s.condition):
            if not (_of_tile(kernel, d, known) or repeats(kernel, d) or _near(d, known, first, ahead)):
                return f"line {s.origin.span.line} asks for an iteration that no run came to"
    return ""


def _near(d: Index, known: list[Distance], first: int, ahead: int) -> bool:
    if d.constant is not None:
        return True
    for distance in known:
        for sign in (1, -1):
            rest = (d - sign * distance.value).constant
            if rest is not None and abs(rest) <= distance.step * (first if distance.behind else ahead + 1):
                return True
    return False


def distances(kernel: dev.DeviceKernel) -> Iterator[Distance]:
    """Of every loop: how far an iteration is behind the first one, in front of the end, and how many there are."""
    for loop in (s for s in dev.statements(kernel) if isinstance(s, dev.For)):
        if len(loop.variables) == 1:
            step = loop.step[0].constant or 1
            yield Distance(index(loop.variables[0]) - loop.lo[0], step, True)
            yield Distance(loop.hi[0] - index(loop.variables[0]), step, False)
            yield Distance(loop.hi[0] - loop.lo[0], step, False)
            continue
        number, total = index(0), index(1)
        for v, lo, hi, step_ in reversed(list(zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True))):
            number += total * ((index(v) - lo) // step_)
            total *= cdiv(hi - lo, step_)
        yield Distance(number, 1, True)
        yield Distance(total - number, 1, False)
        yield Distance(total, 1, False)


def _not_first(kernel: dev.DeviceKernel, condition: Condition) -> bool:
    """`r > 0 or s > 0 or c > 0`, or `0 < 3 and 0 < 3 and 0 < C`: not the first iteration, or not none."""
    for loop in (s for s in dev.statements(kernel) if isinstance(s, dev.For) and len(s.variables) > 1):
        behind = {index(v) - lo for v, lo in zip(loop.variables, loop.lo, strict=True)}
        lengths = {hi - lo for lo, hi in zip(loop.lo, loop.hi, strict=True)}
        asked = set(compared(condition))
        if isinstance(condition, AnyOf) and all(isinstance(p, Compare) for p in condition.parts) and asked == behind:
            return True
        if asked and asked <= lengths | {-n for n in lengths}:
            return True
    return False


def _of_tile(kernel: dev.DeviceKernel, d: Index, known: list[Distance]) -> bool:
    """Whether a difference is about the tile alone: `order` and `any_walk` judge these."""
    variables = {v for grid in every_grid(kernel) for v in grid.variables}
    data = any(isinstance(a, Element) for a in d.atoms())
    loops = {v for s in dev.statements(kernel) if isinstance(s, dev.For) for v in s.variables}
    ends = {s for distance in known for s in distance.value.symbols()}
    return (
        bool((variables & d.symbols()) or data) and not (loops & d.symbols()) and not (variables & d.symbols() & ends)
    )


__all__ = ["distances", "late"]
