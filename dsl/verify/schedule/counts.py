"""Which trip counts of tiles that follow each other stand for all.

Say that within every tile of a walk the state comes back after `period` iterations, so early that nothing looks ahead
to the loop's end in between. Then with a period more in every tile each goes the same way to the same state, and once
more around: what is in front of the next tile is the same. So a count whose walks are `steady` stands for those with a
whole number of periods more, and as many counts one behind the other stand for all that follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd, lcm

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Extremum, Index
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.sizes import Sizes, outermost, reachable


@dataclass
class Count:
    """A trip count, with sizes that have it. `middle`: the iteration of a tile in which a state has to be that comes
    back a period later, None where there are too few; whoever walks says whether the walks were `steady`."""

    number: int
    sizes: Sizes | None
    middle: int | None
    steady: bool = False


def several_lengths(kernel: dev.DeviceKernel) -> str:
    """Loops of a tile whose counts do not follow from each other, "" if there are none: one number is not all that
    decides how long a tile is. Known are loops over the same positions, but for a first or the other iterations."""
    found: dict[tuple[tuple[Index, ...], tuple[Index, ...]], dev.For] = {}
    for loop in outermost(kernel):
        lengths = tuple(_base(hi - lo) for lo, hi in zip(loop.lo, loop.hi, strict=True))
        if any(n.constant is None for n in lengths):
            found.setdefault((lengths, loop.step), loop)
    lines = [str(loop.origin.span.line) for loop in found.values()]
    return f"the loops of lines {' and '.join(lines)} have lengths of their own" if len(found) > 1 else ""


def _base(length: Index) -> Index:
    """The length of all of a loop's positions: in `min(64, N)` and `N - 64` that is N."""
    offset = next((c for m, c in length.terms if m == ()), 0)
    match (length - offset).terms:
        case (((Extremum("min", a, b),), 1),) if a.constant is not None or b.constant is not None:
            return _base(b if a.constant is not None else a)
    return length - offset


class Unsteady(Exception):
    """No trip counts were found that stand for all others."""


def counts(case: Case, found: Mapping[int, Sizes], first: int, period: int, ring: int) -> Iterator[Count]:
    """Each of them, from 0 on, until enough were steady. In a first tile the state comes back every `period`
    iterations from `first` on; all look at most `ring` iterations ahead. `period` 0: there are no others than those
    that were `found`. Raises Unsteady."""
    if not period:
        yield from (Count(number, sizes, None) for number, sizes in found.items())
        return
    some = gcd(*found) or 1
    span, least = lcm(period, some), first + period + ring + 1
    steady = 0
    for number in range(least + span + ring + 1):
        if number % some or (number not in found and number < max(found)):
            continue  # no sizes have so many, or `order` says which were not found
        sizes = found.get(number) or reachable(case, number)
        count = Count(number, sizes, number - period - ring - 1 if number >= least else None)
        yield count
        steady = steady + some if count.middle is not None and count.steady else 0
        if steady >= span:
            return
    raise Unsteady("the state of the block does not come back within tiles that follow others")


__all__ = ["Count", "Unsteady", "counts", "several_lengths"]
