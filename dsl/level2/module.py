"""Level-two texts where compilers and checkers take a module: the entry has a signature and a schedule, no tile IR."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Compare, Index, index, mod, symbol
from kernelagent.dsl.level2.expectations import without_expectations
from kernelagent.dsl.level2.normal import normal_form
from kernelagent.dsl.level2.parse_schedule import is_level_two, parse_schedule
from kernelagent.dsl.level2.traverse import grids, walks
from kernelagent.dsl.schedule import Guard
from kernelagent.dsl.syntax import EDITION


@dataclass(frozen=True)
class ScheduledModule(ir.Module):
    """A level-two text. Its only kernel has no body: the schedule is what it does. `claimed` has the labels and
    expectations of the text too, of which no code comes."""

    schedule: dev.DeviceKernel = field(kw_only=True)
    claimed: dev.DeviceKernel = field(kw_only=True)


def read_module(text: str, absent: frozenset[str] = frozenset()) -> ir.Module:
    """A text of either level. Raises KernelError."""
    if is_level_two(text):
        return scheduled(text)
    from kernelagent.dsl.elaborate import parse

    return parse(text, absent)


def scheduled(text: str) -> ScheduledModule:
    """Raises KernelError with every diagnostic of a level-two text."""
    claimed = parse_schedule(text)
    schedule = normal_form(without_expectations(claimed))
    entry = _kernel(schedule, (), ())
    return ScheduledModule(text, EDITION, (entry,), (), schedule=schedule, claimed=claimed)


def _kernel(k: dev.DeviceKernel, assumes: tuple[ir.Assume, ...], body: tuple[ir.Statement, ...]) -> ir.Kernel:
    span = k.grid.origin.span
    return ir.Kernel(k.name, k.arrays, k.scalars, (), k.dims, (), (), assumes, (), body, span, claims=k.claims)


def target_of(text: str) -> str | None:
    """The architecture that a level-two text names; None for other texts."""
    if not is_level_two(text):
        return None
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Name(id="schedule"), args=[ast.Name(id=name), *_]):
                return name
    return None


def check_target(module: ScheduledModule, arch: str) -> None:
    """Raises KernelError where another architecture is asked for."""
    schedule = module.schedule
    if schedule.target != arch:
        message = f"the text is a schedule for {schedule.target}, and {arch} was asked for"
        hint = f"ask for {schedule.target}, or write `schedule({arch}, ...)` and change what it lacks"
        facts = {"target": schedule.target, "asked": arch}
        raise KernelError([Diagnostic("schedule-target", message, schedule.grid.origin.span, hint=hint, facts=facts)])


# Sizes for test runs -------------------------------------------------------------------------------------


def outline(module: ScheduledModule, dense: bool = True) -> ir.Module:
    """The module with the loops of its schedule and what its guards demand of sizes, from which `verify.shapes` takes
    them; `dense`: of sizes of contiguous arrays. Nothing can be computed with it."""
    schedule = module.schedule
    assumes = tuple(_assume(c, schedule) for c in _conditions(schedule, dense))
    kernel = _kernel(schedule, assumes, tuple(_loops(schedule)))
    return ir.Module(module.text, module.edition, (kernel,), ())


def _assume(condition: Compare, schedule: dev.DeviceKernel) -> ir.Assume:
    return ir.Assume(condition, None, str(condition), schedule.grid.origin.span)


def _conditions(schedule: dev.DeviceKernel, dense: bool) -> Iterator[Compare]:
    arrays = {a.name: a for a in schedule.arrays}
    for guard in schedule.shape_class.guards:
        match guard:
            case Guard("divides", dim, value):
                yield _divides(symbol(dim, "dim"), value)
            case Guard("range", dim, value):
                yield Compare("<=", symbol(dim, "dim"), index(value))
            case Guard("aligned", name, value) if dense and len(arrays[name].dims) > 1:
                yield _divides(arrays[name].dims[-1], max(value * 8 // bits(arrays[name].dtype), 1))
            case _:
                pass


def _divides(extent: Index, value: int) -> Compare:
    return Compare("==", mod(extent, index(value)), index(0))


def _loops(schedule: dev.DeviceKernel) -> Iterator[ir.For]:
    """The grids, and inside the innermost every loop of the statements."""
    for walk in walks(schedule):
        inner: tuple[ir.For, ...] = ()
        levels = list(grids(walk))
        for statement in dev.walk(levels[-1].body):
            if isinstance(statement, dev.For):
                inner += (_for("range", statement, ()),)
        for level in reversed(levels):
            inner = (_for("tiles", level, inner),)
        yield from inner


def _for(kind: ir.LoopKind, loop: dev.Grid | dev.For, body: tuple[ir.For, ...]) -> ir.For:
    return ir.For(kind, loop.variables, loop.lo, loop.hi, loop.step, (), body, loop.origin)


__all__ = ["ScheduledModule", "check_target", "outline", "read_module", "scheduled", "target_of"]
