"""A fault is shown only after it has happened again: the run that showed it is run once more, and watched.

    seen = watch_block(case, sizes).seen[fault(event)]

The watched run keeps every occurrence of the fault, how far each role's waits had come at every statement, and the
order of what was executed, from which `explain` takes scope and reason and `trace` the steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks
from kernelagent.dsl.verify.schedule.aliasing import watch_arrays
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.domains.domain import Domain
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.explain import line_of
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine, Steps
from kernelagent.dsl.verify.schedule.shadow import Conflict, Shadow
from kernelagent.dsl.verify.schedule.sizes import Sizes, shown_block
from kernelagent.dsl.verify.schedule.whole import RESIDENT

Fault: TypeAlias = tuple[str, int, int | None, str]


@dataclass(frozen=True)
class Progress:
    """What one role had begun and waited for when it came to a statement: the open group of copies, products and bulk
    stores, and the last that was complete; `order` is the running number of the statement."""

    order: int
    open: tuple[int, int, int]
    done: tuple[int, int, int]


@dataclass(frozen=True)
class Step:
    """A statement that a role executed, with its loop values and where its waits had come to."""

    statement: dev.Statement
    block: int
    role: str
    variables: Mapping[str, int]
    progress: Progress


@dataclass
class Seen:
    """One fault in a watched run: each time it happened, and the threads that it happened to."""

    event: Event
    times: list[Event] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    elements: int = 0
    step: int = 0  # of `Watched.steps`, at which it happened first


class Watched(Machine):
    """A machine that keeps what it does."""

    def __init__(self, case: Case, made: Call, domain: Domain, channels: int) -> None:
        memory = GlobalMemory(case.kernel.arrays, made.sizes, channels)
        super().__init__(case.kernel, made.sizes, domain, memory, made.read, footprints=case.elements)
        self.steps: list[Step] = []
        self.reached: dict[int, Progress] = {}  # by position in `sites`
        self.seen: dict[Fault, Seen] = {}
        watch_arrays(self)
        plain = self.handlers
        self.handlers = {kind: self._watching(handler) for kind, handler in plain.items()}

    def _watching(self, handler: Any) -> Any:
        def watched(m: Machine, actor: Actor, statement: dev.Statement) -> Steps | None:
            variables = {k: v for k, v in actor.variables.items() if k not in self.sizes}
            self.steps.append(Step(statement, actor.block.number, actor.name, variables, self._progress(actor)))
            made: Steps | None = handler(m, actor, statement)
            return made

        return watched

    def _progress(self, actor: Actor) -> Progress:
        groups = actor.groups()
        opened, done = tuple(g.open for g in groups), tuple(g.done for g in groups)
        return Progress(self.order, opened, done)  # type: ignore[arg-type]

    def site(self, actor: Actor, statement: dev.Statement) -> int:
        number = super().site(actor, statement)
        self.reached[id(self.sites[number])] = self._progress(actor)
        return number

    def _shadow(self) -> Shadow:
        granule = gcd(*(bits(b.dtype) // 8 for b in self.kernel.buffers)) or 1
        return Shadow(self.footprints.places, granule, self.agents, self.domain.channels)

    def note(self, event: Event) -> None:
        super().note(event)
        seen = self.seen.setdefault(fault(event), Seen(event, step=len(self.steps) - 1))
        seen.times.append(event)
        seen.elements += event.count
        if event.thread is not None:
            seen.threads.add(event.thread)

    def conflicts(self, actor: Actor, found: Sequence[Conflict], buffer: dev.SharedBuffer, stage: int) -> None:
        super().conflicts(actor, found, buffer, stage)
        for conflict in found:
            site, other = self.sites[conflict.access.site], int(conflict.other_sites[0])
            other_line = None if other < 0 else line_of(self.sites[other])
            threads = conflict.access.threads
            seen = self.seen[conflict.kind, line_of(site), other_line, buffer.name]
            touched = conflict.access.touched.bytes.size
            seen.elements += len(np.unique(conflict.elements % touched)) - len(conflict.elements)
            seen.threads |= {int(t) for t in np.unique(threads[conflict.elements % len(threads)]) if t >= 0}


def fault(event: Event) -> Fault:
    """What makes two events the same fault: kind, the lines of the two statements, array or buffer."""
    other = line_of(event.other) if event.other else None
    return (event.kind, line_of(event.site), other, event.array or event.buffer)


def watch_block(case: Case, sizes: Sizes) -> Watched:
    """The first block or cluster of a launch (`shown_block`), without values. Raises Unmodelled, LookupError."""
    made = call(case, sizes)
    machine = Watched(case, made, Unknown(made.arrays, made.scalars), 0)
    machine.run(shown_block(case.kernel, made.sizes), case.kernel.cluster)
    return machine


def watch_launch(case: Case, sizes: Sizes) -> Watched:
    """Every block, with values in floating point. Raises Unmodelled, LookupError."""
    made = call(case, sizes)
    machine = Watched(case, made, Real(made.arrays, made.scalars), 1)
    blocks = launch_blocks(case.kernel, made.sizes, RESIDENT * case.kernel.cluster)
    for first in range(0, blocks, case.kernel.cluster):
        machine.run(first, blocks)
    return machine


__all__ = ["Fault", "Progress", "Seen", "Step", "Watched", "fault", "watch_block", "watch_launch"]
