"""Runs of the interpreter as evidence: a trial is one call at given sizes, and its failures are counterexamples.

A run logs its stores (coverage), checks every position (bounds) and plants NaN in every void element; a second
run without planting and with the iterations reversed must give the same bits (definedness, independence).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.instances import Instances
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.memory import Cell, StoreLog
from kernelagent.dsl.interpreter.run import CallRun, Run, execute
from kernelagent.dsl.ir import Module
from kernelagent.dsl.verify.gaps import lines_of_gap, reached
from kernelagent.dsl.verify.records import Counterexample, Family
from kernelagent.dsl.verify.void_stores import void_because

_FAMILY: dict[str, Family] = {
    "index-range": "bounds",
    "index-unproved": "bounds",
    "division-by-zero": "bounds",
    "inout-shared": "aliasing",
    "inout-after-store": "aliasing",
    "inout-stored-twice": "aliasing",
    "reshape-partly-live": "definedness",
}

_EXPECTED = {
    "inout-shared": "touched by no iteration but the one that stores it",
    "inout-after-store": "loaded in front of its store",
    "inout-stored-twice": "stored once",
}

_VOID = "the value of this store is void there: what it was computed from ends before"


@dataclass(frozen=True)
class Trial:
    """One call of the entry of a text. `sizes` are its dims; `seed` drew the arrays."""

    sizes: Mapping[str, int]
    arrays: Mapping[str, Any]
    scalars: Mapping[str, float | int | bool]
    tunables: Mapping[str, int | bool]
    seed: int = 0

    def text(self) -> str:
        return ", ".join(f"{name}={n}" for name, n in self.sizes.items()) or "no dims"

    def replay(self) -> dict[str, Any]:
        """What `draw` and `run_trial` need to do it again."""
        return {"sizes": dict(self.sizes), "tunables": dict(self.tunables), "seed": self.seed}


@dataclass(frozen=True)
class Outcome:
    """`run` is None when a limit stopped it (then `skipped` says why) or when it failed."""

    trial: Trial
    run: Run | None
    counterexamples: tuple[Counterexample, ...] = ()
    skipped: str = ""


def run_trial(
    module: Module,
    trial: Trial,
    work_limit: int | None = None,
    instances: Instances | None = None,
    target: str = "cpu",
) -> Outcome:
    """Run a trial twice and look for a broken obligation. Never raises for a mistake of the kernel."""
    made = instances or Instances()
    options = Options(plant_nan=True, log=True, work_limit=work_limit, target=target)
    try:
        run = execute(module, trial.arrays, trial.scalars, trial.tunables, options, made)
        failures = tuple(_coverage_failures(trial, run))
        if failures:
            return Outcome(trial, run, failures)
        plain = Options(order="reverse", work_limit=work_limit, target=target)
        other = execute(module, trial.arrays, trial.scalars, trial.tunables, plain, made)
    except WorkLimit as limit:
        return Outcome(trial, None, (), str(limit))
    except RunError as error:
        return Outcome(trial, None, (of_error(trial, error),))
    except KernelError as error:
        return Outcome(trial, None, (), f"not a call that the kernel accepts: {error}")
    return Outcome(trial, run, tuple(_differences(module, trial, run, other)))


def of_error(trial: Trial, error: RunError) -> Counterexample:
    """What stopped a run, as a counterexample of the family that its code belongs to."""
    lines = (error.origin.span.line,) if error.origin else ()
    count = error.facts.get("count")
    return Counterexample(
        family=_FAMILY.get(error.code, "numeric"),
        message=error.message,
        lines=error.facts.get("lines", lines),
        sizes=dict(trial.sizes),
        tunables=dict(trial.tunables),
        array=error.facts.get("array"),
        element=error.facts.get("element"),
        iterations=error.facts.get("iterations", ()),
        scope=f"{count} elements of this access, at these sizes" if count else "",
        expected=_EXPECTED.get(error.code) or _allowed(error),
        found=error.facts.get("found", error.facts.get("index")),
        replay=trial.replay(),
    )


def _allowed(error: RunError) -> str | None:
    """Positions that an access may have."""
    extent = error.facts.get("extent")
    return error.facts.get("allowed", None if extent is None else f"0..{extent - 1}")


def _coverage_failures(trial: Trial, run: Run) -> Iterator[Counterexample]:
    for call in run.calls:
        for cell in call.cells.values():
            if cell.role == "Out" and cell.log is not None and cell.data.size:
                yield from _coverage_failure(trial, call, cell, cell.log)


def _coverage_failure(trial: Trial, call: CallRun, cell: Cell, log: StoreLog) -> Iterator[Counterexample]:
    wrong = int((log.count != 1).sum())
    if not wrong:
        return
    missing = np.argwhere(log.count == 0)
    scope = f"{wrong} of {log.count.size} elements of {cell.name} at these sizes"
    common: dict[str, Any] = {
        "family": "coverage", "sizes": dict(trial.sizes), "tunables": dict(trial.tunables),
        "array": cell.name, "expected": "stored once", "scope": scope, "replay": trial.replay(),
    }  # fmt: skip
    if log.conflict is not None:
        yield _stored_twice(call, cell, log, common)
    elif len(missing):
        element = tuple(int(i) for i in missing[0])
        message = f"{_element(cell.name, element)} is never stored ({trial.text()})"
        nothing = {"lines": lines_of_gap(call, cell, log), "why": reached(call, cell, log)}
        place = _void_store(call, log, element) or nothing
        yield Counterexample(message=message, element=element, found=0, **place, **common)


def _void_store(call: CallRun, log: StoreLog, element: tuple[int, ...]) -> dict[str, Any] | None:
    """The store that reaches an element where its value is void: line, iteration and why; None where none does."""
    if log.void is None or (number := int(log.void[0][element])) < 0:
        return None
    line, iteration = int(log.void[1][element]), dict(call.iterations[number])
    why = void_because(call, line, iteration, element) or _VOID
    return {"lines": (line,), "iterations": (iteration,), "why": why}


def _stored_twice(call: CallRun, cell: Cell, log: StoreLog, common: dict[str, Any]) -> Counterexample:
    conflict = log.conflict
    assert conflict is not None
    iterations = tuple(dict(call.iterations[number]) for number, _ in (conflict.first, conflict.second))
    lines = tuple(dict.fromkeys(line for _, line in (conflict.first, conflict.second)))
    by = " and ".join(_iteration(i) for i in iterations)
    message = f"{_element(cell.name, conflict.element)} is stored by {by}"
    count = int(log.count[conflict.element])
    return Counterexample(
        message=message, lines=lines, element=conflict.element, iterations=iterations, found=count, **common
    )


def _differences(module: Module, trial: Trial, run: Run, other: Run) -> Iterator[Counterexample]:
    summed = {a.name for a in module.entry.arrays if a.role == "Acc"}
    for name, first in run.outputs.items():
        if name in summed or same_bits(first, other.outputs[name]):
            continue
        different = np.argwhere(~_equal(first, other.outputs[name]))
        element = tuple(int(i) for i in different[0])
        yield Counterexample(
            family="definedness",
            message=f"{_element(name, element)} depends on void elements or on the order of iterations",
            lines=(),
            sizes=dict(trial.sizes),
            tunables=dict(trial.tunables),
            array=name,
            element=element,
            expected=float(other.outputs[name][element]),
            found=float(first[element]),
            scope=f"{len(different)} of {first.size} elements of {name} at these sizes",
            replay=trial.replay(),
        )


def same_bits(a: Any, b: Any) -> bool:
    """Equal values, NaN where the other is NaN."""
    return bool(_equal(a, b).all())


def _equal(a: Any, b: Any) -> Any:
    return (a == b) | ((a != a) & (b != b))


def _element(name: str, element: tuple[int, ...]) -> str:
    return f"{name}[{', '.join(map(str, element))}]"


def _iteration(values: Mapping[str, int]) -> str:
    return "(" + ", ".join(f"{name}={value}" for name, value in values.items()) + ")"
