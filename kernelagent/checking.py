"""Check a kernel text against a problem: does it fit, and does it compute the same at small sizes?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np

from kernelagent import problems
from kernelagent.agent.estimating import device_calls
from kernelagent.agent.matching import diagnose
from kernelagent.dsl.binding import Binding, bind
from kernelagent.dsl.check_gpu import GpuCalls, GpuTarget, check_gpu
from kernelagent.dsl.check_text import CheckReport, check
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.ir import Module
from kernelagent.dsl.targets.calls import Choices, entry_dims
from kernelagent.dsl.verify.emulated import ALIGNED
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.records import Findings, covers
from kernelagent.dsl.verify.semantics.graph import ReferenceGraph
from kernelagent.dsl.verify.shapes import sizes
from kernelagent.dsl.verify.trials import Trial
from kernelagent.problems.dtypes import unit_roundoff
from kernelagent.problems.problem import Problem, Workload
from kernelagent.reference_graph import Untraceable, reference_graph

SMALL_ELEMENTS = 200_000
"""Calls with more array elements than this are left to the compiled kernel."""

_ONE_SIGN = "same_sign"
"""Inputs that are all negative: maxima that start at 0 show on no others."""

HIDDEN_SIZES = 8
"""Sizes taken from the text itself that are looked at: around its tiles, so that loops have several iterations."""


def check_for(text: str, problem: Problem, target: str, quick: bool) -> CheckReport:
    """The report of `dsl.check`, with the problem's reference; a text that does not fit the problem is wrong."""
    misfits = [d for d in diagnose(text, problem) if d.severity == "error"]
    if misfits:
        return CheckReport(False, "UNKNOWN", (), (), tuple(misfits))
    graph = None if quick else graph_of(problem)
    return check(text, reference_of(problem, parse(text)), target=target, quick=quick, graph=graph)


def meaning_of(text: str, problem: Problem) -> Findings:
    """The text against the problem's reference: over the reals, else over finite fields, else in numbers."""
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.semantics.prove import prove_semantics

    module = parse(text)
    return prove_semantics(module, Choice({}, {}, {}), graph_of(problem), reference_of(problem, module))


def graph_of(problem: Problem) -> ReferenceGraph:
    """The graph of the problem's reference; without nodes, and with the reason, where it cannot be traced."""
    try:
        return reference_graph(problem)
    except Untraceable as reason:
        return ReferenceGraph(missing=str(reason))


def check_gpu_for(
    text: str, problem: Problem, target: GpuTarget, arch: str, quick: bool, workload: Workload | None = None
) -> CheckReport:
    """`dsl.check_gpu` on the problem: compiled for all its workloads, or emulated on small calls of it.

    Code of a shape class that the given workload does not take may spill, with a warning; without one, that no workload
    takes but the ragged ones, which are there for correctness.
    """
    misfits = [d for d in diagnose(text, problem) if d.severity == "error"]
    if misfits:
        return CheckReport(False, "UNKNOWN", (), (), tuple(misfits))
    module = parse(text)
    reference = reference_of(problem, module)
    trials = _emulated_trials(problem, module, reference)
    counting = [workload] if workload else [w for w in problem.workloads if not w.ragged]
    calls = GpuCalls(
        arch, classes=_classes(problem, module), trials=trials, workloads=workload_dims(problem, module),
        taken=_taken(text, problem, counting, arch),
    )  # fmt: skip
    return check_gpu(text, target, calls, reference, quick, None if quick else graph_of(problem))


def _taken(text: str, problem: Problem, workloads: Sequence[Workload], arch: str) -> Callable[[str, str], bool]:
    """Whether one of these workloads takes the code of a kernel's shape class; looked up when first asked."""

    @cache
    def found() -> frozenset[tuple[str, str]]:
        calls = (call for w in workloads for call in device_calls(text, problem, w, arch)[1])
        return frozenset((c.code.schedule.name, c.code.schedule.shape_class.name) for c in calls)

    return lambda kernel, shape_class: (kernel, shape_class) in found()


def workload_dims(problem: Problem, module: Module) -> tuple[dict[str, int], ...]:
    """The entry's dims in each workload of the problem."""
    return tuple(dict(_binding(problem, module, workload).dims) for workload in problem.workloads)


def covered(report: CheckReport, text: str, problem: Problem, workload: Workload) -> bool:
    """Whether what is proved for some sizes only is proved for those of a workload."""
    return covers(report.obligations, dict(_binding(problem, parse(text), workload).dims))


def _binding(problem: Problem, module: Module, workload: Workload) -> Binding:
    shapes = problems.shapes(problem, workload)
    arrays = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    return bind(module.entry, arrays, problems.scalars(problem, workload))


def _classes(problem: Problem, module: Module) -> tuple[Choices, ...]:
    """What binaries of the problem's workloads depend on, each once."""
    found: dict[str, Choices] = {}
    for workload in problem.workloads:
        binding = _binding(problem, module, workload)
        choices = Choices(binding.dtypes, {}, binding.consts, entry_dims(module, binding.dims))
        found.setdefault(repr(choices), choices)
    return tuple(found.values())


def _emulated_trials(problem: Problem, module: Module, reference: Reference) -> tuple[Trial, ...]:
    """The problem's smallest workload, the trials of the reference, and sizes in whole 16-byte rows."""
    smallest = min(problem.workloads, key=lambda w: _elements(problem, w))
    hidden = next(hidden_workloads(problem, module), smallest)
    whole = replace(hidden, name="hidden", dims={d: -(-n // ALIGNED) * ALIGNED for d, n in hidden.dims.items()})
    extra = [w for w in (whole, smallest) if _elements(problem, w) <= SMALL_ELEMENTS and _has_answer(problem, w)]
    return (*reference.trials[:2], *(_trial(problem, w) for w in extra))


def reference_of(problem: Problem, module: Module) -> Reference:
    """The problem's reference at sizes around the text's own tiles and on the problem's small workloads."""

    def function(arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> Mapping[str, Any]:
        return problems.run_reference(problem, dict(arrays), dict(scalars))

    small = [w for w in problem.workloads if _elements(problem, w) <= SMALL_ELEMENTS]
    hidden = list(islice(hidden_workloads(problem, module), HIDDEN_SIZES))
    telling = [*sorted(hidden, key=lambda w: -_elements(problem, w))[:1], *hidden[:1]]  # most iterations; one past
    trials = tuple(_trial(problem, w) for w in (*telling, *small))
    rounding = 2 * max(unit_roundoff(t.dtype) for t in problem.outputs)  # of the outputs, and once on the way to them
    others = [w for w in (*telling[:1], *small[-1:]) if _ONE_SIGN in problem.variants]
    signed = tuple(_trial(problem, w, _ONE_SIGN) for w in others if _has_answer(problem, w, _ONE_SIGN))
    return Reference(function, trials, max(Reference.relative, rounding), max(Reference.absolute, rounding), signed)


def hidden_workloads(problem: Problem, module: Module) -> Iterator[Workload]:
    """The problem's smallest workload with sizes around the text's tiles, where problem and text allow them."""
    base = min(problem.workloads, key=lambda w: _elements(problem, w))
    names = _dim_names(module, problem)
    for found in sizes(module, {}):
        dims = {**base.dims, **{names[k]: n for k, n in found.items() if k in names}}
        workload = replace(base, name="hidden", dims=dims)
        if _elements(problem, workload) <= SMALL_ELEMENTS and _has_answer(problem, workload):
            yield workload


def _dim_names(module: Module, problem: Problem) -> dict[str, str]:
    """The text's names of dims -> the problem's, read off arrays of the same name."""
    tensors = {t.name: t.dims for t in (*problem.inputs, *problem.outputs)}
    pairs = [pair for a in module.entry.arrays for pair in zip(a.dims, tensors[a.name], strict=True)]
    return {str(own): theirs for own, theirs in pairs if isinstance(theirs, str) and theirs.isidentifier()}


def _has_answer(problem: Problem, workload: Workload, variant: str = "default") -> bool:
    """Sizes may break a rule of the problem that nobody wrote down: then its reference fails, or is not finite."""
    trial = _trial(problem, workload, variant)
    try:
        answer = problems.run_reference(problem, dict(trial.arrays), dict(trial.scalars))
    except (ValueError, IndexError, ZeroDivisionError):
        return False
    return all(np.isfinite(a).all() for a in answer.values())


def _elements(problem: Problem, workload: Workload) -> int:
    return sum(math.prod(shape) for shape in problems.shapes(problem, workload).values())


def _trial(problem: Problem, workload: Workload, variant: str = "default") -> Trial:
    inputs = problems.make_inputs(problem, workload, seed=0, variant=variant)
    outputs = problems.make_outputs(problem, workload)
    return Trial(dict(workload.dims), {**inputs, **outputs}, problems.scalars(problem, workload), {})
