"""What is not shown for all sizes, at given ones: those of the workloads that a kernel is made for.

    findings = settled_at(case, findings, [{"M": 4096, "N": 4096, "K": 4096}])

Sizes are constants then. Bounds, coverage and alignment are argued with them; races, waits and fences by one block at
exactly that trip count, where one stands for all; and where the arrays are small enough, a whole launch shows all of
these, and the flow. Sizes at which an obligation holds are added to its set; its verdict stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl.index import Compare, index, symbol
from kernelagent.dsl.verify import coverage
from kernelagent.dsl.verify.families import prove_bounds
from kernelagent.dsl.verify.records import Family, Findings, Obligation
from kernelagent.dsl.verify.schedule.alignment import prove_alignment
from kernelagent.dsl.verify.schedule.budget import check_iterations, check_kernel, within
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.order import ORDERED, one_block
from kernelagent.dsl.verify.schedule.sizes import Sizes, fits, tile_count, trips
from kernelagent.dsl.verify.schedule.tiles import as_tiles, by_data
from kernelagent.dsl.verify.schedule.turns import stored_tiles
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.schedule.whole import launch
from kernelagent.dsl.verify.shapes import completed

SECONDS, WORK = 4.0, 120_000
"""For each of the sizes."""
SYMBOLIC: tuple[Family, ...] = ("bounds", "coverage", "alignment")


def settled_at(case: Case, findings: Findings, workloads: Sequence[Mapping[str, int]]) -> Findings:
    """The findings with the workloads' sizes added to each bounded obligation that holds at them; sizes that the shape
    class does not take are no matter of the case. Data decides nothing here: where positions come from it, none is."""
    if by_data(case.kernel) or not any(o.verdict == "PROVED_BOUNDED" for o in findings.obligations):
        return findings
    found = list(findings.obligations)
    for wanted in workloads:
        sizes = completed(case.shapes, {d: n for d, n in wanted.items() if d in case.kernel.dims})
        if sizes is not None and set(sizes) >= set(case.kernel.dims) and fits(case.kernel, sizes):
            found = _at(case, found, sizes)
    return Findings(tuple(found), findings.counterexamples)


def _at(case: Case, obligations: Sequence[Obligation], sizes: Sizes) -> list[Obligation]:
    unsettled = {o.family for o in obligations if o.verdict == "PROVED_BOUNDED" and dict(sizes) not in o.sizes}
    with within(SECONDS, WORK):
        shown = set(_families(case, sizes, unsettled))
        argued = set(_argued(case, sizes)) if unsettled & set(SYMBOLIC) else set()
    return [
        replace(o, sizes=(*o.sizes, dict(sizes)))
        if o.verdict == "PROVED_BOUNDED" and (o.family in shown or (o.family, o.line, o.subject) in argued)
        else o
        for o in obligations
    ]


def _families(case: Case, sizes: Sizes, unsettled: set[Family]) -> Iterator[Family]:
    """Those that runs show. What is too large to be run shows nothing."""
    try:
        check_kernel(case.kernel)
        if unsettled & set(ORDERED) and not one_block(case, sizes):
            yield from ORDERED
        if unsettled - set(ORDERED):
            check_iterations((trips(case.kernel, sizes) or 1) * tile_count(case.kernel, sizes))
            made = launch(case, sizes)
            if not made.events:
                yield from (*SYMBOLIC, *ORDERED)
                if made.fields:
                    yield "flow"
    except (Unmodelled, LookupError, ZeroDivisionError):
        return


def _argued(case: Case, sizes: Sizes) -> Iterator[tuple[Family, int | None, str]]:
    """What the arguments for all sizes show with these as constants."""
    subject = f"{case.kernel.name} ({case.kernel.shape_class.name})"
    span = case.kernel.grid.origin.span
    fixed = [Compare("==", symbol(d, "dim"), index(n)) for d, n in sizes.items()]
    assumes = (*case.shapes.entry.assumes, *(ir.Assume(c, None, str(c), span) for c in fixed))
    tiles = as_tiles(case.kernel, assumes)
    shown = [*coverage.prove(stored_tiles(case.kernel, assumes)), *prove_bounds(tiles, True)]
    shown += prove_alignment(case.kernel, assumes, subject)
    yield from ((o.family, o.line, o.subject) for o in shown if o.verdict == "PROVED")


__all__ = ["settled_at"]
