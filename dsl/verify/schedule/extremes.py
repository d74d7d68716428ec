"""Inputs on one side of zero: what no field tells apart.

Far from zero, where the kernel has numbers, so has the schedule. Over fields a softmax is right whichever number is
subtracted; in floats only the largest keeps exp from 0 / 0. Whether a result is a number is all that is compared there:
rounding of large values differs with the order of sums.

A little to one side, largest and smallest elements are the kernel's. Of many random numbers the largest is seldom the
one zero too many that a wrong mask lets in; where all others are negative it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits, from_numpy
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.machine import Event, Machine
from kernelagent.dsl.verify.schedule.sizes import Sizes
from kernelagent.dsl.verify.schedule.whole import expected_outputs, rounded, run_launch, stored_by, wrong_values

FAR = 1000.0
"""exp of it is not finite in f64, of its negative 0."""
WIDE = ("f16", "bf16", "f32", "f64")
ASIDE = 5.0
"""Nearly all of what is drawn lies on one side then."""
SIGNS = ((-1, -1), (1, 1), (1, -1), (-1, 1))
"""Of the first, third, ... array, and of the others: products of two are large and negative as well."""


def suits(case: Case) -> bool:
    """Whether there are exponentials, and inputs that can be far from zero."""
    words = {
        s.operation.word
        for s in dev.statements(case.kernel)
        if isinstance(s, dev.Let) and isinstance(s.operation, dev.Pointwise)
    }
    return (
        case.oracle is not None and bool(words & {"exp", "exp2"}) and all(bits(a.dtype) > 8 for a in case.kernel.arrays)
    )


def lopsided(case: Case, sizes: Sizes) -> Iterator[Event]:
    """Wrong results of kernels that take the largest or smallest of some elements, of the first signs that show any.
    Raises Unmodelled, LookupError."""
    if case.oracle is None or not any(map(_orders, dev.statements(case.kernel))):
        return
    made = call(case, sizes)
    for signs in SIGNS:
        aside = _moved(_whole(made), signs, ASIDE)
        expected = expected_outputs(case, aside, None)
        if expected is None:
            continue
        machine, events = run_launch(case, aside, Real(aside.arrays, aside.scalars))
        found = [] if events else list(wrong_values(expected, machine, case.kernel, rounded(case.kernel)))
        if found:
            yield from found
            return


def _orders(s: dev.Statement) -> bool:
    match s:
        case dev.Let(operation=dev.Reduce(word=word) | dev.Scan(word=word)):
            return word in ("max", "min")
        case dev.Let(operation=dev.ArgReduce()):
            return True
    return False


def far_from_zero(case: Case, sizes: Sizes) -> Iterator[Event]:
    """Results that are no numbers, of the first inputs that show any. Raises Unmodelled, LookupError."""
    made = call(case, sizes)
    for far in (*(_moved(made, signs, FAR) for signs in SIGNS), _rising(made, 1), _rising(made, -1)):
        expected = expected_outputs(case, far, None)
        if expected is None:
            continue
        machine, events = run_launch(case, far, Real(far.arrays, far.scalars))
        found = [] if events else list(_lost(expected, machine, case.kernel))
        if found:
            yield from found
            return


def _rising(made: Call, step: int) -> Call:
    """Rows of numbers far apart that rise, or fall: the largest is at an end, where masks cut."""
    floats = {n: a for n, a in made.arrays.items() if a.ndim and from_numpy(a.dtype) in WIDE}
    sorted_ = {n: np.sort(a * a.dtype.type(FAR), axis=-1)[..., ::step] for n, a in floats.items()}
    return replace(made, arrays={**made.arrays, **sorted_})


def _whole(made: Call) -> Call:
    """With integers for floats, of which sums are exact: nothing is rounded another way in another order."""
    floats = {n: a for n, a in made.arrays.items() if a.dtype.kind not in "iub"}
    return replace(made, arrays={**made.arrays, **{n: np.rint(a * a.dtype.type(2)) for n, a in floats.items()}})


def _moved(made: Call, signs: tuple[int, int], far: float) -> Call:
    arrays, number = dict(made.arrays), 0
    for name, data in made.arrays.items():
        if from_numpy(data.dtype) in WIDE:
            arrays[name] = data + data.dtype.type(far * signs[number % 2])
            number += 1
    return replace(made, arrays=arrays)


def _lost(expected: Mapping[str, Any], machine: Machine, kernel: dev.DeviceKernel) -> Iterator[Event]:
    for name, right in expected.items():
        found = machine.memory.stored[name].values[0]
        lost = np.argwhere(np.isfinite(np.asarray(right).astype(np.float64)) & ~np.isfinite(found))
        if len(lost):
            element = tuple(int(c) for c in lost[0])
            message = (
                f"with inputs about {FAR:g} from zero {name}{list(element)} is {found[element]}, "
                f"the kernel says {float(right[element]):.6g}"
            )
            site = stored_by(machine, kernel, name, element)
            yield Event("stability", "not-a-number", site, message, array=name, element=element, count=len(lost))


__all__ = ["far_from_zero", "lopsided", "suits"]
