"""Events of the engine as counterexamples: who, where, when, against whom."""

from __future__ import annotations

from collections.abc import Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.verify.records import ScheduleCounterexample
from kernelagent.dsl.verify.schedule.machine import Event, Site


def counterexample(event: Event, kernel: dev.DeviceKernel, sizes: Mapping[str, int]) -> ScheduleCounterexample:
    """`lines` are of the text that was checked, the statement at fault first."""
    line, other = line_of(event.site), line_of(event.other) if event.other else None
    thread = event.thread
    return ScheduleCounterexample(
        family=event.family,
        message=said(event),
        lines=tuple(n for n in (line, other) if n),
        sizes=dict(sizes),
        tunables={},
        array=event.array or None,
        element=event.element or None,
        iterations=(_loops(event.site), *([_loops(event.other)] if event.other else [])),
        expected=event.expected or None,
        found=event.found or None,
        scope=f"{event.count} elements or times at these sizes",
        replay={"sizes": dict(sizes)},
        kind=event.kind,
        kernel=kernel.name,
        shape_class=kernel.shape_class.name,
        block=event.site.block,
        warp=None if thread is None else thread // WARP,
        lane=None if thread is None else thread % WARP,
        other=_party(event.other, event.other_thread) if event.other and event.kind != "not-stored" else "",
        place=place(event),
        occurrences=event.count,
        role=event.site.role,
        stage=event.stage,
        iteration=event.site.iteration if event.site.iteration >= 0 else None,
        line=line or None,
        other_line=other,
    )


def line_of(site: Site) -> int:
    """The line of a statement in the text that was checked."""
    statement = site.statement
    origin = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
    return origin.span.line


def place(event: Event) -> str:
    """Element and stage of a buffer, or element of an array, as a person writes them."""
    if event.buffer and event.element:
        return f"{_stage(event)}{list(event.element)}"
    if event.array and event.element:
        return f"{event.array}{list(event.element)}"
    return event.buffer or event.array


def _stage(event: Event) -> str:
    return event.buffer if event.stage is None else f"{event.buffer}[stage {event.stage}]"


def said(event: Event) -> str:
    """One sentence; threads, sizes and iterations stand in the record."""
    if event.message:
        return event.message
    what, where, there = _what(event.site), _stage(event), _what(event.other) if event.other else "nobody"
    other = f" of line {line_of(event.other)}" if event.other else ""
    match event.kind:
        case "uninitialised":
            return f"{what} takes {where}, which nobody has written"
        case "in-flight":
            return f"{what} comes to {where} while {there}{other} still fills it"
        case "not-fenced":
            return f"{what} takes {where} asynchronously, and no fence_async follows {there}{other}"
        case "overwritten":
            return f"{what} writes {where} while {there}{other} may still read it"
        case "other-element":
            return f"{what} takes {where}, where {there}{other} put another element or another width"
    return f"{what} and {there}{other} meet at {where}: nothing orders them"


def _what(site: Site) -> str:
    match site.statement:
        case dev.Let(operation=dev.Mma()):
            return "the product"
        case dev.Let(operation=dev.LoadShared()):
            return "the read"
        case dev.CopyBulk():
            return "the bulk copy"
        case dev.Copy():
            return "the copy"
        case dev.StoreShared():
            return "the write"
        case dev.StoreBulk():
            return "the bulk store"
    return "the access"


def _party(site: Site, thread: int | None) -> str:
    """`thread 20 (warp 0, lane 20) of producer, i=0, j=0`."""
    role = f" of {site.role}" if site.role else ""
    who = "all threads" if thread is None else f"thread {thread} (warp {thread // WARP}, lane {thread % WARP})"
    if isinstance(site.statement, dev.CopyBulk):
        who = "the bulk copy"
    loops = ", ".join(f"{k}={v}" for k, v in _loops(site).items())
    return f"{who}{role}" + (f", {loops}" if loops else "")


def _loops(site: Site | None) -> dict[str, int]:
    return {} if site is None else {k: v for k, v in site.variables.items()}
