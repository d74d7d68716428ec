"""How far an output may be from the high-precision reference, in its strictest form.

|y - y64| <= (relative + u_out) |y64| + absolute * rms(y64) + gain * max(|y64|, rms(y64)) with u_out the rounding
unit of the output's dtype and gain = min(4 sqrt(K), K) * 2^-24 for a reduction of K terms accumulated in f32: rounding
errors of random signs grow with the root (Higham, Accuracy and Stability of Numerical Algorithms, section 2.8).
The harness may allow more where the terms of a sum are larger than the sum; never less.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from kernelagent.problems.dtypes import is_float, unit_roundoff
from kernelagent.problems.problem import Problem, Workload
from kernelagent.problems.sizes import evaluate
from numpy.typing import NDArray

ACCUMULATOR_ROUNDOFF = 2.0**-24


def reduction_length(problem: Problem, workload: Workload) -> int:
    """Length of the longest reduction, 1 if there is none."""
    return math.prod((evaluate(d, workload.dims) for d in problem.tolerance.reduction), start=1)


def allowance(problem: Problem, workload: Workload, output: str, exact: NDArray[Any]) -> NDArray[np.float64]:
    """Allowed absolute error of each element of `output`, in the shape of `exact` (float64); 0 for integers."""
    dtype = next(t.dtype for t in problem.outputs if t.name == output)
    if not is_float(dtype):
        return np.zeros(exact.shape)
    tolerance, k = problem.tolerance, reduction_length(problem, workload)
    gain = min(4 * math.sqrt(k), k) * ACCUMULATOR_ROUNDOFF if k > 1 else 0.0
    magnitude = np.abs(exact.astype(np.float64))
    rms = math.sqrt(float(np.mean(magnitude**2))) if magnitude.size else 0.0
    relative = tolerance.relative + unit_roundoff(dtype)
    return np.asarray(relative * magnitude + tolerance.absolute * rms + gain * np.maximum(magnitude, rms))


def passes(problem: Problem, workload: Workload, output: str, exact: NDArray[Any], found: NDArray[Any]) -> bool:
    """Whether every element of `found` is finite and within the allowance of `exact`."""
    values = found.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(values - exact.astype(np.float64))
        return bool(np.isfinite(values).all() and (error <= allowance(problem, workload, output, exact)).all())
