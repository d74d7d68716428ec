"""What a text becomes on a workload: texts that become the same code need not be timed twice.

A policy that a target drops, a list of choices whose default stays, an arm that these sizes never enter, a tile wider
than the row that it holds: each makes another text and the same work.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.index import Condition, Environment, evaluate_condition
from kernelagent.dsl.lower.rewrite import map_values
from kernelagent.dsl.moves import MoveError
from kernelagent.dsl.moves.refit import trimmed
from kernelagent.problems.problem import Problem, Workload

_LINE_MARK = re.compile(r"/\* line \d+ \*/")


def emitted_code(problem: Problem, workload: Workload) -> Callable[[str], str | None]:
    """Digest of the C that runs on this workload, by text; None for a text that the CPU target does not take."""
    from kernelagent.dsl.lower.unsupported import Unsupported

    @lru_cache(maxsize=4096)
    def code(text: str) -> str | None:
        try:
            source = _source(trimmed(text, workload.dims), problem, workload)
        except (MoveError, KernelError, Unsupported):
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
        calls = (replace(calls[0], kernel=replace(kernel, body=specialised(kernel.body, binding.environment))),)
    return emit(calls, resolve_level("auto"), dense=True)[1]


def specialised(body: Sequence[ir.Statement], sizes: Environment) -> tuple[ir.Statement, ...]:
    """The body with each `if` that these sizes decide replaced by the arm that they enter."""
    chosen: dict[int, ir.Value] = {}

    def value(named: ir.Value) -> ir.Value:
        while named.number in chosen:
            named = chosen[named.number]
        return named

    return map_values(tuple(_spliced(body, sizes, chosen)), value)


def _spliced(body: Sequence[ir.Statement], sizes: Environment, chosen: dict[int, ir.Value]) -> Iterator[ir.Statement]:
    """Adds to `chosen`, by number, what the values after such an `if` stand for."""
    for statement in body:
        match statement:
            case ir.For():
                yield replace(statement, body=tuple(_spliced(statement.body, sizes, chosen)))
            case ir.If(condition=condition, then=then, otherwise=otherwise, merged=merged):
                holds = None if isinstance(condition, ir.Value) else _holds(condition, sizes)
                if holds is None:
                    arms = (tuple(_spliced(arm, sizes, chosen)) for arm in (then, otherwise))
                    yield replace(statement, then=next(arms), otherwise=next(arms))
                else:
                    chosen |= {m.result.number: m.then if holds else m.otherwise for m in merged}
                    yield from _spliced(then if holds else otherwise, sizes, chosen)
            case _:
                yield statement


def _holds(condition: Condition, sizes: Environment) -> bool | None:
    """None where it depends on more than sizes: a position, or data."""
    try:
        return evaluate_condition(condition, sizes)
    except KeyError:
        return None
