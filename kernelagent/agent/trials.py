"""From a proposal and what was found out about it to the trial that is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kernelagent.harness.records import Evaluation
from kernelagent.knowledge_base.records import Trial, identified
from kernelagent.proposers.base import Proposal

from .texts import sha

if TYPE_CHECKING:
    from .desk import Desk

COUNTS = ("PASSED", "INCONCLUSIVE")
"""Statuses of a right kernel that was timed; an inconclusive one has a time, if a wide one."""
RIGHT = (*COUNTS, "UNTIMED")
"""Statuses of a right kernel."""


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """What the log keeps: all but the compiled artifact, which the text gives again."""
    return replace(evaluation, artifact=None).to_dict()


def evaluation_time(evaluation: Mapping[str, Any], workload: str) -> float | None:
    """Time in ms on a workload, None unless the whole evaluation is that of a right kernel."""
    if evaluation["status"] not in COUNTS:
        return None
    found = next((w for w in evaluation["workloads"] if w["name"] == workload), None)
    return found["timing"]["time_ms"] if found and found["timing"] else None


def evaluation_estimate(evaluation: Mapping[str, Any] | None, workload: str) -> float | None:
    """Estimated ms of an untimed evaluation, None for any other: for ranking within the run, never a time."""
    if not evaluation or evaluation["status"] != "UNTIMED":
        return None
    found = next((w for w in evaluation["workloads"] if w["name"] == workload), None)
    return found["estimate"]["time_ms"] if found and found.get("estimate") else None


def make_trial(desk: Desk, proposal: Proposal, wrong: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> Trial:
    """The trial record of a proposal: `found` holds its `evaluation` and `duel`, nothing if it was wrong before."""
    parent = _parent(desk, proposal)
    time_ms = _time(desk, found)
    reward = math.log(parent.time_ms / time_ms) if parent and parent.time_ms and time_ms else None
    record = Trial(
        id="", run=desk.run, number=desk.state.next_number, problem=desk.problem.name, workload=desk.workload.name,
        chip=desk.laboratory.chip, target=desk.laboratory.target,
        parent=parent.id if parent else None, text=proposal.text or "", text_sha=sha(proposal.text or ""),
        status=_status(found),
        time_ms=time_ms, parent_time_ms=parent.time_ms if parent else None, reward=reward,
        technique=proposal.technique, move=proposal.move, move_arguments=dict(proposal.arguments),
        bottleneck=desk.signature.bottleneck, features=desk.features, proposer=desk.proposer.name,
        detail=desk.redactor.text(_detail(wrong, found)), tokens=proposal.tokens,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    return identified(record)


def _time(desk: Desk, found: Mapping[str, Any]) -> float | None:
    """Time in ms on the scale of the run's first measurements: that of the best, times the ratio of the duel."""
    if not found:
        return None
    measured = evaluation_time(found["evaluation"], desk.workload.name)
    duel = found.get("duel")
    if measured is None or not duel:
        return measured
    if "failed" in duel:
        return None
    against = next(t for t in desk.state.trials if t.id == duel["against"])
    return against.time_ms * duel["ratio"] if against.time_ms else measured


def _parent(desk: Desk, proposal: Proposal) -> Trial | None:
    """The trial whose text was changed; a proposer that does not say so started from the best."""
    if proposal.parent is None:
        return desk.state.best or (desk.state.trials[0] if desk.state.trials else None)
    return next((t for t in desk.state.trials if t.id == proposal.parent), None)


def _status(found: Mapping[str, Any]) -> str:
    """Of the evaluation, unless the text broke when it was timed again."""
    if not found:
        return "REJECTED"
    return "RUNTIME_ERROR" if "failed" in (found.get("duel") or {}) else str(found["evaluation"]["status"])


def _detail(wrong: Sequence[Mapping[str, Any]], found: Mapping[str, Any]) -> str:
    if wrong:
        return "; ".join(f"{d['code']}: {d['message']}" for d in wrong)[:2000]
    if "failed" in (found.get("duel") or {}):
        return f"timed against the best: {found['duel']['failed']}"[:2000]
    evaluation = found.get("evaluation")
    if evaluation is None or evaluation["status"] == "PASSED":
        return ""
    said = [f"{w['name']}: {w['detail']}" for w in evaluation["workloads"] if w["detail"]]
    said += [f"{d['code']}: {d['message']}" for d in evaluation["diagnostics"]]
    if not said:
        said = [str(line) for line in evaluation["report"][:1]]
    return "; ".join(said)[:2000]
