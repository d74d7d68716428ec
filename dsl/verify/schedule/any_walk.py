"""Blocks that take the tiles of groups whose extents are data: any tile may follow any other.

What a tile does to shared memory depends on its trip count, which all tiles of a launch have in common, and on the
branches that ask where the tile lies, such as whether its group cuts it. So a walk is a word: one letter a tile, which
says how those branches go. The state of the block in front of a tile (`closing.snapshot`) and the letter decide what
the tile does and which state comes next. The states that are reached form a finite automaton, and when from every
state of it every letter has been run, free of faults, every walk has been run: it is a path of the automaton.

- The data is made up as the block reads it: each group is one tile, of the extent that gives the letter wanted.
- Some trip counts stand for all: those whose tiles, behind whatever other tiles, come back to a state within their
  loop (`counts`).
- A walk may end behind any tile. A shorter walk has the accesses of a longer one up to there in the same order, so
  it has no fault that the longer one does not have, but for what is under way at the end: at every tile's start all
  products have been waited for, and stores have, or the role waits for them behind its last tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Condition, Element, Index, Symbol, condition_indices, evaluate_condition
from kernelagent.dsl.level2.traverse import grids
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.verify.schedule.automaton import Automaton, Letter
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.closing import may_end, snapshot, within_tile
from kernelagent.dsl.verify.schedule.control import ordering
from kernelagent.dsl.verify.schedule.counts import Count, Unsteady, counts
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.sizes import Sizes, deepest_ring, fits, narrow, outermost
from kernelagent.dsl.verify.shapes import completed

MOST_TILES, MOST_WALKS = 64, 12
"""Tiles of a walk, and walks of one trip count, in which every state has to meet every letter."""
ORDER = ("races", "definedness", "completion", "protocol", "bounds")


@dataclass(frozen=True)
class Driver:
    """The data that decides a group's extent: `array`, whose elements are either extents or where groups begin."""

    array: str
    sums: bool
    dim: str  # of the number of groups
    total: str  # the dim that all groups fill, "" if none does


@dataclass(frozen=True)
class Alphabet:
    """The role that branches on where a tile lies, and for each letter the extent of a group of one such tile."""

    role: str
    extents: Mapping[Letter, int]


@dataclass(frozen=True)
class Walked:
    """What a walk showed: faults, or what keeps it from standing for all, "" if nothing does."""

    events: tuple[Event, ...] = ()
    reason: str = ""
    sizes: Sizes = field(default_factory=dict)


class _No(Exception):
    """Why any walk is not a word."""


# What a walk is a word of --------------------------------------------------------------------------------


def alphabet(case: Case, made: Call) -> Alphabet:
    """Raises _No."""
    kernel, driver = case.kernel, driver_of(case)
    _alike(kernel)
    conditions: dict[Condition, set[str]] = {}
    for role, body in _bodies(kernel):
        for statement in dev.walk(body):
            condition = statement.condition if isinstance(statement, dev.If) else None
            if condition is not None and not isinstance(condition, dev.Fragment) and _asks(kernel, condition):
                conditions.setdefault(condition, set()).add(role)
    roles = set().union(*conditions.values())
    if len(roles) > 1:
        raise _No("several roles ask where the tile lies")
    grid = innermost(kernel.grid)
    tried = {1, *(s.constant for s in grid.step if s.constant)}
    extents = {_letter(kernel, tuple(conditions), made, driver, n): n for n in sorted(tried)}
    if len(extents) < 2 ** len(conditions):
        raise _No("no group of one tile is known for each way in which branches ask where the tile lies")
    last = kernel.roles[-1].name if kernel.roles else ""
    return Alphabet(next(iter(roles), last), extents)


def driver_of(case: Case) -> Driver:
    """Raises _No."""
    inner = innermost(case.kernel.grid)
    read = {a for bound in (*inner.lo, *inner.hi) for a in bound.atoms() if isinstance(a, Element)}
    names = {a.array for a in read}
    outer = case.kernel.grid
    dim = _name(outer.hi[0]) if len(outer.variables) == 1 else ""
    if len(names) != 1 or not dim or outer.inner is not inner:
        raise _No("the walk over tiles depends on data in a way that is not modelled")
    array = next(iter(names))
    partitions = {a.data[1]: a.data[2][0] for a in case.shapes.entry.assumes if a.data and a.data[0] == "partition"}
    if array in partitions:
        return Driver(array, True, dim, _name(partitions[array]))
    return Driver(array, False, dim, "")


def _name(value: Index) -> str:
    match value.terms:
        case (((Symbol(name, "dim"),), 1),):
            return name
    return ""


def _alike(kernel: dev.DeviceKernel) -> None:
    """All tiles have the same trip counts and stages, and only tiles touch shared memory."""
    variables = {v for grid in _walks(kernel) for v in grid.variables}
    for loop in outermost(kernel):
        if any(variables & set(b.symbols()) or _reads(b) for b in (*loop.lo, *loop.hi, *loop.step)):
            raise _No("blocks take tiles of different trip counts one after the other")
    for walk in _walks(kernel):
        if walk.inner is not None and any(ordering(s) for s in dev.walk(walk.body)):
            raise _No("shared memory is touched between tiles")
    for statement in dev.statements(kernel):
        if any(variables & set(i.symbols()) for i in stages_of(statement)):
            raise _No("the stage of a buffer depends on where the tile lies")
    if kernel.cluster > 1:
        raise _No("clusters walk over tiles that depend on data")


def _reads(value: Index) -> bool:
    return any(isinstance(a, Element) for a in value.atoms())


def stages_of(statement: dev.Statement) -> Iterator[Index]:
    """Indices that say which stage, or which phase, a statement is about."""
    if isinstance(statement, dev.Arrive | dev.Expect | dev.WaitPhase | dev.CopyBulk):
        yield statement.stage
    if isinstance(statement, dev.WaitPhase):
        yield statement.parity
    if isinstance(statement, dev.If | dev.For):
        return  # their statements come by themselves
    yield from _of_shared(statement)


def _of_shared(record: Any) -> Iterator[Index]:
    if isinstance(record, dev.Shared):
        yield from (v for f in fields(record) if isinstance(v := getattr(record, f.name), Index))
    elif isinstance(record, tuple):
        for part in record:
            yield from _of_shared(part)
    elif is_dataclass(record) and not isinstance(record, type | dev.Fragment):
        for f in fields(record):
            yield from _of_shared(getattr(record, f.name))


def _walks(kernel: dev.DeviceKernel) -> Iterator[dev.Grid]:
    for walk in (kernel.grid, *(role.grid for role in kernel.roles)):
        yield from grids(walk)


def _bodies(kernel: dev.DeviceKernel) -> Iterator[tuple[str, tuple[dev.Statement, ...]]]:
    if not kernel.roles:
        yield "", innermost(kernel.grid).body
    for role in kernel.roles:
        yield role.name, innermost(role.grid).body


def _asks(kernel: dev.DeviceKernel, condition: Condition) -> bool:
    """Whether a condition is about where the tile lies."""
    variables = {v for walk in _walks(kernel) for v in walk.variables}
    return any(variables & set(i.symbols()) or _reads(i) for i in condition_indices(condition))


def _letter(kernel: dev.DeviceKernel, conditions: Sequence[Condition], made: Call, driver: Driver, n: int) -> Letter:
    """How the branches go in the one tile of a group of extent n."""

    def read(array: str, at: tuple[int, ...]) -> int:
        return (at[-1] * n if driver.sums else n) if array == driver.array else made.read(array, at)

    known = dict(made.sizes)
    for grid in grids(kernel.grid):
        known |= {v.name: lo.evaluate(known, read) for v, lo in zip(grid.variables, grid.lo, strict=True)}
    try:
        return tuple(evaluate_condition(c, known, read) for c in conditions)
    except KeyError as unknown:
        raise _No(f"a branch asks for {unknown}, which no tile has by itself") from None


# Walks ---------------------------------------------------------------------------------------------------


def walks(case: Case, found: Mapping[int, Sizes], first: int, period: int, ring: int) -> Walked:
    """Walks of every trip count, or of those that stand for all: from iteration `first` on the state of a tile's loop
    comes back every `period` iterations. `period` 0: there are no others than those that were `found`."""
    try:
        for count in counts(case, found, first, period, ring):
            walked = every_word(case, count, period)
            if walked.events or walked.reason:
                return walked
    except Unsteady as lack:
        return Walked(reason=f"{_DATA}: {lack}")
    return Walked()


def drawn(case: Case, walked: Walked) -> Iterator[Sizes]:
    """Sizes whose data, drawn like any other, may show the fault of a walk again."""
    driver = driver_of(case)
    step = max((s.constant or 1 for s in innermost(case.kernel.grid).step), default=1)
    for groups in (2, 3, 4, 6, 9, 16):
        for extent in (step - 1, step, 2 * step):
            wanted = {**walked.sizes, driver.dim: groups, **({driver.total: groups * extent} if driver.total else {})}
            sizes = completed(case.shapes, wanted)
            if sizes is not None and fits(case.kernel, sizes):
                yield sizes


_DATA = "the walk over tiles depends on data"


def every_word(case: Case, count: Count, period: int = 1) -> Walked:
    """A block walks, over and over, until every state has met every letter; notes whether all tiles were steady."""
    wide = _wide(case, count.sizes) if count.sizes is not None else None
    if wide is None:
        return Walked(reason=f"{_DATA}: no sizes were found with as many groups and iterations")
    made = call(case, wide, positions_only=True)
    try:
        letters, driver = alphabet(case, made), driver_of(case)
    except _No as reason:
        return Walked(reason=str(reason))
    found = Automaton(tuple(letters.extents), count.middle, period)
    most = MOST_TILES - deepest_ring(case.kernel) - 2  # nobody sees the walk's end
    for _ in range(MOST_WALKS):
        found.begin()
        machine = _machine(case, made, driver, letters, found, most)
        machine.run(0, 1)
        events = tuple(e for e in machine.events.values() if e.family in ORDER)
        if events:
            return Walked(events, "", wide)
        if found.torn or found.closed:
            break
    count.steady = found.steady
    return Walked((), _left(found), wide)


def _wide(case: Case, sizes: Sizes) -> Sizes | None:
    """The sizes with as many groups as a walk may take, each up to a tile."""
    try:
        driver = driver_of(case)
    except _No:
        return sizes
    step = max((s.constant or 1 for s in innermost(case.kernel.grid).step), default=1)
    wanted = {**narrow(case, sizes), driver.dim: MOST_TILES}
    wanted |= {driver.total: MOST_TILES * step} if driver.total else {}
    wide = completed(case.shapes, wanted)
    return wide if wide is not None and fits(case.kernel, wide) else None


def _machine(case: Case, made: Call, driver: Driver, letters: Alphabet, found: Automaton, most: int) -> Machine:
    """The block; its data is made up when it is read."""
    begins = [0]  # of groups, as far as they were chosen

    def read(array: str, at: tuple[int, ...]) -> int:
        if array != driver.array:
            return made.read(array, at)
        group = at[-1] if driver.sums else at[-1] + 1
        while len(begins) <= group:
            begins.append(begins[-1] + letters.extents[found.choose()])
        return begins[group] - (0 if driver.sums else begins[group - 1])

    def watch(machine: Machine, actor: Actor, head: dev.For | dev.Grid) -> None:
        if actor.name != letters.role:
            return
        if isinstance(head, dev.For):
            found.iterate(lambda: within_tile(machine, actor))
            return
        found.arrive(snapshot(machine, actor))
        found.torn |= not may_end(machine, actor)
        if found.torn or machine.events or len(found.heads) >= most or found.spent:
            machine.stop()

    memory = GlobalMemory(case.kernel.arrays, made.sizes, 0)
    domain = Unknown(made.arrays, made.scalars)
    machine = Machine(case.kernel, made.sizes, domain, memory, read, watch=watch, footprints=case.merged)
    for statement in dev.statements(case.kernel):
        machine.statement_number(statement)  # the same in every walk, whatever is met first
    return machine


def _left(found: Automaton) -> str:
    """What is not shown."""
    if found.torn:
        return f"{_DATA}, and what a tile does on more than the state in front of it"
    return "" if found.closed else f"{_DATA}: {MOST_WALKS} walks did not show all that may follow"


__all__ = ["Walked", "drawn", "stages_of", "walks"]
