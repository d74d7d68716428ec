"""Fixes that were proved: small edits of a refuted level-two text, each tried and the whole schedule proved again.

A fix is said only if every family of the edited schedule is proved. Edits that may change values are tried only where
the values are held against something: a kernel of tiles, or the coordinates that elements carry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2.expectations import claims_in
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.budget import within
from kernelagent.dsl.verify.schedule.cases import Case
from kernelagent.dsl.verify.schedule.edits import Edit, edits
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled

SECONDS = 2.0
"""Of CPU time, so that the same fixes are found on a busy machine; the last one tried may take longer."""
TRY_SECONDS = 5.0
TRY_WORK = 150_000
"""Of one edit; one that needs more stays untold."""
MOST = 2
"""Fixes that are said."""
_HOLDS = ("PROVED", "PROVED_BOUNDED")


def mended(text: str, rebuild: Callable[[str], Case], findings: Findings, seconds: float = SECONDS) -> Findings:
    """The findings with fixes in their first counterexample. `rebuild` makes a case of an edited text and raises
    KernelError for one that breaks the rules."""
    faults = [c for c in findings.counterexamples if isinstance(c, ScheduleCounterexample) and c.line]
    if not faults:
        return findings
    end = time.process_time() + seconds
    found: list[str] = []
    claims = claims_in(text)  # an edit of what is claimed mends nothing
    for fault in faults[:2]:
        for edit in edits(fault, text):
            if time.process_time() > end or len(found) >= MOST:
                break
            how = _verified(edit, rebuild) if claims_in(edit.text) == claims else ""
            if how:
                found.append(f"{edit.said} ({how})")
        if found:
            break
    return findings if not found else _with_fixes(findings, faults[0], tuple(found))


def _with_fixes(findings: Findings, fault: ScheduleCounterexample, found: tuple[str, ...]) -> Findings:
    shown: list[Counterexample] = [replace(c, fixes=found) if c is fault else c for c in findings.counterexamples]
    return Findings(findings.obligations, tuple(shown))


def _verified(edit: Edit, rebuild: Callable[[str], Case]) -> str:
    """What was shown of the edited schedule, "" if anything is refuted or left open."""
    try:
        with within(TRY_SECONDS, TRY_WORK):
            case = rebuild(edit.text)
            if not _holds(prove(case, quick=True), edit):
                return ""
            whole = prove(case)
    except (KernelError, Unmodelled, LookupError):
        return ""
    if not _holds(whole, edit):
        return ""
    values = ", values those of the kernel" if case.oracle is not None else ""
    return f"verified: {_shown(whole)}{values}"


def _shown(findings: Findings) -> str:
    """`every family PROVED`; what is less is named."""
    less = {o.family: o.verdict for o in findings.obligations if o.verdict not in _HOLDS}
    bounded = any(o.verdict == "PROVED_BOUNDED" for o in findings.obligations)
    families = "all other families" if less else "every family"
    open_ = "".join(f", {family} {verdict}" for family, verdict in less.items())
    return f"{families} {'PROVED or PROVED_BOUNDED' if bounded else 'PROVED'}{open_}"


def _holds(findings: Findings, edit: Edit) -> bool:
    """Every family; flow may stay open for an edit that only orders, and stability is only ever tested."""
    if findings.counterexamples:
        return False
    open_ = [o for o in findings.obligations if o.verdict not in _HOLDS]
    return all(_may_stay_open(o, edit) for o in open_)


def _may_stay_open(obligation: Obligation, edit: Edit) -> bool:
    if obligation.family == "stability":
        return obligation.verdict == "TESTED"
    return edit.ordering and obligation.family == "flow" and obligation.verdict in ("UNKNOWN", "TESTED")


__all__ = ["MOST", "SECONDS", "mended"]
