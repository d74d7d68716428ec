"""Several problems under one budget: each trial goes where the headroom per cost is largest."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .budget import Budget, Spent
from .run import Means, Plan, Run, finish, start
from .steering import Candidate, Decision, choose


def share(assembled: Sequence[tuple[Plan, Means]], budget: Budget, runs: Path) -> list[dict[str, Any]]:
    """Run them all until each has stopped or the shared budget is gone; the outcomes in order."""
    with ExitStack() as held:
        opened = [held.enter_context(start(plan, means, runs)) for plan, means in assembled]
        stopped: dict[int, Decision] = {}
        while len(stopped) < len(opened):
            over = budget.exhausted(total(opened))
            chosen = choose([_candidate(run, i not in stopped) for i, run in enumerate(opened)])
            if over and all(run.state.trials for run in opened):
                for i in range(len(opened)):
                    stopped.setdefault(i, Decision(over, "the shared budget is used up"))
            elif chosen is not None:
                decision = opened[chosen].advance(trials=1)
                if decision is not None:
                    stopped[chosen] = decision
        return [finish(run, stopped[i]) for i, run in enumerate(opened)]


def total(runs: Sequence[Run]) -> Spent:
    """What all of them have spent; each counts its own time at work only."""
    spent = [run.state.spent for run in runs]
    costs = [s.cost_usd for s in spent if s.cost_usd is not None]
    return Spent(
        trials=sum(s.trials for s in spent),
        seconds=sum(s.seconds for s in spent),
        tokens=sum(s.tokens for s in spent),
        cost_usd=sum(costs) if costs else None,
        tokens_estimated=any(s.tokens_estimated for s in spent),
    )


def _candidate(run: Run, is_open: bool) -> Candidate:
    """Before its first trial a run costs nothing that is known; the seed's trial comes first for all."""
    trials = len(run.state.trials)
    return Candidate(run.state.progress, run.state.spent.seconds / max(1, trials), is_open)
