"""Which inputs a candidate is checked on."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from kernelagent.harness.inputs import InputKey
from kernelagent.harness.options import Options
from kernelagent.harness.oracle import elements
from kernelagent.problems.problem import Problem, Workload

from kernelagent import problems

VARIANT_ELEMENTS = 1 << 20
"""Other distributions are drawn for workloads of at most this many elements (and for the smallest in any case):
what a distribution shows, it shows at any size, and the large sizes are paid for by every candidate."""


@dataclass(frozen=True)
class CheckPlan:
    """Input sets in the order of checking, small ones first; `timed` maps each timed workload to its two sets."""

    seed: int
    checked: tuple[InputKey, ...]
    timed: dict[str, tuple[InputKey, InputKey]]


def make_plan(problem: Problem, options: Options) -> CheckPlan:
    """Raises KeyError with the name of a timed workload that the problem does not have."""
    seed = secrets.randbits(48) if options.seed is None else options.seed
    known = {w.name for w in problem.workloads}
    timed_names = options.workloads or (problem.workloads[0].name,)
    for name in timed_names:
        if name not in known:
            raise KeyError(name)
    by_size = sorted(problem.workloads, key=lambda w: elements(problem, w))
    chosen = [w for w in by_size if not options.quick or w.ragged or w is by_size[0] or w.name in timed_names]
    checked = [key for w in chosen for key in _keys(problem, w, seed, options.quick, w is by_size[0])]
    timed = {n: (InputKey(n, seed), InputKey(n, seed + 1)) for n in timed_names} if options.timing else {}
    return CheckPlan(seed, tuple(checked), timed)


def confirmation_keys(key: InputKey) -> tuple[InputKey, InputKey]:
    """Fresh inputs like `key`'s, on which a broken soft bound has to show again."""
    return InputKey(key.workload, key.seed + 2, key.variant), InputKey(key.workload, key.seed + 3, key.variant)


def _keys(problem: Problem, workload: Workload, seed: int, quick: bool, smallest: bool) -> list[InputKey]:
    variants = problems.variants(problem)
    wide = not quick and (smallest or elements(problem, workload) <= VARIANT_ELEMENTS)
    return [InputKey(workload.name, seed, v) for v in (variants if wide else variants[:1])]
