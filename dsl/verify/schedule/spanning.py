"""Sizes at which a launch visits places that the usual sizes leave out: enough of them to stand for all (`alike`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from itertools import islice
from math import prod

from kernelagent.dsl import ir
from kernelagent.dsl.index import Element, Index, index
from kernelagent.dsl.verify.schedule.alike import Part, Unlike, parts_of, spans, unspanned
from kernelagent.dsl.verify.schedule.branching import foreign, unreached, untaken
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.remainders import uncut
from kernelagent.dsl.verify.schedule.sizes import (
    ALIGNED,
    SEVERAL,
    Sizes,
    by_trips,
    fits,
    outermost,
    reachable,
    several_tiles,
    tile_count,
    trips,
    whole_calls,
)
from kernelagent.dsl.verify.schedule.visible import Access, accesses, hidden
from kernelagent.dsl.verify.schedule.whole import RESIDENT, Launch
from kernelagent.dsl.verify.shapes import completed, members, whole_rows

_TRIED = 300
_FURTHER = 9
"""Iterations beyond those that are asked for: some counts no sizes give."""
_SMALL = (1, 2, 3, 4, 6, 8)
_ROUNDS = (1, 2, 4)


def sizes_to_run(case: Case, iterations: int, ran: Sequence[Launch]) -> Iterator[Sizes]:
    """The usual sizes, then what those that `ran`, by the time they are asked for, leave out: as many `iterations`,
    and places that span all."""
    yield from whole_calls(case, iterations)
    if _longest(case, ran) < iterations:
        counts = by_trips(case, iterations + _FURTHER)
        yield from islice((s for n, s in counts.items() if n >= iterations), 1)
    yield from (sizes for _, sizes in uncut(case, [launch.sizes for launch in ran]))
    parts = parts_of(case)
    for part in () if isinstance(parts, Unlike) else parts:
        made = [launch.made for launch in ran]
        if not any(spans(part, c) for c in made) and (more := _spanning(case, part, made)) is not None:
            yield more
    for access in () if isinstance(parts, Unlike) else accesses(case):
        made = [launch.made for launch in ran]
        if hidden(access, made) and (more := _revealing(case, access, made)) is not None:
            yield more
    if case.kernel.grid.persistent and untaken(case.kernel, _outcomes(ran)):
        yield from _turns(case)


def _turns(case: Case) -> Iterator[Sizes]:
    """Two tiles for every block, of two iterations: what it does with the second may be another branch."""
    two = reachable(case, 2) or next(iter(by_trips(case, 1).values()), None)
    more = several_tiles(case, two, 2 * RESIDENT) if two is not None else None
    yield from () if more is None else (more,)


def _outcomes(launches: Sequence[Launch]) -> dict[int, set[bool]]:
    """Which ways each branch went."""
    found: dict[int, set[bool]] = {}
    for launch in launches:
        for branch, ways in launch.outcomes.items():
            found[branch] = found.get(branch, set()) | ways
    return found


def branches_unlike(case: Case, ran: Sequence[Launch], empty: Sequence[Launch]) -> str:
    """What keeps the branches of the launches from standing for all, "" if nothing does."""
    entry = case.oracle.entry if case.oracle is not None else None
    if reason := foreign(case.kernel, entry if isinstance(entry, ir.Kernel) else None):
        return reason
    largest = max((n for launch in ran for n in launch.sizes.values()), default=0)
    return untaken(case.kernel, _outcomes([*ran, *empty])) or unreached(case.kernel, largest)


def unlike(case: Case, ran: Sequence[Launch], empty: Sequence[Launch], iterations: int) -> str:
    """What keeps the launches from standing for all tiles, "" if nothing does. After so many `iterations` of a loop
    nothing new happens."""
    if reason := branches_unlike(case, ran, empty):
        return reason
    if outermost(case.kernel) and _longest(case, ran) < iterations:
        return f"no launch was small enough with {iterations} iterations"
    for loop, _ in uncut(case, [launch.sizes for launch in ran]):
        line = loop.origin.span.line
        return f"no launch was small enough in which the loop of line {line} is long and its last step cut"
    parts = parts_of(case)
    if isinstance(parts, Unlike):
        return parts.reason
    calls = [launch.made for launch in ran]
    if (left := unspanned(parts, calls)) is not None:
        return f"no sizes were small enough to tell {left} from sums of the loops' counts"
    unseen = next((a for a in accesses(case) if hidden(a, calls)), None)
    return "" if unseen is None else f"no run takes enough elements of {unseen.array} at line {unseen.line}"


def _longest(case: Case, ran: Sequence[Launch]) -> int:
    return max((trips(case.kernel, launch.sizes) or 0 for launch in ran), default=0)


def _spanning(case: Case, part: Part, ran: Sequence[Call]) -> Sizes | None:
    """The smallest sizes at which the places of a part span; None if none of those that are tried do."""
    dims = _dims(case, part)
    if not ran or not dims:
        return None
    base = min((c.sizes for c in ran), key=lambda s: prod(s.values()))
    known = {d: n for d, n in base.items() if d in case.kernel.dims}
    choices = [_values(case, part, dim) for dim in dims]
    tried = sorted(itertools.product(*choices), key=prod)
    for values in islice(tried, _TRIED):
        sizes = _accepted(case, {**known, **dict(zip(dims, values, strict=True))})
        if sizes is not None and tile_count(case.kernel, sizes) <= SEVERAL and spans(part, call(case, sizes)):
            return sizes
    return None


def _revealing(case: Case, access: Access, ran: Sequence[Call]) -> Sizes | None:
    """The smallest sizes with which an access takes elements at enough places; None if none of those that are tried
    do."""
    if not ran:
        return None
    values = [v for span in access.spans for v in span]
    dims = sorted({s.name for v in (*values, *access.terms) for s in v.symbols()} & set(case.kernel.dims))
    ends = {s.name for a in access.axes for b in a.bounds() for s in b.symbols()} & set(case.kernel.dims)
    base = min((c.sizes for c in ran), key=lambda s: prod(s.values()))
    known = {d: n for d, n in base.items() if d in case.kernel.dims}
    names = sorted({*dims, *ends})
    far = max((abs(v.substitute({s.name: index(0) for s in v.symbols()}).constant or 0) for v in values), default=0)
    steps = {a.step.constant or 1 for a in access.axes} | {1}
    near = sorted({*_SMALL, *(far + n * s + 1 for s in steps for n in (1, 2, 3))})
    choices = [members(case.shapes, d) or near for d in names]
    for picked in islice(sorted(itertools.product(*choices), key=prod), _TRIED):
        sizes = _accepted(case, {**known, **dict(zip(names, picked, strict=True))})
        few = sizes is not None and tile_count(case.kernel, sizes) <= SEVERAL
        if sizes is not None and few and not hidden(access, [*ran, call(case, sizes)]):
            return sizes
    return None


def _accepted(case: Case, wanted: dict[str, int]) -> Sizes | None:
    made = (completed(case.shapes, wanted), whole_rows(case.shapes, wanted, ALIGNED))
    return next((s for s in made if s is not None and fits(case.kernel, s)), None)


def _values(case: Case, part: Part, dim: str) -> list[int]:
    """Some small numbers, and one past a few steps of the loops."""
    listed = members(case.shapes, dim)
    if listed:
        return listed
    steps = {axis.step.constant or 1 for axis in part.axes}
    return sorted({*_SMALL, *(n * step + 1 for step in steps if step > 1 for n in _ROUNDS)})


def _dims(case: Case, part: Part) -> list[str]:
    """Dims that the part's loops end at, and that its terms have; with data, those of the data."""
    values: list[Index] = [*part.terms, *(b for axis in part.axes for b in axis.bounds())]
    names = {s.name for v in values for s in v.symbols() if s.kind == "dim"}
    read = {a.array for v in values for a in v.atoms() if isinstance(a, Element)}
    for array in case.kernel.arrays:
        if array.name in read:
            names |= {s.name for d in array.dims for s in d.symbols()}
    for assume in case.shapes.entry.assumes:
        if assume.data is not None and assume.data[1] in read:
            names |= {s.name for bound in assume.data[2] for s in bound.symbols()}
    return sorted(names & set(case.kernel.dims))


__all__ = ["branches_unlike", "sizes_to_run", "unlike"]
