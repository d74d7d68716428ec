"""Runs of the whole tiled kernel over finite fields, against the graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.semantics import graph as g
from kernelagent.dsl.verify.semantics.field import PAIRS, Field, Pair, Unfielded
from kernelagent.dsl.verify.semantics.field_domain import FieldDomain
from kernelagent.dsl.verify.semantics.field_reference import FieldReference
from kernelagent.dsl.verify.trials import Trial

WORK_LIMIT = 4_000_000
_SIZES = 2
"""Trials that are run, over every pair of fields: those whose sizes differ most among each other, then the smallest."""


def agreeing(module: Module, choice: Choice, graph: g.ReferenceGraph, reference: Reference) -> tuple[int, str]:
    """(runs, "") when every run over every pair of fields agrees, else (0, why that shows nothing)."""
    runs = 0
    trials = sorted(reference.trials, key=lambda t: (-len(set(t.sizes.values())), _elements(t)))[:_SIZES]
    for trial in trials:
        for seed, pair in enumerate(PAIRS):
            try:
                if not all(_agree(module, choice, graph, trial, pair, seed)):
                    return 0, "a run over finite fields differs, which may be an identity that fields do not have"
            except (Unfielded, KernelError) as reason:
                return 0, f"no runs over finite fields: {reason}"
            runs += 1
    return runs, ""


def _elements(trial: Trial) -> int:
    return sum(int(np.size(a)) for a in trial.arrays.values())


def _agree(
    module: Module, choice: Choice, graph: g.ReferenceGraph, trial: Trial, pair: Pair, seed: int
) -> Iterator[bool]:
    """For each output whether it agrees, in the parts that exponentials leave meaning: those of the larger field."""
    domain = FieldDomain(Field(pair, seed))
    options = Options(work_limit=WORK_LIMIT, target=choice.target, domain=domain)
    named = replace(trial, arrays={n: _distinct(a, k) for k, (n, a) in enumerate(trial.arrays.items())})
    found = execute(
        module, named.arrays, trial.scalars, {**choice.tunables, **trial.tunables}, options, choice.instances
    )
    wanted = FieldReference(graph, trial.sizes, named.arrays, trial.scalars, domain)
    for name in graph.outputs:
        yield bool((domain.field.parts(found.outputs[name])[0] == domain.field.parts(wanted.output(name))[0]).all())


def _distinct(array: Any, number: int) -> Any:
    """Another float for each element, so that each is a field value of its own."""
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (np.arange(array.size).reshape(array.shape) + 1_000_003 * number).astype(array.dtype)
