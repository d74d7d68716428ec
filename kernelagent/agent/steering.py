"""Go on, switch problem, or stop, and why. Pure functions of what a run has found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .budget import Budget, Spent

PROGRESS = 1.01
"""A new best counts as progress from 1% on: less is noise."""


@dataclass(frozen=True)
class Policy:
    """`within`: stop at (1 + within) x the bound. `patience`: trials without progress, None for no such limit."""

    within: float = 0.05
    patience: int | None = 16


@dataclass(frozen=True)
class Progress:
    """Times in ms of the trials in order (None where there was none), the seed first; `bound_ms` is the ceiling.

    `measured_ms` is what the clock said of the best, where the times are products of ratios.
    """

    times_ms: tuple[float | None, ...]
    bound_ms: float | None
    measured_ms: float | None = None

    @property
    def best_ms(self) -> float | None:
        return min((t for t in self.times_ms if t is not None), default=None)

    @property
    def gap(self) -> float | None:
        """How many times the bound the best kernel takes, by the less flattering of its two times."""
        if not self.best_ms or not self.bound_ms:
            return None
        return max(self.best_ms, self.measured_ms or 0.0) / self.bound_ms

    @property
    def since_progress(self) -> int:
        """Trials since the best was last improved by PROGRESS."""
        best, last = math.inf, 0
        for number, time in enumerate(self.times_ms):
            if time is not None and time * PROGRESS <= best:
                best, last = time, number
        return max(0, len(self.times_ms) - 1 - last)


@dataclass(frozen=True)
class Decision:
    """`reason` is a fixed word (`near-bound` ...), `detail` a sentence for a person; "go-on" does not stop."""

    reason: str
    detail: str
    gap: float | None = None

    @property
    def stop(self) -> bool:
        return self.reason != "go-on"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "stop": self.stop}


def decide(progress: Progress, spent: Spent, budget: Budget, policy: Policy) -> Decision:
    """After a trial: stop near the bound, when the budget is gone, or when nothing has moved for long enough.

    A bound that is beaten was measured on a busier machine, and says nothing about what is left.
    """
    gap = progress.gap
    if gap is not None and 1 / (1 + policy.within) <= gap <= 1 + policy.within:
        detail = f"the best kernel takes {gap:.2f} times the bound; {policy.within:.0%} above it counts as reached"
        return Decision("near-bound", detail, gap)
    over = budget.exhausted(spent)
    if over:
        return Decision(over, _spent_words(over, spent, budget), gap)
    if policy.patience is not None and progress.since_progress >= policy.patience:
        return Decision("no-progress", f"no trial of the last {progress.since_progress} gained 1%", gap)
    return Decision("go-on", "", gap)


def _spent_words(over: str, spent: Spent, budget: Budget) -> str:
    return {
        "budget-trials": f"{spent.trials} of {budget.trials} trials done",
        "budget-minutes": f"{spent.seconds / 60:.1f} of {budget.minutes} minutes used; the rest is for comparing",
        "budget-tokens": f"{spent.tokens} of {budget.tokens} tokens used",
        "budget-cost": f"{spent.cost_usd or 0:.4f} of {budget.max_cost_usd} USD spent",
    }[over]


@dataclass(frozen=True)
class Candidate:
    """One of several problems that share a budget. `cost` is the mean cost of a trial (seconds)."""

    progress: Progress
    cost: float
    open: bool


def headroom_per_cost(candidate: Candidate) -> float:
    """Log of what is left to the bound, discounted by fruitless trials, for each unit of cost.

    An unmeasured problem comes first; a gap that many trials did not close is worth less than it looks.
    """
    if not candidate.open:
        return -math.inf
    if candidate.progress.best_ms is None:
        return math.inf if len(candidate.progress.times_ms) < 2 else 0.0
    headroom = math.log(max(1.0, candidate.progress.gap or 2.0))
    return headroom / (1.0 + candidate.progress.since_progress / 4) / max(candidate.cost, 1e-3)


def choose(candidates: Sequence[Candidate]) -> int | None:
    """Index of the problem that gets the next trial; None when all are closed."""
    values = [headroom_per_cost(c) for c in candidates]
    best = max(range(len(values)), key=lambda i: values[i], default=None)
    return best if best is not None and values[best] > -math.inf else None
