"""Sizes at which no two axes are alike: fewer tiles along one than along another, or all rows in one group of the data.

A walk that takes columns for rows stores everything where both have as many tiles. And a copy that forgets the row of
its tile is right as long as each group has one tile of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

from kernelagent.dsl.index import Element
from kernelagent.dsl.level2.traverse import every_grid
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.verify import coverage
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.sizes import ALIGNED, SEVERAL, Sizes, fits, tile_count, trips
from kernelagent.dsl.verify.schedule.turns import stored_tiles
from kernelagent.dsl.verify.shapes import completed, whole_rows


def uneven_calls(case: Case, ran: Sequence[Sizes]) -> Iterator[Sizes]:
    """What the calls that `ran` leave out. Different tile counts only where coverage is not shown for all sizes."""
    filled = [s for s in ran if 0 not in s.values()]
    if not filled:
        return
    yield from (s for s in _one_group(case, filled) if s not in ran)
    shown = coverage.prove(stored_tiles(case.kernel, case.shapes.entry.assumes))
    if any(o.verdict != "PROVED" for o in shown):
        yield from (s for s in _different_counts(case, filled) if s not in ran)


def _one_group(case: Case, ran: Sequence[Sizes]) -> Iterator[Sizes]:
    """The call with the most iterations, with as few groups as the data can have."""
    deepest = max(ran, key=lambda s: trips(case.kernel, s) or 0)
    groups = _group_dims(case)
    one = _accepted(case, {**deepest, **dict.fromkeys(groups, 1)}) if groups else None
    if one is not None:
        yield one


def _group_dims(case: Case) -> set[str]:
    """Dims of the arrays of which grids take their bounds."""
    bounds = [b for grid in every_grid(case.kernel) for b in (*grid.lo, *grid.hi)]
    read = {a.array for b in bounds for a in b.atoms() if isinstance(a, Element)}
    extents = [d for array in case.kernel.arrays if array.name in read for d in array.dims]
    return {s.name for d in extents for s in d.symbols() if s.kind == "dim"}


def _different_counts(case: Case, ran: Sequence[Sizes]) -> Iterator[Sizes]:
    """The smallest call with 1, 2, 3 ... tiles along the axes of the grid, and with as many the other way round."""
    smallest = min(ran, key=lambda s: prod(s.values()))
    grid = innermost(case.kernel.grid)
    steps = {
        s.name: step.constant or 1
        for hi, step in zip(grid.hi, grid.step, strict=True)
        for s in hi.symbols()
        if s.kind == "dim"
    }
    for dims in (list(steps), list(reversed(steps))):
        wanted = {dim: steps[dim] * count + 1 for count, dim in enumerate(dims)}
        found = _accepted(case, {**smallest, **wanted})
        if found is not None and tile_count(case.kernel, found) <= SEVERAL:
            yield found


def _accepted(case: Case, wanted: dict[str, int]) -> Sizes | None:
    made = (completed(case.shapes, wanted), whole_rows(case.shapes, wanted, ALIGNED))
    return next((s for s in made if s is not None and fits(case.kernel, s)), None)


__all__ = ["uneven_calls"]
