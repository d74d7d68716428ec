"""What a side-by-side time is worth."""

from __future__ import annotations

import math
import random

import pytest
from kernelagent.harness.records import Timing

from kernelagent.agent.budget import Budget, Spent
from kernelagent.agent.duels import quick_quarter, ratio
from kernelagent.agent.steering import Policy, Progress, decide


def timing(samples: list[float]) -> Timing:
    middle = sorted(samples)[len(samples) // 2]
    return Timing("x", middle, (min(samples), max(samples)), tuple(samples))


def noisy(mean: float, scatter: float, dice: random.Random, count: int = 12) -> Timing:
    return timing([mean * math.exp(abs(dice.gauss(0.0, scatter))) for _ in range(count)])


def test_still_samples_are_believed() -> None:
    assert ratio(timing([2.0] * 8), timing([4.0] * 8)) == pytest.approx(0.5)
    assert ratio(timing([2.0] * 8), timing([2.0] * 8)) == 1.0


def test_slow_outliers_do_not_count() -> None:
    assert quick_quarter(timing([1.0, 1.0, 1.0, 9.0, 30.0])) == 1.0


def test_equal_kernels_look_equal_on_a_busy_machine() -> None:
    """A run that keeps the better of many: the believed ratios of thirty equal kernels multiply to almost nothing."""
    for seed in range(5):
        dice = random.Random(seed)
        believed = naive = 0.0
        for _ in range(30):
            own, other = noisy(1.0, 0.4, dice), noisy(1.0, 0.4, dice)
            believed += min(0.0, math.log(ratio(own, other)))
            naive += min(0.0, math.log(own.time_ms / other.time_ms))
        assert believed > 0.4 * naive


def test_a_true_gain_is_seen_on_a_busy_machine() -> None:
    dice = random.Random(0)
    found = [ratio(noisy(1.0, 0.3, dice), noisy(2.0, 0.3, dice)) for _ in range(20)]
    assert sorted(found)[10] < 0.65


def test_the_bound_is_not_reached_by_ratios_alone() -> None:
    flattering = Progress((5.0, 1.0), 1.0, measured_ms=4.8)
    assert flattering.gap == pytest.approx(4.8)
    assert not decide(flattering, Spent(), Budget(None), Policy(patience=None)).stop
