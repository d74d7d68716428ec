"""Which branches leave what runs at a few sizes show to all sizes: those on the ends of loops, and the kernel's own.

Positions are affine in the place of a tile (`alike`), and masks are compared with bounds (`masks`); a branch may choose
another formula, or another mask, where no run came: `if M < 5000`, or `if k >= 4096`. So a branch may ask whether an
iteration is among the first ones or the last ones, by whole steps, or whether a tile is cut, or what the kernel asks
too; and each of its arms that does something must have been run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits, is_float
from kernelagent.dsl.index import Index, index, mod
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.verify.schedule.steady import line_of
from kernelagent.dsl.verify.schedule.thresholds import Distance, distances
from kernelagent.dsl.verify.schedule.trips import compared, shift
from kernelagent.dsl.verify.sites import walk

NEAR = 8
"""Whole steps from an end of a loop: as far as copies run ahead."""


def foreign(kernel: dev.DeviceKernel, entry: ir.Kernel | None) -> str:
    """The line of a branch or truth value that asks for what the kernel of tiles does not, "" if there is none."""
    known = [*distances(kernel), *_of_single(kernel), *_counters(kernel)]
    own = set(_asked_by(entry)) if entry is not None else set()
    for s in dev.statements(kernel):
        match s:
            case dev.If(condition=condition) if not isinstance(condition, dev.Fragment):
                pass
            case dev.Let(operation=dev.FromCondition(condition)):
                pass
            case _:
                continue
        asked = (d for d in compared(condition) if d.constant is None and not (d in own or -d in own))
        if not all(_near(d, known) or _in_rounds(d, kernel) for d in asked):
            return f"line {line_of(s)} asks for sizes or places that no run may come to"
    return ""


def untaken(kernel: dev.DeviceKernel, outcomes: Mapping[int, set[bool]]) -> str:
    """The line of a branch with an arm that does something and was run nowhere, "" if there is none. `outcomes`: by
    statement, which way runs went."""
    for s in dev.statements(kernel):
        if isinstance(s, dev.If):
            arms = {True} if s.then or s.merged else set()
            arms |= {False} if s.otherwise or s.merged else set()
            if not arms <= outcomes.get(id(s), set()):
                return f"no run took both ways at line {line_of(s)}"
    return ""


def unreached(kernel: dev.DeviceKernel, largest: int) -> str:
    """The line of an integer beyond all positions and data of the runs, "" if there is none: `coords(i, d) < 5000`."""
    for s in dev.statements(kernel):
        match s:
            case dev.Let(fragment, dev.Constant(value)) if not is_float(fragment.dtype) and abs(value) > largest:
                if value not in _ends_of(fragment.dtype):
                    return f"no run came to the {value} of line {line_of(s)}"
    return ""


def _ends_of(dtype: str) -> tuple[int, int]:
    """The least and the largest integer, with which reductions of integers begin."""
    width = bits(dtype)
    return (0, 2**width - 1) if dtype.startswith("u") else (-(2 ** (width - 1)), 2 ** (width - 1) - 1)


def _near(d: Index, known: list[Distance]) -> bool:
    for distance in known:
        for sign in (1, -1):
            rest = (d - sign * distance.value).constant
            if rest is not None and rest % distance.step == 0 and abs(rest) <= NEAR * distance.step:
                return True
    return False


def _in_rounds(d: Index, kernel: dev.DeviceKernel) -> bool:
    """Whether a difference comes back within a few iterations: sums are promoted with every second one."""
    for loop in (s for s in dev.statements(kernel) if isinstance(s, dev.For) and len(s.variables) == 1):
        step = loop.step[0].constant
        if step and d.symbols() == {loop.variables[0]}:
            name = loop.variables[0].name
            return any(shift(d, {name: step * n}) == 0 for n in range(1, NEAR + 1))
    return False


def _of_single(kernel: dev.DeviceKernel) -> Iterator[Distance]:
    """How far a tile, or one variable of a loop, lies behind the first place, and in front of the end."""
    loops: list[dev.Grid | dev.For] = list(every_grid(kernel))
    loops += [s for s in dev.statements(kernel) if isinstance(s, dev.For)]
    for loop in loops:
        for v, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            width = step.constant or 1
            yield Distance(index(v) - lo, width, True)
            yield Distance(hi - index(v), width, False)
            yield Distance(hi - lo, width, False)


def _counters(kernel: dev.DeviceKernel) -> Iterator[Distance]:
    """Even and odd tiles."""
    for grid in every_grid(kernel):
        if grid.counter is not None:
            yield Distance(mod(index(grid.counter), index(2)), 1, True)


def _asked_by(entry: ir.Kernel) -> Iterator[Index]:
    for s, _ in walk(entry):
        match s:
            case ir.If(condition=condition) if not isinstance(condition, ir.Value):
                yield from compared(condition)
            case ir.Let(operation=ir.FromCondition(condition)):
                yield from compared(condition)


__all__ = ["foreign", "unreached", "untaken"]
