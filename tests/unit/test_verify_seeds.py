"""Every built-in seed kernel: proved, quick to check, and equal to its problem's reference at small sizes."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from typing import Any

import pytest
from kernelagent.dsl.check_text import check
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.shapes import sizes
from kernelagent.dsl.verify.trials import Trial
from kernelagent.problems import Problem, Workload

from kernelagent import problems

NAMES = problems.names()


def problem_dims(problem: Problem, module: Module, kernel_dims: Mapping[str, int]) -> dict[str, int]:
    """Sizes of the problem's dims: a kernel's array has the sizes of the tensor of the same name."""
    found: dict[str, int] = {}
    tensors = {t.name: t for t in (*problem.inputs, *problem.outputs)}
    for array in module.entry.arrays:
        for dim, size in zip(tensors[array.name].dims, array.dims, strict=True):
            if isinstance(dim, str) and dim.isidentifier():
                found[dim] = size.evaluate(kernel_dims)
    return found


def trial(problem: Problem, module: Module, kernel_dims: Mapping[str, int], seed: int) -> Trial:
    workload = Workload("small", problem_dims(problem, module, kernel_dims))
    arrays = {**problems.make_inputs(problem, workload, seed), **problems.make_outputs(problem, workload)}
    return Trial(workload.dims, arrays, problems.scalars(problem, workload), {}, seed)


def reference(problem: Problem, module: Module, count: int = 2) -> Reference:
    chosen = itertools.islice(sizes(module, {}), count)
    trials = tuple(trial(problem, module, dims, seed) for seed, dims in enumerate(chosen))

    def function(arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> Mapping[str, Any]:
        return problems.run_reference(problem, arrays, scalars)

    return Reference(function, trials)


@pytest.mark.parametrize("name", NAMES)
def test_seed_is_proved_and_agrees_with_its_reference(name: str) -> None:
    problem = problems.load(name)
    module = parse(problem.seed_kernel)
    report = check(problem.seed_kernel, reference=reference(problem, module))
    assert report.ok, report.to_dict()
    by_family = {
        family: {o.verdict for o in report.obligations if o.family == family} for family in ("bounds", "coverage")
    }
    assert by_family == {"bounds": {"PROVED"}, "coverage": {"PROVED"}}
    (numeric,) = [o for o in report.obligations if o.family == "numeric"]
    assert numeric.verdict == "TESTED", numeric.detail


@pytest.mark.parametrize("name", NAMES)
def test_quick_check_of_a_seed_takes_under_half_a_second(name: str) -> None:
    text = problems.load(name).seed_kernel

    def cpu_seconds() -> float:  # of this thread, however busy the machine is
        begin = time.thread_time()
        check(text)
        return time.thread_time() - begin

    assert min(cpu_seconds() for _ in range(2)) < 0.5
