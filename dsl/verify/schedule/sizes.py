"""Sizes that show everything a schedule does: every small trip count of its loops, and tiles cut on every side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Element, Index, cdiv
from kernelagent.dsl.level2.traverse import every_grid, grids
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.targets.cuda.units import Placed, holds, unmapped
from kernelagent.dsl.verify.schedule.budget import spend
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.deepest import block_of, iterations, later_longer, longest_tile
from kernelagent.dsl.verify.schedule.pitches import strides
from kernelagent.dsl.verify.schedule.trips import cap
from kernelagent.dsl.verify.shapes import completed, deepened, emptied, sizes, whole_rows
from kernelagent.dsl.walks import counts_of, tile_counts

Sizes = Mapping[str, int]
_SEARCHED = 400
_DOUBLINGS = 6
_SPAN = 16 * 2520
"""Of a dim, to see how fast loops grow with it: parts of up to 10, and of 16, divide it."""
FEW, SEVERAL = 6, 24
"""Tiles of a launch with many iterations each, and of others."""
ALIGNED = 16
"""A multiple that every guard of an aligned class divides: 16 bytes of the narrowest dtype."""


def deepest_ring(kernel: dev.DeviceKernel) -> int:
    """The most stages of any buffer or barrier."""
    counts = [b.stages for b in kernel.buffers] + [b.stages for b in kernel.barriers]
    return max(counts, default=1)


def outermost(kernel: dev.DeviceKernel) -> list[dev.For]:
    """Sequential loops of a tile that no loop is around, of every role."""
    found: list[dev.For] = []
    for grid in [kernel.grid, *(r.grid for r in kernel.roles)]:
        found += _top(innermost(grid).body)
    return found


def _top(body: Sequence[dev.Statement]) -> Iterator[dev.For]:
    for statement in body:
        match statement:
            case dev.For():
                yield statement
            case dev.If(then=then, otherwise=otherwise):
                yield from _top((*then, *otherwise))
            case _:
                pass


def trips(kernel: dev.DeviceKernel, found: Sizes) -> int | None:
    """Iterations of the longest outermost loop in the first tile, or in the tile with the most where those of the first
    are few whatever the sizes; None where data decides, or nothing is defined."""
    loops = outermost(kernel)
    try:
        known = {**found, **first_tile(kernel, found)}
        if kernel.grid.inner is None and _empty(kernel.grid, known):
            return None
        if later_longer(kernel, loops):
            return longest_tile(kernel, loops, found)[1]
        return max((iterations(loop, known) for loop in loops), default=0)
    except (KeyError, ZeroDivisionError):
        return None


def shown_block(kernel: dev.DeviceKernel, found: Sizes) -> int:
    """The block whose iterations `trips` counts: the first, but where another has more of them."""
    loops = outermost(kernel)
    return block_of(kernel, longest_tile(kernel, loops, found)[0], found) if later_longer(kernel, loops) else 0


def _empty(grid: dev.Grid, known: Sizes) -> bool:
    return any(hi.evaluate(known) <= lo.evaluate(known) for lo, hi in zip(grid.lo, grid.hi, strict=True))


def first_tile(kernel: dev.DeviceKernel, found: Sizes) -> dict[str, int]:
    """The sizes with the loop variables of the first tile, where no data decides them."""
    known = dict(found)
    for grid in every_grid(kernel):
        for variable, lo in zip(grid.variables, grid.lo, strict=True):
            if not any(isinstance(a, Element) for a in lo.atoms()):
                known[variable.name] = lo.evaluate(known)
    return known


def by_trips(case: Case, most: int) -> dict[int, Sizes]:
    """For each trip count up to `most` that some sizes have, such sizes; the other dims are about one tile."""
    found: dict[int, Sizes] = {}
    for base in _bases(case):
        for chosen in _grown(base, steps(case.kernel), most):
            _keep(case, chosen, most, found)
        if len(found) > most:
            break
    return dict(sorted(found.items()))


def reachable(case: Case, count: int) -> Sizes | None:
    """Sizes with exactly `count` iterations, looked for one by one; None if no size of a single dim gives them."""
    found: dict[int, Sizes] = {}
    for base in _bases(case):
        for dim, step in steps(case.kernel).items():
            for extent in range(max(count - 1, 0) * step + 1, count * step + 1):
                _keep(case, {**base, dim: extent}, count, found)
                if count in found:
                    return found[count]
    return None


def _keep(case: Case, chosen: dict[str, int], most: int, found: dict[int, Sizes]) -> None:
    spend()
    accepted = completed(case.shapes, chosen)
    if accepted is None or not fits(case.kernel, accepted):
        return
    count = trips(case.kernel, accepted)
    if count is not None and count <= most and count not in found:
        found[count] = accepted


def _grown(base: Sizes, widths: Mapping[str, int], most: int) -> Iterator[dict[str, int]]:
    """All dims that loops end at together, then each alone."""
    for count in range(most + 1):
        yield {**base, **{d: count * step for d, step in widths.items()}}
        yield {**base, **{d: max(count, 1) * step for d, step in widths.items()}}
    for dim, step in widths.items():
        for count in range(most + 2):
            yield {**base, dim: count * step}
            yield {**base, **dict.fromkeys(widths, 1), dim: count * step}


def steps(kernel: dev.DeviceKernel) -> dict[str, int]:
    """For each dim or integer scalar in the bounds of an outermost loop the loop's largest step."""
    found: dict[str, int] = {}
    loops = outermost(kernel)
    ends = dict(zip(kernel.grid.variables, kernel.grid.hi, strict=True)) if later_longer(kernel, loops) else {}
    for loop in loops:
        for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True):
            width = step.constant or 1
            places = [ends[v].symbols() for v in hi.symbols() & ends.keys()]  # `range(0, i)`: as far as tiles go
            for symbol in hi.symbols().union(*places):
                if symbol.kind in ("dim", "param"):
                    each = _for_one_more(kernel, hi - lo, symbol.name, width)
                    found[symbol.name] = max(each, found.get(symbol.name, 1))
    return found


def _for_one_more(kernel: dev.DeviceKernel, length: Index, name: str, width: int) -> int:
    """By how much a dim grows for one iteration more in the first tile: by 4 steps where the loop is over a quarter of
    it, by the step where it is over all of it or more, and where data decides; other dims are 1."""
    try:
        known = first_tile(kernel, dict.fromkeys(kernel.dims, 1))
        longer = length.evaluate({**known, name: 2 * _SPAN}) - length.evaluate({**known, name: _SPAN})
    except (KeyError, ZeroDivisionError):
        return width
    return -(-width * _SPAN // longer) if 0 < longer < _SPAN else width


def limited(kernel: dev.DeviceKernel) -> bool:
    """Whether every outermost loop ends after a constant number of positions at the latest."""
    return all(map(ends_early, outermost(kernel)))


def ends_early(loop: dev.For) -> bool:
    """Whether a loop ends after a constant number of positions at the latest."""
    return all(cap(hi - lo) is not None for lo, hi in zip(loop.lo, loop.hi, strict=True))


def _always(kernel: dev.DeviceKernel) -> int:
    """Iterations that every outermost loop has for each step of what sizes decide: 9 of a window of 3 by 3."""
    counts = [
        [cdiv(h - lo, s).constant or 1 for lo, h, s in zip(f.lo, f.hi, f.step, strict=True)] for f in outermost(kernel)
    ]
    return max(1, min((prod(c) for c in counts), default=1))


def several_tiles(case: Case, found: Sizes, count: int) -> Sizes | None:
    """The sizes with at least `count` tiles (of a cluster's blocks), along one dim that only the grid ends at, and as
    few as possible along the others; None if there is no such dim."""
    grid = innermost(case.kernel.grid)
    looped = steps(case.kernel)
    rows = len(grid.hi) - 2  # along which the blocks of a cluster lie, and along the columns
    along = (case.kernel.cluster, 1) if grid.together == (1, 1) else grid.together
    for axis in reversed(range(len(grid.hi))):
        for symbol in grid.hi[axis].symbols():
            if symbol.kind == "dim" and symbol.name not in looped:
                each = along[axis - rows] if axis >= rows >= 0 else 1
                wider = {**narrow(case, found), symbol.name: (grid.step[axis].constant or 1) * count * each}
                accepted = completed(case.shapes, wider)
                if accepted is not None and fits(case.kernel, accepted):
                    return accepted
    return None


def narrow(case: Case, found: Sizes) -> dict[str, int]:
    """The sizes with dims that only the grid ends at made small, where that is accepted."""
    narrow, looped = dict(found), steps(case.kernel)
    for dim in (d for d in found if d not in looped):
        for extent in (1, 8, ALIGNED):
            smaller = completed(case.shapes, {**narrow, dim: min(extent, narrow[dim])})
            if smaller is not None and fits(case.kernel, smaller):
                narrow = smaller
                break
    return narrow


def _bases(case: Case) -> Iterator[Sizes]:
    """Sizes of about one tile that the kernel and the class accept, a larger and a tiny one."""
    drawn = list(islice(sizes(case.shapes, {}), 8))
    rounded = [r for s in drawn if (r := whole_rows(case.shapes, s, ALIGNED)) is not None]
    larger = [s for s in (*rounded, *drawn) if fits(case.kernel, s)][:1]
    tiny = [t for s in larger if (t := _small(case, s)) is not None]
    yield from (few_tiles(case, s) for s in (*larger, *tiny))


def _small(case: Case, found: Sizes) -> Sizes | None:
    for extent in (1, 8, ALIGNED):
        small = completed(case.shapes, {d: min(n, extent) for d, n in found.items()})
        if small is not None and fits(case.kernel, small):
            return small
    return None


def few_tiles(case: Case, found: Sizes, most: int = SEVERAL) -> Sizes:
    """The sizes with as few tiles as `most`, if making dims smaller comes to that: each time the dim that shrinks least
    for half as many tiles, so that those with a cut tile stay."""
    while (count := tile_count(case.kernel, found)) > most:
        shrunk = [(n / e, completed(case.shapes, {**found, d: e})) for d, n in found.items() for e in (2, 1) if n > e]
        taken = [(ratio, s) for ratio, s in shrunk if s is not None and fits(case.kernel, s)]
        halved = [(ratio, s) for ratio, s in taken if tile_count(case.kernel, s) <= count // 2]
        if not halved:
            break
        found = min(halved, key=lambda pair: pair[0])[1]
    return found


def cut_everywhere(case: Case, found: Sizes) -> Sizes:
    """The sizes with a second tile along every axis: dims grow that others follow from, `P == (H + 1) // 2`."""
    for axis in range(len(case.kernel.grid.hi)):
        for _ in range(_DOUBLINGS):
            count = _along(case.kernel, found, axis)
            if count is None or count > 1:
                break
            grown = (completed(case.shapes, {**found, d: 2 * n + 1}) for d, n in found.items() if n)
            longer = (s for s in grown if s is not None and fits(case.kernel, s) and _more(case.kernel, found, s, axis))
            found = next(longer, found)
    return found


def _more(kernel: dev.DeviceKernel, found: Sizes, other: Sizes, axis: int) -> bool:
    """Whether a grid's axis is longer, and no other has more tiles."""
    lo, hi = kernel.grid.lo[axis], kernel.grid.hi[axis]
    longer = (hi - lo).evaluate(other) > (hi - lo).evaluate(found)
    others = (k for k in range(len(kernel.grid.hi)) if k != axis)
    return longer and all(_along(kernel, found, k) == _along(kernel, other, k) for k in others)


def _along(kernel: dev.DeviceKernel, found: Sizes, axis: int) -> int | None:
    """Tiles along an axis of the outer grid; None where data decides."""
    grid = kernel.grid
    try:
        return -(-(grid.hi[axis] - grid.lo[axis]).evaluate(found) // grid.step[axis].evaluate(found))
    except KeyError:
        return None


def tile_count(kernel: dev.DeviceKernel, found: Sizes) -> int:
    """Tiles of all grids that do not depend on data, inner ones taken as often as outer ones run."""
    known, total = first_tile(kernel, found), 1
    for grid in grids(kernel.grid):
        for count in counts_of(grid):
            try:
                total *= max(1, count.evaluate(known))
            except KeyError:
                continue
    return total


def fits(kernel: dev.DeviceKernel, found: Sizes) -> bool:
    """Whether arrays of these sizes, aligned and padded as the schedule's shape class asks, take it."""
    shapes = {a.name: tuple(d.evaluate(found) for d in a.dims) for a in kernel.arrays}
    placed = {name: Placed(0, shape, strides(kernel, name, shape)) for name, shape in shapes.items()}
    taken = all(holds(guard, kernel.arrays, placed, found) for guard in kernel.shape_class.guards)
    return taken and not (0 in found.values() and any(unmapped(kernel, placed)))


def whole_calls(case: Case, iterations: int) -> list[Sizes]:
    """Sizes at which all blocks are run: one past each tile in every dim and so many rounds of sequential loops, tiny
    ones, one past each tile alone, and 1. Only such as take the case's class."""
    found: list[Sizes] = []
    always = _always(case.kernel)
    rounds = iterations if always == 1 else max(-(-iterations // always), deepest_ring(case.kernel) - 1)
    for first in islice(sizes(case.shapes, {}), _SEARCHED):
        deep = deepened(case.shapes, first, {}, rounds) or first
        tiny, one = (_all_about(case, first, n) for n in (3, 1))
        for candidate, most in ((deep, FEW), (tiny, SEVERAL), (first, SEVERAL), (one, SEVERAL)):
            rounded = (None,) if candidate is None else (candidate, *_rounded(case, candidate))
            fitting = next((c for c in rounded if c is not None and fits(case.kernel, c)), None)
            cut = cut_everywhere(case, fitting) if fitting and candidate is first else fitting
            smaller = few_tiles(case, cut, most) if cut else None
            found += [] if smaller is None or smaller in found else [smaller]
        if len(found) >= 3:
            break
    return found[:4]


def _rounded(case: Case, found: Sizes) -> Iterator[Sizes | None]:
    """The sizes with whole rows where the class asks for them, and nowhere else; then everywhere."""
    divided = {g.subject for g in case.kernel.shape_class.guards if g.kind == "divides"}
    yield completed(case.shapes, {d: -(-n // ALIGNED) * ALIGNED if d in divided else n for d, n in found.items()})
    yield whole_rows(case.shapes, found, ALIGNED)


def _all_about(case: Case, first: Sizes, extent: int) -> Sizes:
    """The sizes with each dim so small that can be: `D == 64` stays."""
    small = completed(case.shapes, dict.fromkeys(first, extent))
    for dim in first if small is None else ():
        first = completed(case.shapes, {**first, dim: extent}) or first
    return small or first


def empty_calls(case: Case, whole: Sequence[Sizes]) -> list[Sizes]:
    """The smallest of `whole` with each dim 0 alone, and with all: those that take the case's class, and in which
    anything happens."""
    if not whole:
        return []
    smallest = min(whole, key=lambda found: (tile_count(case.kernel, found), sum(found.values())))
    return [f for f in emptied(case.shapes, smallest) if not _idle(case.kernel, f) and fits(case.kernel, f)]


def _idle(kernel: dev.DeviceKernel, found: Sizes) -> bool:
    """Whether no block is launched, and no output has elements that one could store."""
    stored = any(0 not in [d.evaluate(found) for d in a.dims] for a in kernel.arrays if a.role == "Out")
    try:
        return not stored and kernel.grid.inner is None and 0 in tile_counts(kernel.grid, found)
    except KeyError:
        return False


__all__ = ["Sizes", "by_trips", "empty_calls", "first_tile", "fits", "outermost", "trips", "whole_calls"]
