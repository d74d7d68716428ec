"""The NaN contract: where the reference hands a NaN on, so does the kernel.

Maxima hand it on; a selection by a comparison need not: every comparison with NaN but `!=` is false, so where(v > 0,
v, 0) gives 0. Such selections are found in the text. With a reference, a NaN is put into an input to see whether it is
lost: what is told has been run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.instantiation import operands_of
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.numeric import Reference
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.semantics.blame import lets
from kernelagent.dsl.verify.semantics.program import Case
from kernelagent.dsl.verify.trials import Trial

ELEMENTWISE = (
    ir.Unary, ir.Binary, ir.Where, ir.Cast, ir.Broadcast, ir.ExpandDims, ir.Reshape, ir.Permute, ir.Fill, ir.Take,
    ir.Stack,
)  # fmt: skip
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
_WORK_LIMIT = 2_000_000
_TRIALS = 2


def nan_contract(
    module: ir.Module, cases: Sequence[Case], choice: Choice, reference: Reference | None
) -> tuple[Obligation, ...]:
    """A warning, of family "stability", for every line that loses a NaN which the reference hands on."""
    lines = sorted({line for case in cases for kernel in case.kernels for line in losing(kernel)})
    if not lines:
        return ()
    seen = "" if reference is None else lost(module, reference, choice)
    if seen is None:
        return ()
    return tuple(Obligation("stability", "UNKNOWN", line, _DETAIL + seen, "nan") for line in lines)


_DETAIL = (
    "warning: a comparison with NaN is false, and what is taken then has none: NaN is lost; maximum and minimum "
    "hand it on"
)


# Selections ---------------------------------------------------------------------------------------


def losing(kernel: ir.Kernel) -> Iterator[int]:
    """Lines of selections whose arm, where a compared value is NaN, does not have that value."""
    made = {let.value.number: let.operation for let in lets(kernel.body)}
    for let in lets(kernel.body):
        if not isinstance(let.operation, ir.Where) or not is_float(let.value.type.dtype):
            continue
        truth = _under_nan(let.operation.condition, made)
        if truth is None:
            continue
        taken = let.operation.a if truth else let.operation.b
        if _roots(let.operation.condition, made) - _roots(taken, made):
            yield let.value.origin.span.line


def _under_nan(condition: ir.Value, made: Mapping[int, ir.Operation]) -> bool | None:
    """What a condition is where the floats that it compares are NaN; None where it compares none."""
    match made.get(condition.number):
        case ir.Binary(word, a, _) if word in _COMPARISONS:
            return word == "ne" if is_float(a.type.dtype) else None
        case ir.Unary("not", x):
            inner = _under_nan(x, made)
            return None if inner is None else not inner
        case ir.Binary("and" | "or" as word, a, b):
            known = [t for t in (_under_nan(a, made), _under_nan(b, made)) if t is not None]
            return None if not known else all(known) if word == "and" else any(known)
        case ir.Broadcast(x) | ir.ExpandDims(x, _) | ir.Reshape(x) | ir.Permute(x, _):
            return _under_nan(x, made)
    return None


def _roots(value: ir.Value, made: Mapping[int, ir.Operation]) -> set[int]:
    """The loads, sums, products and carried floats that a value is made of, element by element."""
    found: set[int] = set()
    pending, seen = [value], set[int]()
    while pending:
        here = pending.pop()
        if here.number in seen:
            continue
        seen.add(here.number)
        operation = made.get(here.number)
        if isinstance(operation, ELEMENTWISE):
            pending += operands_of(operation)
        elif is_float(here.type.dtype) and not isinstance(operation, ir.Full | ir.FromIndex):
            found.add(here.number)
    return found


# Runs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Planted:
    """A trial with one NaN, and where it is."""

    trial: Trial
    place: str


def lost(module: ir.Module, reference: Reference, choice: Choice) -> str | None:
    """An element that is NaN in the reference and a number in the kernel's result, in words; None: none was met."""
    for trial in sorted(reference.trials, key=_size)[:_TRIALS]:
        for planted in _planted(module, trial):
            found = _first_lost(module, reference, choice, planted)
            if found is not None:
                return found
    return None


def _size(trial: Trial) -> int:
    return sum(int(np.size(a)) for a in trial.arrays.values())


def _planted(module: ir.Module, trial: Trial) -> Iterator[_Planted]:
    for array in module.entry.arrays:
        given = trial.arrays.get(array.name)
        if array.role not in ("In", "InOut") or given is None or not np.issubdtype(given.dtype, np.floating):
            continue
        if given.size:
            changed, place = given.copy(), tuple(n // 2 for n in given.shape)
            changed[place] = np.nan
            arrays = {**trial.arrays, array.name: changed}
            yield _Planted(Trial(trial.sizes, arrays, trial.scalars, trial.tunables), f"{array.name}{list(place)}")


def _first_lost(module: ir.Module, reference: Reference, choice: Choice, planted: _Planted) -> str | None:
    trial = planted.trial
    options = Options(widen=True, work_limit=_WORK_LIMIT, target=choice.target)
    with np.errstate(all="ignore"):
        wanted = reference.function(trial.arrays, trial.scalars)
        try:
            tunables = {**choice.tunables, **trial.tunables}
            run = execute(module, trial.arrays, trial.scalars, tunables, options, choice.instances)
        except KernelError:
            return None
    for name, right in wanted.items():
        gone = np.argwhere(np.isnan(right) & ~np.isnan(np.asarray(run.outputs[name], np.float64)))
        if len(gone):
            place = tuple(int(i) for i in gone[0])
            value = float(run.outputs[name][place])
            return (
                f": with NaN at {planted.place}, {name}{list(place)} is {value:g}, the reference NaN ({trial.text()})"
            )
    return None


__all__ = ["losing", "lost", "nan_contract"]
