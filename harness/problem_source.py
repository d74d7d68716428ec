"""Where a worker finds a problem again: by name, or by the file that defines its functions."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from kernelagent.problems.problem import Problem

from kernelagent import problems


@dataclass(frozen=True)
class ProblemSource:
    """`location` is a built-in name or the path of a file whose PROBLEM is meant."""

    location: str

    def resolve(self) -> Problem:
        """Raises problems.ProblemError or problems.UnknownProblem."""
        return problems.load(self.location)


def source_of(problem: Problem) -> ProblemSource | None:
    """The source of `problem`, or None for one that was only built in memory (it has no file to load in a worker)."""
    if problem.name in problems.names() and problems.load(problem.name) == problem:
        return ProblemSource(problem.name)
    module = sys.modules.get(getattr(problem.reference, "__module__", ""))
    path = getattr(module, "__file__", None)
    if path is not None and getattr(module, "PROBLEM", None) == problem:
        return ProblemSource(str(Path(path).resolve()))
    return None
