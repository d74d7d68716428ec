"""Medians with a 95% interval that assumes no distribution: order statistics of the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Median:
    """The median of samples and the interval that covers the true one with at least 95% confidence.

    With fewer than six samples no pair of order statistics reaches 95%; the whole range is given then.
    """

    value: float
    low: float
    high: float
    samples: int

    @property
    def relative_width(self) -> float:
        return (self.high - self.low) / self.value if self.value > 0 else math.inf


def median(samples: Sequence[float]) -> Median:
    """Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    below = order_statistic(len(ordered))
    low, high = ordered[below], ordered[len(ordered) - 1 - below]
    return Median(float(np.median(ordered)), float(low), float(high), len(ordered))


def order_statistic(n: int) -> int:
    """The largest k such that [x_(k), x_(n-1-k)] (counting from 0) covers the median with at least 95%.

    The coverage is P(k < B < n - k) for B binomial(n, 1/2); see David and Nagaraja, Order Statistics, section 7.1.
    """
    k, tail = 0, 1 / 2**n
    while True:
        tail += math.comb(n, k + 1) / 2**n
        if 2 * tail > 1 - LEVEL:
            return k
        k += 1
