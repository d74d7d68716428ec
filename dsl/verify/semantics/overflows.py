"""An input on which a warning about exponentials comes true: the reference has a number, the kernel's own floats none.

Inputs that the problem draws are made larger, up to 32 times; what is told has been run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.trials import Trial

FACTORS = (1, 4, 32)
_TRIALS = 2
_WORK_LIMIT = 2_000_000
_SUBJECTS = frozenset({"exp", "quotient"})


def with_witness(
    remarks: Sequence[Obligation], module: ir.Module, choice: Choice, reference: Reference | None
) -> tuple[Obligation, ...]:
    """The remarks; where exponentials are warned of, with an element that overflows, if one is met."""
    warned = [o for o in remarks if o.verdict == "UNKNOWN" and o.subject in _SUBJECTS]
    if not warned or reference is None:
        return tuple(remarks)
    seen = next(_overflowing(module, choice, reference), "")
    return tuple(replace(o, detail=o.detail + seen) if o in warned else o for o in remarks)


def _overflowing(module: ir.Module, choice: Choice, reference: Reference) -> Iterator[str]:
    smallest = sorted(reference.trials, key=lambda t: sum(int(np.size(a)) for a in t.arrays.values()))[:_TRIALS]
    floats = [a.name for a in module.entry.arrays if a.role != "Out"]
    for factor in FACTORS:
        for trial in smallest:
            larger = {n: _scaled(a, factor) if n in floats else a for n, a in trial.arrays.items()}
            found = _not_finite(module, choice, reference, replace(trial, arrays=larger))
            if found is not None:
                times = "the inputs that are tried" if factor == 1 else f"inputs {factor} times those that are tried"
                yield f"; with {times}, {found} ({trial.text()})"


def _scaled(array: Array, factor: int) -> Array:
    return array * array.dtype.type(factor) if np.issubdtype(array.dtype, np.floating) else array


def _not_finite(module: ir.Module, choice: Choice, reference: Reference, trial: Trial) -> str | None:
    """An element that is a number in the reference, and not in the kernel's own floats."""
    options = Options(work_limit=_WORK_LIMIT, target=choice.target)
    tunables = {**choice.tunables, **trial.tunables}
    with np.errstate(all="ignore"):
        wanted = reference.function(trial.arrays, trial.scalars)
        try:
            found = execute(module, trial.arrays, trial.scalars, tunables, options, choice.instances).outputs
        except KernelError:
            return None
    for name, right in wanted.items():
        values = np.asarray(found[name], np.float64)
        gone = np.argwhere(np.isfinite(right) & ~np.isfinite(values) & (np.abs(right) < np.finfo(np.float32).max))
        if len(gone):
            place = tuple(int(i) for i in gone[0])
            return f"{name}{list(place)} is {values[place]:g}, the reference {float(np.asarray(right)[place]):.4g}"
    return None


__all__ = ["with_witness"]
