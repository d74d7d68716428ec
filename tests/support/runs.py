"""Runs over a synthetic laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kernelagent.problems.problem import Problem

from kernelagent.agent.budget import Budget
from kernelagent.agent.run import Means, Plan
from kernelagent.agent.steering import Policy
from kernelagent.redact import Redactor

from .synthetic_lab import SyntheticLab, small_problem


def plan(problem: Problem | None = None, trials: int | None = 5, **changes: Any) -> Plan:
    chosen = problem or small_problem()
    values: dict[str, Any] = {
        "problem": chosen,
        "workload": chosen.headline,
        "source": None,
        "budget": Budget(trials=trials),
        "policy": Policy(patience=None),
        "seed": 0,
        "repairs": 2,
        "settings": {},
    }
    return Plan(**{**values, **changes})


def means(proposer: Any, lab: Any = None, base: Any = None, **changes: Any) -> Means:
    return Means(lab or SyntheticLab(), proposer, base, changes.pop("redactor", Redactor()), **changes)


def kernels(folder: Path) -> list[str]:
    return sorted(p.name for p in (folder / "kernels").iterdir())
