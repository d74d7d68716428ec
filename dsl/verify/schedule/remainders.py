"""Sizes at which the last iteration of a long loop is cut: a copy some steps ahead ends with its part, or runs on.

A part of a quarter of K has whole iterations wherever K is a multiple of 128, and such sizes say nothing of where the
copies of a loop end. So each loop that some sizes cut has to be cut in a launch, behind as many iterations as the
deepest ring has stages.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.deepest import iterations
from kernelagent.dsl.verify.schedule.sizes import (
    ALIGNED,
    Sizes,
    deepest_ring,
    ends_early,
    few_tiles,
    first_tile,
    fits,
    outermost,
    steps,
    tile_count,
)
from kernelagent.dsl.verify.shapes import completed

_PAST = (1, 2, 4, 8, ALIGNED)
"""Elements beyond whole iterations."""


def uncut(case: Case, ran: Sequence[Sizes]) -> Iterator[tuple[dev.For, Sizes]]:
    """Loops that none of the sizes cut behind enough iterations, with sizes that do."""
    for loop in outermost(case.kernel):
        if ends_early(loop) or any(_cut(case, loop, s) for s in ran):
            continue
        found = next((s for s in _further(case, loop, ran) if _cut(case, loop, s)), None)
        if found is not None:
            yield loop, found


def _cut(case: Case, loop: dev.For, sizes: Sizes) -> bool:
    """Whether the loop has such an end in the first tile; False where data decides."""
    try:
        known = first_tile(case.kernel, sizes)
        ends = [
            (hi.evaluate(known) - lo.evaluate(known)) % step.evaluate(known)
            for lo, hi, step in zip(loop.lo, loop.hi, loop.step, strict=True)
        ]
        return any(ends) and iterations(loop, known) > deepest_ring(case.kernel)
    except (KeyError, ZeroDivisionError):
        return False


def _further(case: Case, loop: dev.For, ran: Sequence[Sizes]) -> Iterator[Sizes]:
    """The smallest sizes with one of the loop's dims longer, by rounds of the deepest ring and some elements."""
    widths = {d: n for d, n in steps(case.kernel).items() if any(d in {s.name for s in hi.symbols()} for hi in loop.hi)}
    rounds = deepest_ring(case.kernel)
    for base in sorted(ran, key=lambda s: (tile_count(case.kernel, s), sum(s.values())))[:1]:
        for (dim, width), past in itertools.product(widths.items(), _PAST):
            known = {d: n for d, n in base.items() if d in case.kernel.dims}
            longer = completed(case.shapes, {**known, dim: rounds * width + past})
            if longer is not None and fits(case.kernel, longer):
                yield few_tiles(case, longer)


__all__ = ["uncut"]
