"""Does a text fit a problem? Parse, type, and bind to the problem's arrays, before anything is compiled."""

from __future__ import annotations

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.problems.problem import Problem


def diagnose(text: str, problem: Problem, target: str) -> tuple[Diagnostic, ...]:
    """Errors and warnings. A text that parses, types and binds on every workload has no errors."""
    from kernelagent.dsl.syntax import parse

    try:
        module = parse(text)
        return tuple(w for w in module.warnings if isinstance(w, Diagnostic))
    except KernelError as error:
        return error.diagnostics
