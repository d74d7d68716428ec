"""Races, waits and fences for every trip count: a block runs each small one, and its state is shown to come back.

What happens in shared memory depends on a tile only through its trip counts: addresses come from threads, stages and
counters, and masks only remove loads. So one block stands for all, where no branch asks where its tile lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, lcm

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Symbol
from kernelagent.dsl.verify.records import Family
from kernelagent.dsl.verify.schedule.any_walk import drawn, walks
from kernelagent.dsl.verify.schedule.budget import Exhausted, share
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.closing import Iterations, Tiles, closes
from kernelagent.dsl.verify.schedule.counts import Count, Unsteady, counts, several_lengths
from kernelagent.dsl.verify.schedule.deepest import block_of, kinds, later_longer, most_iterations
from kernelagent.dsl.verify.schedule.domains.unknown import Unknown
from kernelagent.dsl.verify.schedule.globals import GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Event, Machine
from kernelagent.dsl.verify.schedule.sizes import (
    Sizes,
    by_trips,
    deepest_ring,
    ends_early,
    limited,
    outermost,
    reachable,
    several_tiles,
    shown_block,
    steps,
)
from kernelagent.dsl.verify.schedule.steady import asking, nested, uncounted
from kernelagent.dsl.verify.schedule.thresholds import late

LONGEST = 100
"""Iterations of the longest run that is tried."""
ORDERED: tuple[Family, ...] = ("races", "definedness", "completion")
_WALKS = 0.6
"""Of the work and time that is left, for walks over tiles that depend on data."""


@dataclass(frozen=True)
class Ordered:
    """Faults of the shortest run that has any, at `sizes`; or what was run, as a text. `reason` says what keeps the
    runs from standing for all trip counts and tiles, "" if nothing does."""

    events: tuple[Event, ...] = ()
    sizes: Sizes | None = None
    runs: str = ""
    reason: str = ""
    iterations: int = 5  # of a loop, after which nothing new happens


def examine(case: Case, quick: bool = False) -> Ordered:
    """Run a block at every small trip count; `quick`: at few, where blocks take tile after tile. Raises Unmodelled and
    LookupError for what the engine cannot know."""
    ring = deepest_ring(case.kernel)
    found = by_trips(case, min(6 * ring + 4, LONGEST))
    if not found:
        return Ordered(reason="no sizes were found that the shape class takes")
    every = limited(case.kernel)
    longest, cycle = _first_cycle(case, found, max(n for n in found if every or n <= max(4 * ring + 3, min(found))))
    apart = len(outermost(case.kernel))  # loops of one tile may begin that much after the first
    some = gcd(*found) or 1  # of 3 by 3 by c iterations every ninth count alone is there
    needed = longest if cycle is None else cycle.first + lcm(cycle.period, some) + ring + apart
    found |= by_trips(case, needed) if needed > max(found) and some > 1 and not every else {}
    for count in (n for n in range(1, needed + 1) if n not in found and not every):
        sizes = reachable(case, count)
        found |= {} if sizes is None else {count: sizes}
    brief = quick and case.kernel.grid.persistent
    telling = {0, 1, ring, 2 * ring + 1, longest}
    for count in sorted(n for n in found if n <= needed and (not brief or n in telling)):
        _, events = _run(case, found[count])
        if events:
            return Ordered(events, found[count])
    if every:
        ran = _each_kind(case, found)
        if ran.events:
            return ran
        left = ran.reason
    else:
        left = _uncertain(case.kernel, found, cycle, needed) or several_lengths(case.kernel)
    left = left or late(case.kernel, longest if cycle is None else cycle.first, ring)
    turned = case.merged.turning.span
    left = left or nested(case.kernel)
    left = left or uncounted(case.kernel, None if every or cycle is None else lcm(cycle.period, turned))
    if case.kernel.grid.inner is not None and not left:
        walked = _any_walk(case, found, cycle, ring, quick)
        if walked.events or not walked.runs:
            return walked
        left = walked.reason
    left = left or _unlike(case.kernel)
    if case.kernel.grid.persistent and cycle is not None and not left:
        tiles = _few_tiles(case, found, ring) if brief else _tile_after_tile(case, found, cycle, ring)
        if tiles.events:
            return tiles
        left = tiles.reason
    runs = _span(min(found), min(longest, needed))
    back = "" if cycle is None else ", after which the state of the block comes back"
    runs += ", all that there are" if every else back
    return Ordered((), None, runs, left, min(longest, needed, ring + 1 if brief else LONGEST))


def _span(least: int, most: int) -> str:
    counted = f"{least} to {most}" if least < most else f"{most}"
    return f"{counted} iteration{'s' if most != 1 else ''}"


@dataclass(frozen=True)
class _Cycle:
    """From iteration `first` of a tile on the state comes back every `period` iterations."""

    first: int
    period: int


def _first_cycle(case: Case, found: dict[int, Sizes], least: int) -> tuple[int, _Cycle | None]:
    """The smallest of two trip counts, from `least` on, in which the state comes back, with its cycle."""
    tried = [n for n in sorted(found) if n >= least][:2]
    for count in tried:
        cycle = _cycle(case, found[count])
        if cycle is not None:
            return count, cycle
    return least, None


def _cycle(case: Case, sizes: Sizes) -> _Cycle | None:
    """That of a tile; None where some loop's state does not come back, or something is wrong."""
    seen = Iterations()
    _, events = _run(case, sizes, seen)
    closed = [closes(seen.loops[k]) for k, head in seen.heads.items() if not ends_early(head)]
    if events or not all(closed):
        return None
    pairs = [c for c in closed if c]
    return _Cycle(max((f for f, _ in pairs), default=0), lcm(*(p for _, p in pairs)))


def _each_kind(case: Case, found: dict[int, Sizes]) -> Ordered:
    """Where a tile's place makes loops shorter that end early: one tile of each length that there is."""
    loops = outermost(case.kernel)
    if not later_longer(case.kernel, loops):
        return Ordered()
    longest = max(most_iterations(loop) or 0 for loop in loops)
    missing = [n for n in range(1, longest + 1) if n not in found]
    if missing:
        return Ordered(reason=f"no sizes were found with {missing[0]} iterations")
    ran: dict[int, tuple[int, ...]] = {}
    for sizes in found.values():
        for at, lengths in kinds(case.kernel, loops, sizes):
            if ran.get(max(lengths), lengths) != lengths:
                return Ordered(reason="loops of one tile have lengths of their own")
            if max(lengths) not in ran:
                ran[max(lengths)] = lengths
                _, events = _run(case, sizes, block=block_of(case.kernel, at, sizes))
                if events:
                    return Ordered(events, sizes)
    return Ordered()


def _run(
    case: Case, sizes: Sizes, seen: Iterations | Tiles | None = None, block: int | None = None
) -> tuple[Machine, tuple[Event, ...]]:
    """One block (or cluster) of a launch, without values; None: the first, or the one with the most iterations."""
    made = call(case, sizes, positions_only=True)
    memory = GlobalMemory(case.kernel.arrays, made.sizes, 0)
    domain = Unknown(made.arrays, made.scalars)
    watch = seen.watch if seen else None
    machine = Machine(case.kernel, made.sizes, domain, memory, made.read, watch=watch, footprints=case.merged)
    machine.run(shown_block(case.kernel, made.sizes) if block is None else block, case.kernel.cluster)
    order = ("races", "definedness", "completion", "protocol", "bounds")
    return machine, tuple(e for e in machine.events.values() if e.family in order)


def one_block(case: Case, sizes: Sizes) -> str:
    """What keeps one block at exactly these sizes from standing for all blocks; "" where it does, and nothing is wrong.
    Raises Unmodelled and LookupError for what the engine cannot know."""
    if case.kernel.grid.persistent or case.kernel.grid.inner is not None:
        return "blocks take tile after tile"
    varying = {v for loop in outermost(case.kernel) for bound in (*loop.lo, *loop.hi) for v in bound.symbols()}
    if varying & _grid_variables(case.kernel):
        return "tiles have different trip counts"
    unlike = _unlike(case.kernel) or uncounted(case.kernel, None)
    return unlike or ("a fault" if _run(case, sizes)[1] else "")


# Blocks that take tile after tile ------------------------------------------------------------------------


def _tile_after_tile(case: Case, found: dict[int, Sizes], cycle: _Cycle, ring: int) -> Ordered:
    """Tile after tile of each trip count, until the state in front of one comes back."""
    turning = case.merged.turning
    period = 0 if limited(case.kernel) else cycle.period
    try:
        for count in counts(case, found, cycle.first, period, ring):
            walked = _walk(case, count, cycle.period, 2 * (cycle.first + lcm(cycle.period, turning.apart)) + 2)
            if walked.events or walked.reason:
                return walked
    except Unsteady as lack:
        return Ordered(reason=str(lack))
    return Ordered()


def _walk(case: Case, count: Count, period: int, tiles: int) -> Ordered:
    """So many tiles at most, one behind the other."""
    sizes = several_tiles(case, count.sizes, tiles) if count.sizes is not None else None
    if sizes is None:
        return Ordered(reason=f"no sizes were found with several tiles of {count.number} iterations for a block")
    seen = Tiles(count.middle, period)
    _, events = _run(case, sizes, seen)
    if events:
        return Ordered(events, sizes)
    if count.number and not seen.returned:
        return Ordered(reason=f"with {count.number} iterations a tile the state of the block did not come back")
    if not seen.ends:
        return Ordered(
            reason="a tile begins while accesses of the one before are under way that the last would not end"
        )
    count.steady = seen.steady
    return Ordered()


def _few_tiles(case: Case, found: dict[int, Sizes], ring: int) -> Ordered:
    """Three tiles for a block, of a round and one iteration."""
    count = max((n for n in found if n <= ring + 1), default=0)
    sizes = several_tiles(case, found[count], 3) if count in found else None
    if sizes is not None:
        _, events = _run(case, sizes)
        if events:
            return Ordered(events, sizes)
    return Ordered(reason="a quick check takes few trip counts, and three tiles a block")


# Blocks whose walk depends on data ------------------------------------------------------------------------


def _any_walk(case: Case, found: dict[int, Sizes], cycle: _Cycle | None, ring: int, quick: bool) -> Ordered:
    """Any tile behind any other; no `runs` for a fault that no drawn data shows."""
    some = "any tile behind any other"
    if quick:
        return Ordered(runs=some, reason="a quick check takes no walks over tiles that depend on data")
    first, period = (cycle.first, cycle.period) if cycle is not None else (0, 0)
    period = 0 if limited(case.kernel) else period
    try:
        with share(_WALKS):
            walked = walks(case, found, first, period, ring)
    except Exhausted as lack:
        return Ordered(runs=some, reason=f"the walk over tiles depends on data: {lack}")
    if not walked.events:
        return Ordered(runs=some, reason=walked.reason)
    kinds = {e.kind for e in walked.events}
    for sizes in drawn(case, walked):
        _, events = _run(case, sizes)
        if any(e.kind in kinds for e in events):
            return Ordered(events, sizes)
    return Ordered(reason=f"a walk over tiles goes wrong, and no drawn data shows it: {walked.events[0].message}")


# What keeps the runs from standing for all ---------------------------------------------------------------


def _uncertain(kernel: dev.DeviceKernel, found: dict[int, Sizes], cycle: _Cycle | None, needed: int) -> str:
    """Trip counts of one dim were looked for size by size; those of several together were not."""
    if cycle is None:
        return f"the state of the block did not come back within {_span(max(found), max(found))}"
    missing = [n for n in range(1, needed + 1) if n not in found and n % (gcd(*found) or 1) == 0]
    return f"no sizes were found with {missing[0]} iterations" if missing and len(steps(kernel)) > 1 else ""


def _unlike(kernel: dev.DeviceKernel) -> str:
    if kernel.grid.inner is not None:
        return ""  # see `any_walk`
    varying = {v for loop in outermost(kernel) for bound in (*loop.lo, *loop.hi) for v in bound.symbols()}
    if kernel.grid.persistent and varying & _grid_variables(kernel):
        return "blocks take tiles of different trip counts one after the other"
    return "; ".join(dict.fromkeys(asking(kernel)))


def _grid_variables(kernel: dev.DeviceKernel) -> set[Symbol]:
    return {v for g in (kernel.grid, *(r.grid for r in kernel.roles)) for v in g.variables}


__all__ = ["ORDERED", "Ordered", "examine", "one_block"]
