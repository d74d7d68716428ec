"""Facts that both views show, folded from events one by one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]


@dataclass
class Board:
    """The state of a run as a person follows it. Times in ms."""

    run: str = ""
    problem: str = ""
    workload: str = ""
    target: str = ""
    proposer: str = ""
    chip: str = ""
    budget: dict[str, Any] = field(default_factory=dict)
    sol: dict[str, Any] = field(default_factory=dict)
    ceiling: dict[str, Any] = field(default_factory=dict)
    baselines: list[tuple[str, float]] = field(default_factory=list)
    trials: list[dict[str, Any]] = field(default_factory=list)
    notes: dict[int, str] = field(default_factory=dict)
    best_ms: float | None = None
    best_number: int | None = None
    spent: dict[str, Any] = field(default_factory=dict)
    stage: str = "starting"
    untimed: bool = False  # no device: `best_ms` is a static model's estimate

    @property
    def bound_ms(self) -> float | None:
        value = self.ceiling.get("time_ms") or self.sol.get("time_ms")
        return float(value) if value else None

    @property
    def gap(self) -> float | None:
        return self.best_ms / self.bound_ms if self.best_ms and self.bound_ms else None

    @property
    def seed_ms(self) -> float | None:
        return rank_ms(self.trials[0]) if self.trials else None

    def take(self, event: Event) -> None:
        """Fold one event in."""
        handler = getattr(self, "_" + event["kind"].replace("-", "_"), None)
        if handler:
            handler(event)

    def past(self, events: Iterable[Event]) -> None:
        """What an earlier session of the run left in its log."""
        for event in events:
            self.take(event)

    def _run_started(self, event: Event) -> None:
        for name in ("run", "problem", "workload", "target", "proposer", "chip", "budget"):
            setattr(self, name, event[name])
        self.untimed = bool(event.get("untimed"))
        self.stage = "bound and baselines"

    def _resumed(self, event: Event) -> None:
        self.budget = event["budget"]

    def _bound(self, event: Event) -> None:
        self.sol, self.ceiling = event["sol"], event["ceiling"]

    def _baseline(self, event: Event) -> None:
        """Quick rivals come first, compiled ones later."""
        known = dict(self.baselines) | {b["name"]: b["time_ms"] for b in event["baselines"]}
        self.baselines = list(known.items())
        self.stage = "final comparison" if self.trials else "seed kernel"

    def _proposal(self, event: Event) -> None:
        self.notes[event["number"]] = describe(event["proposal"])
        self.stage = f"trial {event['number']}: {self.notes[event['number']]}"

    def _trial_finished(self, event: Event) -> None:
        kept = ("number", "status", "time_ms", "estimate_ms")
        self.trials.append({name: event[name] for name in kept if name in event})
        time_ms = rank_ms(event)
        if time_ms is not None and (self.best_ms is None or time_ms < self.best_ms):
            self.best_ms, self.best_number = time_ms, event["number"]

    def _steering(self, event: Event) -> None:
        self.spent = event["spent"]
        self.stage = "final comparison" if event["decision"]["stop"] else "planning"

    def _run_finished(self, event: Event) -> None:
        self.stage = "finished"


def rank_ms(trial: dict[str, Any]) -> float | None:
    """The time of a trial, or its estimate where nothing is timed: what orders the trials of one run."""
    value = trial.get("estimate_ms") if trial["time_ms"] is None else trial["time_ms"]
    return None if value is None else float(value)


def shown_ms(trial: dict[str, Any]) -> str:
    """The time with its unit; an estimate is marked as one."""
    if trial["time_ms"] is None and trial.get("estimate_ms") is not None:
        return f"est. {milliseconds(trial['estimate_ms'])}"
    return milliseconds(trial["time_ms"])


def describe(proposal: dict[str, Any]) -> str:
    """What a proposal changes, in a few words."""
    given = proposal.get("arguments") or {}
    arguments = ", ".join(f"{k}={v}" for k, v in (given.get("sizes") or given).items())
    move = proposal.get("move") or ("sizes" if "sizes" in given else None)
    if move:
        return f"{move}({arguments})"
    return proposal.get("technique") or proposal.get("note") or "a kernel"


def budget_text(budget: dict[str, Any], spent: dict[str, Any]) -> str:
    """`12/40 trials, 0.8/5 min`: what is used of what may be used."""
    parts = []
    if budget.get("trials") is not None:
        parts.append(f"{spent.get('trials', 0)}/{budget['trials']} trials")
    if budget.get("minutes") is not None:
        parts.append(f"{spent.get('seconds', 0) / 60:.1f}/{budget['minutes']:g} min")
    if budget.get("tokens") is not None:
        parts.append(f"{spent.get('tokens', 0)}/{budget['tokens']} tokens")
    if budget.get("max_cost_usd") is not None:
        parts.append(f"{spent.get('cost_usd') or 0:.3f}/{budget['max_cost_usd']:g} USD")
    return ", ".join(parts)


def milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{figure(value)} ms"


def figure(value: float) -> str:
    """Three decimals, or three digits where those would all be zeros."""
    if 0 < value < 0.01:
        return f"{value:.3g}"
    return f"{value:.3f}" if value < 100 else f"{value:.1f}"


def share(value: float) -> str:
    """A fraction in whole percent; what would read as nothing is `<1%`."""
    return "<1%" if 0 < value < 0.005 else f"{100 * value:.0f}%"
