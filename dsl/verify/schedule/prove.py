"""Everything that is shown about a schedule, one obligation a family."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kernelagent.dsl.verify.records import Family, Findings, Obligation, Verdict
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.explain import counterexample, line_of, said
from kernelagent.dsl.verify.schedule.machine import Event
from kernelagent.dsl.verify.schedule.order import Ordered, examine
from kernelagent.dsl.verify.schedule.sizes import Sizes, whole_calls
from kernelagent.dsl.verify.schedule.walks import Unmodelled
from kernelagent.dsl.verify.schedule.whole import Launch, launch

ORDER: tuple[Family, ...] = ("races", "definedness", "completion")
ITERATIONS = 5
"""Rounds of sequential loops in whole launches."""


def prove(case: Case) -> Findings:
    """All families of one schedule."""
    ordered = _ordered(case)
    if ordered.events:
        return _refuted(case, ordered.events, ordered.sizes or {})
    launches: list[Launch] = []
    for sizes in whole_calls(case, ITERATIONS):
        made = _launched(case, sizes)
        if isinstance(made, str):
            ordered = Ordered(reason=made) if not ordered.runs else ordered
            continue
        if made.events:
            return _refuted(case, made.events, sizes)
        launches.append(made)
    return Findings((*_order(case, ordered), *_whole(case, launches)))


def _ordered(case: Case) -> Ordered:
    try:
        return examine(case)
    except (Unmodelled, LookupError) as lack:
        return Ordered(reason=f"not modelled: {lack}")


def _launched(case: Case, sizes: Sizes) -> Launch | str:
    try:
        return launch(case, sizes)
    except (Unmodelled, LookupError) as lack:
        return f"not modelled: {lack}"


# Verdicts --------------------------------------------------------------------------------------------


def subject(case: Case) -> str:
    return f"{case.kernel.name} ({case.kernel.shape_class.name})"


def _order(case: Case, ordered: Ordered) -> Iterator[Obligation]:
    verdict: Verdict = "PROVED" if not ordered.reason else "PROVED_BOUNDED" if ordered.runs else "UNKNOWN"
    detail = f"a block at {ordered.runs}" if ordered.runs else ""
    if ordered.reason:
        detail = f"{detail}; {ordered.reason}" if detail else ordered.reason
    for family in ORDER:
        yield Obligation(family, verdict, None, detail, subject(case))


def _whole(case: Case, launches: Sequence[Launch]) -> Iterator[Obligation]:
    done = "), (".join(", ".join(f"{d}={n}" for d, n in made.sizes.items()) for made in launches)
    families: list[Family] = ["bounds", "alignment", "coverage"]
    if any(made.compared for made in launches):
        families.append("flow")
    for family in families:
        if launches:
            yield Obligation(family, "TESTED", None, f"whole launches at ({done})", subject(case))
        else:
            yield Obligation(family, "UNKNOWN", None, "no sizes were small enough to run", subject(case))


def _refuted(case: Case, events: Sequence[Event], sizes: Sizes) -> Findings:
    obligations: dict[Family, Obligation] = {}
    for event in events:
        found = Obligation(event.family, "REFUTED", line_of(event.site), said(event), subject(case))
        obligations.setdefault(event.family, found)
    return Findings(tuple(obligations.values()), tuple(counterexample(e, case.kernel, sizes) for e in events))
