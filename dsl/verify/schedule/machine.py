"""The engine: the blocks of one cluster run a schedule with values of a domain, and every access is judged.

Each role is a coroutine that stops where it has to wait. Clocks say what has happened before what, so one order of
the roles shows the faults of all: no statement's synchronisation depends on data that roles race for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import gcd
from typing import Any, NoReturn

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index, ReadElement, evaluate_condition
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.verify.records import Family
from kernelagent.dsl.verify.schedule.budget import spend
from kernelagent.dsl.verify.schedule.clocks import ALWAYS, Agents, Clock
from kernelagent.dsl.verify.schedule.domains.domain import Domain
from kernelagent.dsl.verify.schedule.footprints import Footprints, Paired
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.phases import Phase
from kernelagent.dsl.verify.schedule.shadow import FAMILIES, Conflict, Shadow, Valued
from kernelagent.dsl.verify.schedule.unmodelled import OutsideArray, Unmodelled
from kernelagent.dsl.walks import tile_counts, tiles

DIVIDED = "divided-by-zero"
"""The kind of an event: an index has no value."""


@dataclass(frozen=True)
class Site:
    """A statement as it ran: by which role of which block, with which values of loop variables."""

    statement: dev.Statement | dev.Grid  # a walk: for what no statement of it does
    block: int
    role: str
    first_thread: int
    variables: Mapping[str, int]
    iteration: int = -1  # of the role's outermost loop, -1: outside


@dataclass
class Event:
    """Something wrong. `thread` is of the block, None: no single one. `count` elements or times in all."""

    family: Family
    kind: str
    site: Site
    message: str
    other: Site | None = None
    thread: int | None = None
    other_thread: int | None = None
    buffer: str = ""
    stage: int | None = None
    array: str = ""
    element: tuple[int, ...] = ()
    count: int = 1
    expected: str = ""
    found: str = ""


@dataclass
class Block:
    """Shared memory and barriers of one block."""

    number: int
    shadow: Shadow
    phases: dict[tuple[str, int], Phase]


@dataclass
class Groups:
    """Asynchronous work of one kind that a role has begun: the open group, and how many are complete."""

    agent: int
    open: int = 0
    done: int = -1

    def commit(self) -> None:
        self.open += 1

    def wait(self, pending: int) -> None:
        self.done = max(self.done, self.open - 1 - pending)


@dataclass
class Actor:
    """A role of a block (or all of its threads) as it runs."""

    block: Block
    name: str
    first_thread: int
    threads: int
    agent: int
    clock: Clock
    copies: Groups
    products: Groups
    stores: Groups
    variables: dict[str, int]
    values: dict[int, Any] = field(default_factory=dict)
    flying: dict[int, int] = field(default_factory=dict)  # fragment: group of products that still writes it
    made: dict[int, int] = field(default_factory=dict)  # fragment: running number of what wrote its registers
    fence: int = -1  # running number of the last fence in front of products
    waiting: str = ""
    at: dev.Statement | None = None  # where others go on while it stands: a wait, or the head of a loop
    at_cluster: bool = False
    ended: bool = False
    tile: int = 0  # how many it has begun
    front: int = -1  # the iteration in front of this one
    iteration: int = -1
    depth: int = 0

    def groups(self) -> tuple[Groups, ...]:
        return (self.copies, self.products, self.stores)


Steps = Iterator[None]
Watch = Callable[["Machine", Actor, "dev.For | dev.Grid"], None]
"""Is told of every tile of a walk and every iteration of an outermost loop, before its body."""


class _Halt(Exception):
    """A run that cannot go on; why is noted."""


class Machine:
    """Runs the blocks `cluster_blocks` of a launch; they are one cluster."""

    def __init__(
        self,
        kernel: dev.DeviceKernel,
        sizes: Mapping[str, int],
        domain: Domain,
        memory: GlobalMemory,
        read: ReadElement | None = None,
        most_events: int = 64,
        watch: Watch | None = None,
        footprints: Footprints | None = None,
    ) -> None:
        self.kernel, self.sizes, self.domain, self.memory, self.read = kernel, dict(sizes), domain, memory, read
        self.agents = Agents()
        self.sites: list[Site] = []
        self.remote: list[tuple[int, int, int, int]] = []  # arrivals at other blocks: block, agent, order, site
        self.events: dict[tuple[Any, ...], Event] = {}
        self.outcomes: dict[int, set[bool]] = {}  # of branches, by identity
        self.most_events = most_events
        self.watch = watch
        self.footprints = footprints or Footprints(kernel, merged=domain.channels == 0)
        self.order = 0
        self._numbers: dict[int, int] = {}
        self.buffers = {b.name: b for b in kernel.buffers}
        from kernelagent.dsl.verify.schedule.statements import HANDLERS

        self.handlers: Mapping[type, Callable[[Machine, Actor, Any], Steps | None]] = HANDLERS

    # Launch ------------------------------------------------------------------------------------------

    def run(self, first: int, blocks: int | None) -> None:
        """One cluster whose first block is `first`; `blocks`: how many persistent blocks there are."""
        self.agents, self.remote = Agents(), []
        self.blocks = [self._block(first + k) for k in range(self.kernel.cluster)]
        shadows = [self._shadow() for _ in self.blocks]
        actors: list[Actor] = []
        starts: list[Steps] = []
        for block, shadow in zip(self.blocks, shadows, strict=True):
            block.shadow = shadow
            whole = self._actor(block, "", 0, self.kernel.threads)
            actors.append(whole)
            starts.append(self._whole(whole, blocks, actors, starts))
        self.actors = actors
        try:
            ended = self._schedule(actors, starts)
        except _Halt:
            ended = False
        for actor in actors if ended else ():
            self._leave(actor)

    def _block(self, number: int) -> Block:
        """Names its agents; the shadow follows when all agents of the cluster are known."""
        for part in ("", *(r.name for r in self.kernel.roles)):
            for kind in ("generic", "copies", "products", "stores"):
                self.agents.add(number, kind, part)
        phases = {}
        for barrier in self.kernel.barriers:
            for stage in range(barrier.stages):
                fill = self.agents.add(number, "fill", f"{barrier.name}[{stage}]")
                phases[barrier.name, stage] = Phase(barrier.arrivals, fill)
        return Block(number, None, phases)  # type: ignore[arg-type]

    def _shadow(self) -> Shadow:
        granule = 1
        if self.domain.channels:
            granule = gcd(*(bits(b.dtype) // 8 for b in self.kernel.buffers)) or 1
        if isinstance(self.footprints, Paired):
            size, places = self.footprints.places, self.footprints.rules.places
            return Valued(size, granule, places, self.agents, self.domain.channels)
        return Shadow(self.footprints.places, granule, self.agents, self.domain.channels)

    def _actor(self, block: Block, name: str, first: int, threads: int) -> Actor:
        number = self.agents.number
        clock = Clock.start(self.agents)
        agent = number(block.number, "generic", name)
        clock.own[agent] = clock.own[number(block.number, "generic", "")] = ALWAYS
        copies = Groups(number(block.number, "copies", name))
        products = Groups(number(block.number, "products", name))
        stores = Groups(number(block.number, "stores", name))
        return Actor(block, name, first, threads, agent, clock, copies, products, stores, {**self.sizes})

    def _whole(self, actor: Actor, blocks: int | None, actors: list[Actor], starts: list[Steps]) -> Steps:
        """All threads of a block; where there are roles they follow the prologue as coroutines of their own."""
        if not self.kernel.roles:
            yield from self._walk(actor, self.kernel.grid, blocks)
            return
        yield from self.body(actor, self.kernel.prologue)
        for role in self.kernel.roles:
            made = self._actor(actor.block, role.name, role.first_warp * WARP, role.threads)
            made.clock.acquire((actor.clock.known, actor.clock.fenced))
            actors.append(made)
            starts.append(self._role(made, role, blocks))

    def _role(self, actor: Actor, role: dev.Role, blocks: int | None) -> Steps:
        yield from self._walk(actor, role.grid, blocks)
        yield from self.body(actor, role.after)

    def _schedule(self, actors: list[Actor], starts: list[Steps]) -> bool:
        """Every role as far as it gets; then always the first that can go on, until it waits or begins an iteration.
        False if that ends before they do."""
        done: set[int] = set()
        begun = 0
        self.stopped = False
        while len(done) < len(starts) and not self.stopped:
            while begun < len(starts):
                begun += 1
                self._goes_on(begun - 1, actors, starts, done)
            left = [k for k in range(len(starts)) if k not in done]
            if (
                left
                and not any(self._goes_on(k, actors, starts, done) for k in left)
                and not self._meet([actors[k] for k in left])
            ):
                self._deadlock([actors[k] for k in left])
                return False
        return not self.stopped

    def _goes_on(self, number: int, actors: list[Actor], starts: list[Steps], done: set[int]) -> bool:
        """Whether the role did anything."""
        before = self.order
        if next(starts[number], "end") == "end":
            done.add(number)
            actors[number].waiting, actors[number].at, actors[number].ended = "", None, True
            return True
        return self.order != before

    def stop(self) -> None:
        """Go no further than this round: what follows is known."""
        self.stopped = True

    def _meet(self, left: list[Actor]) -> bool:
        """A barrier of the cluster opens when all that still run have come to it."""
        if not all(a.at_cluster for a in left):
            return False
        known = np.maximum.reduce([a.clock.release()[0] for a in left])
        fenced = np.maximum.reduce([a.clock.fenced for a in left])
        for actor in left:
            actor.clock.acquire((known, fenced))
            actor.at_cluster = False
        self.order += 1
        return True

    def _leave(self, actor: Actor) -> None:
        """What is still under way when a role ends: shared memory is not the block's any more."""
        shadow = actor.block.shadow
        for groups in (actor.products, actor.stores):
            times = shadow.readers.get(groups.agent)
            if times is not None and (late := times[0] > groups.done).any():
                self._unfinished(self.sites[int(times[2][late][0])])
        if actor.name == "":
            filled = np.array([a.kind == "fill" for a in self.agents.all])
            known = np.maximum.reduce([a.clock.known for a in self.actors if a.block is actor.block])
            late = filled[shadow.writer] & (shadow.write_time > known[shadow.writer])
            for number in np.unique(shadow.write_site[late])[:1]:
                self._unfinished(self.sites[int(number)])
            self._left(actor.block, known)

    def _left(self, block: Block, known: Any) -> None:
        """Arrivals of other blocks that come when this one may have ended."""
        for number, agent, order, site in self.remote:
            if number == block.number and known[agent] < order:
                message = f"block {number} of the cluster may have ended"
                self.note(Event("protocol", "left", self.sites[site], message))
                return

    def _unfinished(self, site: Site) -> None:
        self.note(Event("completion", "exit-in-flight", site, "nobody waits for it before the block ends"))

    def _deadlock(self, left: Sequence[Actor]) -> None:
        waits = "; ".join(f"{a.name or 'the block'} of block {a.block.number} waits for {a.waiting}" for a in left)
        stuck = {a.name: None for a in left}  # one of each role: who waits for ever because another one does
        last = [next((s for s in reversed(self.sites) if s.role == name), None) for name in stuck]
        if last[0] is not None:
            other = next((s for s in last[1:] if s is not None), None)
            self.note(Event("protocol", "deadlock", last[0], f"nobody can go on: {waits}", other))

    # Walks -------------------------------------------------------------------------------------------

    def _walk(self, actor: Actor, grid: dev.Grid, blocks: int | None) -> Steps:
        counted = innermost(grid)
        for symbol in [counted.counter, *(s.counter for s in dev.walk(counted.body) if isinstance(s, dev.For))]:
            if symbol is not None:
                actor.variables[symbol.name] = 0
        if grid.inner is None:
            counts = tile_counts(grid, actor.variables, self.read)
            stride = blocks if grid.persistent else None
            yield from self._tiles(actor, grid, counts, actor.block.number, stride)
            return
        yield from self._nest(actor, grid, actor.block.number, blocks or 1)

    def _nest(self, actor: Actor, grid: dev.Grid, following: int, blocks: int) -> Iterator[None]:
        """Nested grids: `following` is the block's next tile, counted from the first of the current inner grid."""
        yield from _Nest(self, actor, blocks, following).walk(grid)

    def _tiles(self, actor: Actor, grid: dev.Grid, counts: list[int], first: int, blocks: int | None) -> Steps:
        for variables in tiles(grid, counts, actor.variables, first, blocks, self.read):
            actor.variables.update(variables)
            actor.tile, actor.front = actor.tile + 1, actor.iteration
            if self.watch is not None:
                self.watch(self, actor, grid)
            yield from self.body(actor, grid.body)
            if grid.counter is not None:
                actor.variables[grid.counter.name] += 1

    # Statements --------------------------------------------------------------------------------------

    def body(self, actor: Actor, statements: Sequence[dev.Statement]) -> Steps:
        for statement in statements:
            handler = self.handlers.get(type(statement))
            if handler is None:
                raise Unmodelled(f"the statement {type(statement).__name__}")
            self.order += 1
            spend()
            try:
                steps = handler(self, actor, statement)
                if steps is not None:
                    yield from steps
            except OutsideArray as outside:
                self._halt(Event("bounds", "outside", self._here(actor, statement), str(outside), array=outside.array))
            except ZeroDivisionError:
                message = "an index is divided by 0"
                self._halt(Event("bounds", DIVIDED, self._here(actor, statement), message))

    def _here(self, actor: Actor, statement: dev.Statement) -> Site:
        return self.sites[self.site(actor, statement)]

    def _halt(self, event: Event) -> NoReturn:
        """An index has no value: nothing is known of what follows."""
        self.note(event)
        raise _Halt

    def observe(self, actor: Actor, loop: dev.For) -> None:
        """An iteration begins."""
        self.order += 1
        spend()
        if actor.depth == 1:
            actor.iteration += 1
            if self.watch is not None:
                self.watch(self, actor, loop)

    def number(self, actor: Actor, value: Index) -> int:
        return value.evaluate(actor.variables, self.read)

    def truth(self, actor: Actor, condition: Any) -> bool:
        return evaluate_condition(condition, actor.variables, self.read)

    def site(self, actor: Actor, statement: dev.Statement) -> int:
        variables = {k: v for k, v in actor.variables.items() if k not in self.sizes}
        place = (actor.block.number, actor.name, actor.first_thread)
        self.sites.append(Site(statement, *place, variables, actor.iteration if actor.depth else -1))
        return len(self.sites) - 1

    def statement_number(self, statement: dev.Statement | dev.Grid) -> int:
        """Statements are numbered as they are met."""
        return self._numbers.setdefault(id(statement), len(self._numbers))

    # Findings ----------------------------------------------------------------------------------------

    def note(self, event: Event) -> None:
        """Keep the first of its kind at a pair of statements, and count the others."""
        key = (event.kind, id(event.site.statement), id(event.other.statement) if event.other else 0, event.array)
        if key in self.events:
            self.events[key].count += event.count
        elif len(self.events) < self.most_events:
            self.events[key] = event

    def conflicts(self, actor: Actor, found: Sequence[Conflict], buffer: dev.SharedBuffer, stage: int) -> None:
        for conflict in found:
            access, touched = conflict.access, conflict.access.touched
            first = int(conflict.elements[0]) % touched.bytes.size
            thread, other = int(access.threads[first]), int(conflict.other_threads[0])
            number = int(conflict.other_sites[0])
            self.note(
                Event(
                    FAMILIES[conflict.kind], conflict.kind, self.sites[access.site], "",
                    None if number < 0 else self.sites[number],
                    thread if thread >= 0 else None, other if other >= 0 else None,
                    buffer.name, stage, element=_coordinates(touched.at, first), count=len(conflict.elements),
                )
            )  # fmt: skip


def _coordinates(at: Any, flat: int) -> tuple[int, ...]:
    """(rank, *shape) coordinates of the elements of an access, of which one."""
    return tuple(int(c.reshape(-1)[flat]) for c in at)


@dataclass
class _Nest:
    """A walk over nested grids."""

    machine: Machine
    actor: Actor
    blocks: int
    following: int

    def walk(self, grid: dev.Grid) -> Steps:
        if grid.inner is None:
            counts = tile_counts(grid, self.actor.variables, self.machine.read)
            total = int(np.prod(counts, dtype=np.int64))
            yield from self.machine._tiles(self.actor, grid, counts, self.following, self.blocks)
            if self.following < total:
                self.following += -(-(total - self.following) // self.blocks) * self.blocks
            self.following -= total
            return
        counts = tile_counts(grid, self.actor.variables, self.machine.read)
        for variables in tiles(grid, counts, self.actor.variables, 0, 1, self.machine.read):
            self.actor.variables.update(variables)
            yield from self.machine.body(self.actor, grid.body)
            yield from self.walk(grid.inner)
