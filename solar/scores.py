"""The score of a time between a baseline and the speed of light."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """`value` in [0, 1], or None with the `reason`."""

    value: float | None
    reason: str | None = None


def score(time_ms: float, sol_ms: float, baseline_ms: float) -> Score:
    """S = 1 / (1 + (t - t_sol) / (t_base - t_sol)): 0.5 at the baseline, 1 at the speed of light.

    Clamped to [0, 1]: a time below the speed of light is a suspect, not a better score.
    """
    times = {"time": time_ms, "speed of light": sol_ms, "baseline": baseline_ms}
    for name, value in times.items():
        if not math.isfinite(value) or value < 0:
            return Score(None, f"the {name} is {value} ms")
    if baseline_ms <= sol_ms:
        return Score(None, f"the baseline ({baseline_ms:.4g} ms) is not above the speed of light ({sol_ms:.4g} ms)")
    if time_ms <= sol_ms:
        return Score(1.0)
    return Score(1.0 / (1.0 + (time_ms - sol_ms) / (baseline_ms - sol_ms)))
