"""Counterexamples are shown after they happened again, at the smallest sizes that show them, with scope and reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.budget import within
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.claimed import fails_again
from kernelagent.dsl.verify.schedule.events import line
from kernelagent.dsl.verify.schedule.explain import counterexample
from kernelagent.dsl.verify.schedule.explore import Explorer, OutOfBudget
from kernelagent.dsl.verify.schedule.explore import Sizes as LaunchSizes
from kernelagent.dsl.verify.schedule.extremes import far_from_zero, lopsided
from kernelagent.dsl.verify.schedule.launches import MOST_TILES, launches, some_positions
from kernelagent.dsl.verify.schedule.machine import Event
from kernelagent.dsl.verify.schedule.reasons import reason, values_at
from kernelagent.dsl.verify.schedule.replay import Fault, Watched, fault, watch_block, watch_launch
from kernelagent.dsl.verify.schedule.scopes import scope
from kernelagent.dsl.verify.schedule.sizes import ALIGNED, Sizes, by_trips, fits, steps
from kernelagent.dsl.verify.schedule.skeleton import Unsupported, skeleton
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.schedule.whole import launch
from kernelagent.dsl.verify.shapes import completed

DEEP_SECONDS = 2.0
DEEP_WORK = 50_000
"""Of the run from which scopes are read; without it they are those of the smallest sizes."""


def confirmed(case: Case, findings: Findings) -> Findings:
    """The findings with every counterexample replayed and explained. What does not happen again is UNKNOWN."""
    if not findings.counterexamples:
        return findings
    replays = Replays(case)
    shown = [(c, replays.replayed(c)) for c in _told_once(findings.counterexamples)]
    lost = {c.family for c, made in shown if made is None} - {c.family for c, made in shown if made is not None}
    obligations = tuple(_withdrawn(o) if o.family in lost else o for o in findings.obligations)
    return Findings(obligations, tuple(made for _, made in shown if made is not None))


def _told_once(found: Sequence[Counterexample]) -> list[Counterexample]:
    """Where the search over protocols has a run that goes wrong, what the engine met in another run adds nothing."""
    searched = any(c.family == "protocol" and "tile" in c.replay for c in found)
    return [c for c in found if c.family != "protocol" or not searched or "tile" in c.replay]


def _withdrawn(obligation: Obligation) -> Obligation:
    if obligation.verdict != "REFUTED":
        return obligation
    return replace(obligation, verdict="UNKNOWN", detail=f"did not happen again in a replay: {obligation.detail}")


class Replays:
    """Runs of one case, each once; faults at the same sizes share one."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self._blocks: dict[tuple[tuple[str, int], ...], Watched] = {}
        self._smaller: dict[tuple[tuple[str, int], ...], Sizes] = {}
        self._deep: Watched | None = None

    def replayed(self, found: Counterexample) -> Counterexample | None:
        """None for a fault that does not happen again."""
        if not isinstance(found, ScheduleCounterexample) or not found.sizes or found.family == "overflow":
            return found  # a rule that is broken in the text itself, whatever runs; an index, evaluated as it is shown
        if found.family == "claims":
            return fails_again(self.case, found)
        if "tile" in found.replay:
            again = protocol_again(self.case.kernel, found)
            return replace(found, scope=launches_wrong(self.case.kernel)) if again else None
        wanted = fault_of(found)
        sizes = self._small(found.sizes, wanted)
        machine = self.block(sizes)
        if wanted in machine.seen:
            return self._from_block(machine, sizes, wanted, found)
        return self._from_launch(found, wanted)

    def _from_block(
        self, machine: Watched, sizes: Sizes, wanted: Fault, found: ScheduleCounterexample
    ) -> ScheduleCounterexample:
        seen = machine.seen[wanted]
        made = counterexample(seen.event, self.case.kernel, sizes)
        deep = self.deep()
        wider = machine if deep is None or wanted not in deep.seen else deep
        return replace(
            made, scope=scope(wider, wider.seen[wanted], self.case.kernel), why=reason(machine, seen),
            fixes=found.fixes, occurrences=seen.elements,
        )  # fmt: skip

    def _from_launch(self, found: ScheduleCounterexample, wanted: Fault) -> ScheduleCounterexample | None:
        """A fault of values, coverage or bounds: all blocks run."""
        try:
            machine = watch_launch(self.case, found.sizes)
        except (Unmodelled, LookupError):
            return None
        if wanted in machine.seen:
            seen = machine.seen[wanted]
            made = counterexample(seen.event, self.case.kernel, found.sizes)
            shown = scope(machine, seen, self.case.kernel)
            return replace(made, scope=shown, why=reason(machine, seen), occurrences=seen.elements)
        for event in self._launched(found):
            if fault(event) == wanted:
                expected, actual = values_at(self.case, machine, found.sizes, event)
                made = counterexample(event, self.case.kernel, found.sizes)
                if expected is not None:
                    made = replace(made, expected=expected, found=actual)
                return replace(made, scope=f"{event.count} elements at these sizes")
        return None

    def _launched(self, found: ScheduleCounterexample) -> Iterator[Event]:
        """What shows at the end of a launch: with ordinary inputs, or where it was found with such far from zero."""
        try:
            if found.family == "stability":
                yield from far_from_zero(self.case, found.sizes)
            else:
                yield from launch(self.case, found.sizes).events
                yield from lopsided(self.case, found.sizes)
        except (Unmodelled, LookupError):
            return

    def block(self, sizes: Sizes) -> Watched:
        """Raises Unmodelled, LookupError."""
        key = tuple(sizes.items())
        if key not in self._blocks:
            self._blocks[key] = watch_block(self.case, sizes)
        return self._blocks[key]

    def deep(self) -> Watched | None:
        """A run of several rounds of every ring, from which one sees how a fault goes on."""
        if self._deep is None:
            kernel = self.case.kernel
            ring = max([1, *(b.stages for b in kernel.buffers), *(b.stages for b in kernel.barriers)])
            found = by_trips(self.case, 2 * ring + 2)
            try:
                with within(DEEP_SECONDS, DEEP_WORK):
                    self._deep = self.block(found[max(found)]) if found else None
            except (Unmodelled, LookupError):
                return None
        return self._deep

    def _small(self, sizes: Mapping[str, int], wanted: Fault) -> Sizes:
        """The sizes with every dim that no loop ends at as small as still shows the fault."""
        key = tuple(sizes.items())
        if key in self._smaller:
            return self._smaller[key]
        small: Sizes = sizes
        looped = steps(self.case.kernel)
        for dim in (d for d in sizes if d not in looped):
            for extent in (e for e in (1, 8, ALIGNED) if e < sizes[dim]):
                narrow = completed(self.case.shapes, {**small, dim: extent})
                if narrow is not None and fits(self.case.kernel, narrow) and self._shows(narrow, wanted):
                    small = narrow
                    break
        self._smaller[key] = small
        return small

    def _shows(self, sizes: Sizes, wanted: Fault) -> bool:
        try:
            return wanted in self.block(sizes).seen
        except (Unmodelled, LookupError):
            return False


def fault_of(found: ScheduleCounterexample) -> Fault:
    """The key under which a watched run keeps the fault."""
    return (found.kind, found.line or 0, found.other_line, found.array or found.place.split("[")[0])


def protocol_again(kernel: dev.DeviceKernel, found: ScheduleCounterexample) -> bool:
    """Whether the launch of a counterexample of the barrier protocol goes wrong in the same way."""
    sizes = LaunchSizes(found.replay["sizes"], found.replay["tile"], some_positions)
    violation = Explorer(skeleton(kernel), sizes).search().refuted
    return violation is not None and (violation.kind, line(violation.event)) == (found.kind, found.line)


def launches_wrong(kernel: dev.DeviceKernel, work: int = 15_000) -> str:
    """Which of the small launches deadlock or go wrong."""
    made = skeleton(kernel)
    tried = wrong = 0
    with within(work=work):
        for sizes in launches(kernel):
            try:
                found = Explorer(made, sizes).search().refuted
            except Unsupported:
                continue
            except OutOfBudget:
                break
            tried, wrong = tried + 1, wrong + (found is not None)
    return f"{wrong} of {tried} launches tried, of 1 to {MOST_TILES} tiles and few iterations, go wrong"


__all__ = ["Replays", "confirmed", "fault_of", "protocol_again"]
