"""Medians, intervals, scores, and the decision between two subjects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.harness.score import score, suspicion
from kernelagent.harness.statistics import median, order_statistic
from kernelagent.harness.timing import Samples, contrast


def coverage(n: int, k: int) -> float:
    """P(x_(k) <= median <= x_(n-1-k)) for n samples."""
    return 1 - 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n


@given(st.integers(6, 400))
def test_the_interval_is_the_narrowest_with_95_percent(n: int) -> None:
    k = order_statistic(n)
    assert coverage(n, k) >= 0.95
    assert coverage(n, k + 1) < 0.95


def test_few_samples_give_their_range() -> None:
    m = median([3.0, 1.0, 2.0])
    assert (m.value, m.low, m.high) == (2.0, 1.0, 3.0)


def test_the_interval_covers_the_true_median_as_often_as_promised() -> None:
    rng = np.random.default_rng(1)
    hits = [m.low <= 1.0 <= m.high for m in (median(rng.lognormal(0, 1, 15).tolist()) for _ in range(1000))]
    assert np.mean(hits) >= 0.94


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=60))
def test_the_median_lies_in_its_interval(samples: list[float]) -> None:
    m = median(samples)
    assert m.low <= m.value <= m.high


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="no samples"):
        median([])


def samples(name: str, ms: list[float], rounds: list[int] | None = None) -> Samples:
    return Samples(name, ms, rounds or list(range(len(ms))))


def test_twice_as_fast_is_faster() -> None:
    slow = [10.0, 11, 30, 10.5, 10, 12, 10, 11]
    found = contrast(samples("a", slow), samples("b", [t / 2 for t in slow]))
    assert found.ratio == pytest.approx(2)
    assert found.decision == "FASTER"
    assert contrast(samples("b", [t / 2 for t in slow]), samples("a", slow)).decision == "SLOWER"


def test_noise_is_inconclusive() -> None:
    rng = np.random.default_rng(5)
    a, b = (rng.lognormal(0, 0.3, 9).tolist() for _ in range(2))
    assert contrast(samples("a", a), samples("b", b)).decision == "INCONCLUSIVE"


def test_only_common_rounds_are_compared() -> None:
    found = contrast(samples("a", [2.0, 2.0], [0, 5]), samples("b", [100.0, 1.0], [3, 5]))
    assert found.ratio == pytest.approx(2)


@pytest.mark.parametrize(
    ("time", "base", "sol", "expected"),
    [(1, 1, 0.5, 0.5), (0.5, 1, 0.5, 1), (2, 1, 0.5, 0.25), (0.75, 1, 0.5, 2 / 3), (0.4, 1, 0.5, 1)],
)
def test_the_score_has_the_published_values_clamped(time: float, base: float, sol: float, expected: float) -> None:
    assert score(time, sol, base) == (pytest.approx(expected), None)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_scores_lie_between_zero_and_one(time: float, base: float, sol: float) -> None:
    value, reason = score(time, sol, base)
    assert (value is None) == (reason is not None) == (base <= sol)
    assert value is None or 0 <= value <= 1


def test_a_missing_score_says_why() -> None:
    assert score(1, None, 1) == (None, "no speed-of-light bound was given")
    assert score(1, 0.5, None) == (None, "no baseline was timed")
    assert score(1, 2, 1) == (None, "the baseline (1 ms) is not slower than the bound (2 ms)")


def test_faster_than_light_is_suspect() -> None:
    assert suspicion(1, 0.5) is None
    assert suspicion(1, None) is None
    assert suspicion(0.4, 0.5) == "0.4 ms is below the speed-of-light bound of 0.5 ms"
    assert suspicion(0.4, 0.5, 0.3) is None
    assert suspicion(0.2, 0.5, 0.3) == "0.2 ms is below the floor of 0.3 ms (speed of light 0.5 ms)"
