"""Whether an access was run where it takes elements: beyond an array all positions look alike.

`load(a, (i + 16,), fill=0)` gives zeros wherever a has fewer than 17 elements, and so does one of `i + 15`. What is
compared says something of a position only at places where the tile has elements inside its view, so these have to
span, as the places of all launches have to (`alike`): one, the counts of the loops that the position follows, and its
terms are linearly independent over them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index, index, maximum, minimum
from kernelagent.dsl.verify.schedule.alike import (
    Axis,
    around,
    axes_of,
    counted,
    digits_of,
    note,
    once,
    replaced,
    terms_of,
)
from kernelagent.dsl.verify.schedule.cases import Call, Case
from kernelagent.dsl.verify.schedule.steady import line_of
from kernelagent.dsl.verify.sites import touches

FIRST, LAST = 4, 2
"""Counts of a loop that are looked at."""


@dataclass(frozen=True)
class Access:
    """Along each axis of the view: where the tile starts, its extent, and between which positions elements are; in all
    of them a variable stands for its count."""

    line: int
    array: str
    spans: tuple[tuple[Index, Index, Index, Index], ...]  # start, extent, first, end
    axes: tuple[Axis, ...]
    counts: tuple[str, ...]
    terms: tuple[Index, ...]


def accesses(case: Case) -> list[Access]:
    """Those of the schedule and of its kernel, each kind once. Raises what `terms_of` does."""
    digits = digits_of(case.kernel)
    found: dict[object, Access] = {}
    for axes, line, view, start, shape, listed in (*_of_schedule(case.kernel), *_of_oracle(case)):
        known = [k for k in range(len(start)) if k != listed]
        values = [replaced(start[k], digits) for k in known]
        names = {s.name for v in values for s in counted(v, axes).symbols()} & axes.keys()
        terms = tuple(dict.fromkeys(t for v in values for t in terms_of(v, axes)))
        names |= {s.name for t in terms for s in t.symbols()} & axes.keys()
        spans = tuple(_span(start[k], shape[k], view.axes[k], axes) for k in known)
        near = around(names | _names(spans, axes), axes)
        made = Access(
            line, view.array, spans, tuple(a for n, a in axes.items() if n in near),
            tuple(n for n in axes if n in names and not once(axes[n])), terms,
        )  # fmt: skip
        found.setdefault((made.array, made.spans, made.counts, made.terms), made)
    return list(found.values())


def hidden(access: Access, calls: Sequence[Call]) -> bool:
    """Whether the places of the calls at which elements are taken do not span."""
    width = 1 + len(access.counts) + len(access.terms)
    rows: list[list[int]] = []
    for call in calls:
        before = len(rows)
        rows += _rows(access, call)
        if len(rows) > before and len(rows) >= width and _rank(rows) == width:
            return False
    return True


def _rank(rows: list[list[int]]) -> int:
    return int(np.linalg.matrix_rank(np.array(rows, np.float64)))


def _rows(access: Access, call: Call) -> list[list[int]]:
    found: dict[tuple[int, ...], None] = {}
    try:
        for at in _places(access.axes, dict(call.sizes), dict(call.sizes), call):
            if _sees(access, at, call):
                terms = (t.evaluate(at, call.read) for t in access.terms)
                found[1, *(at[c] for c in access.counts), *terms] = None
    except LookupError:
        return []
    return [list(row) for row in found]


def _sees(access: Access, at: Mapping[str, int], call: Call) -> bool:
    for start, extent, first, end in access.spans:
        begin = start.evaluate(at, call.read)
        last = min(begin + extent.evaluate(at, call.read), end.evaluate(at, call.read))
        if max(begin, first.evaluate(at, call.read)) >= last:
            return False
    return True


def _places(
    axes: Sequence[Axis], variables: dict[str, int], counts: dict[str, int], call: Call
) -> Iterator[dict[str, int]]:
    """Counts of the first places of every loop, and of the last."""
    if not axes:
        yield counts
        return
    name = axes[0].variable.name
    lo, hi, step = (bound.evaluate(variables, call.read) for bound in axes[0].bounds())
    number = len(range(lo, hi, step))
    for count in sorted({*range(min(number, FIRST)), *range(max(number - LAST, 0), number)}):
        variables[name], counts[name] = lo + count * step, count
        yield from _places(axes[1:], variables, counts, call)


_Found = tuple[Mapping[str, Axis], int, ir.View, tuple[Index, ...], tuple[Index, ...], int | None]


def _of_schedule(kernel: dev.DeviceKernel) -> Iterator[_Found]:
    axes = axes_of(kernel)
    for s in dev.statements(kernel):
        match s:
            case dev.Let(fragment, dev.Load(view=view, start=start)):
                yield axes, line_of(s), view, start, _extents(fragment.shape), None
            case dev.Let(fragment, dev.Gather(view=view, start=start, axis=axis)):
                yield axes, line_of(s), view, start, _extents(fragment.shape), axis
            case dev.Copy(view=view, start=start, layout=layout):
                yield axes, line_of(s), view, start, _extents(layout.shape), None
            case dev.CopyBulk(view=view, start=start, shape=shape):
                yield axes, line_of(s), view, start, _extents(shape), None


def _of_oracle(case: Case) -> Iterator[_Found]:
    entry = case.oracle.entry if case.oracle is not None else None
    for touch in touches(entry) if isinstance(entry, ir.Kernel) else ():
        if touch.kind in ("load", "gather"):
            axes: dict[str, Axis] = {}
            for loop in touch.place.loops:
                note(axes, loop)
            yield axes, touch.place.line, touch.view, touch.start, touch.shape, touch.listed


def _extents(shape: Sequence[int]) -> tuple[Index, ...]:
    return tuple(index(n) for n in shape)


def _span(
    start: Index, extent: Index, axis: ir.ViewAxis, axes: Mapping[str, Axis]
) -> tuple[Index, Index, Index, Index]:
    first, end = maximum(axis.lo, index(0)), minimum(axis.hi, axis.length)
    return counted(start, axes), extent, counted(first, axes), counted(end, axes)


def _names(spans: Sequence[tuple[Index, Index, Index, Index]], axes: Mapping[str, Axis]) -> set[str]:
    return {s.name for span in spans for value in span for s in value.symbols()} & axes.keys()


__all__ = ["Access", "accesses", "hidden"]
