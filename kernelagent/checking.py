"""Check a kernel text against a problem: does it fit, and does it compute the same at small sizes?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kernelagent import problems
from kernelagent.agent.matching import diagnose
from kernelagent.dsl.check import CheckReport, check
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.trials import Trial
from kernelagent.problems.problem import Problem, Workload

SMALL_ELEMENTS = 200_000
"""Workloads with more array elements than this are left to the compiled kernel."""


def check_for(text: str, problem: Problem, target: str, quick: bool) -> CheckReport:
    """The report of `dsl.check`, with the problem's reference; a text that does not fit the problem is wrong."""
    misfits = [d for d in diagnose(text, problem) if d.severity == "error"]
    if misfits:
        return CheckReport(False, "UNKNOWN", (), (), tuple(misfits))
    return check(text, reference_of(problem), target=target, quick=quick)


def reference_of(problem: Problem) -> Reference:
    """The problem's reference on its small workloads, as plain data for the verifier."""

    def function(arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> Mapping[str, Any]:
        return problems.run_reference(problem, dict(arrays), dict(scalars))

    trials = tuple(_trial(problem, w) for w in problem.workloads if _elements(problem, w) <= SMALL_ELEMENTS)
    return Reference(function, trials)


def _elements(problem: Problem, workload: Workload) -> int:
    return sum(math.prod(shape) for shape in problems.shapes(problem, workload).values())


def _trial(problem: Problem, workload: Workload) -> Trial:
    inputs = problems.make_inputs(problem, workload, seed=0)
    outputs = problems.make_outputs(problem, workload)
    return Trial(dict(workload.dims), {**inputs, **outputs}, problems.scalars(problem, workload), {})
