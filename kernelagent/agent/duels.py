"""A text side by side with the best so far: their ratio survives a machine that is busier than it was before."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from kernelagent.harness.records import Timing
from kernelagent.knowledge_base.records import Trial

from .laboratory import CandidateFailed, Laboratory

CONTENDER = 2.5
"""A text that takes this many times the best's time loses without a duel."""
DOUBT = 3.0
"""Standard errors count this much: a quartile is less sure than a mean, and samples of one moment are alike."""


def duel(laboratory: Laboratory, text: str, time_ms: float | None, best: Trial | None) -> dict[str, Any] | None:
    """Record of the duel: `against` (trial id), both times, and the `ratio` that counts.

    A win is timed again, and the second time counts: the first was chosen for being low. None when there is no best,
    or when the text is too slow to be in question; `failed` when it broke.
    """
    if best is None or best.time_ms is None or time_ms is None or time_ms > CONTENDER * best.time_ms:
        return None
    try:
        own, other = laboratory.duel(text, best.text)
        if quick_quarter(own) < quick_quarter(other):
            own, other = laboratory.duel(text, best.text)
    except CandidateFailed as failure:
        return {"failed": str(failure)}
    times = {"time_ms": quick_quarter(own), "other_ms": quick_quarter(other)}
    return {"against": best.id, **times, "ratio": ratio(own, other)}


def quick_quarter(timing: Timing) -> float:
    """The lower quartile of a timing, which does without samples for one that has few."""
    return lower_quartile(timing.samples_ms) if len(timing.samples_ms) > 1 else timing.time_ms


def lower_quartile(samples_ms: Sequence[float]) -> float:
    """Of two samples or more. What else the machine does only ever adds time, so quick samples tell kernels apart."""
    return statistics.quantiles(samples_ms, n=4, method="inclusive")[0]


def ratio(own: Timing, other: Timing) -> float:
    """Ratio of the lower quartiles, drawn towards 1 by as much as the samples scatter.

    Without that a run that takes the better of many noisy times believes in gains that are none.
    """
    found = math.log(quick_quarter(own) / quick_quarter(other))
    doubt = DOUBT * (_squared_error(own) + _squared_error(other))
    return math.exp(found * max(0.0, 1.0 - doubt / found**2)) if found else 1.0


def _squared_error(timing: Timing) -> float:
    """Squared standard error of the mean of the log samples, slow outliers left out."""
    logs = sorted(math.log(t) for t in timing.samples_ms)
    kept = logs[: max(2, math.ceil(0.75 * len(logs)))]
    return statistics.variance(kept) / len(kept) if len(kept) > 1 else 0.0
