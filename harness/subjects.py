"""What a worker can run. Every subject is loaded once and then bound to arrays: one call of the result is one run.

| kind | record | what it is |
|---|---|---|
| cpu_artifact | `artifact` | a compiled candidate (`CpuArtifact.to_dict()`) |
| shared_object | `path`, `symbol`, `arrays` | a C function of the arrays (pointers), then all extents |
| numpy, torch_eager, torch_compile | `problem` | a baseline of a problem, see `ProblemSource` |
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[], object]
Bind = Callable[["Binding"], Run]


@dataclass(frozen=True)
class Binding:
    """Arrays by name (inputs and outputs apart), runtime scalars, and how many threads to use."""

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]
    scalars: Mapping[str, float | int | bool]
    threads: int


def load(record: Mapping[str, Any]) -> Bind:
    """Raises whatever loading raises; ValueError for an unknown kind."""
    kind = record["kind"]
    if kind not in _KINDS:
        raise ValueError(f"unknown subject kind {kind!r}")
    return _KINDS[kind](record)


def prepare(kind: str) -> None:
    """Import what loading a subject of this kind will need; nothing for kinds that need nothing."""
    from kernelagent.harness import caches, memory  # noqa: F401 - every worker needs them

    if kind == "cpu_artifact":
        from kernelagent.dsl.targets import cpu

        from kernelagent import dsl

        _ = dsl.parse, cpu.load, cpu.CpuArtifact


def _cpu_artifact(record: Mapping[str, Any]) -> Bind:
    from kernelagent.dsl.targets import cpu

    kernel = cpu.load(cpu.CpuArtifact.from_dict(record["artifact"]))
    return lambda b: kernel.bind({**b.inputs, **b.outputs}, b.scalars, b.threads)


def _shared_object(record: Mapping[str, Any]) -> Bind:
    function = ctypes.CDLL(record["path"])[record["symbol"]]
    function.restype = None

    def bind(binding: Binding) -> Run:
        arrays = [{**binding.inputs, **binding.outputs}[name] for name in record["arrays"]]
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
        extents = [ctypes.c_long(n) for a in arrays for n in a.shape]
        return lambda: function(*pointers, *extents)

    return bind


def _numpy(record: Mapping[str, Any]) -> Bind:
    problem = _problem(record)
    names = [t.name for t in problem.outputs]

    def bind(binding: Binding) -> Run:
        arguments = {**binding.inputs, **binding.scalars}
        if problem.numpy_reference is None:
            return lambda: _store(problem.reference(np, **arguments), binding.outputs, names)
        reference, out = problem.numpy_reference, _one_or_tuple(binding.outputs, names)
        return lambda: reference(np, out, **arguments)

    return bind


def _store(result: Any, outputs: Mapping[str, NDArray[Any]], names: list[str]) -> None:
    parts = result if isinstance(result, tuple | list) else (result,)
    for name, part in zip(names, parts, strict=True):
        np.copyto(outputs[name], part, casting="same_kind")


def _torch_eager(record: Mapping[str, Any]) -> Bind:
    from kernelagent.harness.torch_subjects import eager

    return eager(_problem(record))


def _torch_compile(record: Mapping[str, Any]) -> Bind:
    from kernelagent.harness.torch_subjects import compiled

    return compiled(_problem(record))


def _problem(record: Mapping[str, Any]) -> Any:
    from kernelagent.harness.problem_source import ProblemSource

    return ProblemSource(**record["problem"]).resolve()


def _one_or_tuple(outputs: Mapping[str, Any], names: list[str]) -> Any:
    return outputs[names[0]] if len(names) == 1 else tuple(outputs[name] for name in names)


_KINDS: dict[str, Callable[[Mapping[str, Any]], Bind]] = {
    "cpu_artifact": _cpu_artifact,
    "shared_object": _shared_object,
    "numpy": _numpy,
    "torch_eager": _torch_eager,
    "torch_compile": _torch_compile,
}
