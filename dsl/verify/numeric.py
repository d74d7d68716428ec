"""The kernel's outputs against a reference that the caller hands in, at small sizes, with NaN planted in void.

The kernel runs twice: in its own dtypes, and widened to f64 without rounding. The widened run must agree closely
(it differs from the reference only by the order of sums), which separates a wrong formula from rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation
from kernelagent.dsl.verify.trials import Trial, of_error


@dataclass(frozen=True)
class Reference:
    """What the caller knows about the right answer.

    `function(arrays, scalars)` maps inputs (as they are stored, before any rounding of ours) to the outputs in
    f64, by name. `trials` are small calls to compare on. `relative` and `absolute` bound the kernel's own run:
    |y - y64| <= relative * |y64| + absolute * max(1, largest |y64|). Tunables of a trial go before those chosen.
    `others` are calls with values of other kinds, for what no proof settles.
    """

    function: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]
    trials: tuple[Trial, ...]
    relative: float = 1e-3
    absolute: float = 1e-5
    others: tuple[Trial, ...] = ()


_WIDENED = 1e-7
"""Relative error allowed to the f64 run: far above its rounding, far below that of any wrong formula seen."""


def compare(
    module: Module, reference: Reference, choice: Choice, work_limit: int | None, expired: Callable[[], bool]
) -> Findings:
    """Compare on the reference's trials, stopping at the first failure or when `expired` says so.

    Raises KernelError when the arrays of a trial do not fit the kernel's signature.
    """
    done: list[str] = []
    for trial in reference.trials:
        if done and expired():
            break
        try:
            failure = next(failures(module, reference, trial, choice, work_limit), None)
        except WorkLimit:
            continue
        except RunError as error:
            failure = of_error(trial, error)
        except KernelError as error:
            if any(d.code != "assume-violated" for d in error.diagnostics):
                raise
            continue  # a call that the kernel does not take
        if failure is not None:
            return Findings((_refuted(failure),), (failure,))
        done.append(trial.text())
    return Findings((_tested(done),))


def _tested(done: list[str]) -> Obligation:
    if not done:
        return Obligation("numeric", "UNKNOWN", None, "no sizes were small enough to compare with the reference")
    detail = f"agrees with the reference at ({'), ('.join(done)})"
    return Obligation("numeric", "TESTED", None, detail, level=f"NUMERICALLY_TESTED({len(done)})")


def _refuted(failure: Counterexample) -> Obligation:
    line = failure.lines[0] if failure.lines else None
    return Obligation(failure.family, "REFUTED", line, failure.message, failure.array or "")


def failures(
    module: Module,
    reference: Reference,
    trial: Trial,
    choice: Choice,
    work_limit: int | None,
    runs: tuple[bool, ...] = (True, False),
) -> Iterator[Counterexample]:
    """Elements that differ from the reference on one trial. `runs`: widened to f64, or in the kernel's own dtypes.

    Raises RunError where the kernel breaks a rule, WorkLimit where it takes more work than `work_limit`.
    """
    with np.errstate(all="ignore"):
        expected = reference.function(trial.arrays, trial.scalars)
    for widen in runs:
        options = Options(plant_nan=True, widen=widen, work_limit=work_limit, target=choice.target)
        tunables = {**choice.tunables, **trial.tunables}
        found = execute(module, trial.arrays, trial.scalars, tunables, options, choice.instances).outputs
        relative = _WIDENED if widen else reference.relative
        absolute = _WIDENED if widen else reference.absolute
        for name, right in expected.items():
            yield from _compare(trial, name, found[name], np.asarray(right), relative, absolute)


def _compare(
    trial: Trial, name: str, found: Any, right: Any, relative: float, absolute: float
) -> Iterator[Counterexample]:
    y, y64 = np.asarray(found).astype(np.float64), right.astype(np.float64)
    if y.shape != y64.shape:
        yield _failure(trial, name, (), str(y64.shape), str(y.shape), "shape")
        return
    with np.errstate(all="ignore"):
        finite = np.isfinite(y64)
        scale = max(1.0, float(np.abs(y64[finite]).max(initial=0.0)))
        close = np.abs(y - y64) <= relative * np.abs(y64) + absolute * scale
    good = np.where(finite, close, (y == y64) | (np.isnan(y) & np.isnan(y64)))
    if not good.all():
        wrong = np.argwhere(~good)
        element = tuple(int(i) for i in wrong[0])
        scope = f"{len(wrong)} of {y.size} elements of {name} at these sizes"
        yield _failure(trial, name, element, float(y64[element]), float(y[element]), scope)


def _failure(
    trial: Trial, name: str, element: tuple[int, ...], expected: float | str, found: float | str, scope: str
) -> Counterexample:
    place = f"{name}[{', '.join(map(str, element))}]"
    return Counterexample(
        family="numeric",
        message=f"{place} is {found}, the reference says {expected} ({trial.text()})",
        lines=(),
        sizes=dict(trial.sizes),
        tunables=dict(trial.tunables),
        array=name,
        element=element,
        expected=expected,
        found=found,
        scope=scope,
        replay=trial.replay(),
    )
