"""A whole text on arrays, emulated: every kernel of the entry in its shape class, with what was found in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.binding import bind
from kernelagent.dsl.dtypes import from_numpy, numpy_dtype
from kernelagent.dsl.targets.calls import Choices, PlacedCall, Scalars, placed_calls
from kernelagent.dsl.targets.cuda.emit import entry_name, launch_blocks
from kernelagent.dsl.targets.cuda.emit_hopper import maps
from kernelagent.dsl.targets.cuda.units import DeviceCode, DeviceUnit, Placed, chosen, device_units
from kernelagent.dsl.targets.emulator.arguments import (
    ALIGNMENT,
    ArrayArgument,
    Role,
    ScalarArgument,
    TensorMapArgument,
)
from kernelagent.dsl.targets.emulator.launch import Completion, run
from kernelagent.dsl.targets.emulator.report import EmulatorReport, Finding
from kernelagent.dsl.targets.nibbles import pack
from numpy.typing import NDArray

RESIDENT_BLOCKS = 2
"""Blocks that the emulated device holds at once: few, so that persistent blocks walk over several tiles each."""

_ROLES: Mapping[str, Role] = {"In": "in", "Out": "out", "InOut": "inout", "Acc": "inout"}


@dataclass(frozen=True)
class Emulation:
    """What was found, by call. `classes` names each call's shape class."""

    reports: tuple[EmulatorReport, ...]
    kernels: tuple[str, ...]
    classes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return all(r.ok for r in self.reports)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(f for r in self.reports for f in r.findings)

    @property
    def seconds(self) -> float:
        """Of emulation, without the C++ compiler."""
        return sum(r.seconds for r in self.reports)


def emulate(
    module: ir.Module,
    arrays: Mapping[str, NDArray[Any]],
    scalars: Scalars | None = None,
    arch: str = "sm_80",
    completion: Completion = "late",
    seed: int = 0,
    tunables: Mapping[str, int | bool] | None = None,
) -> Emulation:
    """Run the entry on the given arrays; outputs are written in place (`Acc` arrays are zeroed first).

    u4 arrays have one element a byte here and are packed on the way.

    Raises KernelError for what the target refuses or the arrays do not fit, and what `run` raises.
    """
    entry = module.entry
    shapes = {name: (a.shape, from_numpy(a.dtype)) for name, a in arrays.items()}
    binding = bind(entry, shapes, scalars or {})
    chosen_values = Choices(binding.dtypes, tunables or {}, binding.consts, binding.dims)
    units = device_units(module, chosen_values, arch)
    held = dict(arrays)
    calls = placed_calls(entry, tuple(u.item for u in units), held, binding, tunables or {}, _allocate)
    _zero_sums(entry, arrays)
    reports: list[EmulatorReport] = []
    codes: list[DeviceCode] = []
    for unit, call in zip(units, calls, strict=True):
        arguments = {a.name: argument(a, call.arrays[a.name]) for a in unit.item.kernel.arrays}
        code = _code(unit, call, arguments)
        codes.append(code)
        sizes = _sizes(call.dims, call.scalars)
        unit.limits[unit.classes.index(code)].refuse(sizes, launch_blocks(code.schedule, sizes, RESIDENT_BLOCKS))
        reports.append(launch(code, call.dims, call.scalars, arguments, completion, seed))
    names = tuple(c.schedule.name for c in codes)
    return Emulation(tuple(reports), names, tuple(c.schedule.shape_class.name for c in codes))


def _allocate(shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    return np.empty(shape, numpy_dtype(dtype))


def _zero_sums(entry: ir.Kernel | ir.Program, arrays: Mapping[str, NDArray[Any]]) -> None:
    for array in entry.arrays:
        if array.role == "Acc" and array.name in arrays:
            arrays[array.name][...] = 0


def _code(unit: DeviceUnit, call: PlacedCall, arguments: Mapping[str, ArrayArgument]) -> DeviceCode:
    """The class that the call takes on the emulated device, whose arrays start on aligned addresses."""
    places = {name: Placed(ALIGNMENT, a.shape, a.strides) for name, a in arguments.items()}
    return chosen(unit.classes, places, call.dims)


def launch(
    code: DeviceCode,
    dims: Mapping[str, int],
    given: Scalars,
    arguments: Mapping[str, ArrayArgument],
    completion: Completion = "late",
    seed: int = 0,
) -> EmulatorReport:
    """One schedule's body on arrays that fit its class; outputs are written into the arguments. Raises what `run`
    raises."""
    schedule = code.schedule
    blocks = launch_blocks(schedule, _sizes(dims, given), RESIDENT_BLOCKS)
    arrays = [arguments[a.name] for a in schedule.arrays]
    ints = [dims[d] for d in schedule.dims]
    values = [ScalarArgument(given[s.name], s.dtype) for s in schedule.scalars if s.dtype != "const"]
    if blocks == 0:
        return EmulatorReport((), 0.0, 0.0, completion, seed)
    return run(
        code.body, entry_name(schedule), schedule.threads, blocks, schedule.shared_bytes, arrays, ints, values,
        completion, seed, (*schedule.buffers, *schedule.barriers), maps=[TensorMapArgument(m) for m in maps(schedule)],
        cluster=schedule.cluster,
    )  # fmt: skip


def _sizes(dims: Mapping[str, int], given: Scalars) -> dict[str, int]:
    return {**dims, **{n: v for n, v in given.items() if isinstance(v, int)}}


def argument(array: ir.Array, data: NDArray[Any]) -> ArrayArgument:
    """An array as a launch takes it. Rank 0 becomes one element: `ka_array` has a stride at least."""
    if array.dtype == "u4":
        return ArrayArgument(array.name, pack(array.name, data), _ROLES[array.role], packed=True)
    return ArrayArgument(array.name, data.reshape(1) if data.ndim == 0 else data, _ROLES[array.role])
