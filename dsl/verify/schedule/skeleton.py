"""The synchronisation skeleton of a schedule: for each warp what it waits for, arrives at, fills and reads, in order.

Values, addresses and stores are left out. Loops and branches stay only where one of these events is inside, or a
counter counts (a role that leaves a tile to another one counts the stages that it passes). A skeleton is a list of
instructions with jumps, so that a state of the search is a position in it and the loop counters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Condition, Index, Symbol, index
from kernelagent.dsl.ir import Origin
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.level2.roles import box_bytes
from kernelagent.dsl.level2.traverse import runs_alone

WARPS_OF_GROUP = 4


@dataclass(frozen=True)
class Read:
    """A stage of a buffer that bulk copies fill is read; a product goes on reading until it is waited for."""

    buffer: str
    stage: Index
    asynchronous: bool
    origin: Origin


@dataclass(frozen=True)
class Announce:
    """`expect` and the bytes that the copies right behind it bring; None where they stand in another block."""

    expect: dev.Expect
    copied: int | None

    @property
    def origin(self) -> Origin:
        return self.expect.origin


Event: TypeAlias = (
    dev.BarrierInit | dev.FenceInit | Announce | dev.Arrive | dev.WaitPhase | dev.CopyBulk | Read
    | dev.WgmmaCommit | dev.WgmmaWait | dev.RoleBarrier | dev.BlockBarrier | dev.ClusterBarrier
)  # fmt: skip
_BY_ALL = (
    dev.Arrive, dev.WaitPhase, dev.WgmmaCommit, dev.WgmmaWait, dev.RoleBarrier, dev.BlockBarrier, dev.ClusterBarrier,
)  # fmt: skip


@dataclass(frozen=True)
class Do:
    """`leader`: by the first thread of the role (of the block, in front of the roles) only."""

    event: Event
    leader: bool = False


@dataclass(frozen=True)
class Loop:
    """`room` is how far the end lies behind the start: iteration n runs when room > n * step. None: a walk over tiles
    whose number is not known (`single`: exactly one). `counters` count iterations over the life of the role."""

    variable: Symbol | None
    lo: Index
    room: Index | None
    step: int
    counters: tuple[Symbol, ...]
    tiles: bool
    origin: Origin
    grid: dev.Grid | None = None
    single: bool = False


@dataclass(frozen=True)
class Head:
    loop: Loop
    exit: int


@dataclass(frozen=True)
class Next:
    head: int


@dataclass(frozen=True)
class Test:
    condition: Condition
    otherwise: int


@dataclass(frozen=True)
class Jump:
    to: int


Instruction: TypeAlias = Do | Head | Next | Test | Jump


@dataclass(frozen=True)
class Agent:
    """Warps that act alike: the one with the role's first thread, its warpgroup's others, the other warpgroups.

    `weight` is how many warps it stands for, `group` its warpgroup (products are read by whole warpgroups).
    """

    number: int
    block: int
    role: str
    part: str
    weight: int
    group: tuple[int, str, int]
    code: tuple[Instruction, ...]

    @property
    def leader(self) -> bool:
        return self.part == "first warp"


class Unsupported(Exception):
    """Why the skeleton, or a number in it, is beyond this proof."""


@dataclass(frozen=True)
class Skeleton:
    kernel: dev.DeviceKernel
    agents: tuple[Agent, ...]
    blocks: int


def skeleton(kernel: dev.DeviceKernel) -> Skeleton:
    """The warps of all blocks of a cluster. Raises Unsupported."""
    agents: list[Agent] = []
    for block in range(kernel.cluster):
        for role in roles_of(kernel):
            main = _code(kernel, role, True, True)
            rest = _code(kernel, role, not runs_alone(role), False)
            for part, weight, group in _parts(role.warps):
                leads = part == "first warp"
                place = (block, role.name, group)
                agents.append(Agent(len(agents), block, role.name, part, weight, place, main if leads else rest))
    return Skeleton(kernel, tuple(agents), kernel.cluster)


def roles_of(kernel: dev.DeviceKernel) -> tuple[dev.Role, ...]:
    """The roles; a kernel without any has one of all its warps."""
    return kernel.roles or (dev.Role("block", 0, kernel.threads // WARP, kernel.grid),)


def _parts(warps: int) -> Iterator[tuple[str, int, int]]:
    yield "first warp", 1, 0
    mates = min(warps, WARPS_OF_GROUP) - 1
    if mates:
        yield "other warps", mates, 0
    if warps > WARPS_OF_GROUP:
        yield "other warpgroups", warps - WARPS_OF_GROUP, 1


def filled_buffers(kernel: dev.DeviceKernel) -> frozenset[str]:
    """Buffers that bulk copies and nothing else write: their stages are given back and filled again by the protocol."""
    copied, stored = set(), set()
    for statement in dev.statements(kernel):
        match statement:
            case dev.CopyBulk(target=target):
                copied.add(target.buffer)
            case dev.StoreShared(target=target) | dev.Copy(target=target):
                stored.add(target.buffer)
            case _:
                pass
    return frozenset(copied - stored)


# Code -----------------------------------------------------------------------------------------------


def _code(kernel: dev.DeviceKernel, role: dev.Role, tiles: bool, leader: bool) -> tuple[Instruction, ...]:
    made = _Assembler(kernel, leader and role.first_warp == 0)
    made.block(kernel.prologue)
    made.leads = leader
    if tiles:
        made.grid(role.grid, role.grid.inner is None)
    made.block(role.after)
    return tuple(made.code)


class _Assembler:
    """Statements to instructions. `leads`: this warp has the block's first thread, which initialises barriers."""

    def __init__(self, kernel: dev.DeviceKernel, leads: bool) -> None:
        self.kernel = kernel
        self.leads = leads
        self.filled = filled_buffers(kernel)
        self.code: list[Instruction] = []

    def block(self, body: Sequence[dev.Statement]) -> None:
        for at, statement in enumerate(body):
            match statement:
                case dev.For():
                    self.loops(statement, 0)
                case dev.If(condition=condition, then=then, otherwise=otherwise):
                    self.branch(condition, then, otherwise)
                case dev.Expect():
                    copied = self.copied(statement, body[at + 1 :])
                    self.code.append(Do(Announce(statement, copied), True))
                case dev.Let():
                    self.code += [Do(r) for r in self.reads(statement)]
                case _ if isinstance(statement, _BY_ALL):
                    self.code.append(Do(statement))
                case dev.BarrierInit() | dev.FenceInit() if self.leads:
                    self.code.append(Do(statement, True))
                case dev.CopyBulk():
                    self.code.append(Do(statement, True))
                case _:
                    pass

    def reads(self, statement: dev.Let) -> list[Read]:
        match statement.operation:
            case dev.Mma(atom=atom, a=a, b=b):
                sources, later = [x for x in (a, b) if isinstance(x, dev.Shared)], atom.startswith("wgmma")
            case dev.LoadShared(source=source):
                sources, later = [source], False
            case _:
                return []
        where = statement.fragment.origin
        return [Read(s.buffer, s.stage, later, where) for s in sources if s.buffer in self.filled]

    def copied(self, expect: dev.Expect, behind: Sequence[dev.Statement]) -> int | None:
        """Bytes of the copies behind an announcement, up to the next one; None where a nested block has some."""
        total = 0
        for statement in behind:
            match statement:
                case dev.Expect(barrier=name) if name == expect.barrier:
                    return total
                case dev.CopyBulk(barrier=name) if name == expect.barrier:
                    total += box_bytes(self.kernel, statement)
                case dev.For() | dev.If() if _copies(statement, expect.barrier):
                    return None
                case _:
                    pass
        return total or None

    def branch(
        self, condition: Condition | dev.Fragment, then: Sequence[dev.Statement], otherwise: Sequence[dev.Statement]
    ) -> None:
        first = _Assembler(self.kernel, self.leads)
        first.block(then)
        second = _Assembler(self.kernel, self.leads)
        second.block(otherwise)
        if not first.code and not second.code:
            return
        if isinstance(condition, dev.Fragment):
            raise Unsupported(f"line {condition.origin.span.line}: a condition on loaded data stands around events")
        start = len(self.code)
        other = start + 1 + len(first.code) + bool(second.code)
        self.code.append(Test(condition, other))
        self.code += [_moved(i, start + 1) for i in first.code]
        if second.code:
            self.code.append(Jump(other + len(second.code)))
            self.code += [_moved(i, other) for i in second.code]

    def loops(self, loop: dev.For, level: int) -> None:
        """One variable of a nest and what is inside it."""
        inner = _Assembler(self.kernel, self.leads)
        last = level + 1 == len(loop.variables)
        if last:
            inner.block(loop.body)
        else:
            inner.loops(loop, level + 1)
        counters = (loop.counter,) if last and loop.counter else ()
        if not inner.code and not counters:
            return
        step = loop.step[level].constant
        if step is None:
            raise Unsupported(f"line {loop.origin.span.line}: the step {loop.step[level]} is no number")
        lo, hi = loop.lo[level], loop.hi[level]
        self.nest(Loop(loop.variables[level], lo, hi - lo, step, counters, False, loop.origin), inner)

    def nest(self, loop: Loop, inner: _Assembler) -> None:
        start = len(self.code)
        self.code.append(Head(loop, start + len(inner.code) + 2))
        self.code += [_moved(i, start + 1) for i in inner.code]
        self.code.append(Next(start))

    def grid(self, grid: dev.Grid, alone: bool) -> None:
        """The walk over the tiles; an outer grid's variables are loops of all blocks. `alone`: there is no nest."""
        inner = _Assembler(self.kernel, self.leads)
        inner.block(grid.body)
        if grid.inner is not None:
            inner.grid(grid.inner, False)
            for level in reversed(range(len(grid.variables))):
                outer = _Assembler(self.kernel, self.leads)
                step = grid.step[level].constant
                if step is None:
                    raise Unsupported(f"line {grid.origin.span.line}: the step {grid.step[level]} is no number")
                lo, hi = grid.lo[level], grid.hi[level]
                outer.nest(Loop(grid.variables[level], lo, hi - lo, step, (), True, grid.origin), inner)
                inner = outer
            self.code += [_moved(i, len(self.code)) for i in inner.code]
            return
        single = alone and not grid.persistent
        counters = (grid.counter,) if grid.counter else ()
        self.nest(Loop(None, index(0), None, 1, counters, True, grid.origin, grid, single), inner)


def _copies(statement: dev.Statement, barrier: str) -> bool:
    return any(isinstance(s, dev.CopyBulk) and s.barrier == barrier for s in dev.walk((statement,)))


def _moved(instruction: Instruction, by: int) -> Instruction:
    match instruction:
        case Head(loop, out):
            return Head(loop, out + by)
        case Next(head):
            return Next(head + by)
        case Test(condition, otherwise):
            return Test(condition, otherwise + by)
        case Jump(to):
            return Jump(to + by)
        case _:
            return instruction
