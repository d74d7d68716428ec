"""Does a text fit a problem? Parse, type, and bind to the problem's arrays, before anything is compiled."""

from __future__ import annotations

import re
from dataclasses import replace

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.ir import Module
from kernelagent.problems.problem import Problem, Workload

_MEMBERS = re.compile(r"`assume\((?P<dim>\w+) in \((?P<members>[\d, ]+)\)\)`")
_AXIS = re.compile(r"^axis (?P<axis>\d+) of `(?P<array>\w+)`")


def diagnose(text: str, problem: Problem) -> tuple[Diagnostic, ...]:
    """Errors, or the warnings of a text that parses, types and binds to the arrays of every workload."""
    from kernelagent import dsl

    try:
        module = dsl.parse(text)
    except KernelError as error:
        return error.diagnostics
    for workload in problem.workloads:
        try:
            _bind(module, problem, workload)
        except KernelError as error:
            return tuple(_of_workload(d, problem, workload) for d in error.diagnostics)
    return tuple(w for w in module.warnings if isinstance(w, Diagnostic))


def _bind(module: Module, problem: Problem, workload: Workload) -> None:
    from kernelagent import dsl, problems

    shapes = problems.shapes(problem, workload)
    arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    dsl.bind(module.entry, arrays, problems.scalars(problem, workload))


def _of_workload(found: Diagnostic, problem: Problem, workload: Workload) -> Diagnostic:
    """Where sizes do not fit: they are the problem's, and the text has to take them."""
    hint = found.hint
    if found.code == "assume-violated":
        hint = _taking(found, workload)
    elif found.code in ("missing-array", "unknown-array"):
        names = ", ".join(t.name for t in (*problem.inputs, *problem.outputs))
        hint = f"the arrays of {problem.name} are: {names}; they are bound by name"
    elif found.code == "dim-mismatch":
        hint = _own_dim(found, problem, workload) or hint
    return replace(found, hint=hint)


def _taking(found: Diagnostic, workload: Workload) -> str:
    sizes = ", ".join(f"{name}={value}" for name, value in found.facts.items())
    says = f"workload {workload.name} of the problem has {sizes}"
    listed = _MEMBERS.search(found.message)
    if listed is None or not isinstance(size := found.facts.get(listed["dim"]), int):
        return f"{says}: assume less, every workload has to be taken"
    members = sorted({size, *(int(n) for n in listed["members"].split(",") if n.strip())})
    return f"{says}: write {listed['dim']} in ({', '.join(map(str, members))})"


def _own_dim(found: Diagnostic, problem: Problem, workload: Workload) -> str | None:
    """An axis whose size is a dim of its own in the problem."""
    match = _AXIS.match(found.message)
    tensor = next((t for t in (*problem.inputs, *problem.outputs) if match and t.name == match["array"]), None)
    if match is None or tensor is None:
        return None
    axis, says = int(match["axis"]), f"in workload {workload.name} of the problem"
    dims = ", ".join(map(str, tensor.dims))
    return f"`{tensor.name}` is ({dims}) {says}: give axis {axis} a dim of its own, as {tensor.dims[axis]}"
