"""Agentic kernel optimisation: a tile language, proofs, bounds, an honest harness and a memory.

Everything is imported on first use; `import kernelagent` itself costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "optimize": ".api",
    "check": ".api",
    "bench": ".api",
    "Result": ".api",
    "load_run": ".api",
    "resume": ".api",
    "Budget": ".agent.budget",
    "Problem": ".problems.problem",
    "Tensor": ".problems.problem",
    "Workload": ".problems.problem",
    "ScalarInput": ".problems.problem",
    "Tolerance": ".problems.problem",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'kernelagent' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name], __name__), name)


def __dir__() -> list[str]:
    return __all__
