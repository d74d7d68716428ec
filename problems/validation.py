"""Is a problem worth solving? Its declarations, reference, tolerance and seed, degenerate cases included."""

from __future__ import annotations

from kernelagent.problems.behaviour import check_behaviour
from kernelagent.problems.declarations import check_declarations
from kernelagent.problems.findings import Finding
from kernelagent.problems.problem import Problem
from kernelagent.problems.seeds import KernelCheck, check_seed

__all__ = ["Finding", "validate"]


def validate(problem: Problem, check_kernel: KernelCheck | None = None) -> list[Finding]:
    """Everything that is wrong with a problem, errors first; an empty list is a good problem.

    `check_kernel(text)` returns the front end's messages about a kernel text. Runs the reference on the smallest
    workload. Never raises for a mistake of the problem's author.
    """
    found = list(check_declarations(problem))
    if problem.workloads and not any(f.severity == "error" and f.code in _BLOCKING for f in found):
        found += check_behaviour(problem)
    found += check_seed(problem, check_kernel)
    return sorted(found, key=lambda f: ("error", "warning", "note").index(f.severity))


_BLOCKING = {
    "no-inputs", "no-outputs", "name-twice", "dtype-unknown", "distribution-unknown", "dim-malformed",
    "dim-undefined", "dim-not-positive",
}  # fmt: skip
"""Declarations with which nothing can be run."""
