"""Events of the engine as counterexamples: who, where, when, against whom, and what would mend it."""

from __future__ import annotations

from collections.abc import Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import DeviceCounterexample
from kernelagent.dsl.verify.schedule.machine import WARP, Event, Site


def counterexample(event: Event, kernel: dev.DeviceKernel, sizes: Mapping[str, int]) -> DeviceCounterexample:
    """`lines` are of the text that was checked, the statement at fault first."""
    line, other = line_of(event.site), line_of(event.other) if event.other else None
    thread = event.thread
    return DeviceCounterexample(
        family=event.family,
        message=said(event),
        lines=tuple(n for n in (line, other) if n),
        sizes=dict(sizes),
        tunables={},
        array=event.array or None,
        element=event.element or None,
        iterations=(_loops(event.site), *([_loops(event.other)] if event.other else [])),
        scope=f"{event.count} elements or times at these sizes",
        replay={"sizes": dict(sizes)},
        kind=event.kind,
        kernel=kernel.name,
        shape_class=kernel.shape_class.name,
        block=event.site.block,
        warp=None if thread is None else thread // WARP,
        lane=None if thread is None else thread % WARP,
        place=place(event),
        line=line or None,
        other_line=other,
        occurrences=event.count,
    )


def line_of(site: Site) -> int:
    """The line of a statement in the text that was checked."""
    statement = site.statement
    origin = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
    return origin.span.line


def place(event: Event) -> str:
    """Element and bytes of a buffer or array, as a person writes them."""
    if event.buffer and event.element:
        return f"{event.buffer}[stage {event.stage}]{list(event.element)}"
    if event.array and event.element:
        return f"{event.array}{list(event.element)}"
    return event.buffer or event.array


def said(event: Event) -> str:
    """One sentence."""
    if event.message:
        return event.message
    here, there = _who(event.site, event.thread), _who(event.other, event.other_thread) if event.other else "nobody"
    where = place(event)
    match event.kind:
        case "uninitialised":
            return f"{here} reads {where}, which nobody has written"
        case "in-flight":
            return f"{here} comes to {where} while {there} still fills it: no wait lies between{_at(event)}"
        case "not-fenced":
            return f"{here} takes {where} asynchronously; no fence_async follows the write by {there}{_at(event)}"
        case "overwritten":
            return f"{here} writes {where} while {there} may still read it: nothing orders them{_at(event)}"
        case "other-element":
            return f"{here} reads {where}, where {there} wrote another element or width{_at(event)}"
    return f"{here} and {there} meet at {where}: nothing orders them{_at(event)}"


def _who(site: Site | None, thread: int | None) -> str:
    if site is None:
        return "nobody"
    role = f" of {site.role}" if site.role else ""
    who = f"thread {thread} (warp {thread // WARP})" if thread is not None else "the threads together"
    if isinstance(site.statement, dev.CopyBulk):
        who = "the bulk copy"
    return f"{who}{role}, line {line_of(site)}"


def _at(event: Event) -> str:
    here = _loops(event.site)
    if not here:
        return ""
    text = ", ".join(f"{k}={v}" for k, v in here.items())
    if event.other is None or _loops(event.other) == here:
        return f" ({text})"
    other = ", ".join(f"{k}={v}" for k, v in _loops(event.other).items())
    return f" ({text}; the other at {other or 'no loop'})"


def _loops(site: Site | None) -> dict[str, int]:
    return {} if site is None else {k: v for k, v in site.variables.items()}
