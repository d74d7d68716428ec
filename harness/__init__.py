"""How a candidate is judged: sandboxed workers, an fp64 oracle, honest times.

Everything is imported on first use, so that `import kernelagent.harness` loads neither numpy nor the compiler.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.harness.baselines import BaselineResult, measure_baselines
    from kernelagent.harness.options import Bounds, Options
    from kernelagent.harness.records import Evaluation, Timing, WorkloadResult
    from kernelagent.harness.session import Session, evaluate

_HOMES = {
    "BaselineResult": "baselines",
    "measure_baselines": "baselines",
    "evaluate": "session",
    "Bounds": "options",
    "Options": "options",
    "Evaluation": "records",
    "Timing": "records",
    "WorkloadResult": "records",
    "Session": "session",
}

__all__ = [
    "BaselineResult",
    "Bounds",
    "Evaluation",
    "Options",
    "Session",
    "Timing",
    "WorkloadResult",
    "evaluate",
    "measure_baselines",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kernelagent.harness.{home}"), name)
