"""How an evaluation is to be done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from kernelagent.harness.sandbox import Level
from kernelagent.problems.problem import Workload


@dataclass(frozen=True)
class Bounds:
    """Speed-of-light time and, if this machine was calibrated, the ceiling from its measured rates.

    `floor_ms` is the time below which a measurement is suspect, where that is not `sol_ms`: outputs that may stay in
    a cache when the clock stops make an honest time a little shorter than the bound.
    """

    sol_ms: float | None = None
    ceiling_ms: float | None = None
    floor_ms: float | None = None


@dataclass(frozen=True)
class Options:
    """`workloads` are those that are timed (empty: the headline, the problem's first); correctness looks at all.

    `time_budget_s` is spent per timed workload, `timeout_s` is the deadline of a single run and `deadline_s` that of
    all correctness runs of a candidate; `memory_mb` is what it may take on top of its arrays. `seed` None draws one
    from the system's secret source; it is recorded. `check` is how much is proved before anything runs. `quick` tests
    the timed, the smallest and the ragged workloads only, without the other distributions.
    `bounds` come from the caller (by workload name, or a function): this package does not compute them.
    """

    target: str = "cpu"
    workloads: tuple[str, ...] = ()
    seed: int | None = None
    time_budget_s: float = 0.4
    relative_width: float = 0.03
    timing: bool = True
    baselines: tuple[str, ...] = ()
    threads: int | None = None
    memory_mb: int = 2048
    timeout_s: float = 10.0
    deadline_s: float = 60.0
    check: Literal["none", "quick", "full"] = "quick"
    quick: bool = False
    sandbox: Level = "bubblewrap"
    tunables: Mapping[str, int | bool] = field(default_factory=dict)
    bounds: Mapping[str, Bounds] | Callable[[Workload], Bounds] = field(default_factory=dict)

    def bounds_of(self, workload: Workload) -> Bounds:
        if callable(self.bounds):
            return self.bounds(workload)
        return self.bounds.get(workload.name, Bounds())
