"""Why a fault happens, in one sentence with the numbers of the run that showed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.aliasing import TOLD, begun
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.explain import line_of
from kernelagent.dsl.verify.schedule.footprints import shared_of
from kernelagent.dsl.verify.schedule.machine import Event, Site
from kernelagent.dsl.verify.schedule.replay import Progress, Seen, Step, Watched
from kernelagent.dsl.verify.schedule.sizes import Sizes
from kernelagent.dsl.verify.schedule.whole import expected_outputs

COPIES, PRODUCTS, STORES = range(3)
_WAITS = {COPIES: "wait_group", PRODUCTS: "wgmma_wait", STORES: "wait_bulk"}
_COMMITS = {COPIES: "commit", PRODUCTS: "wgmma_commit", STORES: "commit_bulk"}


def reason(machine: Watched, seen: Seen) -> str:
    """One sentence; "" where the message says all."""
    event = seen.event
    match event.kind:
        case "in-flight" if event.other is not None:
            return _in_flight(machine, event, event.other)
        case "overwritten" | "race" if event.other is not None:
            return _unordered(machine, event, event.other)
        case "not-fenced" if event.other is not None:
            return (
                f"the write of line {line_of(event.other)} is an ordinary one: fence_async() has to follow it in the "
                "threads that wrote, before the barrier in front of the asynchronous access"
            )
        case "uninitialised":
            return _unwritten(machine, seen)
        case "cut-vector":
            return "; ".join(part for part in (_rows(machine, event), _there(event)) if part)
        case "outside" | "stage" | "misaligned":
            return _there(event)
        case "stored-twice":
            return f"the second store is by block {event.site.block} at {_values(event.site.variables) or 'its tile'}"
        case "exit-in-flight":
            return _left(machine, event.site)
        case kind if kind in TOLD and event.other is not None:
            return begun(machine, event, event.other)
    return ""


def _values(variables: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in variables.items())


def _there(event: Event) -> str:
    return f"there {_values(event.site.variables)}" if event.site.variables else ""


def _rows(machine: Watched, event: Event) -> str:
    """That no guard asks for whole accesses in a row, where none does: padded rows are aligned at any length."""
    statement = event.site.statement
    access = statement.operation if isinstance(statement, dev.Let) else statement
    last = next(a for a in machine.kernel.arrays if a.name == event.array).dims[-1]
    length, vector = last.evaluate(machine.sizes), getattr(access, "vector", 1)
    if length % vector == 0:
        return ""
    return (
        f"rows of {length} elements may be padded to an aligned stride: only divides({last}, {vector}) keeps them out"
    )


# Asynchronous work ---------------------------------------------------------------------------------------


def _in_flight(machine: Watched, event: Event, other: Site) -> str:
    begun, here = machine.reached[id(other)], machine.reached[id(event.site)]
    if isinstance(other.statement, dev.CopyBulk):
        barrier = f"{other.statement.barrier}[{_evaluated(machine, other, other.statement.stage)}]"
        who = event.site.role or "the block"
        return f"the copy completes a phase of {barrier}, and {who} has not waited for that phase at line {_at(event)}"
    kind = PRODUCTS if isinstance(other.statement, dev.Let) else COPIES
    return _groups(machine, kind, begun, here, event, "the copy" if kind == COPIES else "the product")


def _at(event: Event) -> int:
    return line_of(event.site)


def _groups(machine: Watched, kind: int, begun: Progress, here: Progress, event: Event, what: str) -> str:
    """Groups are counted from 1 for the reader."""
    group, line = begun.open[kind], _at(event)
    if group >= here.open[kind]:
        return f"no {_COMMITS[kind]}() has closed its group when line {line} runs: no wait covers it"
    if here.done[kind] >= group:
        return f"each thread has waited for its own copies only: no barrier lies between that wait and line {line}"
    wait = _last_wait(machine, kind, here.order, event.site)
    if wait is None:
        return f"{what} is in group {group + 1}, and no {_WAITS[kind]} has run before line {line}"
    committed, pending = wait.progress.open[kind], getattr(wait.statement, "pending", 0)
    ran = f"{_WAITS[kind]}({pending}) on line {_line(wait.statement)} ran with {committed} committed"
    if group >= committed:
        return f"{what} is in group {group + 1}: {ran}, before that group was"
    return (
        f"{what} is in group {group + 1}: {ran} and leaves {pending} in flight; {committed - 1 - group} would cover it"
    )


_WAITING = {COPIES: dev.WaitGroup, PRODUCTS: dev.WgmmaWait, STORES: dev.WaitBulk}


def _last_wait(machine: Watched, kind: int, before: int, site: Site) -> Step | None:
    """The last wait for such groups by the role."""
    for step in reversed(machine.steps):
        here = (step.block, step.role) == (site.block, site.role) and step.progress.order < before
        if here and isinstance(step.statement, _WAITING[kind]):
            return step
    return None


def _left(machine: Watched, site: Site) -> str:
    begun = machine.reached[id(site)]
    last = next((s for s in reversed(machine.steps) if (s.block, s.role) == (site.block, site.role)), None)
    if isinstance(site.statement, dev.CopyBulk) or last is None:
        return "the block may leave its shared memory to another one while bytes still arrive"
    kind = STORES if isinstance(site.statement, dev.StoreBulk) else PRODUCTS
    done = last.progress.done[kind]
    return f"it is in group {begun.open[kind] + 1}, and the last {_WAITS[kind]} covers {done + 1} of them"


# Order ---------------------------------------------------------------------------------------------------


def _unordered(machine: Watched, event: Event, other: Site) -> str:
    here, there = machine.reached[id(event.site)], machine.reached[id(other)]
    asynchronous = _asynchronous_read(other.statement)
    if asynchronous is not None and there.open[asynchronous] > here.done[asynchronous] and _same_role(event, other):
        what = "the product" if asynchronous == PRODUCTS else "the bulk store"
        return _groups(machine, asynchronous, there, here, event, what)
    if not _same_role(event, other):
        return (
            f"{other.role or 'the block'} gives the stage back by no arrival that {event.site.role or 'the block'} "
            f"waits for before line {_at(event)}"
        )
    meeting = "role_barrier" if event.site.role else "barrier"
    first, second = sorted((there.order, here.order))
    between = [s for s in machine.steps if _meets(s, event.site) and first < s.progress.order < second]
    last = next((s for s in reversed(machine.steps) if _meets(s, event.site) and s.progress.order < first), None)
    if between:
        return f"the {meeting}s between them are not passed by all that access the bytes"
    before = f"; the last one before both is on line {_line(last.statement)}" if last else ""
    return f"no {meeting} runs between line {line_of(other)} and line {_at(event)}{before}"


def _asynchronous_read(statement: dev.Statement | dev.Grid) -> int | None:
    if isinstance(statement, dev.StoreBulk):
        return STORES
    if isinstance(statement, dev.Let) and isinstance(statement.operation, dev.Mma):
        return PRODUCTS if statement.operation.atom.startswith("wgmma") else None
    return None


def _same_role(event: Event, other: Site) -> bool:
    return (event.site.block, event.site.role) == (other.block, other.role)


def _meets(step: Step, site: Site) -> bool:
    meeting = isinstance(step.statement, dev.BlockBarrier | dev.RoleBarrier)
    return meeting and (step.block, step.role) == (site.block, site.role)


def _line(statement: dev.Statement) -> int:
    return (statement.fragment if isinstance(statement, dev.Let) else statement).origin.span.line


# Definedness ---------------------------------------------------------------------------------------------


def _unwritten(machine: Watched, seen: Seen) -> str:
    """Which stages of the buffer were written up to then."""
    event = seen.event
    written = {
        stage for s in machine.steps[: seen.step] if (stage := _stage_written(machine, s, event.buffer)) is not None
    }
    if not written:
        return f"nothing writes {event.buffer} before line {_at(event)} runs"
    if event.stage in written:
        return f"stage {event.stage} of {event.buffer} was written in part only"
    known = ", ".join(map(str, sorted(written)))
    at = f" at {_values(event.site.variables)}" if event.site.variables else ""
    return f"line {_at(event)} takes stage {event.stage}{at}; written so far: stage {known}"


def _stage_written(machine: Watched, step: Step, buffer: str) -> int | None:
    match step.statement:
        case dev.StoreShared() | dev.Copy() | dev.CopyBulk():
            shared = shared_of(step.statement)
            if shared is not None and shared.buffer == buffer:
                return shared.stage.evaluate({**machine.sizes, **step.variables}, machine.read)
    return None


def _evaluated(machine: Watched, site: Site, value: Any) -> int:
    return int(value.evaluate({**machine.sizes, **site.variables}, machine.read))


# Values --------------------------------------------------------------------------------------------------


def values_at(case: Case, machine: Watched, sizes: Sizes, event: Event) -> tuple[float | None, float | None]:
    """What the kernel of tiles computes for an element, and what the schedule stored, in floating point."""
    if event.kind != "value" or case.oracle is None:
        return None, None
    right = expected_outputs(case, call(case, sizes), None)
    if right is None or event.array not in right:
        return None, None
    stored = machine.memory.stored[event.array].values[0][event.element]
    return float(np.asarray(right[event.array])[event.element]), float(stored)


__all__ = ["reason", "values_at"]
