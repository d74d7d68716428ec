"""What a run may spend, and what it has spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

FINISH_SHARE = 0.15
"""Of the minutes: kept for confirming and comparing the finalists, so that the run as a whole keeps its time."""


@dataclass(frozen=True)
class Spent:
    """Resources used so far. The seed is not a trial. `seconds` counts time at work, not time interrupted.

    `tokens_estimated` says that at least one count was estimated from the text's length, because the endpoint
    reported none; `cost_usd` is None without prices.
    """

    trials: int = 0
    seconds: float = 0.0
    tokens: int = 0
    cost_usd: float | None = None
    tokens_estimated: bool = False


@dataclass(frozen=True)
class Budget:
    """Limits of a run; None is no limit. A trial that has begun is finished, so the last one may go over."""

    trials: int | None = 40
    minutes: float | None = None
    tokens: int | None = None
    max_cost_usd: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and (isinstance(value, bool) or not value >= 0):
                raise ValueError(f"budget: {name} must not be negative, got {value!r}")

    def exhausted(self, spent: Spent) -> str | None:
        """The first limit that is reached (`budget-trials` ...), or None."""
        limits = (
            ("budget-trials", self.trials, spent.trials),
            ("budget-minutes", self.trial_minutes, spent.seconds / 60),
            ("budget-tokens", self.tokens, spent.tokens),
            ("budget-cost", self.max_cost_usd, spent.cost_usd or 0.0),
        )
        return next((name for name, limit, used in limits if limit is not None and used >= limit), None)

    @property
    def trial_minutes(self) -> float | None:
        """Minutes after which no further trial begins."""
        return None if self.minutes is None else self.minutes * (1 - FINISH_SHARE)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)
