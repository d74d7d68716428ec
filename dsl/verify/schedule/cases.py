"""What is proved: the schedules of a text, each with the kernel that says what arrays it takes and what it computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.interpreter.instances import Instances
from kernelagent.dsl.level2.module import ScheduledModule, outline
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.schedule.budget import check_arrays
from kernelagent.dsl.verify.schedule.footprints import Footprints
from kernelagent.dsl.verify.schedule.unmodelled import OutsideArray

INTEGERS = ("i32", "i64", "u32")
"""Dtypes of scalars that are index integers."""


@dataclass(frozen=True)
class Case:
    """One kernel for one shape class. `shapes` is a module whose entry has the kernel's dims, loops and assumptions;
    `oracle` computes what the schedule should, None for a text of level two by itself; `claimed` is such a text with
    its labels and expectations, which `kernel` is without."""

    kernel: dev.DeviceKernel
    shapes: ir.Module
    oracle: ir.Module | None
    scalars: Mapping[str, float | int | bool] = field(default_factory=dict)
    claimed: dev.DeviceKernel | None = None

    @cached_property
    def merged(self) -> Footprints:
        """Shared memory in as few places as its statements tell apart."""
        return Footprints(self.kernel, merged=True)

    @cached_property
    def instances(self) -> Instances:
        """Concrete kernels of the oracle, for all of its runs."""
        return Instances()

    @cached_property
    def elements(self) -> Footprints:
        return Footprints(self.kernel, merged=False)


@dataclass(frozen=True)
class Call:
    """Arrays and scalars of one call of a case. `sizes`: dims and integer scalars by name."""

    sizes: Mapping[str, int]
    arrays: Mapping[str, Any]
    scalars: Mapping[str, float | int | bool]

    def read(self, array: str, at: tuple[int, ...]) -> int:
        """One element of an integer array. Raises OutsideArray."""
        data = self.arrays[array]
        if not all(0 <= c < n for c, n in zip(at, data.shape, strict=True)):
            raise OutsideArray(array, at)
        return int(data[at])


def cases(module: ir.Module, choices: Choices, arch: str) -> Iterator[Case]:
    """Every schedule of the entry for an architecture. Raises KernelError for what it refuses."""
    from kernelagent.dsl.targets.cuda.units import device_units

    if isinstance(module, ScheduledModule):
        yield Case(module.schedule, outline(module, dense=False), None, choices.consts, module.claimed)
        return
    for unit in device_units(module, choices, arch):
        alone = ir.Module(module.text, module.edition, (unit.item.kernel,), ())
        shapes = replace(alone, kernels=(_with_integers(unit.item.kernel, choices.consts),))
        for code in unit.classes:
            yield Case(code.schedule, shapes, alone, choices.consts)


def _with_integers(kernel: ir.Kernel, consts: Mapping[str, object]) -> ir.Kernel:
    """Integer scalars are sizes too: loops may end at them."""
    names = [s.name for s in kernel.scalars if s.dtype in INTEGERS and s.name not in consts]
    return replace(kernel, dims=(*kernel.dims, *names))


def call(case: Case, dims: Mapping[str, int], seed: int = 0, positions_only: bool = False) -> Call:
    """Arrays that the kernel accepts at these sizes; `positions_only`: those of integers."""
    entry = case.shapes.entry
    if positions_only:
        entry = replace(entry, arrays=tuple(a for a in entry.arrays if not is_float(a.dtype)))
    held = [a for a in case.kernel.arrays if a.role != "In" or not (positions_only and is_float(a.dtype))]
    check_arrays(tuple(held), dims)
    chosen = {**case.scalars, **dims}
    given = {s.name: chosen[s.name] for s in entry.scalars if s.name in chosen}
    trial = draw(entry, dims, {}, given, {}, seed)
    defaults = {s.name: s.default for s in entry.scalars if s.default is not None}
    scalars = {**defaults, **trial.scalars}
    names = {s.name for s in case.kernel.scalars}
    integers = {n: int(v) for n, v in scalars.items() if n in names and isinstance(v, int)}
    sizes = {d: dims[d] for d in case.kernel.dims if d in dims}
    return Call({**sizes, **integers}, trial.arrays, scalars)
