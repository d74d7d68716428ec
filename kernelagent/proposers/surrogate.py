"""A small model of the run so far: log time of a text from its tile sizes and from the moves that led to it.

A Gaussian process. Its mean is what techniques promise; its covariance says that a move does about the same to
different texts, and that times vary smoothly with the log of a size. With a few dozen trials everything is a matrix of
a few dozen rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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
TRANSFER = 0.8
"""How alike what a text gains here and what it gains on another workload are."""


@dataclass(frozen=True)
class Point:
    """A text as the model sees it. `moves` maps what was done since the seed to its promised log gain; `sizes` are
    log2 of the tunables; `log_cost` is the static model's, relative to the seed. `elsewhere`: timed on another
    workload, and fitted to this one."""

    moves: Mapping[str, float]
    sizes: Mapping[str, float]
    log_cost: float = 0.0
    elsewhere: bool = False


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
        variance = np.array([_variance(p) for p in points]) - np.einsum("ij,jk,ik->i", cross, self._solve, cross)
        return mean, np.sqrt(np.maximum(variance, 1e-9))


def expected_improvement(mean: float, deviation: float, best: float) -> float:
    """Of a normal variable below `best`: how much lower it is expected to come, counting no change as zero."""
    z = (best - mean) / deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return (best - mean) * 0.5 * math.erfc(-z / math.sqrt(2)) + deviation * density


def _promise(point: Point) -> float:
    return COST_TRUST * point.log_cost - sum(point.moves.values())


def _covariances(a: Sequence[Point], b: Sequence[Point]) -> NDArray[np.float64]:
    """(a, b) covariance of log times."""
    cost = np.outer([p.log_cost for p in a], [q.log_cost for q in b])
    names = _shared([_spreads(p, _name) for p in a], [_spreads(q, _name) for q in b])
    keys = _shared([_spreads(p, str) for p in a], [_spreads(q, str) for q in b])
    alike = SAME_MOVE * names + (1.0 - SAME_MOVE) * keys + _near(a, b) + COST_SPREAD**2 * cost
    other = np.not_equal.outer([p.elsewhere for p in a], [q.elsewhere for q in b])
    return np.where(other, TRANSFER * alike, alike)


def _variance(point: Point) -> float:
    """A point's covariance with itself."""
    names, keys = (sum(s * s for s in _spreads(point, kind).values()) for kind in (_name, str))
    sizes = SIZE_SPREAD**2 * len(point.sizes) + JOINT_SPREAD**2
    return SAME_MOVE * names + (1.0 - SAME_MOVE) * keys + sizes + COST_SPREAD**2 * point.log_cost**2


def _name(key: str) -> str:
    """Of a move's key `name{arguments}`."""
    return key.split("{")[0]


def _spreads(point: Point, kind: Callable[[str], str]) -> dict[str, float]:
    """Standard deviation of what the point's moves gained, summed over moves of one kind."""
    found: dict[str, float] = {}
    for key, gain in point.moves.items():
        found[kind(key)] = found.get(kind(key), 0.0) + MOVE_SPREAD + PROMISE_SPREAD * max(0.0, gain)
    return found


def _shared(a: Sequence[Mapping[str, float]], b: Sequence[Mapping[str, float]]) -> NDArray[np.float64]:
    names = sorted({name for row in (*a, *b) for name in row})
    return _table(a, names, 0.0) @ _table(b, names, 0.0).T


def _near(a: Sequence[Point], b: Sequence[Point]) -> NDArray[np.float64]:
    """What nearness of the sizes adds; a size that only one of two points has keeps them apart."""
    names = sorted({name for p in (*a, *b) for name in p.sizes})
    left = _table([p.sizes for p in a], names, math.nan)[:, None, :]
    right = _table([q.sizes for q in b], names, math.nan)[None, :, :]
    near = np.nan_to_num(np.exp(-0.5 * ((left - right) / SIZE_SCALE) ** 2))
    neither = np.isnan(left) & np.isnan(right)
    joint = np.where(neither, 1.0, near).prod(axis=2)
    total: NDArray[np.float64] = SIZE_SPREAD**2 * near.sum(axis=2) + JOINT_SPREAD**2 * joint
    return total


def _table(rows: Sequence[Mapping[str, float]], names: Sequence[str], absent: float) -> NDArray[np.float64]:
    """(rows, names)"""
    return np.array([[row.get(name, absent) for name in names] for row in rows]).reshape(len(rows), len(names))
