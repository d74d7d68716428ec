"""What a text becomes on a workload: texts that become the same code need not be timed twice.

A policy that a target drops, a list of choices whose default stays, an arm that these sizes never enter: each makes
another text and the same work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.index import Condition, Environment, evaluate_condition
from kernelagent.problems.problem import Problem, Workload

_LINE_MARK = re.compile(r"/\* line \d+ \*/")


def emitted_code(problem: Problem, workload: Workload) -> Callable[[str], str | None]:
    """Digest of the C that runs on this workload, by text; None for a text that the CPU target does not take."""
    from kernelagent.dsl.lower.unsupported import Unsupported

    @lru_cache(maxsize=4096)
    def code(text: str) -> str | None:
        try:
            source = _source(text, problem, workload)
        except (KernelError, Unsupported):
            return None
        return hashlib.sha256(_LINE_MARK.sub("", source).encode()).hexdigest()

    return code


def _source(text: str, problem: Problem, workload: Workload) -> str:
    from kernelagent import dsl, problems
    from kernelagent.dsl.targets.calls import Choices, concrete_calls
    from kernelagent.dsl.targets.cpu.build import emit, resolve_level

    module = dsl.parse(text)
    shapes = problems.shapes(problem, workload)
    arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    binding = dsl.bind(module.entry, arrays, problems.scalars(problem, workload))
    calls = concrete_calls(module, Choices(binding.dtypes, {}, binding.consts, binding.dims))
    if isinstance(module.entry, ir.Kernel):
        kernel = calls[0].kernel
        calls = (replace(calls[0], kernel=replace(kernel, body=entered(kernel.body, binding.environment))),)
    return emit(calls, resolve_level("auto"), dense=True)[1]


def entered(body: Sequence[ir.Statement], sizes: Environment) -> tuple[ir.Statement, ...]:
    """The body with those arms emptied that these sizes never enter; an arm that gives a value on is left alone."""
    return tuple(_entered(statement, sizes) for statement in body)


def _entered(statement: ir.Statement, sizes: Environment) -> ir.Statement:
    match statement:
        case ir.For():
            return replace(statement, body=entered(statement.body, sizes))
        case ir.If(condition=condition, merged=()) if not isinstance(condition, ir.Value):
            return _one_arm(statement, _holds(condition, sizes), sizes)
    return statement


def _one_arm(statement: ir.If, holds: bool | None, sizes: Environment) -> ir.If:
    then = () if holds is False else entered(statement.then, sizes)
    otherwise = () if holds is True else entered(statement.otherwise, sizes)
    return replace(statement, then=then, otherwise=otherwise)


def _holds(condition: Condition, sizes: Environment) -> bool | None:
    """None where it depends on more than sizes: a position, or data."""
    try:
        return evaluate_condition(condition, sizes)
    except KeyError:
        return None
