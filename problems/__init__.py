"""What to compute: problem definitions, workloads, references and how to draw their inputs.

Everything is imported on first use, so that `import kernelagent.problems` loads neither numpy nor a problem file.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.problems.arrays import make_inputs, make_outputs, run_reference, scalars, shapes, variants
    from kernelagent.problems.catalogue import ProblemError, UnknownProblem, load, names
    from kernelagent.problems.problem import Problem, ScalarInput, Tensor, Tolerance, Workload
    from kernelagent.problems.template import write_template
    from kernelagent.problems.tolerances import allowance
    from kernelagent.problems.validation import Finding, validate

_HOMES = {
    "allowance": "tolerances",
    "make_inputs": "arrays",
    "make_outputs": "arrays",
    "run_reference": "arrays",
    "scalars": "arrays",
    "shapes": "arrays",
    "variants": "arrays",
    "ProblemError": "catalogue",
    "UnknownProblem": "catalogue",
    "load": "catalogue",
    "names": "catalogue",
    "Problem": "problem",
    "ScalarInput": "problem",
    "Tensor": "problem",
    "Tolerance": "problem",
    "Workload": "problem",
    "write_template": "template",
    "Finding": "validation",
    "validate": "validation",
}

__all__ = [
    "Finding",
    "Problem",
    "ProblemError",
    "ScalarInput",
    "Tensor",
    "Tolerance",
    "UnknownProblem",
    "Workload",
    "allowance",
    "load",
    "make_inputs",
    "make_outputs",
    "names",
    "run_reference",
    "scalars",
    "shapes",
    "validate",
    "variants",
    "write_template",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
