"""How much work a text does on a workload, counted without running it: a rough order, so that hopeless texts wait.

Elements touched by each operation, weighted by what such an operation costs a vector unit, times the iterations around
it. Tiles that hang over an edge count whole, loops pay for each turn, tiles beyond the second-level cache pay for it,
and a grid with fewer tiles than threads leaves threads idle. The surrogate learns how far to believe it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import evaluate_condition
from kernelagent.problems.problem import Problem, Workload

TURN = 30.0
"""Cost of one turn of a loop, in elements."""
CACHE_BYTES = 512 * 1024
"""A tile beyond this leaves the second-level cache of most CPUs."""
PER_DOUBLING = 0.25
SPECIAL = 6.0
MULTIPLY_ADD = 0.06
_CHEAP = (ir.Cast, ir.Broadcast, ir.ExpandDims, ir.Reshape, ir.Full, ir.FromIndex, ir.FromCondition, ir.ScalarParam)
_SPECIAL = frozenset({"exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "erf", "sin", "cos", "sigmoid"})

Environment = Mapping[str, int]


def static_cost(problem: Problem, workload: Workload, threads: int) -> Callable[[str], float | None]:
    """Cost of a text in weighted elements; None for programs and for texts that do not fit the problem."""

    @lru_cache(maxsize=4096)
    def cost(text: str) -> float | None:
        try:
            return _cost(text, problem, workload, threads)
        except (KernelError, KeyError, ZeroDivisionError):
            return None

    return cost


def _cost(text: str, problem: Problem, workload: Workload, threads: int) -> float | None:
    from kernelagent import dsl, problems

    module = dsl.parse(text)
    entry = module.entry
    if not isinstance(entry, ir.Kernel):
        return None
    shapes = problems.shapes(problem, workload)
    arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    binding = dsl.bind(entry, arrays, problems.scalars(problem, workload))
    kernel = dsl.instantiate(entry, binding.dtypes, {}, binding.consts, "cpu", binding.dims)
    return body_cost(kernel.body, binding.environment, threads)


def body_cost(body: Sequence[ir.Statement], environment: Environment, threads: int) -> float:
    """Weighted elements of statements whose free symbols have the values of `environment`."""
    return sum(_statement(s, environment, threads) for s in body)


def _statement(statement: ir.Statement, environment: Environment, threads: int) -> float:
    match statement:
        case ir.Let(value, operation):
            return _weight(operation) * _elements(value, environment) * _cache_factor(value, environment)
        case ir.Store(value=value) | ir.Scatter(value=value):
            return 1.5 * _elements(value, environment)
        case ir.Expect():
            return 0.0
        case ir.For():
            return _loop(statement, environment, threads)
        case ir.If(condition=ir.Value()):
            arms = (statement.then, statement.otherwise)
            return max(body_cost(arm, environment, threads) for arm in arms)
        case ir.If(condition=condition):
            assert not isinstance(condition, ir.Value)
            taken = statement.then if evaluate_condition(condition, environment) else statement.otherwise
            return body_cost(taken, environment, threads)


def _loop(loop: ir.For, environment: Environment, threads: int) -> float:
    """Inner bounds are taken at the middle of the outer range: a triangle counts half."""
    inner = dict(environment)
    turns = 1
    for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
        first, last, stride = lo.evaluate(inner), hi.evaluate(inner), step.evaluate(inner)
        count = max(0, -(-(last - first) // stride))
        inner[variable.name] = first + stride * ((count - 1) // 2 if count else 0)
        turns *= count
    whole = turns * (TURN + body_cost(loop.body, inner, threads))
    return whole * _idle(turns, threads) if loop.kind == "tiles" else whole


def _idle(tiles: int, threads: int) -> float:
    """How much longer a grid takes than one that divides evenly among the threads."""
    return math.ceil(tiles / threads) * threads / tiles if tiles else 1.0


def _weight(operation: ir.Operation) -> float:
    match operation:
        case ir.Unary(word=word):
            return SPECIAL if word in _SPECIAL else 0.5
        case ir.Binary(word="div" | "pow" | "mod" | "floordiv"):
            return 2.0
        case ir.Mma(a=a):
            depth = a.type.shape[-1].constant
            return MULTIPLY_ADD * (depth or 1)
        case ir.Load() | ir.Gather():
            return 1.0
    return 0.1 if isinstance(operation, _CHEAP) else 0.5


def _elements(value: ir.Value, environment: Environment) -> int:
    return math.prod(extent.evaluate(environment) for extent in value.type.shape)


def _cache_factor(value: ir.Value, environment: Environment) -> float:
    size = _elements(value, environment) * bits(value.type.dtype) / 8
    return 1.0 + PER_DOUBLING * math.log2(size / CACHE_BYTES) if size > CACHE_BYTES else 1.0
