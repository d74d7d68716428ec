"""What a right answer is: the reference in fp64 on the rounded inputs, and how far an output may be from it.

Per element  |y - y64| <= (relative + u_out) |y64| + absolute * rms(y64) + gain(K) * S  where

- relative and absolute are the problem's `Tolerance`, u_out the rounding unit of the output's dtype,
- rms(y64) is the root mean square of the finite part of this output: never a flat constant, so that an output of
  small numbers cannot be answered by zeros,
- K is the length of the longest reduction, gain the bound of a sum of K terms accumulated in f32 (u = 2^-24):
  hard, gain = K u / (1 - K u), which no order of summation exceeds; soft, gain = min(hard, 4 sqrt(K) u), which
  rounding errors of random signs do not exceed, but narrower accumulators or operands do,
- S is at least max(|y64|, rms(y64)), and sum |a| |b| where that can be had: the reference run on the absolute
  values of the inputs, if on the problem's smallest workload that dominates |y64| everywhere and at least nearly
  doubles when the inputs double (products, sums, and what is monotone on top of them).

Breaking the soft bound has to be confirmed on fresh inputs; breaking the hard bound is wrong at once.
Integers and booleans must be equal.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.problems.dtypes import is_float, numpy_dtype, unit_roundoff
from kernelagent.problems.problem import Problem, Workload
from kernelagent.problems.tolerances import reduction_length
from numpy.typing import NDArray

from kernelagent import problems

UNIT = 2.0**-24
"""Rounding unit of the f32 accumulator that the language prescribes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Expected:
    """One output: its exact values and the terms of the bound. `values` is float64 (or the dtype, if not a float)."""

    name: str
    dtype: str
    values: NDArray[Any]
    relative: float
    absolute: float  # already multiplied by rms
    soft_gain: float
    hard_gain: float
    scale: NDArray[np.float32] | None  # S where the reference on absolute values gives it
    rms: float
    finite: bool  # every value is finite in the output's dtype

    @functools.cached_property
    def allowed_soft(self) -> NDArray[np.float32]:
        """The soft bound of every element, flattened; kept, because every candidate is held against it."""
        return self.allowed(slice(None), self.soft_gain).astype(np.float32)

    @property
    def allowed_hard(self) -> NDArray[np.float32]:
        return self.allowed(slice(None), self.hard_gain).astype(np.float32)

    def allowed(self, part: slice, gain: float) -> Floats:
        """The bound for a slice of the flattened output."""
        magnitude = np.abs(self.values.reshape(-1)[part])
        scale = np.maximum(magnitude, self.rms)
        if self.scale is not None:
            scale = np.maximum(scale, self.scale.reshape(-1)[part])
        return np.asarray(self.relative * magnitude + self.absolute + gain * scale)


def expect(
    problem: Problem, workload: Workload, inputs: Mapping[str, NDArray[Any]], scalars: Mapping[str, float | int | bool]
) -> dict[str, Expected]:
    """Every output of the problem on these inputs. Raises ValueError if the reference does not fit the problem."""
    exact = problems.run_reference(problem, inputs, scalars)
    length = reduction_length(problem, workload)
    scales: Mapping[str, NDArray[Any]] = {}
    if length > 1 and is_sum_like(problem):
        scales = problems.run_reference(problem, _magnitudes(inputs), scalars)
    shapes = problems.shapes(problem, workload)
    result = {}
    for tensor in problem.outputs:
        if exact[tensor.name].shape != shapes[tensor.name]:
            raise ValueError(f"the reference gives {tensor.name} the shape {exact[tensor.name].shape}")
        result[tensor.name] = _expected(problem, tensor.name, tensor.dtype, exact, scales, length)
    return result


def rule(problem: Problem, workload: Workload) -> str:
    """The bound of a workload in words, for records."""
    tolerance, length = problem.tolerance, reduction_length(problem, workload)
    scale = (
        "S = max(|y64|, rms, reference of |inputs|)" if length > 1 and is_sum_like(problem) else "S = max(|y64|, rms)"
    )
    text = f"|y - y64| <= {tolerance.relative:g} |y64| + {tolerance.absolute:g} rms"
    return f"{text} + gain({length}) S, {scale}" if length > 1 else text


def gains(length: int) -> tuple[float, float]:
    """(soft, hard) relative error of a sum of `length` terms in f32."""
    hard = length * UNIT / (1 - length * UNIT) if length * UNIT < 0.5 else 1.0
    return min(hard, 4 * math.sqrt(length) * UNIT), hard


def is_sum_like(problem: Problem) -> bool:
    """Whether the reference on absolute values is a scale for the rounding errors of this problem."""
    return _is_sum_like(_ById(problem))


class _ById:
    """A problem as a cache key: problems hold mappings, so they have no hash of their own."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def __hash__(self) -> int:
        return id(self.problem)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.problem is self.problem


@functools.lru_cache(maxsize=64)
def _is_sum_like(key: _ById) -> bool:
    problem = key.problem
    workload = min(problem.workloads, key=lambda w: elements(problem, w))
    scalars = problems.scalars(problem, workload)
    inputs = problems.make_inputs(problem, workload, 0)
    magnitudes = _magnitudes(inputs)
    doubled = {n: a + a if a.dtype.kind not in "iub" else a for n, a in magnitudes.items()}
    value, scale, twice = (problems.run_reference(problem, x, scalars) for x in (inputs, magnitudes, doubled))
    names = [t.name for t in problem.outputs if is_float(t.dtype)]
    dominates = all(bool(np.all(scale[n] >= np.abs(value[n]) * (1 - 1e-9))) for n in names)
    return dominates and all(bool(np.all(twice[n] >= 1.9 * scale[n])) for n in names)


def elements(problem: Problem, workload: Workload) -> int:
    """Elements of all inputs and outputs of a workload."""
    return sum(math.prod(shape) for shape in problems.shapes(problem, workload).values())


def _magnitudes(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: a if a.dtype.kind in "iub" else np.abs(a) for name, a in inputs.items()}


def _expected(
    problem: Problem, name: str, dtype: str, exact: Mapping[str, NDArray[Any]], scales: Mapping[str, NDArray[Any]],
    length: int,
) -> Expected:  # fmt: skip
    values = np.ascontiguousarray(exact[name])
    if not is_float(dtype):
        return Expected(name, dtype, values.astype(numpy_dtype(dtype)), 0, 0, 0, 0, None, 0.0, True)
    with np.errstate(over="ignore"):
        representable = np.isfinite(values.astype(numpy_dtype(dtype)))
    finite = bool(representable.all())
    rms = _rms(values if finite else values[representable])
    soft, hard = gains(length)
    scale = np.ascontiguousarray(scales[name], dtype=np.float32) if name in scales else None
    tolerance = problem.tolerance
    relative = tolerance.relative + unit_roundoff(dtype)
    return Expected(name, dtype, values, relative, tolerance.absolute * rms, soft, hard, scale, rms, finite)


def _rms(values: NDArray[Any]) -> float:
    flat = values.reshape(-1)
    return math.sqrt(float(np.dot(flat, flat)) / flat.size) if flat.size else 0.0
