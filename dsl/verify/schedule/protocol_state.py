"""A state of the search: where each warp stands, what each barrier counts, what the stages hold, and who knows what.

Knowledge is a vector clock: for each warp the number of its events that lie before, for each stage of a barrier the
phases whose completion lies before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.schedule.skeleton import Event, Read

Clock: TypeAlias = list[int]
Place: TypeAlias = tuple[int, str, int]
"""Block, buffer or barrier, stage."""
Question: TypeAlias = tuple[int, int, int]
"""Which grid-level turn (LASTING: all of them), which block (-1: all alike), which base."""
LASTING = -1


class Frame(NamedTuple):
    """A loop under way: its head, the iteration, what its end was asked of, the tiles if they are known."""

    head: int
    turn: int
    asked: Question | None
    threshold: int
    tiles: tuple[dict[str, int], ...] | None


class Step(NamedTuple):
    """One event of a run, and those before it."""

    agent: int
    time: int
    event: Event
    place: Place | None
    phase: int
    epoch: int
    turn: int
    before: Step | None


@dataclass
class Warp:
    """One agent. `epoch` counts the turns of grids, `committed` the groups of products. `behind`: the stage of a
    barrier for whose phase it waits, and the phases that were over then; `meeting`: whom it waits for. `walking`: it
    is not behind its last tile yet. `ways`: loop variables whose start is no number."""

    clock: Clock
    pc: int = 0
    epoch: int = 0
    turns: int = 0
    env: dict[str, int] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    committed: int = 0
    behind: tuple[Place, int] | None = None
    meeting: tuple[int, str, int] | None = None
    ended: bool = False
    walking: bool = True
    ways: dict[str, Index] = field(default_factory=dict)

    def copy(self) -> Warp:
        made = object.__new__(Warp)
        made.__dict__.update(self.__dict__)
        made.clock, made.frames = list(self.clock), list(self.frames)
        made.env, made.ways = dict(self.env), dict(self.ways)
        return made


class Done(NamedTuple):
    """A completed phase: what who waits for it learns, the last arrivals in it (none if bytes went into it: then only
    a wait tells that it is over)."""

    clock: tuple[int, ...]
    came: tuple[tuple[int, int], ...]
    bytes: bool


class Waited(NamedTuple):
    phase: int
    time: int
    event: dev.WaitPhase


@dataclass
class Ring:
    """One stage of a barrier in one block. `made` and `fenced`: times of its initialising thread. `heard`: when each
    warp last waited, as far as not all who arrive know it. `loose`: the violation of an arrival that may count in one
    phase or another, behind all waits so far; nobody may wait any more."""

    maker: int = -1
    made: int = 0
    fenced: int = 0
    count: int = 0
    pending: int = 0
    expected: int = 0
    issued: int = 0
    into: Clock | None = None
    came: tuple[tuple[int, int], ...] = ()
    done: tuple[Done, ...] = ()
    waits: dict[int, Waited] = field(default_factory=dict)
    heard: dict[int, int] = field(default_factory=dict)
    loose: Exception | None = None

    def copy(self) -> Ring:
        made = object.__new__(Ring)
        made.__dict__.update(self.__dict__)
        made.into, made.waits = None if self.into is None else list(self.into), dict(self.waits)
        made.heard = dict(self.heard)
        return made


class Fill(NamedTuple):
    """Content of a stage: the phase that brings it, and the grid-level turn whose tile it is of."""

    ring: int
    phase: int
    epoch: int
    copy: dev.CopyBulk
    agent: int
    time: int


class Reading(NamedTuple):
    """The last read of a stage by a warp, or by a warpgroup's products. `ends`: when it was over, as warps saw it."""

    serial: int
    ends: tuple[tuple[int, int], ...]
    event: Read
    agent: int
    time: int


@dataclass
class State:
    warps: list[Warp]
    rings: list[Ring]
    fills: dict[Place, Fill] = field(default_factory=dict)
    reads: dict[Place, dict[tuple[int, ...], Reading]] = field(default_factory=dict)
    answers: dict[Question, tuple[int, int | None]] = field(default_factory=dict)
    remote: dict[tuple[int, int], tuple[int, dev.Arrive]] = field(default_factory=dict)
    gone: frozenset[int] = frozenset()
    steps: Step | None = None

    def copy(self) -> State:
        return State(
            [w.copy() for w in self.warps],
            [r.copy() for r in self.rings],
            dict(self.fills),
            {place: dict(found) for place, found in self.reads.items()},
            dict(self.answers),
            dict(self.remote),
            self.gone,
            self.steps,
        )

    def forget(self, asks_from: list[int]) -> None:
        """Drop the answers to questions that no warp asks again: about sizes before `asks_from` of all warps, about
        further tiles before the turn of all."""
        sizes, turn = min(asks_from, default=0), self.turn
        self.answers = {
            q: a for q, a in self.answers.items() if q[0] == LASTING or q[0] >= (sizes if q[2] >= 0 else turn)
        }

    @property
    def turn(self) -> int:
        """The first grid-level turn that some warp is still in."""
        return min((w.epoch for w in self.warps if w.walking), default=0)


def join(clock: Clock, other: Iterable[int]) -> None:
    """What `other` knows is known to `clock`."""
    clock[:] = map(max, clock, other)
