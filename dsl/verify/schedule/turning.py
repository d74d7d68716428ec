"""Rings of stages turned: two states of a block that differ in which stage comes next go on alike.

Stages and parities of a ring are counted: stage `n % 4`, parity `n // 4 % 2`. Say that each is a function of one
counter n, that one more on n is the next stage (and the other parity where that begins the ring anew), that n is asked
for nowhere else, and that every access touches the same bytes of each stage by the same threads. Then a state with n
one further in every role, and with what each stage holds moved on to the next, is followed by the same accesses and the
same judgements, one stage further on. So of all states that are turned into each other one stands for all: the one in
which the first role that counts is at 0. All of that is checked here, expression by expression and access by access;
where it does not hold nothing is turned. Counters that are no ring's are told modulo the period of what is computed
from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from math import lcm
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index, condition_indices
from kernelagent.dsl.level2.traverse import every_grid, grids
from kernelagent.dsl.verify.schedule.footprints import Footprints, accesses, shared_of
from kernelagent.dsl.verify.schedule.places import Integers
from kernelagent.dsl.verify.schedule.trips import compared, shift

MOST_PERIOD = 512


@dataclass(frozen=True)
class Use:
    """A stage of a barrier or buffer, as a statement names it."""

    name: str
    stage: Index
    parity: Index | None = None

    def asked(self) -> tuple[Index, ...]:
        return (self.stage,) if self.parity is None else (self.stage, self.parity)


@dataclass(frozen=True)
class Ring:
    """The barriers and buffers, with their stages, that one counter counts."""

    counter: str
    stages: Mapping[str, int]


@dataclass(frozen=True)
class Turned:
    """A turn: each buffer and barrier by `far` of its `stages`. Place q of the turned state is place `order[q]`.
    `looping`: roles that have loops."""

    stages: Mapping[str, int]
    far: Mapping[str, int]
    order: Integers
    looping: frozenset[str]

    def stage(self, name: str, stage: int) -> tuple[int, int]:
        """Where a stage comes to lie, and by how much the numbers of its phases change."""
        wrap, to = divmod(stage - self.far.get(name, 0), self.stages.get(name, 1 << 30))
        return to, wrap


class Turning:
    """The rings of a kernel that can be turned, and the `periods` of all counters that have one."""

    def __init__(self, footprints: Footprints) -> None:
        kernel = footprints.kernel
        self.footprints = footprints
        uses = list(_uses(kernel))
        self.periods = _periods(kernel, uses)
        self.rings = _rings(kernel, uses, self.periods)
        self.steps = {r.counter: _one_on(footprints, r) for r in self.rings}
        if any(step is None for step in self.steps.values()):
            self.rings = ()
        self.looping = _looping(kernel)
        self.stages = {name: n for r in self.rings for name, n in r.stages.items()}
        turned = {r.counter for r in self.rings}
        self.span = lcm(*(n for c, n in self.periods.items() if c in turned))  # of so many turns none is left
        self.apart = lcm(*(n for c, n in self.periods.items() if c not in turned))  # of counters that are no ring's
        self._made: dict[tuple[int, ...], Turned] = {}

    def of(self, counters: Mapping[str, int]) -> Turned:
        """The turn that brings the rings' counters to 0."""
        by = tuple(counters.get(r.counter, 0) % self.periods[r.counter] for r in self.rings)
        if by not in self._made:
            self._made[by] = self._turn(by)
        return self._made[by]

    def _turn(self, by: Sequence[int]) -> Turned:
        far = {name: amount for r, amount in zip(self.rings, by, strict=True) for name in r.stages}
        order = np.arange(self.footprints.places)
        for ring, amount in zip(self.rings, by, strict=True):
            step = self.steps[ring.counter]
            assert step is not None
            for _ in range(amount):
                order = step[order]
        return Turned(self.stages, far, order, self.looping)


def _looping(kernel: dev.DeviceKernel) -> frozenset[str]:
    walks = [(r.name, r.grid) for r in kernel.roles] or [("", kernel.grid)]
    bodies = ((name, g.body) for name, walk in walks for g in grids(walk))
    return frozenset(name for name, body in bodies if any(isinstance(s, dev.For) for s in dev.walk(body)))


# What counts what ----------------------------------------------------------------------------------------


def _rings(kernel: dev.DeviceKernel, uses: Sequence[Use], periods: Mapping[str, int]) -> tuple[Ring, ...]:
    """None, unless every stage that varies is one of a ring."""
    stages = {b.name: b.stages for b in kernel.buffers} | {b.name: b.stages for b in kernel.barriers}
    free = [c for c in periods if not _asked_elsewhere(kernel, c)]
    rings: list[Ring] = []
    for counter in free:
        counted = list(dict.fromkeys(u.name for u in uses if any(counter in _symbols(x) for x in u.asked())))
        own = [u for u in uses if u.name in counted]
        if counted and all(_steps(u, counter, stages[u.name], periods[counter]) for u in own):
            rings.append(Ring(counter, {name: stages[name] for name in counted}))
    turned = {name for r in rings for name in r.stages}
    return tuple(rings) if all(u.name in turned or u.stage.constant is not None for u in uses) else ()


def _steps(use: Use, counter: str, stages: int, period: int) -> bool:
    """One more on the counter is the next stage, and the other parity where that is the first again."""
    if not set().union(*map(_symbols, use.asked())) <= {counter}:
        return False
    for n in range(period):
        here, there = (use.stage.evaluate({counter: n + k}) for k in (0, 1))
        if not 0 <= here < stages or there != (here + 1) % stages:
            return False
        if use.parity is not None:
            flips = use.parity.evaluate({counter: n + 1}) - use.parity.evaluate({counter: n})
            if flips % 2 != (there <= here):
                return False
    return True


def _periods(kernel: dev.DeviceKernel, uses: Sequence[Use]) -> dict[str, int]:
    """After how many more of each counter all stages, parities and branches are as before."""
    asked = [x for u in uses for x in u.asked()]
    for s in dev.statements(kernel):
        if isinstance(s, dev.If) and not isinstance(s.condition, dev.Fragment):
            asked += compared(s.condition)
    return {name: n for name in _counters(kernel) if (n := _period(name, asked)) is not None}


def _period(counter: str, asked: Sequence[Index]) -> int | None:
    own = [x for x in asked if counter in _symbols(x)]
    lengths = range(1, MOST_PERIOD + 1)
    return next((n for n in lengths if all(shift(x, {counter: n}) == 0 for x in own)), None)


def repeats(kernel: dev.DeviceKernel, asked: Index) -> bool:
    """Whether a difference that a branch asks for depends on counters alone, and repeats with each."""
    own = _symbols(asked)
    return bool(own) and own <= set(_counters(kernel)) and all(_period(c, [asked]) is not None for c in own)


def _counters(kernel: dev.DeviceKernel) -> list[str]:
    heads: list[dev.Grid | dev.For] = list(every_grid(kernel))
    heads += [s for s in dev.statements(kernel) if isinstance(s, dev.For)]
    return list(dict.fromkeys(h.counter.name for h in heads if h.counter is not None))


def _asked_elsewhere(kernel: dev.DeviceKernel, counter: str) -> bool:
    """Whether a counter occurs anywhere but in stages and parities."""
    for s in dev.statements(kernel):
        used = [x for u in _named(s) for x in u.asked() if counter in _symbols(x)]
        if len([x for x in _indices(s) if counter in _symbols(x)]) != len(used):
            return True
    bounds = [b for grid in every_grid(kernel) for b in (*grid.lo, *grid.hi, *grid.step)]
    return any(counter in _symbols(b) for b in bounds)


def _symbols(x: Index) -> set[str]:
    return {s.name for s in x.symbols()}


def _uses(kernel: dev.DeviceKernel) -> Iterator[Use]:
    for s in dev.statements(kernel):
        yield from _named(s)


def _named(s: dev.Statement) -> Iterator[Use]:
    match s:
        case dev.Expect(barrier=barrier, stage=stage) | dev.Arrive(barrier=barrier, stage=stage):
            yield Use(barrier, stage)
        case dev.CopyBulk(barrier=barrier, stage=stage):
            yield Use(barrier, stage)
        case dev.WaitPhase(barrier=barrier, stage=stage, parity=parity):
            yield Use(barrier, stage, parity)
    yield from (Use(x.buffer, x.stage) for x in _own(s) if isinstance(x, dev.Shared))


def _indices(s: dev.Statement) -> Iterator[Index]:
    if isinstance(s, dev.If) and not isinstance(s.condition, dev.Fragment):
        yield from condition_indices(s.condition)
    yield from (x for x in _own(s) if isinstance(x, Index))


def _own(s: dev.Statement) -> Iterator[Any]:
    """Every index, and every stage of a buffer, in a statement; of a loop or branch those of its head."""
    if isinstance(s, dev.For):
        yield from (*s.lo, *s.hi, *s.step)
    elif not isinstance(s, dev.If | dev.Expectation):
        yield from _within(s)


def _within(record: Any) -> Iterator[Any]:
    if isinstance(record, Index | dev.Shared):
        yield record
    if isinstance(record, tuple):
        for part in record:
            yield from _within(part)
    elif is_dataclass(record) and not isinstance(record, type | dev.Fragment | Index):
        for f in fields(record):
            yield from _within(getattr(record, f.name))


# Places --------------------------------------------------------------------------------------------------


def _one_on(footprints: Footprints, ring: Ring) -> Integers | None:
    """For each place the one that has its part in the next stage of the ring; None where accesses of one stage are not
    those of another."""
    order = np.arange(footprints.places)
    units = _units_on(footprints, ring)
    if units is None:
        return None
    order[footprints.place_of] = footprints.place_of[units]
    if len(set(order.tolist())) != len(order):
        return None
    for statement, operand, first in accesses(footprints.kernel):
        if not _same_accesses(footprints, ring, order, (statement, operand, first)):
            return None
    return order


def _units_on(footprints: Footprints, ring: Ring) -> Integers | None:
    units = np.arange(len(footprints.place_of))
    for buffer in footprints.kernel.buffers:
        if buffer.name in ring.stages and buffer.stages > 1:
            each, begin = dev.stage_bytes(buffer), buffer.offset
            if each % footprints.unit or begin % footprints.unit:
                return None
            each, begin = each // footprints.unit, begin // footprints.unit
            moved = np.arange(each * buffer.stages).reshape(buffer.stages, each)
            units[begin : begin + moved.size] = begin + np.roll(moved, -1, axis=0).reshape(-1)
    return units


def _same_accesses(footprints: Footprints, ring: Ring, order: Integers, access: tuple[Any, str, int]) -> bool:
    """Whether each access touches, of the next stage, the places that lie there, by the same threads."""
    statement, operand, first = access
    shared = shared_of(statement, operand)
    assert shared is not None
    stages = footprints.kernel.buffer(shared.buffer).stages
    on = 1 if shared.buffer in ring.stages else 0
    for rank in range(statement.shared_by) if isinstance(statement, dev.CopyBulk) else (0,):
        for stage in range(stages):
            here = footprints.of(statement, operand, stage, rank, first)
            there = footprints.of(statement, operand, (stage + on) % stages, rank, first)
            if not _alike(order[here.bytes], here.threads, there.bytes, there.threads):
                return False
    return True


def _alike(here: Integers, threads: Any, there: Integers, others: Any) -> bool:
    if here.shape != there.shape:
        return False
    flat, wanted = here.reshape(-1), there.reshape(-1)
    who, whom = (np.broadcast_to(t, here.shape).reshape(-1) for t in (threads, others))
    mine, theirs = np.lexsort((who, flat)), np.lexsort((whom, wanted))
    return bool((flat[mine] == wanted[theirs]).all() and (who[mine] == whom[theirs]).all())


__all__ = ["Ring", "Turned", "Turning", "repeats"]
