"""The state of a run: a fold over its events, so that a resumed run, a report and a test see the same thing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from kernelagent.knowledge_base.records import Trial
from kernelagent.proposers.base import Proposal

from .budget import Budget, Spent
from .events import Event
from .steering import Policy, Progress
from .trials import evaluation_estimate


@dataclass(frozen=True)
class Pending:
    """A proposal whose trial has not finished: paid for, so a resumed run goes on with it."""

    number: int
    attempt: int
    proposal: Proposal


@dataclass(frozen=True)
class RunState:
    """Everything a run knows. `facts` holds the last `evaluation` (or `diagnostics`) of each trial by trial id."""

    started: Mapping[str, Any] = field(default_factory=dict)
    sol: Mapping[str, Any] = field(default_factory=dict)
    ceiling: Mapping[str, Any] = field(default_factory=dict)
    baselines: tuple[Mapping[str, Any], ...] = ()
    missing_baselines: Mapping[str, str] = field(default_factory=dict)
    confirmed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # full evaluations by digest
    trials: tuple[Trial, ...] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pending: Pending | None = None
    pending_facts: Mapping[str, Any] = field(default_factory=dict)
    comparison: Mapping[str, Any] | None = None
    stop: Mapping[str, Any] | None = None
    finished: Mapping[str, Any] | None = None
    spent: Spent = field(default_factory=Spent)
    last_at: str = ""

    @property
    def bounded(self) -> bool:
        return bool(self.ceiling or self.sol)

    @property
    def next_number(self) -> int:
        return len(self.trials)

    @property
    def ceiling_ms(self) -> float | None:
        """The bound to steer by: with this machine's measured rates, else with the datasheet's."""
        return self.ceiling.get("time_ms") or self.sol.get("time_ms")

    @property
    def untimed(self) -> bool:
        """Whether the run has no device: its trials have estimates instead of times."""
        return bool(self.started.get("untimed"))

    def rank_ms(self, trial: Trial) -> float | None:
        """What orders the trials of this run: the time, or the estimate where nothing is timed. Never mixed."""
        if not self.untimed:
            return trial.time_ms
        return evaluation_estimate((self.facts.get(trial.id) or {}).get("evaluation"), trial.workload)

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials as a proposer sees them: `time_ms` is what orders them."""
        return tuple(replace(t, time_ms=self.rank_ms(t)) for t in self.trials) if self.untimed else self.trials

    @property
    def best(self) -> Trial | None:
        ranked = [(ms, t.number, t) for t in self.trials if (ms := self.rank_ms(t)) is not None]
        return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None

    @property
    def progress(self) -> Progress:
        return Progress(tuple(self.rank_ms(t) for t in self.trials), self.ceiling_ms, self.measured_ms)

    @property
    def measured_ms(self) -> float | None:
        """The best kernel's time by the clock; its `time_ms` comes of ratios, which do not say how far the bound is."""
        best = self.best
        evaluation = (self.facts.get(best.id) or {}).get("evaluation") if best else None
        timed = [w["timing"]["time_ms"] for w in (evaluation or {}).get("workloads", ()) if w["timing"]]
        return timed[0] if timed else None

    @property
    def budget(self) -> Budget:
        return Budget(**self.started.get("budget", {}))

    @property
    def policy(self) -> Policy:
        return Policy(**self.started.get("policy", {}))


def replay_state(events: Iterable[Event]) -> RunState:
    """The state after these events. Any prefix of a log gives a valid state."""
    state = RunState()
    for event in events:
        state = advance(state, event)
    return state


def advance(state: RunState, event: Event) -> RunState:
    """The state after one more event."""
    state = replace(state, spent=_with_time(state, event), last_at=event["at"])
    handler = _HANDLERS.get(event["kind"])
    return handler(state, event) if handler else state


def _with_time(state: RunState, event: Event) -> Spent:
    """Time between events of one session counts; the pause before a resumption does not."""
    if not state.last_at or event["kind"] in ("run-started", "resumed"):
        return state.spent
    gap = (datetime.fromisoformat(event["at"]) - datetime.fromisoformat(state.last_at)).total_seconds()
    return replace(state.spent, seconds=state.spent.seconds + max(0.0, gap))


def _run_started(state: RunState, event: Event) -> RunState:
    return replace(state, started=event)


def _bound(state: RunState, event: Event) -> RunState:
    return replace(state, sol=event["sol"], ceiling=event["ceiling"])


def _baseline(state: RunState, event: Event) -> RunState:
    """One group of them; measured again after an early interruption, the later measurement counts."""
    again = {b["name"] for b in event["baselines"]}
    kept = tuple(b for b in state.baselines if b["name"] not in again)
    missing = {**state.missing_baselines, **event["missing"]}
    return replace(state, baselines=(*kept, *event["baselines"]), missing_baselines=missing)


def _proposal(state: RunState, event: Event) -> RunState:
    proposal = Proposal.from_dict(event["proposal"])
    spent = state.spent
    cost = spent.cost_usd if proposal.cost_usd is None else (spent.cost_usd or 0.0) + proposal.cost_usd
    spent = replace(
        spent,
        tokens=spent.tokens + proposal.tokens,
        cost_usd=cost,
        tokens_estimated=spent.tokens_estimated or proposal.tokens_estimated,
    )
    return replace(state, pending=Pending(event["number"], event["attempt"], proposal), pending_facts={}, spent=spent)


def _found(state: RunState, event: Event) -> RunState:
    """Diagnostics or an evaluation of the pending proposal, or the full evaluation of a finalist."""
    if event.get("full"):
        evaluation = event["evaluation"]
        return replace(state, confirmed={**state.confirmed, evaluation["text_sha"]: evaluation})
    kept = {k: v for k, v in event.items() if k not in ("v", "seq", "at", "kind")}
    return replace(state, pending_facts={**state.pending_facts, **kept})


def _trial_finished(state: RunState, event: Event) -> RunState:
    trial = Trial.from_dict(event["trial"])
    spent = state.spent if trial.number == 0 else replace(state.spent, trials=state.spent.trials + 1)
    return replace(
        state,
        trials=(*state.trials, trial),
        facts={**state.facts, trial.id: state.pending_facts},
        pending=None,
        pending_facts={},
        spent=spent,
    )


def _steering(state: RunState, event: Event) -> RunState:
    return replace(state, stop=event["decision"] if event["decision"]["stop"] else None)


def _comparison(state: RunState, event: Event) -> RunState:
    return replace(state, comparison=event)


def _resumed(state: RunState, event: Event) -> RunState:
    """A resumption may raise the budget; what had stopped the run is decided anew."""
    started = {**state.started, "budget": event.get("budget") or state.started.get("budget", {})}
    return replace(state, started=started, stop=None, finished=None, comparison=None)


def _run_finished(state: RunState, event: Event) -> RunState:
    return replace(state, finished=event, pending=None)


_HANDLERS = {
    "run-started": _run_started,
    "bound": _bound,
    "baseline": _baseline,
    "proposal": _proposal,
    "diagnostics": _found,
    "evaluation": _found,
    "trial-finished": _trial_finished,
    "steering": _steering,
    "comparison": _comparison,
    "resumed": _resumed,
    "run-finished": _run_finished,
}
