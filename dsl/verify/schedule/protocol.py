"""The barrier protocol of a device schedule, for every trip count: no deadlock, no phase taken for another, no stage
filled while it is read or read before it is filled, and all who must meet do.

    findings = prove_protocol(kernel)

PROVED: the search over all trip counts and numbers of tiles closed (`explore` has the argument). PROVED_BOUNDED: it did
not apply, and all launches named in the detail were followed. REFUTED: with a launch on which it goes wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample, Verdict
from kernelagent.dsl.verify.schedule.budget import share
from kernelagent.dsl.verify.schedule.events import Violation, line, rendered, who
from kernelagent.dsl.verify.schedule.explore import MOST_STATES, Explored, Explorer, OutOfBudget, Sizes
from kernelagent.dsl.verify.schedule.launches import launch_within, launches
from kernelagent.dsl.verify.schedule.skeleton import Skeleton, Unsupported, skeleton
from kernelagent.dsl.verify.schedule.uniformity import Uneven, uneven

PART = 0.5
"""Of what a proof may cost: for the search, and of the rest for named launches."""


def prove_protocol(kernel: dev.DeviceKernel, most_states: int = MOST_STATES) -> Findings:
    """Obligations of the families uniformity and protocol, one each, and a counterexample for what is refuted."""
    return prove_uniformity(kernel) + _protocol(kernel, most_states)


def prove_uniformity(kernel: dev.DeviceKernel) -> Findings:
    """Barriers and collectives are reached by all whom they are for."""
    broken = list(uneven(kernel))
    if not broken:
        detail = "barriers, role barriers and products of warpgroups are reached by all threads that they are for"
        return Findings((Obligation("uniformity", "PROVED", None, detail, kernel.name),))
    found = tuple(_divergence(kernel, b) for b in broken)
    obligations = tuple(Obligation("uniformity", "REFUTED", b.line, b.message, kernel.name) for b in broken)
    return Findings(obligations, found)


def _protocol(kernel: dev.DeviceKernel, most_states: int) -> Findings:
    if not kernel.barriers and not kernel.roles and kernel.cluster == 1:
        detail = "no barriers with phases, no roles: all threads go through the same barriers"
        return _one(kernel, "PROVED", detail)
    try:
        made = skeleton(kernel)
        with share(PART):
            explored = Explorer(made).search(most_states)
    except (Unsupported, OutOfBudget) as lack:
        return _bounded(kernel, str(lack))
    if explored.refuted is None:
        detail = f"all trip counts and numbers of tiles: {explored.states} states, all reached"
        return _one(kernel, "PROVED", detail)
    return _replayed(kernel, made, explored, explored.refuted)


def _one(kernel: dev.DeviceKernel, verdict: Verdict, detail: str) -> Findings:
    return Findings((Obligation("protocol", verdict, None, detail, kernel.name),))


def _replayed(kernel: dev.DeviceKernel, made: Skeleton, explored: Explored, violation: Violation) -> Findings:
    """The refutation on a launch: the smallest that goes wrong in the same way, else the smallest that goes wrong, else
    one of the sizes that the search took."""
    first: tuple[Violation, Sizes] | None = None
    taken = launch_within(kernel, explored.within, explored.tiles)
    for sizes in (*launches(kernel), *([] if taken is None else [taken])):
        try:
            found = Explorer(made, sizes).search().refuted
        except Unsupported:
            continue
        except OutOfBudget:
            break
        if found is None:
            continue
        first = first or (found, sizes)
        if (found.kind, line(found.event)) == (violation.kind, line(violation.event)):
            first = (found, sizes)
            break
    if first is None:
        detail = f"no small launch confirms: {violation.message}, line {line(violation.event)} ({violation.why})"
        return _one(kernel, "UNKNOWN", detail)
    return _refuted(kernel, made, *first)


def _bounded(kernel: dev.DeviceKernel, lack: str) -> Findings:
    """Every launch of few tiles and iterations."""
    count, largest = 0, ""
    try:
        made = skeleton(kernel)
        with share(PART):
            for sizes in launches(kernel):
                found = Explorer(made, sizes).search().refuted
                if found is not None:
                    return _refuted(kernel, made, found, sizes)
                count, largest = count + 1, ", ".join(f"{n}={v}" for n, v in sizes.values.items())
    except (Unsupported, OutOfBudget) as also:
        return _one(kernel, "UNKNOWN", f"{lack}; on small launches: {also}")
    if not count:
        return _one(kernel, "UNKNOWN", f"{lack}; the shape class takes no small launch")
    return _one(kernel, "PROVED_BOUNDED", f"{count} launches, the largest {largest}; not all sizes, as {lack}")


# Counterexamples ----------------------------------------------------------------------------------------


def _refuted(kernel: dev.DeviceKernel, made: Skeleton, found: Violation, sizes: Sizes) -> Findings:
    agent = made.agents[found.agent]
    own, other = line(found.event), None if found.other is None else line(found.other)
    values: Mapping[str, int] = {n: v for n, v in sizes.values.items() if n in kernel.dims}
    counterexample = ScheduleCounterexample(
        family="protocol",
        message=found.message,
        lines=(own,) if other is None else (own, other),
        sizes=values,
        tunables={},
        expected=found.expected or None,
        found=found.found or None,
        replay={"sizes": dict(sizes.values), "tile": sizes.tile},
        kind=found.kind,
        kernel=kernel.name,
        shape_class=kernel.shape_class.name,
        role=who(agent, made.blocks),
        barrier=found.place[1] if found.place else None,
        stage=found.place[2] if found.place else None,
        phase=found.phase if found.phase >= 0 else None,
        iteration=found.turn if found.turn >= 0 else None,
        line=own,
        other_line=other,
        trace=rendered(found.steps, made.agents, made.blocks),
        why=found.why,
    )
    return Findings((Obligation("protocol", "REFUTED", own, found.message, kernel.name),), (counterexample,))


def _divergence(kernel: dev.DeviceKernel, broken: Uneven) -> ScheduleCounterexample:
    lines = tuple(n for n in (broken.line, broken.other_line) if n is not None)
    return ScheduleCounterexample(
        family="uniformity",
        message=broken.message,
        lines=lines,
        sizes={},
        tunables={},
        expected=broken.expected or None,
        found=broken.found or None,
        kind=broken.kind,
        kernel=kernel.name,
        shape_class=kernel.shape_class.name,
        role=broken.role,
        line=broken.line,
        other_line=broken.other_line,
        why=broken.why,
    )


__all__ = ["prove_protocol", "prove_uniformity"]
