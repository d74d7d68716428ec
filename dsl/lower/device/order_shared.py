"""Insert the waits and barriers that shared memory needs outside the rings, and no others.

A barrier goes in front of a statement that touches bytes which another thread may have touched since the last
barrier, unless both only read. The same holds for a store to an `InOut` array whose elements another thread may have
loaded; a thread that stores what it alone loaded needs none. Loop bodies (and the tiles of a persistent block) are
walked twice, so that what the end of one iteration leaves open meets the start of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.ir import Origin, View
from kernelagent.dsl.lanes import Distribution, normal
from kernelagent.dsl.lower.device.place_shared import shared_accesses


@dataclass(frozen=True)
class Touched:
    """Elements of an `InOut` array and who holds them; layout None: any thread may."""

    array: str
    coordinates: tuple[Index, ...]
    start: tuple[Index, ...]
    layout: Distribution | None

    def may_meet(self, other: Touched) -> bool:
        """Whether one thread may touch here what another touches there: not if both give each element to one thread,
        the same."""
        alone = self.layout is not None and self.layout.copies == 1
        return self.array == other.array and not (self == other and alone)

    @classmethod
    def of(cls, view: View, start: tuple[Index, ...], layout: Distribution | None) -> Touched:
        if layout is not None:
            layout = Distribution(layout.shape, normal(layout.lanes), normal(layout.values))
        return cls(view.array, view.coordinates, start, layout)


@dataclass(frozen=True)
class Open:
    """What has happened since the last barrier. `flying`: buffers with asynchronous copies that nobody has waited
    for, and how many groups were committed after theirs (-1: not committed yet). `loads`: of `InOut` arrays."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    flying: Mapping[str, int] = field(default_factory=dict)
    loads: frozenset[Touched] = frozenset()

    def joined(self, other: Open) -> Open:
        ages = dict(self.flying)
        for name, age in other.flying.items():
            ages[name] = min(age, ages.get(name, age))
        return Open(self.reads | other.reads, self.writes | other.writes, ages, self.loads | other.loads)


MakeBarrier = Callable[[Origin], dev.Statement]


class Orderer:
    """`ringed` buffers are filled and read under their ring's own wait and barrier; in its loop, that is: `inside` are
    the buffers of the rings around a statement."""

    def __init__(
        self,
        buffers: tuple[dev.SharedBuffer, ...],
        ringed: frozenset[str],
        updated: frozenset[str],
        barrier: MakeBarrier,
        sent: frozenset[str],
    ) -> None:
        self.ringed = ringed
        self.updated = updated
        self.barrier = barrier
        self.sent = sent
        spans = {b.name: (b.offset, b.offset + dev.stage_bytes(b) * b.stages) for b in buffers}
        self.meets = {
            a: frozenset(b for b in spans if spans[a][0] < spans[b][1] and spans[b][0] < spans[a][1]) for a in spans
        }

    def body(
        self, body: tuple[dev.Statement, ...], state: Open, inside: frozenset[str] = frozenset()
    ) -> tuple[tuple[dev.Statement, ...], Open]:
        made: list[dev.Statement] = []
        for statement in body:
            needed, state = self.before(statement, state, inside)
            made += needed
            statement, state = self.through(statement, state, inside)
            made.append(statement)
        return tuple(made), state

    def repeated(
        self, body: tuple[dev.Statement, ...], state: Open, inside: frozenset[str]
    ) -> tuple[tuple[dev.Statement, ...], Open]:
        """A body that runs any number of times."""
        _, once = self.body(body, state, inside)
        made, after = self.body(body, state.joined(once), inside)
        return made, state.joined(after)

    def before(self, statement: dev.Statement, state: Open, inside: frozenset[str]) -> tuple[list[dev.Statement], Open]:
        """The wait and barrier that must stand in front of a statement."""
        needed: list[dev.Statement] = []
        origin = _origin(statement)
        for name, writes in shared_accesses(statement):
            own_ring = name in self.ringed
            others = self.meets[name] - {name}
            meets = others if own_ring and (name in inside or not writes) else self.meets[name]
            if self.meets[name] & state.flying.keys():  # a copy must not land on what is written here, either
                needed.append(dev.WaitGroup(0, origin))
                state = replace(state, writes=state.writes | frozenset(state.flying), flying={})
            earlier = state.writes - {name} if own_ring else state.writes  # a ring's stages do not meet each other
            conflict = meets & (earlier | state.reads if writes else earlier)
            if conflict:
                needed.append(self.barrier(origin))
                state = Open(flying=state.flying)
        stored = stored_elements(statement)
        if stored is not None and any(load.may_meet(stored) for load in state.loads):
            needed.append(self.barrier(origin))
            state = Open(flying=state.flying)
        return needed, state

    def through(self, statement: dev.Statement, state: Open, inside: frozenset[str]) -> tuple[dev.Statement, Open]:
        """The statement with its bodies ordered, and what it leaves open."""
        match statement:
            case dev.BlockBarrier() | dev.RoleBarrier():
                return statement, Open(flying=state.flying)
            case dev.WaitBulk():
                return statement, replace(state, reads=state.reads | self.sent)  # one thread knows that they are read
            case dev.Commit():
                return statement, replace(state, flying={n: a + 1 for n, a in state.flying.items()})
            case dev.WaitGroup(pending):
                landed = frozenset(n for n, age in state.flying.items() if age >= pending)
                left = {n: a for n, a in state.flying.items() if n not in landed}
                return statement, replace(state, writes=state.writes | landed, flying=left)
            case dev.For():
                body, state = self.repeated(statement.body, state, inside | self.filled_in(statement))
                return _with_body(statement, body), state
            case dev.If():
                then, a = self.body(statement.then, state, inside)
                otherwise, b = self.body(statement.otherwise, state, inside)
                made = dev.If(statement.condition, then, otherwise, statement.merged, statement.origin)
                return made, a.joined(b)
            case _:
                return statement, self.touched(statement, state, inside)

    def touched(self, statement: dev.Statement, state: Open, inside: frozenset[str]) -> Open:
        reads, writes, flying = set(state.reads), set(state.writes), dict(state.flying)
        for name, written in shared_accesses(statement):
            if written and name in inside:
                continue
            if isinstance(statement, dev.Copy) and statement.asynchronous:
                if name not in self.ringed:
                    flying[name] = -1
                else:
                    writes.add(name)
            elif written:
                writes.add(name)
            else:
                reads.add(name)
        loaded = loaded_elements(statement)
        loads = state.loads | {loaded} if loaded is not None and loaded.array in self.updated else state.loads
        return Open(frozenset(reads), frozenset(writes), flying, loads)

    def filled_in(self, loop: dev.For) -> frozenset[str]:
        """The buffers whose ring this loop is: it fills them, and no loop inside it does."""
        inner = [s for s in dev.walk(loop.body) if isinstance(s, dev.For)]
        return self._filled(loop).difference(*(self._filled(other) for other in inner))

    def _filled(self, loop: dev.For) -> frozenset[str]:
        copies = (s for s in dev.walk(loop.body) if isinstance(s, dev.Copy))
        return frozenset(c.target.buffer for c in copies) & self.ringed


def order_shared(
    body: tuple[dev.Statement, ...],
    buffers: tuple[dev.SharedBuffer, ...],
    ringed: frozenset[str],
    persistent: bool,
    updated: frozenset[str] = frozenset(),
    barrier: MakeBarrier = dev.BlockBarrier,
) -> tuple[dev.Statement, ...]:
    """The body with all barriers. `persistent`: it runs again for the next tile. `updated`: the `InOut` arrays.
    `barrier` makes the one of the threads that run the body: the block's, or a role's."""
    sent = frozenset(s.source.buffer for s in dev.walk(body) if isinstance(s, dev.StoreBulk))
    orderer = Orderer(buffers, ringed, updated, barrier, sent)
    if persistent:
        return orderer.repeated(body, Open(), frozenset())[0]
    return orderer.body(body, Open())[0]


def loaded_elements(statement: dev.Statement) -> Touched | None:
    match statement:
        case dev.Let(fragment, dev.Load(view, start)):
            return Touched.of(view, start, fragment.layout)
        case dev.Let(_, dev.Gather(view, start)):
            return Touched.of(view, start, None)
        case _:
            return None


def stored_elements(statement: dev.Statement) -> Touched | None:
    match statement:
        case dev.Store(view, start, value):
            return Touched.of(view, start, value.layout)
        case dev.Scatter(view, start):
            return Touched.of(view, start, None)
        case _:
            return None


def _with_body(loop: dev.For, body: tuple[dev.Statement, ...]) -> dev.For:
    return replace(loop, body=body)


def _origin(statement: dev.Statement) -> Origin:
    return statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
