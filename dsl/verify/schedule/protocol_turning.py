"""Rings turned: a state in which every counter of a ring is one further, every stage the next one, goes on alike.

Stages and parities of a ring are counted: stage `n % 4`, parity `n // 4 % 2`. One more on the counter n of every warp,
with the content of each stage moved to the next (and one more phase where that begins the ring anew), is a run of the
same schedule as long as nothing else tells counters apart. That is checked here expression by expression. The search
then follows one state of all that are turned into each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.schedule.protocol_state import Place, State
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Do, Head, Read, Skeleton


@dataclass(frozen=True)
class Ring:
    """The barriers and buffers that one counter counts, with their stages. `agent` is one that counts."""

    counter: str
    agent: int
    stages: Mapping[str, int]


@dataclass(frozen=True)
class Turned:
    """Stages after turning back: `rings[n]` is where barrier stage n comes to lie, `order` the inverse, `wraps[n]`
    whether its parity changes; `by`: how far each counter was."""

    by: Mapping[str, int]
    rings: Sequence[int]
    order: Sequence[int]
    wraps: Sequence[int]
    buffers: Mapping[str, tuple[int, int]]  # how far, of how many stages

    def place(self, place: Place) -> Place:
        """Of a buffer."""
        block, name, stage = place
        far, stages = self.buffers.get(name, (0, 0))
        return (block, name, (stage - far) % stages) if stages else place


class Turning:
    """The rings of a skeleton that can be turned, none where expressions forbid it."""

    def __init__(self, skeleton: Skeleton, period: int, compared: Iterable[Index]) -> None:
        self.period = period
        self.places: list[Place] = [
            (block, b.name, stage)
            for block in range(skeleton.blocks)
            for b in skeleton.kernel.barriers
            for stage in range(b.stages)
        ]
        asked = {s.name for x in compared for s in x.symbols()}
        self.rings = [r for r in _rings(skeleton, period) if r.counter not in asked]
        self._turned: dict[tuple[int, ...], Turned] = {}

    def of(self, state: State) -> Turned:
        """The turn that brings the counters of the first warps that count to zero."""
        by = tuple(state.warps[r.agent].env.get(r.counter, 0) % self.period for r in self.rings)
        found = self._turned.get(by)
        if found is None:
            found = self._turned[by] = self._make(by)
        return found

    def _make(self, by: tuple[int, ...]) -> Turned:
        stages = {name: n for r in self.rings for name, n in r.stages.items()}
        far = {name: amount for r, amount in zip(self.rings, by, strict=True) for name in r.stages}
        rings, wraps = [], []
        numbers = {place: n for n, place in enumerate(self.places)}
        for block, name, stage in self.places:
            wrap, to = divmod(stage - far.get(name, 0), stages.get(name, 1 << 30))
            rings.append(numbers[block, name, to])
            wraps.append(wrap & 1)
        order = sorted(range(len(rings)), key=rings.__getitem__)
        counters = {r.counter: amount for r, amount in zip(self.rings, by, strict=True)}
        return Turned(counters, rings, order, wraps, {name: (far[name], n) for name, n in stages.items()})


# What counts what -------------------------------------------------------------------------------------


def _rings(skeleton: Skeleton, period: int) -> Iterator[Ring]:
    kernel = skeleton.kernel
    stages = {b.name: b.stages for b in kernel.barriers} | {b.name: b.stages for b in kernel.buffers}
    uses = list(_uses(skeleton))
    counters: dict[str, int] = {}
    for who in skeleton.agents:
        for name in _counters(who):
            counters.setdefault(name, who.number)
    for counter, agent in counters.items():
        counted = {name for name, *parts in uses if any(counter in _symbols(x) for x in parts)}
        own = [use for use in uses if use[0] in counted]
        if counted and all(_steps(use, counter, stages[use[0]], period) for use in own):
            yield Ring(counter, agent, {name: stages[name] for name in counted})


def _counters(agent: Agent) -> Iterator[str]:
    for instruction in agent.code:
        if isinstance(instruction, Head):
            yield from (c.name for c in instruction.loop.counters)


def _uses(skeleton: Skeleton) -> Iterator[tuple[str, Index, Index | None]]:
    """Every barrier or buffer that an event names, with stage and parity."""
    for agent in skeleton.agents:
        for instruction in agent.code:
            if isinstance(instruction, Do):
                yield from _named(instruction.event)


def _named(event: object) -> Iterator[tuple[str, Index, Index | None]]:
    match event:
        case Announce(expect):
            yield expect.barrier, expect.stage, None
        case dev.Arrive(barrier=barrier, stage=stage):
            yield barrier, stage, None
        case Read(buffer=buffer, stage=stage):
            yield buffer, stage, None
        case dev.WaitPhase(barrier=barrier, stage=stage, parity=parity):
            yield barrier, stage, parity
        case dev.CopyBulk(barrier=barrier, stage=stage, target=target):
            yield barrier, stage, None
            yield target.buffer, target.stage, None
        case _:
            pass


def _symbols(x: Index | None) -> set[str]:
    return set() if x is None else {s.name for s in x.symbols()}


def _steps(use: tuple[str, Index, Index | None], counter: str, stages: int, period: int) -> bool:
    """One more on the counter is the next stage, and the other parity where that is the first again."""
    _, stage, parity = use
    if not _symbols(stage) | _symbols(parity) <= {counter}:
        return False
    for n in range(period):
        here, there = stage.evaluate({counter: n}), stage.evaluate({counter: n + 1})
        if not 0 <= here < stages or there != (here + 1) % stages:
            return False
        if parity is not None:
            flips = parity.evaluate({counter: n + 1}) - parity.evaluate({counter: n})
            if flips % 2 != (there <= here):
                return False
    return True


__all__ = ["Turned", "Turning"]
