"""Does a text fit a problem? Parse, type, and bind to the problem's arrays, before anything is compiled."""

from __future__ import annotations

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.problems.problem import Problem


def diagnose(text: str, problem: Problem) -> tuple[Diagnostic, ...]:
    """Errors, or the warnings of a text that parses, types and binds to the arrays of every workload."""
    from kernelagent import dsl, problems

    try:
        module = dsl.parse(text)
        for workload in problem.workloads:
            shapes = problems.shapes(problem, workload)
            arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
            dsl.bind(module.entry, arrays, problems.scalars(problem, workload))
    except KernelError as error:
        return error.diagnostics
    return tuple(w for w in module.warnings if isinstance(w, Diagnostic))
