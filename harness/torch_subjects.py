"""torch baselines on the shared arrays, writing into preallocated outputs. Imported only inside their worker."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from kernelagent.harness.subjects import Bind, Binding, Run
from kernelagent.problems.problem import Problem


def eager(problem: Problem) -> Bind:
    """The problem's torch reference, through `out=` where it has that parameter, else with a copy into the output."""
    return lambda binding: _call(_writer(problem), problem, binding)


def compiled(problem: Problem) -> Bind:
    """The same through torch.compile, reference and copy in one graph, so that the copy can be fused."""
    function = torch.compile(_copier(problem), dynamic=False)
    return lambda binding: _call(function, problem, binding)


def _call(function: Callable[..., Any], problem: Problem, binding: Binding) -> Run:
    torch.set_num_threads(binding.threads)
    inputs = {name: tensor_view(a) for name, a in binding.inputs.items()}
    outputs = tuple(tensor_view(binding.outputs[t.name]) for t in problem.outputs)
    scalars = dict(binding.scalars)

    def run() -> None:
        with torch.inference_mode():
            function(outputs, inputs, scalars)

    return run


def _writer(problem: Problem) -> Callable[..., Any]:
    reference = problem.torch_reference
    assert reference is not None
    if "out" not in inspect.signature(reference).parameters:
        return _copier(problem)

    def write(outputs: tuple[Any, ...], inputs: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        out = outputs if len(outputs) > 1 else outputs[0]
        result = reference(torch, out=out, **inputs, **scalars)
        _copy_unless_same(result, outputs)

    return write


def _copier(problem: Problem) -> Callable[..., Any]:
    reference = problem.torch_reference
    assert reference is not None

    def write(outputs: tuple[Any, ...], inputs: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        result = reference(torch, **inputs, **scalars)
        parts = result if isinstance(result, tuple | list) else (result,)
        for out, part in zip(outputs, parts, strict=True):
            out.copy_(part)

    return write


def _copy_unless_same(result: Any, outputs: tuple[Any, ...]) -> None:
    """A reference may return `out`, or ignore it and return new tensors."""
    parts = result if isinstance(result, tuple | list) else (result,)
    for out, part in zip(outputs, parts, strict=True):
        if part is not None and part.data_ptr() != out.data_ptr():
            out.copy_(part)


def tensor_view(array: Any) -> Any:
    """A tensor on the memory of a numpy array, also for the dtypes that numpy itself does not have."""
    own = {"bfloat16": torch.bfloat16, "float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
    if array.dtype.name not in own:
        return torch.from_numpy(array)
    integers = array.view("int16" if array.dtype.itemsize == 2 else "int8")
    return torch.from_numpy(integers).view(own[array.dtype.name])
