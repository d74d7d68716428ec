"""Rules about the order of asynchronous work in one role: fences, groups and waits in front of what needs them.

The role's statements are walked in text order, loops twice so that an iteration meets what the one before it left.
What other roles do is not seen: that is the emulator's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import zip_longest

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.level2.rules import Broken
from kernelagent.dsl.level2.traverse import grids, reads

Found = Iterator[tuple[ir.Origin, Broken]]
Stage = tuple[str, Index | None]
"""A buffer's stage; None: of an iteration before, which the same text does not name any more."""


@dataclass
class _Group:
    """Products in flight: fragments that they write, stages (buffer, index) that they read."""

    sums: set[int] = field(default_factory=set)
    stages: set[tuple[str, Index]] = field(default_factory=set)


@dataclass
class _State:
    """What is under way in a role."""

    fenced: bool = False  # there was a `wgmma_fence`
    touched: set[int] = field(default_factory=set)  # registers that threads wrote or read since
    open: _Group = field(default_factory=_Group)
    groups: list[_Group] = field(default_factory=list)  # oldest first
    written: set[str] = field(default_factory=set)  # buffers that threads wrote since `fence_async`
    shown: set[str] = field(default_factory=set)  # fenced, but other threads have not met
    storing: dict[Stage, ir.Origin] = field(default_factory=dict)  # read by bulk stores of the open group
    stores: list[dict[Stage, ir.Origin]] = field(default_factory=list)  # closed groups
    drained: set[Stage] = field(default_factory=set)  # waited for by one thread only

    def flying(self) -> list[_Group]:
        return [*self.groups, self.open]

    def pending(self, number: int) -> bool:
        return any(number in g.sums for g in self.flying())

    def next_turn(self) -> None:
        """A further iteration or tile begins: there the same text names other stages."""
        for group in self.flying():
            group.stages.clear()
        self.storing, *self.stores = ({_earlier(x): o for x, o in g.items()} for g in (self.storing, *self.stores))
        self.drained = {_earlier(x) for x in self.drained}

    def link(self, source: dev.Fragment, target: dev.Fragment) -> None:
        """`target` becomes what `source` is."""
        self.touched.discard(target.number)
        if source.number in self.touched:
            self.touched.add(target.number)
        for group in self.flying():
            group.sums.discard(target.number)
            if source.number in group.sums:
                group.sums.add(target.number)

    def join(self, other: _State) -> None:
        """Behind a branch: what either arm left under way."""
        self.fenced = self.fenced and other.fenced
        for own, more in ((self.touched, other.touched), (self.open.sums, other.open.sums)):
            own |= more
        self.open.stages |= other.open.stages
        pairs = zip_longest(reversed(self.groups), reversed(other.groups), fillvalue=_Group())
        self.groups = [_Group(a.sums | b.sums, a.stages | b.stages) for a, b in pairs][::-1]
        self.written |= other.written
        self.shown |= other.shown
        self.drained |= other.drained
        self.storing |= other.storing
        nothing: dict[Stage, ir.Origin] = {}
        both = zip_longest(reversed(self.stores), reversed(other.stores), fillvalue=nothing)
        self.stores = [{**a, **b} for a, b in both][::-1]


def _earlier(stage: Stage) -> Stage:
    name, at = stage
    return stage if at is None or at.constant is not None else (name, None)


def check_flow(kernel: dev.DeviceKernel, role: dev.Role) -> Found:
    """Every broken rule, each place once."""
    flow = _Flow(_releases(kernel))
    again = role.grid.persistent or role.grid.inner is not None  # the role takes further tiles
    for _ in range(1 + again):
        flow.state.next_turn()
        for grid in grids(role.grid):
            flow.block(grid.body)
    flow.block(role.after)
    flow.end()
    yield from flow.found.values()


def _releases(kernel: dev.DeviceKernel) -> Mapping[str, str]:
    """The barrier that a role waits for before a bulk copy fills a buffer: who arrives there gives the buffer back."""
    found: dict[str, str] = {}
    for role in kernel.roles:
        waited = ""
        for grid in grids(role.grid):
            for statement in dev.walk(grid.body):
                if isinstance(statement, dev.WaitPhase):
                    waited = statement.barrier
                elif isinstance(statement, dev.CopyBulk) and waited:
                    found.setdefault(statement.target.buffer, waited)
    return found


class _Flow:
    def __init__(self, releases: Mapping[str, str]) -> None:
        self.releases = releases
        self.state = _State()
        self.found: dict[tuple[ir.Origin, str], tuple[ir.Origin, Broken]] = {}

    def report(self, origin: ir.Origin, broken: Broken) -> None:
        self.found.setdefault((origin, broken.code), (origin, broken))

    def block(self, body: tuple[dev.Statement, ...]) -> None:
        for statement in body:
            self.reads(statement)
            match statement:
                case dev.Let(fragment, dev.Mma() as product) if product.atom.startswith("wgmma"):
                    self.product(fragment, product)
                case dev.Let(fragment, _):
                    self.define(fragment)
                case dev.For():
                    self.loop(statement)
                case dev.If():
                    self.branch(statement)
                case dev.StoreShared(target=target) | dev.Copy(target=target):
                    self.write(target, statement.origin)
                case dev.StoreBulk(source=source):
                    self.visible(source.buffer, statement.origin, "the bulk store")
                    self.state.storing[source.buffer, source.stage] = statement.origin
                case dev.Arrive():
                    self.release(statement)
                case _:
                    self.order(statement)

    def order(self, statement: dev.Statement) -> None:
        """Fences, barriers, commits and waits."""
        s = self.state
        match statement:
            case dev.WgmmaFence():
                s.fenced, s.touched = True, set()
            case dev.WgmmaCommit():
                s.groups.append(s.open)
                s.open = _Group()
            case dev.WgmmaWait(pending):
                s.groups = s.groups[len(s.groups) - pending :] if pending < len(s.groups) else s.groups
            case dev.FenceAsync():
                s.shown |= s.written
                s.written = set()
            case dev.RoleBarrier() | dev.BlockBarrier() | dev.ClusterBarrier():
                s.shown, s.drained = set(), set()
            case dev.CommitBulk():
                s.stores.append(s.storing)
                s.storing = {}
            case dev.WaitBulk(pending):
                done = max(len(s.stores) - pending, 0)
                s.drained |= {stage for group in s.stores[:done] for stage in group}
                s.stores = s.stores[done:]
            case _:
                pass

    # Products ------------------------------------------------------------------------------------

    def define(self, x: dev.Fragment) -> None:
        for group in self.state.flying():
            group.sums.discard(x.number)
        self.state.touched.add(x.number)

    def reads(self, statement: dev.Statement) -> None:
        """Sums of products in flight are read by nothing but the next product."""
        product = statement.operation if isinstance(statement, dev.Let) else None
        chained = product.acc.number if isinstance(product, dev.Mma) and product.atom.startswith("wgmma") else None
        for x in reads(statement):
            if chained is None:
                self.state.touched.add(x.number)
            if x.number != chained and self.state.pending(x.number):
                origin = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
                message = f"`{x.name}` is read while the product that makes it may still run"
                hint = "write `wgmma_commit()` behind the product and `wgmma_wait(0)` in front of this line"
                self.report(origin, Broken("wgmma-pending", message, hint))

    def product(self, made: dev.Fragment, o: dev.Mma) -> None:
        s = self.state
        operands = [x for x in (o.a, o.acc) if isinstance(x, dev.Fragment)]
        if not s.fenced or any(x.number in s.touched for x in operands):
            late = next((x.name for x in operands if s.fenced and x.number in s.touched), None)
            message = f"`{late}` is touched by threads behind `wgmma_fence()`" if late else "no fence stands in front"
            hint = "write `wgmma_fence()` between what computes or reads the operands in registers and the product"
            self.report(made.origin, Broken("wgmma-fence", message, hint))
        for x in (o.a, o.b):
            if isinstance(x, dev.Shared):
                self.visible(x.buffer, made.origin, "the product")
                s.open.stages.add((x.buffer, x.stage))
        for group in s.flying():
            group.sums.discard(made.number)
        s.touched.discard(made.number)
        s.open.sums.add(made.number)

    def release(self, arrive: dev.Arrive) -> None:
        for name, stage in {x for g in self.state.flying() for x in g.stages}:
            if stage == arrive.stage and self.releases.get(name) == arrive.barrier:
                message = f"`{arrive.barrier}` gives this stage of `{name}` back while a product may still read it"
                hint = "wait for the product first: `wgmma_wait(0)`, or give back the stage of the iteration before"
                self.report(arrive.origin, Broken("early-release", message, hint))

    # Shared memory -------------------------------------------------------------------------------

    def write(self, target: dev.Shared, origin: ir.Origin) -> None:
        s, name, stage = self.state, target.buffer, (target.buffer, target.stage)
        waited = stage in s.drained
        if waited or any(stage in group for group in (*s.stores, s.storing)):
            what = "only the issuing thread has waited for it" if waited else "nothing waits for it"
            message = f"`{name}` is written while a bulk store may still read it: {what}"
            hint = "write `wait_bulk(0)` and then `role_barrier(1)` in front of this line"
            self.report(origin, Broken("bulk-store-pending", message, hint))
        s.written.add(name)

    def visible(self, name: str, origin: ir.Origin, reader: str) -> None:
        """What threads wrote is seen by the asynchronous proxy behind a fence and a barrier."""
        s = self.state
        if name in s.written or name in s.shown:
            lack = "`fence_async()` and `role_barrier(1)`" if name in s.written else "`role_barrier(1)`"
            message = f"{reader} reads `{name}`, which threads wrote before, without {lack}"
            hint = "write `fence_async()` and then `role_barrier(1)` behind `store_shared`"
            self.report(origin, Broken("fence-async", message, hint))

    def end(self) -> None:
        left: dict[str, ir.Origin] = {}
        for group in (*self.state.stores, self.state.storing):
            left |= {name: origin for (name, _), origin in group.items()}
        for name, origin in left.items():
            message = f"the role ends while a bulk store may still read `{name}`"
            hint = "write `commit_bulk()` behind it and `wait_bulk(0)` behind the last tile"
            self.report(origin, Broken("bulk-store-pending", message, hint))

    # Control -------------------------------------------------------------------------------------

    def loop(self, loop: dev.For) -> None:
        for c in loop.carried:
            self.state.link(c.initial, c.inside)
        skipped = deepcopy(self.state)
        for c in loop.carried:
            skipped.link(c.initial, c.result)
        for turn in range(2):
            self.block(loop.body)
            for c in loop.carried:
                self.state.link(c.end, c.result if turn else c.inside)
            self.state.next_turn()
        self.state.join(skipped)

    def branch(self, branch: dev.If) -> None:
        before = deepcopy(self.state)
        self.block(branch.then)
        for m in branch.merged:
            self.state.link(m.then, m.result)
        then, self.state = self.state, before
        self.block(branch.otherwise)
        for m in branch.merged:
            self.state.link(m.otherwise, m.result)
        self.state.join(then)


__all__ = ["check_flow"]
