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
    if problem.name in problems.names() and problems.load(problem.name) is problem:
        return ProblemSource(problem.name)
    homes = [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get("PROBLEM") is problem]
    paths = [m.__file__ for m in homes if getattr(m, "__file__", None)]
    return ProblemSource(str(Path(paths[0]).resolve())) if paths and paths[0] else None
