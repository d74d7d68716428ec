"""Kernel texts through the device lowering and the emulator, against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.dsl import interpret, parse
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.targets.emulator.execute import Emulation, emulate
from kernelagent.dsl.targets.emulator.launch import Completion
from numpy.typing import NDArray

Array = NDArray[Any]


def assert_emulated(
    text: str,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any] | None = None,
    *,
    tunables: Mapping[str, Any] | None = None,
    arch: str = "sm_80",
    completion: Completion = "random",
    seed: int = 0,
    rtol: float = 2e-5,
    atol: float = 2e-5,
) -> Emulation:
    """The emulated outputs equal the interpreter's (integers exactly), and the emulator finds nothing."""
    absent = frozenset(a.name for a in parse(text).entry.arrays if a.optional and a.name not in arrays)
    module = parse(text, absent)
    options = Options(plant_nan=True, target=arch)
    expected = interpret(module, arrays, scalars, tunables, options=options)
    mine = {name: same_strides(a) for name, a in arrays.items()}
    done = emulate(module, mine, scalars, arch, completion, seed, tunables)
    assert done.ok, [f.message for f in done.findings]
    for name, right in expected.items():
        compare(name, mine[name], right, rtol, atol)
    return done


def same_strides(array: Array) -> Array:
    """A copy with the same strides, in storage of its own."""
    made = np.empty(storage_elements(array), array.dtype)
    lowest = sum(min(0, (n - 1) * s) for n, s in zip(array.shape, array.strides, strict=True)) if array.size else 0
    view = np.ndarray(array.shape, array.dtype, made, -lowest, array.strides)
    view[...] = array
    return view


def storage_elements(array: Array) -> int:
    if not array.size:
        return 1
    return sum((n - 1) * abs(s) for n, s in zip(array.shape, array.strides, strict=True)) // array.itemsize + 1


def compare(name: str, found: Array, right: Array, rtol: float, atol: float) -> None:
    if right.dtype.kind in "biu":
        np.testing.assert_array_equal(found, right, err_msg=name)
    else:
        wide = found.astype(np.float64), right.astype(np.float64)
        np.testing.assert_allclose(*wide, rtol=rtol, atol=atol, err_msg=name)
