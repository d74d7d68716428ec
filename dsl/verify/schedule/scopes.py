"""How far a fault reaches: elements, threads, iterations, in closed form where there is one."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.machine import Event
from kernelagent.dsl.verify.schedule.replay import Seen, Watched, fault


def scope(machine: Watched, seen: Seen, kernel: dev.DeviceKernel) -> str:
    """`1024 elements, all 128 threads, every k >= 64 (at K=256)`, as counted in the run: whatever of this kind happens
    at the line, whichever the other access is."""
    seen = _together(machine, seen)
    accesses = bool(seen.event.buffer or seen.event.array)
    parts = [_counted(seen.elements, "element", "elements") if accesses else _counted(seen.elements, "time", "times")]
    if seen.threads and seen.event.family != "aliasing":  # of those one is told
        parts.append(_threads(len(seen.threads), _threads_of(kernel, seen.event)))
    parts += [form for name in _loops(kernel, seen.event) if (form := _iterations(machine, seen, name))]
    sizes = ", ".join(f"{d}={n}" for d, n in machine.sizes.items())
    return f"{', '.join(parts)} (at {sizes})"


def _together(machine: Watched, seen: Seen) -> Seen:
    kind, line, _, what = fault(seen.event)
    alike = [s for (k, n, _, w), s in machine.seen.items() if (k, n, w) == (kind, line, what)]
    times = [e for s in alike for e in s.times]
    return Seen(seen.event, times, set().union(*(s.threads for s in alike)), sum(s.elements for s in alike), seen.step)


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _threads_of(kernel: dev.DeviceKernel, event: Event) -> int:
    return next((r.threads for r in kernel.roles if r.name == event.site.role), kernel.threads)


def _threads(number: int, every: int) -> str:
    return f"all {every} threads" if number == every else f"{number} of {every} threads"


def _loops(kernel: dev.DeviceKernel, event: Event) -> list[str]:
    """Variables of the sequential loops around the statement at fault, the outermost first."""
    names = [v.name for s in dev.statements(kernel) if isinstance(s, dev.For) for v in s.variables]
    return [n for n in dict.fromkeys(names) if n in event.site.variables]


def _iterations(machine: Watched, seen: Seen, name: str) -> str:
    """Which values of a loop variable show the fault, of those with which the statement ran."""
    statement = seen.event.site.statement
    every = sorted({s.variables[name] for s in machine.sites if s.statement is statement and name in s.variables})
    failing = sorted({e.site.variables[name] for e in seen.times if name in e.site.variables})
    if len(every) < 2 or not failing:
        return ""
    if failing == every:
        return f"every {name}"
    if failing == [n for n in every if n >= failing[0]]:
        return f"every {name} >= {failing[0]}"
    if len(failing) > 1 and failing == [n for n in every if n <= failing[-1]]:
        return f"every {name} <= {failing[-1]}"
    shown = ", ".join(map(str, failing[:4]))
    return f"{name} = {shown}{', ...' if len(failing) > 4 else ''}"


__all__ = ["scope"]
