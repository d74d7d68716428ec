"""Inputs on which a kernel and its reference differ: the interpreter, widened to f64 and so without rounding, is run on
small calls until an element disagrees. What is returned has been run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference, failures
from kernelagent.dsl.verify.records import Counterexample
from kernelagent.dsl.verify.trials import Trial, of_error

WORK_LIMIT = 20_000_000


@dataclass(frozen=True)
class Search:
    """`runs` calls agreed; `failure` is the first that did not."""

    runs: int
    failure: Counterexample | None = None


def search(module: Module, reference: Reference, choice: Choice, seconds: float, runs: int = 0) -> Search:
    """Run trials until one fails or the time is up (one always is); after `runs` of them those with other values."""
    end = time.thread_time() + seconds
    for trial in _changed_trials(reference) if runs else reference.trials:
        if runs and time.thread_time() > end:
            break
        try:
            failure = next(failures(module, reference, trial, choice, WORK_LIMIT, (True,)), None)
        except WorkLimit:
            continue
        except RunError as error:
            failure = of_error(trial, error)
        except KernelError:
            continue  # a call that the kernel does not accept shows nothing
        if failure is not None:
            return Search(runs, replace(failure, family="semantics"))
        runs += 1
    return Search(runs)


def _changed_trials(reference: Reference) -> Iterator[Trial]:
    """Values of other kinds, ties in and across tiles, larger ones, and such as rise along the last axis: a running
    maximum keeps changing."""
    yield from reference.others
    for trial in reference.trials[:2]:
        yield _changed(trial, lambda a: np.floor(a) + a.dtype.type(0.5))  # few values, and none is zero
    for trial in reference.trials:
        yield _changed(trial, lambda a: a * 4)
    for trial in reference.trials:
        yield _changed(trial, lambda a: np.sort(a, axis=-1) if a.ndim else a)


def _changed(trial: Trial, change: Any) -> Trial:
    arrays = {n: change(a) if np.issubdtype(a.dtype, np.floating) else a for n, a in trial.arrays.items()}
    return replace(trial, arrays=arrays)
