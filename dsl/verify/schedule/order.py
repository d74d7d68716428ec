"""Races, waits and fences for every trip count: a block runs each small one, and its state is shown to come back.

What happens in shared memory depends on a tile only through its trip counts: addresses come from threads, stages and
counters, and masks only remove loads. So one block stands for all, where no branch asks where its tile lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import AllOf, AnyOf, Compare, Condition, Negation, condition_indices
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.closing import Snapshots, closes
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Event, Machine
from kernelagent.dsl.verify.schedule.sizes import Sizes, by_trips, limited, outermost, several_tiles

LONGEST = 100
"""Iterations of the longest run that is tried."""
FEW_TILES = 3


@dataclass(frozen=True)
class Ordered:
    """Faults of the shortest run that has any, at `sizes`; or what was run, as a text. `reason` says what keeps the
    runs from standing for all trip counts and tiles, "" if nothing does."""

    events: tuple[Event, ...] = ()
    sizes: Sizes | None = None
    runs: str = ""
    reason: str = ""


def examine(case: Case) -> Ordered:
    """Run a block at every small trip count. Raises Unmodelled and LookupError for what the engine cannot know."""
    ring = _ring(case.kernel)
    found = by_trips(case, min(6 * ring + 4, LONGEST))
    if not found:
        return Ordered(reason="no sizes were found that the shape class takes")
    every = limited(case.kernel)
    longest = max(n for n in found if every or n <= max(4 * ring + 3, min(found)))
    first, events = _run(case, found[longest], dev.For)
    closed = [closes(heads) for heads in first.heads.values()]
    needed = longest if events or None in closed else max((sum(c) for c in closed if c), default=0) + ring + 1
    for count in sorted(n for n in found if n <= needed):
        _, events = _run(case, found[count], dev.Grid)
        if events:
            return Ordered(events, found[count])
    tiles = Ordered()
    if case.kernel.grid.persistent:
        tiles = _tile_after_tile(case, {n: s for n, s in found.items() if n <= needed}, ring)
    if tiles.events:
        return tiles
    runs = f"{min(found)} to {min(longest, needed)} iterations"
    runs += ", all that there are" if every else ", after which the state of the block comes back"
    left = "" if every else _uncertain(found, closed, needed)
    return Ordered((), None, runs, left or _unlike(case.kernel) or tiles.reason)


def _ring(kernel: dev.DeviceKernel) -> int:
    """The deepest ring of stages."""
    return max((b.stages for b in (*kernel.buffers, *kernel.barriers)), default=1)


def _run(
    case: Case, sizes: Sizes, kind: type[dev.For] | type[dev.Grid], enough: int = 0
) -> tuple[Snapshots, tuple[Event, ...]]:
    """The first block (or cluster) of a launch, without values."""
    made = call(case, sizes)
    memory = GlobalMemory(case.kernel.arrays, made.sizes, 0)
    snapshots = Snapshots(kind, enough)
    domain = Unknown(made.arrays, made.scalars)
    watch = snapshots.watch if kind is dev.For or enough else None
    machine = Machine(case.kernel, made.sizes, domain, memory, made.read, watch=watch)
    machine.run(0, case.kernel.cluster)
    order = ("races", "definedness", "completion", "protocol", "bounds")
    return snapshots, tuple(e for e in machine.events.values() if e.family in order and e.kind != "outside")


def _tile_after_tile(case: Case, found: dict[int, Sizes], ring: int) -> Ordered:
    """One block takes several tiles: until the state at a tile's start comes back, or a few."""
    for count, sizes in found.items():
        all_tiles = count <= 2 * ring + 1
        wider = several_tiles(case, sizes, 6 * ring + 4 if all_tiles else FEW_TILES)
        if wider is None:
            return Ordered(reason="no sizes were found with several tiles for a block")
        snapshots, events = _run(case, wider, dev.Grid, enough=1 if all_tiles else 0)
        if events:
            return Ordered(events, wider)
        if all_tiles and any(closes(h) is None for h in snapshots.heads.values()) and count:
            return Ordered(reason=f"with {count} iterations a tile the state of the block did not come back")
    return Ordered(
        reason=f"a block takes any number of tiles of up to {2 * ring + 1} iterations, {FEW_TILES} tiles of more"
    )


# What keeps the runs from standing for all ---------------------------------------------------------------


def _uncertain(found: dict[int, Sizes], closed: list[tuple[int, int] | None], needed: int) -> str:
    if None in closed:
        return f"the state of the block did not come back within {max(found)} iterations"
    missing = [n for n in range(1, needed + 1) if n not in found]
    return f"no sizes were found with {missing[0]} iterations" if missing else ""


def _unlike(kernel: dev.DeviceKernel) -> str:
    if kernel.grid.inner is not None:
        return "the walk over tiles depends on data"
    return "; ".join(dict.fromkeys(_unsteady(kernel)))


def _unsteady(kernel: dev.DeviceKernel) -> Iterator[str]:
    """Branches that order something and ask where the tile lies, and not only how long a loop is."""
    ends = {hi for loop in outermost(kernel) for hi in loop.hi}
    grids = {v for g in (kernel.grid, *(r.grid for r in kernel.roles)) for v in g.variables}
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.If) and not isinstance(statement.condition, dev.Fragment):
            for part in _compared(statement.condition):
                if not ({part.a, part.b} & ends) and any(set(i.symbols()) & grids for i in condition_indices(part)):
                    yield f"line {statement.origin.span.line} asks where the tile lies"


def _compared(condition: Condition) -> Iterator[Compare]:
    match condition:
        case Compare():
            yield condition
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _compared(part)
        case Negation(part):
            yield from _compared(part)


__all__ = ["Ordered", "examine"]
