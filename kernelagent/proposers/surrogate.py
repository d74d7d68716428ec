"""A small model of the run so far: log time of a text from its tile sizes and from the moves that led to it.

A Gaussian process. Its mean is what techniques promise; its covariance says that a move does about the same to
different texts, and that times vary smoothly with the log of a size. With a few dozen trials everything is a matrix of
a few dozen rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOVE_SPREAD = 0.10
"""Standard deviation of the log gain of a move that promises nothing; PROMISE_SPREAD times its promise comes on top."""
PROMISE_SPREAD = 0.5
SAME_MOVE = 0.7
"""How alike two moves are that differ in their arguments only."""
SIZE_SPREAD = 0.40
"""Standard deviation of log time over the range of one size."""
JOINT_SPREAD = 0.25
"""The same for what sizes do together, beyond the sum of what each does."""
SIZE_SCALE = 1.6
"""Doublings over which times stay alike."""
NOISE = 0.05
COST_TRUST = 0.5
"""Share of the static model's log cost that is believed before anything was measured ..."""
COST_SPREAD = 0.35
"""... and how far the truth may be from that."""


@dataclass(frozen=True)
class Point:
    """A text as the model sees it. `moves` maps what was done since the seed to its promised log gain; `sizes` are
    log2 of the tunables; `log_cost` is the static model's, relative to the seed."""

    moves: Mapping[str, float]
    sizes: Mapping[str, float]
    log_cost: float = 0.0


@dataclass
class Surrogate:
    """Fitted to log(time / seed time) of the trials; `predict` gives mean and standard deviation of others."""

    points: Sequence[Point]
    values: Sequence[float]
    _solve: Any = field(init=False)
    _weights: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        prior = np.array([_promise(p) for p in self.points])
        covariance = _covariances(self.points, self.points) + NOISE**2 * np.eye(len(self.points))
        self._solve = np.linalg.inv(covariance)
        self._weights = self._solve @ (np.array(self.values) - prior)

    def predict(self, points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cross = _covariances(points, self.points)
        mean = np.array([_promise(p) for p in points]) + cross @ self._weights
        own = np.array([_covariance(p, p) for p in points])
        variance = own - np.einsum("ij,jk,ik->i", cross, self._solve, cross)
        return mean, np.sqrt(np.maximum(variance, 1e-9))


def expected_improvement(mean: float, deviation: float, best: float) -> float:
    """Of a normal variable below `best`: how much lower it is expected to come, counting no change as zero."""
    z = (best - mean) / deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return (best - mean) * 0.5 * math.erfc(-z / math.sqrt(2)) + deviation * density


def _promise(point: Point) -> float:
    return COST_TRUST * point.log_cost - sum(point.moves.values())


def _covariances(a: Sequence[Point], b: Sequence[Point]) -> NDArray[np.float64]:
    return np.array([[_covariance(p, q) for q in b] for p in a]).reshape(len(a), len(b))


def _covariance(a: Point, b: Point) -> float:
    names = a.sizes.keys() | b.sizes.keys()
    near = [_near(a.sizes.get(n), b.sizes.get(n)) for n in names]
    return (
        sum(_alike(x, gain_x, y, gain_y) for x, gain_x in a.moves.items() for y, gain_y in b.moves.items())
        + SIZE_SPREAD**2 * sum(near)
        + JOINT_SPREAD**2 * math.prod(near)
        + COST_SPREAD**2 * a.log_cost * b.log_cost
    )


def _alike(x: str, gain_x: float, y: str, gain_y: float) -> float:
    """Covariance of the gains of two moves (keys `name{arguments}`)."""
    if x.split("{")[0] != y.split("{")[0]:
        return 0.0
    return _spread(gain_x) * _spread(gain_y) * (1.0 if x == y else SAME_MOVE)


def _spread(gain: float) -> float:
    return MOVE_SPREAD + PROMISE_SPREAD * max(0.0, gain)


def _near(x: float | None, y: float | None) -> float:
    if x is None or y is None:
        return 0.0
    return math.exp(-0.5 * ((x - y) / SIZE_SCALE) ** 2)
