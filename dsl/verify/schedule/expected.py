"""`tag` and `expect` of a level-two text, executed: blocks run with coordinates of elements and compare what is there.

Elements carry the coordinates of the array that they were loaded from, and which array that is. An element without a
coordinate (a constant, or one that a reduction has used up) is not compared. An expectation that no element reaches, or
whose elements have no coordinates at all, says nothing; its obligation says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.ir import View
from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks
from kernelagent.dsl.verify.claims import UNREACHED, VACUOUS
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample, Verdict
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.domains.tags import MIXED, NONE, Axes, Tagged, Traced
from kernelagent.dsl.verify.schedule.explain import counterexample
from kernelagent.dsl.verify.schedule.footprints import Footprints
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.places import grid_of, referred, tile_bytes, view_positions
from kernelagent.dsl.verify.schedule.sizes import Sizes, fits
from kernelagent.dsl.verify.schedule.stages import stage_of
from kernelagent.dsl.verify.schedule.statements import HANDLERS
from kernelagent.dsl.verify.schedule.tagged import holder
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.schedule.whole import RESIDENT
from kernelagent.dsl.verify.shapes import completed

SOURCE = "@array"
"""The axis that says which array an element is of."""


class Labelled(Traced):
    """Coordinates and arrays of elements, with labels of the text in place of some."""

    def __init__(self, kernel: dev.DeviceKernel, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        axes = Axes(kernel.arrays)
        axes.names.append(SOURCE)
        axes.extents.append(index(len(kernel.arrays)))
        super().__init__(axes, arrays, scalars)
        self.numbers_of = {a.name: n for n, a in enumerate(kernel.arrays)}

    def load(self, array: str, at: Any, inside: Any, fill: float | int, dtype: str) -> Tagged:
        made = super().load(array, at, inside, fill, dtype)
        made.tags[-1] = self.numbers_of[array]
        return made

    def _compare(self, number: int, a: Tagged, b: Tagged, other: int) -> None:
        if self.axes.names[number] != SOURCE:
            super()._compare(number, a, b, other)

    def relabelled(self, x: Tagged, dims: Sequence[str], starts: Sequence[int]) -> Tagged:
        tags = x.tags.copy()
        for number, ramp in self.ramps(x.live.shape, dims, starts):
            tags[number] = ramp
        return replace(x, tags=tags)

    def ramps(self, shape: tuple[int, ...], dims: Sequence[str], starts: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """(axis, coordinates of a tile) of the dims that coordinates are kept of."""
        for axis, (dim, start) in enumerate(zip(dims, starts, strict=True)):
            if dim in self.axes.dims:
                yield self.axes.names.index(dim), grid_of(shape)[axis] + start

    def described(self, tags: Any, array: str | None, numbers: Sequence[int]) -> str:
        """The coordinates `numbers` of one element, or the element of an array that it is."""
        known = [n for n in numbers if tags[n] != NONE]
        if array is None:
            return ", ".join(f"{self.axes.names[n]}={_coordinate(tags[n])}" for n in known)
        source = next((a for a, n in self.numbers_of.items() if n == tags[-1]), None)
        if source is None:
            return "elements of several arrays" if tags[-1] == MIXED else "no array"
        return f"{source}[{', '.join(_coordinate(tags[n]) for n in self.axes.of[source])}]"


def _coordinate(tag: int) -> str:
    return "several" if tag == MIXED else "none" if tag == NONE else str(int(tag))


def _not_stored(m: Machine, actor: Actor, statement: Any) -> None:
    """Outputs are not kept."""


_OWN = dict.fromkeys((dev.Store, dev.Scatter, dev.StoreBulk), _not_stored)


@dataclass
class Compared:
    """One `expect` of the text in all runs: elements that came to it, those that had a coordinate (`along`: of each
    dim), those that had another one than is expected, and the first of these."""

    statement: dev.Expectation
    reached: int = 0
    known: int = 0
    wrong: int = 0
    first: tuple[Event, Sizes] | None = None
    along: dict[str, int] = field(default_factory=dict)


@dataclass
class Expecting:
    """The handlers of a run with coordinates."""

    sizes: Sizes
    found: dict[tuple[int, int], Compared]

    def handlers(self) -> Mapping[type, Any]:
        return {
            kind: self._begun(handler) for kind, handler in {**HANDLERS, **_OWN, dev.Expectation: self.compare}.items()
        }

    def _begun(self, handler: Any) -> Any:
        def run(m: Machine, actor: Actor, statement: Any) -> Any:
            assert isinstance(m.domain, Labelled)
            m.domain.begin(statement.fragment.number if isinstance(statement, dev.Let) else 0)
            if isinstance(statement, dev.Let) and isinstance(statement.operation, dev.Tag):
                return self.label(m, actor, statement.fragment, statement.operation)
            steps = handler(m, actor, statement)
            m.domain.faults.clear()
            return steps

        return run

    def label(self, m: Machine, actor: Actor, fragment: dev.Fragment, o: dev.Tag) -> None:
        assert isinstance(m.domain, Labelled)
        starts = [m.number(actor, s) for s in o.start]
        actor.values[fragment.number] = m.domain.relabelled(actor.values[o.x.number], o.dims, starts)
        actor.made[fragment.number] = m.order

    def compare(self, m: Machine, actor: Actor, e: dev.Expectation) -> None:
        domain = m.domain
        assert isinstance(domain, Labelled)
        compared = self.found[_key(e)]
        value = (
            actor.values[e.value.number] if isinstance(e.value, dev.Fragment) else self._staged(m, actor, e, e.value)
        )
        live, wanted = _wanted(m, actor, e, value)
        wrong, known = np.zeros(live.shape, np.bool_), np.zeros(live.shape, np.bool_)
        along = compared.along
        along |= {dim: along.get(dim, 0) for dim in e.dims}
        for number, coordinates in wanted.items():
            there = live & (value.tags[number] != NONE)
            name = domain.axes.names[number]
            along[name] = along.get(name, 0) + int(there.sum())
            known |= there
            wrong |= there & (value.tags[number] != coordinates)
        compared.reached += int(live.sum())
        compared.known += int(known.sum())
        compared.wrong += int(wrong.sum())
        if wrong.any() and compared.first is None:
            at = tuple(int(c) for c in np.argwhere(wrong)[0])
            compared.first = self._event(m, actor, e, value, wanted, at, int(wrong.sum())), self.sizes

    def _staged(self, m: Machine, actor: Actor, e: dev.Expectation, shared: dev.Shared) -> Tagged:
        """What a stage holds. That it has arrived, and stays, is shown of those who take it."""
        shadow, at = actor.block.shadow, self._granules(m, actor, e, shared)
        return m.domain.unpack(shadow.values[:, at], m.buffers[shared.buffer].dtype)  # type: ignore[no-any-return]

    def _granules(self, m: Machine, actor: Actor, e: dev.Expectation, shared: dev.Shared) -> Any:
        buffer, stage = stage_of(m, actor, shared, e)
        inside = tile_bytes(buffer, shared.axes, referred(buffer, shared))
        return (inside + buffer.offset + stage * dev.stage_bytes(buffer)) // actor.block.shadow.granule

    def _event(
        self, m: Machine, actor: Actor, e: dev.Expectation, value: Tagged, wanted: Mapping[int, Any],
        at: tuple[int, ...], count: int,
    ) -> Event:  # fmt: skip
        domain = m.domain
        assert isinstance(domain, Labelled)
        array = None if e.view is None else e.view.array
        right = np.full(len(domain.axes.names), NONE, np.int64)
        for number, coordinates in wanted.items():
            right[number] = coordinates[at]
        numbers = list(wanted)
        expected = domain.described(right, array, numbers)
        found = domain.described([t[at] for t in value.tags], array, numbers)
        site = m.sites[m.site(actor, e)]
        made = Event("claims", "expectation", site, "", element=at, count=count, expected=expected, found=found)
        return self._placed(m, actor, e, made)

    def _placed(self, m: Machine, actor: Actor, e: dev.Expectation, event: Event) -> Event:
        """With the thread that holds the element, or the stage and who wrote it there."""
        text = f"comes from {event.found}, claimed: {event.expected}"
        if isinstance(e.value, dev.Fragment):
            name = e.value.name or "the value"
            thread = holder(e.value, event.element)
            who = None if thread is None else actor.first_thread + thread
            return replace(event, thread=who, array=name, message=f"{name}{list(event.element)} {text}")
        shadow, granules = actor.block.shadow, self._granules(m, actor, e, e.value)
        at = int(granules[event.element])
        writer, thread = int(shadow.write_site[at]), int(shadow.write_thread[at])
        other = m.sites[writer] if writer >= 0 else None
        stage = m.number(actor, e.value.stage)
        place = f"{e.value.buffer}[stage {stage}]{list(event.element)}"
        return replace(event, other=other, other_thread=thread if thread >= 0 else None, buffer=e.value.buffer,
                       stage=stage, message=f"{place} {text}")  # fmt: skip


def _key(e: dev.Expectation) -> tuple[int, int]:
    return e.origin.span.line, e.origin.span.column


def _wanted(m: Machine, actor: Actor, e: dev.Expectation, value: Tagged) -> tuple[Any, dict[int, Any]]:
    """Which elements count, and their coordinates along each axis that is claimed."""
    assert isinstance(m.domain, Labelled)
    starts = [m.number(actor, s) for s in e.start]
    shape = value.live.shape
    if e.view is None:
        return value.live, dict(m.domain.ramps(shape, e.dims, starts))
    return _elements(m, actor, e.view, starts, value)


def _elements(m: Machine, actor: Actor, view: View, starts: Sequence[int], value: Tagged) -> tuple[Any, dict[int, Any]]:
    domain, shape = m.domain, value.live.shape
    assert isinstance(domain, Labelled)
    at, inside = view_positions(view, tuple(starts), grid_of(shape), actor.variables, m.read)
    wanted = {n: np.broadcast_to(c, shape) for n, c in zip(domain.axes.of[view.array], at, strict=True)}
    wanted[len(domain.axes.names) - 1] = np.full(shape, domain.numbers_of[view.array])
    return value.live & inside, wanted


# Runs --------------------------------------------------------------------------------------------------


def expectations(kernel: dev.DeviceKernel) -> list[dev.Expectation]:
    return [s for s in dev.statements(kernel) if isinstance(s, dev.Expectation)]


def compared(case: Case, runs: Sequence[Sizes]) -> dict[tuple[int, int], Compared]:
    """Every block of a launch at each of the sizes. Raises Unmodelled, LookupError."""
    kernel = case.claimed
    assert kernel is not None
    found = {_key(e): Compared(e) for e in expectations(kernel)}
    footprints = Footprints(kernel, merged=False)
    for sizes in sorted(runs, key=lambda s: prod(s.values())):  # the smallest that show a mistake are told
        made = call(case, sizes)
        domain, memory = Labelled(kernel, made.arrays, made.scalars), GlobalMemory(kernel.arrays, made.sizes, 0)
        machine = Machine(kernel, made.sizes, domain, memory, made.read, footprints=footprints)
        machine.handlers = Expecting(sizes, found).handlers()
        run_blocks(machine)
    return found


def run_blocks(machine: Machine) -> list[Event]:
    """Every block of a launch; what is noted on the way."""
    kernel = machine.kernel
    blocks = launch_blocks(kernel, machine.sizes, RESIDENT * kernel.cluster)
    for first in range(0, blocks, kernel.cluster):
        machine.run(first, blocks)
    return list(machine.events.values())


# Verdicts ----------------------------------------------------------------------------------------------


def prove_expectations(
    case: Case, subject: str, runs: Sequence[Sizes], lacks: Sequence[str], shown: Sequence[Obligation]
) -> Findings:
    """One obligation for each `expect`. `runs`: sizes at which nothing is wrong, `lacks`: why others were not run.

    Where the flow is `shown` for all sizes, these runs have seen every tile but for a shift; expectations at places
    affine in the tile's hold for all then, too.
    """
    if case.claimed is None or not expectations(case.claimed):
        return Findings()
    why = "" if runs else (*lacks, "no sizes were small enough to run")[0]
    flow = [o.verdict for o in shown if o.family == "flow"]
    bounded = "" if flow and set(flow) == {"PROVED"} else "the flow of elements is not"
    try:
        found = compared(case, runs)
    except (Unmodelled, LookupError, ZeroDivisionError) as lack:
        why = f"not modelled: {lack}"
    if why:
        return Findings(tuple(_open(e, subject, why) for e in expectations(case.claimed)))
    findings = Findings()
    for one in found.values():
        findings += _settled(case, one, subject, runs, bounded)
    return findings


def _settled(case: Case, one: Compared, subject: str, runs: Sequence[Sizes], bounded: str) -> Findings:
    e = one.statement
    if one.first is not None:
        event, sizes = one.first
        shown = counterexample(replace(event, count=one.wrong), case.kernel, sizes)
        refuted = Obligation("claims", "REFUTED", e.origin.span.line, event.message, _named(e, subject))
        return Findings((refuted,), (shown,))
    if not one.reached:
        return Findings((_open(e, subject, f"{UNREACHED}: no element comes here"),))
    if not one.known:
        return Findings((_open(e, subject, f"{VACUOUS}: none of its elements has a coordinate that it names"),))
    unable = [dim for dim, known in one.along.items() if not known]
    if unable:
        why = f"none of its elements has a coordinate along {', '.join(unable)}; what data places is labelled by `tag`"
        return Findings((_open(e, subject, f"{VACUOUS}: {why}"),))
    where = "), (".join(", ".join(f"{d}={n}" for d, n in sizes.items()) for sizes in runs)
    why = bounded or _beyond(case.claimed, e)
    verdict: Verdict = "PROVED_BOUNDED" if why else "PROVED"
    detail = f"held for {one.known} elements at ({where}); "
    detail += f"not shown for all sizes: {why}" if why else "every other tile is one of these moved"
    return Findings((Obligation("claims", verdict, e.origin.span.line, detail, _named(e, subject)),))


def _open(e: dev.Expectation, subject: str, why: str) -> Obligation:
    return Obligation("claims", "UNKNOWN", e.origin.span.line, why, _named(e, subject))


def _named(e: dev.Expectation, subject: str) -> str:
    what = e.value.name if isinstance(e.value, dev.Fragment) else e.value.buffer
    return f"{subject}: expect {what or 'value'}"


def _beyond(kernel: dev.DeviceKernel | None, e: dev.Expectation) -> str:
    """Why other tiles may differ from those that were run: a condition around the claim, or a position not affine."""
    assert kernel is not None
    if any(isinstance(s, dev.If) and e in dev.walk((s,)) for s in dev.statements(kernel)):
        return "the claim stands under a condition"
    symbols = {s for at in e.start for s in at.symbols() if isinstance(s, Symbol) and s.kind == "loop"}
    odd = next((at for at in e.start if any(at.affine(s) is None for s in symbols)), None)
    return "" if odd is None else f"the position {odd} is not affine in the place of the tile"


def empty_expectations(kernel: dev.DeviceKernel, shown: Sequence[Obligation]) -> Iterator[Diagnostic]:
    """Expectations that say nothing, of the obligations that were shown of them."""
    for e in expectations(kernel):
        mine = [o for o in shown if o.family == "claims" and o.line == e.origin.span.line and ": expect " in o.subject]
        for code, begin, hint in _EMPTY:
            if mine and all(o.detail.startswith(begin) for o in mine):
                yield Diagnostic(code, f"`expect`: {mine[0].detail}", e.origin.span, "warning", hint)


_EMPTY = (
    ("claim-unreached", UNREACHED, "put it where tiles are"),
    ("claim-vacuous", VACUOUS, "claim what was loaded, before a constant or a reduction takes its place"),
)


def shown_again(case: Case, found: ScheduleCounterexample) -> ScheduleCounterexample | None:
    """The expectation failing once more, with every dim as small as still shows it; None where it does not."""
    sizes, again = found.sizes, _failing(case, found, found.sizes)
    if again is None:
        return None
    wide, shown = again.scope, again
    for dim in found.sizes:
        for extent in (e for e in SMALL if e < sizes[dim]):
            narrow = completed(case.shapes, {**sizes, dim: extent})
            made = _failing(case, found, narrow) if narrow is not None and fits(case.kernel, narrow) else None
            if made is not None and narrow is not None:
                sizes, shown = narrow, made
                break
    if shown is again:
        return again
    at = ", ".join(f"{d}={n}" for d, n in found.sizes.items())
    return replace(shown, scope=f"{shown.scope}; {wide.removesuffix(' at these sizes')} at {at}")


SMALL = (1, 8, 16, 64)
"""Extents that are tried, the smallest first."""


def _failing(case: Case, found: ScheduleCounterexample, sizes: Sizes) -> ScheduleCounterexample | None:
    try:
        made = compared(case, [sizes]).values()
    except (Unmodelled, LookupError, ZeroDivisionError):
        return None
    one = next((c for c in made if c.first is not None and c.statement.origin.span.line == found.line), None)
    if one is None or one.first is None:
        return None
    return counterexample(replace(one.first[0], count=one.wrong), case.kernel, sizes)


__all__ = ["compared", "empty_expectations", "expectations", "prove_expectations", "run_blocks", "shown_again"]
