"""Arrays of a problem: shapes, inputs, poisoned outputs and the high-precision reference."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.problems.distributions import DISTRIBUTIONS, VARIANTS
from kernelagent.problems.dtypes import is_float, numpy_dtype
from kernelagent.problems.problem import Problem, Tensor, Workload
from kernelagent.problems.sizes import evaluate
from numpy.typing import DTypeLike, NDArray

Arrays = dict[str, NDArray[Any]]


def shapes(problem: Problem, workload: Workload | str) -> dict[str, tuple[int, ...]]:
    """Shape of every input and output, by name, inputs first."""
    dims = _workload(problem, workload).dims
    return {t.name: _shape(t, dims) for t in (*problem.inputs, *problem.outputs)}


def scalars(problem: Problem, workload: Workload | str) -> dict[str, float | int | bool]:
    """Value of every runtime scalar: the problem's, unless the workload says otherwise."""
    own = _workload(problem, workload).scalars
    return {s.name: own.get(s.name, s.value) for s in problem.scalars}


def variants(problem: Problem) -> tuple[str, ...]:
    """Names that `make_inputs` takes as `variant` for this problem, "default" first."""
    return ("default", *problem.variants)


def make_inputs(problem: Problem, workload: Workload | str, seed: int, variant: str = "default") -> Arrays:
    """Draw every input. The same arguments give the same bits, whatever was drawn before.

    `variant` "default" draws each tensor from its own distribution; another name from `VARIANTS` replaces it
    for those floating tensors that are drawn freely (distribution "normal").
    Raises ValueError for an unknown variant or distribution.
    """
    if variant != "default" and variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: default, {', '.join(VARIANTS)}")
    work = _workload(problem, workload)
    return {t.name: _draw(t, work, _stream(seed, problem.name, work.name, t.name), variant) for t in problem.inputs}


def make_outputs(problem: Problem, workload: Workload | str, fill: float = float("nan")) -> Arrays:
    """Outputs full of `fill`; where an integer dtype cannot hold it, of that dtype's lowest value."""
    dims = _workload(problem, workload).dims
    return {t.name: _filled(_shape(t, dims), t.dtype, fill) for t in problem.outputs}


def run_reference(
    problem: Problem,
    arrays: Mapping[str, NDArray[Any]],
    scalars: Mapping[str, float | int | bool],
    dtype: DTypeLike = np.float64,
) -> Arrays:
    """Outputs by name, computed with numpy in `dtype` from the (already rounded) inputs.

    Floating inputs are converted to `dtype`, others passed as they are; outputs are not rounded.
    """
    converted = {t.name: _as(arrays[t.name], t.dtype, dtype) for t in problem.inputs}
    with np.errstate(all="ignore"):
        result = problem.reference(np, **converted, **scalars)
    parts = result if isinstance(result, tuple | list) else (result,)
    if len(parts) != len(problem.outputs):
        raise ValueError(f"the reference returns {len(parts)} arrays, the problem has {len(problem.outputs)} outputs")
    return {t.name: np.asarray(part) for t, part in zip(problem.outputs, parts, strict=True)}


def _workload(problem: Problem, workload: Workload | str) -> Workload:
    return problem.workload(workload) if isinstance(workload, str) else workload


def _shape(tensor: Tensor, dims: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(d, dims) for d in tensor.dims)


def _stream(seed: int, *names: str) -> np.random.Generator:
    return np.random.default_rng([seed, *(zlib.crc32(name.encode()) for name in names)])


def _draw(tensor: Tensor, workload: Workload, rng: np.random.Generator, variant: str) -> NDArray[Any]:
    replace = variant != "default" and is_float(tensor.dtype) and tensor.distribution == "normal"
    name = variant if replace else tensor.distribution
    if name not in DISTRIBUTIONS:
        raise ValueError(f"{tensor.name}: unknown distribution {name!r}; known: {', '.join(DISTRIBUTIONS)}")
    options = {} if replace else {k: _option(v, workload.dims) for k, v in tensor.options.items()}
    drawn = DISTRIBUTIONS[name](rng, _shape(tensor, workload.dims), **options)
    return np.ascontiguousarray(drawn.astype(numpy_dtype(tensor.dtype), copy=False))


def _option(value: float | int | str, dims: Mapping[str, int]) -> float | int:
    return evaluate(value, dims) if isinstance(value, str) else value


def _filled(shape: tuple[int, ...], dtype: str, fill: float) -> NDArray[Any]:
    target = numpy_dtype(dtype)
    if not is_float(dtype) and not float(fill).is_integer():
        fill = 1 if dtype == "bool" else int(np.iinfo(target).min)
    return np.full(shape, fill, dtype=target)


def _as(array: NDArray[Any], dtype: str, target: DTypeLike) -> NDArray[Any]:
    return array.astype(target, copy=False) if is_float(dtype) else array
