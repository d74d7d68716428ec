"""How inputs are drawn. Each distribution is `(rng, shape, **options) -> array`, called by its name.

Values are drawn in float32 (or int64) and rounded once to the tensor's dtype by the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Shape = tuple[int, ...]
Distribution = Callable[..., NDArray[Any]]


def normal(rng: Generator, shape: Shape, mean: float = 0.0, std: float = 1.0) -> NDArray[Any]:
    x = rng.standard_normal(shape, dtype=np.float32)
    if std != 1.0:
        x *= np.float32(std)
    if mean != 0.0:
        x += np.float32(mean)
    return x


def uniform(rng: Generator, shape: Shape, low: float = -1.0, high: float = 1.0) -> NDArray[Any]:
    """Uniform in [low, high)."""
    return np.float32(low) + np.float32(high - low) * rng.random(shape, dtype=np.float32)


def positive(rng: Generator, shape: Shape, low: float = 0.5, high: float = 1.5) -> NDArray[Any]:
    """Away from zero and of one sign: no cancellation, so a dropped term always shows."""
    return uniform(rng, shape, low, high)


def large(rng: Generator, shape: Shape, scale: float = 100.0) -> NDArray[Any]:
    """Large magnitudes: an exponential without its maximum subtracted overflows here."""
    return normal(rng, shape, std=scale)


def offset(rng: Generator, shape: Shape, mean: float = 100.0, std: float = 0.1) -> NDArray[Any]:
    """Large mean, small variance: E[x^2] - E[x]^2 in float32 fails here."""
    return normal(rng, shape, mean, std)


def same_sign(rng: Generator, shape: Shape) -> NDArray[Any]:
    """All negative: a maximum started at zero, or padding that counts as zero, shows."""
    return -np.abs(rng.standard_normal(shape, dtype=np.float32)) - np.float32(0.5)


def small(rng: Generator, shape: Shape, scale: float = 1e-3) -> NDArray[Any]:
    return normal(rng, shape, std=scale)


def constant(_rng: Generator, shape: Shape, value: float = 1.0) -> NDArray[Any]:
    return np.full(shape, value, dtype=np.float32)


def labels(rng: Generator, shape: Shape, classes: int) -> NDArray[Any]:
    """Integers in [0, classes)."""
    return rng.integers(0, classes, size=shape)


def integers(rng: Generator, shape: Shape, low: int = -1024, high: int = 1024) -> NDArray[Any]:
    """Integers in [low, high)."""
    return rng.integers(low, high, size=shape)


def rotary_cos(_rng: Generator, shape: Shape, base: float = 10000.0) -> NDArray[Any]:
    """cos(position * base**(-p / P)) for a (positions, P) table."""
    return np.asarray(np.cos(_angles(shape, base)))


def rotary_sin(_rng: Generator, shape: Shape, base: float = 10000.0) -> NDArray[Any]:
    return np.asarray(np.sin(_angles(shape, base)))


def _angles(shape: Shape, base: float) -> NDArray[Any]:
    positions, pairs = shape
    return np.arange(positions)[:, None] * base ** (-np.arange(pairs)[None, :] / pairs)


DISTRIBUTIONS: dict[str, Distribution] = {
    d.__name__: d
    for d in (
        normal, uniform, positive, large, offset, same_sign, small, constant, labels, integers, rotary_cos, rotary_sin,
    )
}  # fmt: skip

VARIANTS = ("uniform", "positive", "large", "offset", "same_sign")
"""What correctness draws floating inputs from besides each tensor's own distribution ("default")."""
