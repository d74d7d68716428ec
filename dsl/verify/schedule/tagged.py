"""Which element meets which, where no kernel of tiles says what a schedule computes: every block runs with coordinates.

Held for each product: both operands carry the same k, and no pair is added twice. Held for each store: elements with
coordinates of the output's dims lie at these coordinates. Values that lose a coordinate on the way are named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.ir import View, position
from kernelagent.dsl.verify.records import Obligation, Verdict
from kernelagent.dsl.verify.schedule.cases import Call
from kernelagent.dsl.verify.schedule.domains.tags import MIXED, NONE, Axes, Fault, Traced
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.places import held

Place = tuple[str, str]
"""Output and dim."""


@dataclass(frozen=True)
class Once:
    """The `axes` along which elements are reduced, whether a result takes `all` of them, and one of them `twice`."""

    axes: frozenset[str]
    all: bool
    twice: bool

    def __add__(self, other: Once) -> Once:
        return Once(self.axes | other.axes, self.all and other.all, self.twice or other.twice)


@dataclass
class Traces:
    """What a launch showed. `placed`: (output, dim) pairs whose elements all have the coordinate of their place;
    `mixed`: those of elements with several; `moved`: those whose elements are all so far away; `meeting`: for each
    product's line the axes along which its operands agree; `partial`: lines of products whose sums leave some k out;
    `reduced`: what is known of the reductions of a line."""

    placed: set[Place] = field(default_factory=set)
    mixed: set[Place] = field(default_factory=set)
    moved: dict[Place, int] = field(default_factory=dict)
    meeting: dict[int, tuple[str, ...]] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    reduced: dict[int, Once] = field(default_factory=dict)


class Destinations(GlobalMemory):
    """Global memory that compares coordinates of what is stored with the place."""

    def __init__(self, kernel: dev.DeviceKernel, sizes: Mapping[str, int], traced: Traced) -> None:
        super().__init__(kernel.arrays, sizes, 0)  # coordinates are compared, not kept
        self.traced = traced
        self.shifts: dict[Place, set[int]] = {}
        self.first: dict[Place, tuple[int, Fault]] = {}
        self.mixed: set[Place] = set()

    def store(self, array: str, at: tuple[Any, ...], values: Any, site: int, block: int, add: Any) -> Any:
        for place, number in self.traced.axes.named(array):
            if place not in self.traced.loose:
                self._compare((array, self.traced.axes.names[number]), at, place, values[number], site)
        return super().store(array, at, values[:0], site, block, add)

    def _compare(self, name: Place, at: tuple[Any, ...], place: int, tags: Any, site: int) -> None:
        known = tags > NONE
        if (tags == MIXED).any():
            self.mixed.add(name)
        if not known.any():
            return
        shift = np.where(known, tags - at[place], 0)
        seen = self.shifts.setdefault(name, set())
        seen.update(int(s) for s in np.unique(shift[known])[:16])
        wrong = np.flatnonzero(shift)
        if len(wrong) and name not in self.first:
            first = int(wrong[0])
            element = tuple(int(c[first]) for c in at)
            has, wants = f"{name[1]}={int(tags[first])}", f"{name[1]}={element[place]}"
            message = f"{name[0]}{list(element)} is stored from the element of {has}"
            self.first[name] = site, Fault("misplaced", message, element, wants, has, len(wrong))


def trace(
    kernel: dev.DeviceKernel, made: Call, run: Callable[[Machine], Sequence[Event]], elements: Any
) -> tuple[tuple[Event, ...], Traces]:
    """Every block with coordinates; `run` runs the blocks of a machine. Raises Unmodelled, LookupError."""
    traced = Traced(Axes(kernel.arrays), made.arrays, made.scalars)
    memory = Destinations(kernel, made.sizes, traced)
    machine = Machine(kernel, made.sizes, traced, memory, made.read, footprints=elements)
    watched: dict[type, Any] = {kind: _watched(machine.handlers[kind]) for kind in _MOVING}
    machine.handlers = {**machine.handlers, **watched}
    events = tuple(run(machine))
    if not events:
        events = tuple(_misplaced(machine, memory))
    return events, _traces(kernel, memory, made.sizes)


_MOVING = (dev.Let, dev.Store, dev.Scatter, dev.StoreShared, dev.StoreBulk)


def _watched(handler: Any) -> Any:
    """The handler, with what its statement did wrong noted."""

    def run(m: Machine, actor: Actor, statement: Any) -> Any:
        assert isinstance(m.domain, Traced)
        number = statement.fragment.number if isinstance(statement, dev.Let) else 0
        m.domain.begin(number, loose_axes(statement))
        steps = handler(m, actor, statement)
        if m.domain.faults:
            _note(m, actor, statement, m.domain.faults)
            m.domain.faults.clear()
        return steps

    return run


def loose_axes(statement: Any) -> frozenset[int]:
    """Axes of the array along which data says where elements lie."""
    taken = statement.operation if isinstance(statement, dev.Let) else statement
    if not isinstance(taken, dev.Gather | dev.Scatter):
        return frozenset()
    return frozenset(_along(taken.view, taken.axis))


def _along(view: View, axis: int) -> Iterator[int]:
    for place, coordinate in enumerate(view.coordinates):
        if position(axis) in coordinate.symbols():
            yield place


def _note(m: Machine, actor: Actor, statement: dev.Let, faults: Sequence[Fault]) -> None:
    site = m.sites[m.site(actor, statement)]
    for fault in faults:
        thread = holder(statement.fragment, fault.at)
        who = None if thread is None else actor.first_thread + thread
        m.note(Event("flow", fault.kind, site, fault.message, thread=who, element=fault.at, count=fault.count,
                     expected=fault.expected, found=fault.found))  # fmt: skip


def holder(fragment: dev.Fragment, element: tuple[int, ...]) -> int | None:
    """The first thread that holds an element of a tile."""
    if fragment.layout is None or len(element) != len(fragment.shape):
        return None
    at = held(fragment.layout)
    same = np.logical_and.reduce([a == e for a, e in zip(at, element, strict=True)])
    return int(np.argwhere(same)[0][0]) if same.any() else None


def _misplaced(m: Machine, memory: Destinations) -> Iterator[Event]:
    """Elements at a place that is not theirs, unless all of an array are as far away: that may be meant."""
    told: set[str] = set()
    for name, (number, fault) in memory.first.items():
        if len(memory.shifts[name]) > 1 and name[0] not in told:
            told.add(name[0])
            site = m.sites[number]
            yield Event("flow", fault.kind, site, fault.message, thread=_storing(m, number, fault.at), array=name[0],
                        element=fault.at, count=fault.count, expected=fault.expected, found=fault.found)  # fmt: skip


def _storing(m: Machine, number: int, element: tuple[int, ...]) -> int | None:
    """The thread that stores an element of an array, where the view is the array itself."""
    site = m.sites[number]
    statement = site.statement
    if not isinstance(statement, dev.Store) or len(statement.start) != len(element):
        return None
    known = {**m.sizes, **site.variables}
    inside = tuple(e - s.evaluate(known, m.read) for e, s in zip(element, statement.start, strict=True))
    thread = holder(statement.value, inside)
    return None if thread is None else site.first_thread + thread


def _traces(kernel: dev.DeviceKernel, memory: Destinations, sizes: Mapping[str, int]) -> Traces:
    found = Traces(mixed=set(memory.mixed))
    for name, shifts in memory.shifts.items():
        if shifts == {0}:
            found.placed.add(name)
        elif len(shifts) == 1:
            found.moved[name] = next(iter(shifts))
    for s in dev.statements(kernel):
        if isinstance(s, dev.Let) and isinstance(s.operation, dev.Mma):
            _products(s, memory.traced, sizes, found)
        if isinstance(s, dev.Let) and s.fragment.number in memory.traced.reductions.along:
            _reduction(s, memory.traced, sizes, found)
    return found


def _products(let: dev.Let, traced: Traced, sizes: Mapping[str, int], found: Traces) -> None:
    """What is known of a product's operands and sums; those at the same line are one."""
    line, number = let.fragment.origin.span.line, let.fragment.number
    axes = traced.conform.get(number, set())
    found.meeting[line] = tuple(sorted({*found.meeting.get(line, ()), *(traced.axes.names[a] for a in axes)}))
    extents = [traced.axes.extents[a].evaluate(sizes) for a in axes]
    if any(count % extent for count in traced.sums.get(number, ()) for extent in extents):
        found.partial.add(line)


def _reduction(let: dev.Let, traced: Traced, sizes: Mapping[str, int], found: Traces) -> None:
    line, number, known = let.fragment.origin.span.line, let.fragment.number, traced.reductions
    axes = known.along[number]
    extents = [traced.axes.extents[a].evaluate(sizes) for a in axes]
    whole = all(count % extent == 0 for count in known.counts.get(number, {1}) for extent in extents)
    once = Once(frozenset(traced.axes.names[a] for a in axes), whole, number in known.twice)
    found.reduced[line] = once + found.reduced.get(line, once)


# Verdicts ------------------------------------------------------------------------------------------------

NOTHING_TO_COMPARE = "the operands have no axis with a dim of the same name along k: nothing to compare"
_KERNEL = "kernel that it is a schedule of can say whether that is meant"


def flow(traces: Sequence[Traces], verdict: Verdict, where: str, subject: str) -> Iterator[Obligation]:
    """One obligation for each product and each output; `verdict` if everything has its coordinate."""
    for line in sorted({n for t in traces for n in t.meeting}):
        axes = ", ".join(sorted({a for t in traces for a in t.meeting.get(line, ())}))
        if not axes:
            yield Obligation("flow", "UNKNOWN", line, NOTHING_TO_COMPARE, subject)
        elif any(line in t.partial for t in traces):
            detail = f"both operands carry the same {axes} at every k, but some sums leave parts of it out: only the"
            yield Obligation("flow", "UNKNOWN", line, f"{detail} {_KERNEL}", subject)
        else:
            detail = f"both operands carry the same {axes} at every k, and each is added up exactly once, at {where}"
            yield Obligation("flow", verdict, line, detail, subject)
    yield from _reductions(traces, verdict, where, subject)
    yield from _outputs(traces, verdict, where, subject)


def _reductions(traces: Sequence[Traces], verdict: Verdict, where: str, subject: str) -> Iterator[Obligation]:
    """Of each line with reductions. Results that threads exchange through shared memory are followed up to there."""
    for line in sorted({n for t in traces for n in t.reduced}):
        known = [t.reduced[line] for t in traces if line in t.reduced]
        once = reduce(add, known)
        axes = ", ".join(sorted(once.axes))
        if once.twice:
            detail = f"some elements along {axes} are taken twice: only the {_KERNEL}"
            yield Obligation("flow", "UNKNOWN", line, detail, subject)
        else:
            some = f"up to where results are used or exchanged, none takes an element along {axes} twice"
            detail = f"every element along {axes} is taken exactly once" if once.all else some
            yield Obligation("flow", verdict, line, f"{detail}, at {where}", subject)


def _outputs(traces: Sequence[Traces], verdict: Verdict, where: str, subject: str) -> Iterator[Obligation]:
    for array in sorted({a for t in traces for a, _ in {*t.placed, *t.mixed, *t.moved}}):
        moved = {d: s for t in traces for (a, d), s in t.moved.items() if a == array}
        mixed = {d for t in traces for a, d in t.mixed if a == array}
        dims = sorted({d for t in traces for a, d in t.placed if a == array} - mixed - set(moved))
        if moved or mixed:
            why = [f"every element lies {s:+d} from its place along {d}" for d, s in sorted(moved.items())]
            why += [f"elements of different {d} meet" for d in sorted(mixed)]
            detail = f"{'; '.join(why)}: only the {_KERNEL}"
            yield Obligation("flow", "UNKNOWN", None, detail, f"{subject}: {array}")
        if dims:
            detail = f"each element is stored at its own {', '.join(dims)}, at {where}"
            yield Obligation("flow", verdict, None, detail, f"{subject}: {array}")


__all__ = ["NOTHING_TO_COMPARE", "Traces", "flow", "holder", "loose_axes", "trace"]
