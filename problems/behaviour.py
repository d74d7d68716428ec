"""What running the reference on a small workload shows: failures, degenerate problems, useless tolerances."""

from __future__ import annotations

import math
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.problems.arrays import Arrays, make_inputs, make_outputs, run_reference, scalars, shapes
from kernelagent.problems.dtypes import is_float, numpy_dtype
from kernelagent.problems.findings import Finding, error, warning
from kernelagent.problems.problem import Problem, Workload
from kernelagent.problems.tolerances import passes
from numpy.typing import NDArray

LARGEST_ELEMENTS = 1 << 24
"""Of the smallest workload: more than this and nothing is run."""
WORK_LIMIT_F16 = 1 << 20  # elements up to which the reference is also run in float16, which numpy does slowly

Scalars = dict[str, float | int | bool]


@dataclass(frozen=True)
class Sample:
    """One run of the reference in float64."""

    problem: Problem
    workload: Workload
    inputs: Arrays
    scalars: Scalars
    exact: Arrays


def check_behaviour(problem: Problem) -> Iterator[Finding]:
    """Findings from the smallest workload; the declarations must be without errors."""
    workload = min(problem.workloads, key=lambda w: _elements(problem, w))
    if _elements(problem, workload) > LARGEST_ELEMENTS:
        message = f"the smallest workload, {workload.name}, has {_elements(problem, workload)} elements"
        yield error("no-small-workload", message, f"add one of at most {LARGEST_ELEMENTS} elements")
        return
    inputs, values = make_inputs(problem, workload, 0), scalars(problem, workload)
    try:
        exact = run_reference(problem, {n: a.copy() for n, a in inputs.items()}, values)
    except Exception as problem_error:  # noqa: BLE001 - the reference is the user's: whatever it raises is a finding
        yield _failure(workload, problem_error)
        return
    malformed = list(_outputs(problem, workload, exact))
    yield from malformed
    if not malformed:
        sample = Sample(problem, workload, inputs, values, exact)
        for check in (_repeatable, _finite, _constant, _dependence, _trivial_answers, _precision, _numpy_baseline):
            yield from check(sample)


def _failure(workload: Workload, reason: Exception) -> Finding:
    frames = traceback.extract_tb(reason.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    message = f"the reference fails on {workload.name}: {type(reason).__name__}: {reason}{place}"
    return error("reference-fails", message, "it takes (xp, inputs and scalars by name) and returns the outputs")


def _outputs(problem: Problem, workload: Workload, exact: Arrays) -> Iterator[Finding]:
    wanted = shapes(problem, workload)
    for tensor in problem.outputs:
        found = exact[tensor.name]
        if found.shape != wanted[tensor.name]:
            message = f"{tensor.name} has shape {found.shape} on {workload.name}, declared {wanted[tensor.name]}"
            yield error("reference-shape", message, "mend the reference or the dims of the output")
        if (found.dtype.kind == "f") != is_float(tensor.dtype) or found.dtype.kind not in "fiub":
            message = f"{tensor.name} comes as {found.dtype}, declared {tensor.dtype}"
            yield error("reference-dtype", message, "floats for floats, integers for integers")


def _repeatable(sample: Sample) -> Iterator[Finding]:
    again = _run(sample, sample.inputs)
    for name, exact in sample.exact.items():
        if not np.array_equal(exact, again[name], equal_nan=exact.dtype.kind == "f"):
            message = f"two runs of the reference on the same inputs differ in {name}"
            yield error("reference-nondeterministic", message, "draw random numbers as inputs, not in the reference")
    copies = {n: a.copy() for n, a in sample.inputs.items()}
    with np.errstate(all="ignore"):
        sample.problem.reference(np, **copies, **sample.scalars)
    for name, array in sample.inputs.items():
        if array.tobytes() != copies[name].tobytes():
            yield error("reference-mutates", f"the reference writes to its input {name}", "return new arrays")


def _finite(sample: Sample) -> Iterator[Finding]:
    for name, exact in sample.exact.items():
        bad = int(np.count_nonzero(~np.isfinite(exact))) if exact.dtype.kind == "f" else 0
        if bad:
            message = f"{bad} of {exact.size} elements of {name} are NaN or infinite on {sample.workload.name}"
            yield error("reference-nonfinite", message, "choose a distribution that keeps the outputs finite", bad=bad)


def _constant(sample: Sample) -> Iterator[Finding]:
    other = _run(sample, make_inputs(sample.problem, sample.workload, 1))
    for name, exact in sample.exact.items():
        if _same(exact, other[name]):
            message = f"{name} is the same for two different draws of all inputs"
            yield error("output-constant", message, "a kernel that stores a constant would pass")
        elif exact.size > 1 and bool((exact == exact.flat[0]).all()):
            message = f"all {exact.size} elements of {name} are equal ({exact.flat[0]:.6g})"
            yield error("output-uniform", message, "a kernel that computes one element would pass")


def _dependence(sample: Sample) -> Iterator[Finding]:
    """Redraw one input, or change one scalar, at a time."""
    fresh = make_inputs(sample.problem, sample.workload, 1)
    for tensor in sample.problem.inputs:
        redrawn = fresh[tensor.name]
        if np.array_equal(redrawn, sample.inputs[tensor.name]):  # a fixed table
            redrawn = np.asarray(redrawn.astype(np.float64) + 1).astype(redrawn.dtype)
        changed = _run(sample, {**sample.inputs, tensor.name: redrawn})
        if all(_same(e, changed[n]) for n, e in sample.exact.items()):
            message = f"no output changes when {tensor.name} is drawn anew"
            yield error("input-ignored", message, "remove the input, or use it in the reference", input=tensor.name)
    for scalar in sample.problem.scalars:
        value = sample.scalars[scalar.name]
        other: float | int | bool = not value if isinstance(value, bool) else value * 2 + 1
        with np.errstate(all="ignore"):
            moved = run_reference(sample.problem, sample.inputs, {**sample.scalars, scalar.name: other})
        if all(_same(e, moved[n]) for n, e in sample.exact.items()):
            message = f"no output changes when {scalar.name} is {other} instead of {value}"
            yield warning("scalar-ignored", message, "remove the scalar, or use it in the reference")


def _trivial_answers(sample: Sample) -> Iterator[Finding]:
    """Zeros, and copies of inputs: only a problem all of whose outputs are so answered is degenerate."""
    if all(_passes(sample, n, np.zeros_like(e)) for n, e in sample.exact.items()):
        largest = max(float(np.abs(e).max(initial=0.0)) for e in sample.exact.values())
        message = f"an answer of zeros is within the tolerance (largest output {largest:.3g})"
        yield error("zeros-pass", message, "tighten the tolerance or draw inputs that give larger outputs")
    for tensor in sample.problem.inputs:
        copy = sample.inputs[tensor.name]
        if all(copy.shape == e.shape and _passes(sample, n, copy) for n, e in sample.exact.items()):
            message = f"a copy of the input {tensor.name} is within the tolerance of every output"
            yield error("copy-passes", message, "draw inputs for which the operation does something")


def _precision(sample: Sample) -> Iterator[Finding]:
    """float32 arithmetic must pass the tolerance of float32 outputs, and float16 arithmetic must not."""
    wide = [t.name for t in sample.problem.outputs if t.dtype in ("f32", "f64")]
    if not wide or _moves_only(sample):
        return
    in_f32 = run_reference(sample.problem, sample.inputs, sample.scalars, np.float32)
    if not all(_passes(sample, n, in_f32[n]) for n in wide if in_f32[n].shape == sample.exact[n].shape):
        message = "the reference itself, run in float32, is outside the tolerance"
        yield warning("tolerance-tight", message, "name the reduced dims in Tolerance.reduction, or loosen it")
    if _elements(sample.problem, sample.workload) > WORK_LIMIT_F16:
        return
    in_f16 = run_reference(sample.problem, sample.inputs, sample.scalars, np.float16)
    if all(_passes(sample, n, in_f16[n]) for n in wide):
        message = f"the reference run in float16 is within the tolerance ({sample.problem.tolerance})"
        yield error("tolerance-loose", message, "a kernel could compute in half precision; tighten relative/absolute")


def _moves_only(sample: Sample) -> bool:
    """Whether every output element is an input element: then rounding says nothing about the tolerance."""
    pool = np.concatenate([a.reshape(-1).astype(np.float64) for a in sample.inputs.values()])
    return all(bool(np.isin(e, pool).all()) for e in sample.exact.values())


def _numpy_baseline(sample: Sample) -> Iterator[Finding]:
    baseline = sample.problem.numpy_reference
    if baseline is None:
        return
    outputs = make_outputs(sample.problem, sample.workload)
    out: Any = tuple(outputs.values()) if len(outputs) > 1 else next(iter(outputs.values()))
    copies = {n: a.copy() for n, a in sample.inputs.items()}
    try:
        with np.errstate(all="ignore"):
            baseline(np, out=out, **copies, **sample.scalars)
    except Exception as reason:  # noqa: BLE001 - as for the reference
        hint = "it is called as numpy_reference(numpy, out=out, **inputs) and writes to out"
        yield error("baseline-fails", f"numpy_reference fails: {type(reason).__name__}: {reason}", hint)
        return
    for name, exact in sample.exact.items():
        if not _passes(sample, name, outputs[name]):
            message = (
                f"numpy_reference leaves a {name} outside the tolerance (largest error {_error(outputs[name], exact)})"
            )
            yield error("baseline-wrong", message, "mend it, or leave it out")


def _run(sample: Sample, inputs: Arrays) -> Arrays:
    return run_reference(sample.problem, {n: a.copy() for n, a in inputs.items()}, sample.scalars)


def _passes(sample: Sample, name: str, found: NDArray[Any]) -> bool:
    dtype = next(t.dtype for t in sample.problem.outputs if t.name == name)
    rounded = found.astype(numpy_dtype(dtype)) if found.dtype.kind == "f" else found
    return passes(sample.problem, sample.workload, name, sample.exact[name], rounded)


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _error(found: NDArray[Any], exact: NDArray[Any]) -> str:
    return f"{float(np.abs(found.astype(np.float64) - exact).max(initial=0.0)):.3g}"


def _elements(problem: Problem, workload: Workload) -> int:
    return sum(math.prod(shape) for shape in shapes(problem, workload).values())
