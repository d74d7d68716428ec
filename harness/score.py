"""The score of a time between a baseline and the speed of light, and when a time is not plausible."""

from __future__ import annotations


def score(time_ms: float, sol_ms: float | None, baseline_ms: float | None) -> tuple[float | None, str | None]:
    """(S, None) or (None, why not).  S = 1 / (1 + (t - t_sol) / (t_base - t_sol)), clamped to [0, 1].

    1/2 at the baseline's time, 1 at the bound. Source: the score of SOL-ExecBench, with the clamp it lacks.
    """
    if sol_ms is None:
        return None, "no speed-of-light bound was given"
    if baseline_ms is None:
        return None, "no baseline was timed"
    if baseline_ms <= sol_ms:
        return None, f"the baseline ({baseline_ms:.4g} ms) is not slower than the bound ({sol_ms:.4g} ms)"
    if time_ms <= sol_ms:
        return 1.0, None
    return 1 / (1 + (time_ms - sol_ms) / (baseline_ms - sol_ms)), None


def suspicion(time_ms: float, sol_ms: float | None, floor_ms: float | None = None) -> str | None:
    """Why a cold-cache time cannot be right, if it is below the floor; that is the speed of light unless given."""
    floor = sol_ms if floor_ms is None else floor_ms
    if floor is None or time_ms >= floor:
        return None
    if floor_ms is None or sol_ms is None:
        return f"{time_ms:.4g} ms is below the speed-of-light bound of {floor:.4g} ms"
    return f"{time_ms:.4g} ms is below the floor of {floor:.4g} ms (speed of light {sol_ms:.4g} ms)"
