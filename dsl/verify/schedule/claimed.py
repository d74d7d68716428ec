"""What the author claims of a schedule: limits on accesses, `conformity`, `separation`. What says nothing is told.

A limit cannot fail where the lanes of every access are too few, or its elements too wide, to reach more; conformity
cannot where no product has operands with coordinates along k. Details of such obligations begin with `UNREACHED` or
`VACUOUS`, from which `verify.claims` makes diagnostics.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.ir import Claim
from kernelagent.dsl.swizzle import BANKS, WORD
from kernelagent.dsl.verify.claims import UNREACHED, VACUOUS, separation
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample, worst
from kernelagent.dsl.verify.schedule.banks import INACTIVE, Requests, bank_conflicts, conflicts, requests
from kernelagent.dsl.verify.schedule.budget import Exhausted, check_kernel
from kernelagent.dsl.verify.schedule.cases import Case, call
from kernelagent.dsl.verify.schedule.coalescing import large, touched
from kernelagent.dsl.verify.schedule.expected import run_blocks, shown_again
from kernelagent.dsl.verify.schedule.explain import counterexample
from kernelagent.dsl.verify.schedule.footprints import accesses
from kernelagent.dsl.verify.schedule.sizes import Sizes
from kernelagent.dsl.verify.schedule.tagged import NOTHING_TO_COMPARE, flow, trace
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled

NO_ACCESS = {
    "bank_conflicts": "no access to shared memory has lanes",
    "sectors": "no access to global memory by threads has a place that the text decides",
}


def limit_of(kernel: dev.DeviceKernel, word: str) -> int | None:
    """The least that is claimed of `bank_conflicts` or `sectors`."""
    return min((c.limit for c in kernel.claims if c.word == word and c.limit is not None), default=None)


def settled(case: Case, subject: str, shown: Sequence[Obligation], runs: Sequence[Sizes]) -> Findings:
    """`shown`: the obligations of all other families; `runs`: sizes at which nothing is wrong. Limits that are broken
    are refuted where the access stands; conformity of a level-one text is settled before it is a schedule."""
    found = Findings()
    for claim in case.kernel.claims:
        if claim.limit is not None:
            found += Findings(tuple(_limit(case, claim, subject)))
        elif claim.word == "separation":
            found += Findings((_separation(case, claim, subject, shown),))
        elif case.claimed is not None:
            found += _conformity(case, claim, subject, shown, runs)
    return found


def _limit(case: Case, claim: Claim, subject: str) -> Iterator[Obligation]:
    assert claim.limit is not None
    try:
        check_kernel(case.kernel)
    except Exhausted:
        return  # the families say so
    most = most_conflicts(case.kernel) if claim.word == "bank_conflicts" else most_sectors(case)
    where = f"{subject}: {claim.text}"
    if most is None:
        yield Obligation("claims", "UNKNOWN", claim.span.line, f"{UNREACHED}: {NO_ACCESS[claim.word]}", where)
        return
    worst_case, found = most
    if found > claim.limit:
        return
    detail = f"{found:.3g} at most in all accesses, where {worst_case:.3g} is possible"
    if worst_case <= claim.limit:
        detail = f"{VACUOUS}: no access of this width can exceed {worst_case:.3g}, wherever its lanes go"
    yield Obligation("claims", "PROVED", claim.span.line, detail, where)


def most_conflicts(kernel: dev.DeviceKernel) -> tuple[int, int] | None:
    """The highest degree that is possible (every lane in one bank), and the highest that there is; None: no lanes."""
    found = max((s.degree for s in bank_conflicts(kernel)), default=None)
    if found is None:
        return None
    made = (requests(kernel, statement, operand) for statement, operand, _ in accesses(kernel))
    return max(conflicts(_in_one_bank(r))[0] for r in made if r is not None), found


def _in_one_bank(made: Requests) -> Requests:
    """The canary: each lane in a row of banks of its own."""
    rows = np.arange(made.addresses.shape[1]) * BANKS * WORD
    return Requests(np.where(made.addresses == INACTIVE, INACTIVE, rows), made.width)


def most_sectors(case: Case) -> tuple[float, float] | None:
    """As `most_conflicts`, times the least; None: no access whose place the text decides."""
    sizes = large(case)
    if sizes is None:
        return None
    worst_case = [t.ratio for t in touched(case.kernel, sizes, apart=True)]
    return (max(worst_case), max(t.ratio for t in touched(case.kernel, sizes))) if worst_case else None


def _separation(case: Case, claim: Claim, subject: str, shown: Sequence[Obligation]) -> Obligation:
    if not any(isinstance(s, dev.Store | dev.Scatter | dev.StoreBulk) for s in dev.statements(case.kernel)):
        return _nothing(claim, subject, "the schedule stores nothing")
    return separation(claim, [o for o in shown if o.family in ("races", "coverage", "aliasing")], subject)


def _conformity(case: Case, claim: Claim, subject: str, shown: Sequence[Obligation], runs: Sequence[Sizes]) -> Findings:
    """Of all products: as the flow says where there is no kernel of tiles, else by runs with coordinates."""
    lines = {n for n in (_product_line(s) for s in dev.statements(case.kernel)) if n is not None}
    if not lines:
        return Findings((_nothing(claim, subject, "the schedule has no product"),))
    flows, wrong = [o for o in shown if o.family == "flow"], Findings()
    if case.oracle is not None:
        flows, wrong = _traced(case, subject, runs, all(o.verdict == "PROVED" for o in flows))
    where, line = f"{subject}: {claim.text}", claim.span.line
    if wrong.counterexamples:
        return Findings((Obligation("claims", "REFUTED", line, wrong.counterexamples[0].message, where),)) + wrong
    mine = [o for o in flows if o.line in lines]
    if mine and all(o.detail == NOTHING_TO_COMPARE for o in mine):
        return Findings((Obligation("claims", "UNKNOWN", line, f"{VACUOUS}: {NOTHING_TO_COMPARE}", where),))
    detail = "; ".join(dict.fromkeys(f"line {o.line}: {o.detail}" for o in mine)) or "where elements come from is open"
    return Findings((Obligation("claims", worst(o.verdict for o in mine), line, detail, where),))


def _traced(case: Case, subject: str, runs: Sequence[Sizes], proved: bool) -> tuple[list[Obligation], Findings]:
    """What coordinates say of products, and the first pair of operands that meet at different k."""
    traces = []
    try:
        for sizes in runs:
            events, made = trace(case.kernel, call(case, sizes), run_blocks, case.elements)
            off = [replace(e, family="claims") for e in events if e.kind == "other-k"]
            if off:
                return [], Findings((), (counterexample(off[0], case.kernel, sizes),))
            traces.append(made)
    except (Unmodelled, LookupError, ZeroDivisionError):
        return [], Findings()
    where = "), (".join(", ".join(f"{d}={n}" for d, n in sizes.items()) for sizes in runs)
    return list(flow(traces, "PROVED" if proved else "PROVED_BOUNDED", f"({where})", subject)), Findings()


def fails_again(case: Case, found: ScheduleCounterexample) -> ScheduleCounterexample | None:
    """The claim of a counterexample failing once more; None where it does not."""
    if found.kind == "expectation":
        return shown_again(case, found)
    return found if _traced(case, "", [found.sizes], True)[1].counterexamples else None


def _product_line(s: dev.Statement) -> int | None:
    if isinstance(s, dev.Let) and isinstance(s.operation, dev.Mma):
        return s.fragment.origin.span.line
    return None


def _nothing(claim: Claim, subject: str, why: str) -> Obligation:
    return Obligation("claims", "UNKNOWN", claim.span.line, f"{UNREACHED}: {why}", f"{subject}: {claim.text}")


__all__ = ["fails_again", "limit_of", "settled"]
