"""What can be said of the GPU kernels without a GPU: their machine code, and what the emulator finds when they run.

Records are plain data (JSON); `table.py` prints and compares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from cases import Case, Shape, has_opcode
from kernelagent.dsl import ir
from kernelagent.dsl.binding import bind
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cpu.compiler import CompilerFailed
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.emit import entry_name
from kernelagent.dsl.targets.cuda.inspect import Inspection, inspect
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.promises import broken, count, opcode, promised
from kernelagent.dsl.targets.cuda.ptxas import Resources
from kernelagent.dsl.targets.cuda.units import DeviceCode, DeviceUnit, device_units
from kernelagent.dsl.targets.emulator.execute import emulate
from kernelagent.dsl.targets.emulator.launch import Completion, EmulatorFailed
from oracles import Array

Record = dict[str, Any]

ARCHS = ("sm_80", "sm_89", "sm_90a")
ORDERS: tuple[Completion, ...] = ("late", "early", "random")
"""In which asynchronous copies complete."""
UNITS = frozenset({"mma", "wgmma", "async_copy", "tma_load", "tma_store", "load", "store", "elementwise"})
"""Kinds of atoms whose opcodes a case lists: the units that compute, and what feeds and drains them."""
SPELLINGS = {"RED": ("RED", "REDG")}
"""Names of one instruction on different architectures."""


@dataclass(frozen=True)
class Lowered:
    """A case's kernels for each architecture, or the message of the compiler that refused it."""

    case: Case
    module: ir.Module
    choices: Choices

    @classmethod
    def of(cls, case: Case, dims: Mapping[str, int]) -> Lowered:
        module = parse(case.text)
        arrays = {**case.inputs(dims), **case.outputs(dims)}
        shapes = {name: (a.shape, from_numpy(a.dtype)) for name, a in arrays.items()}
        binding = bind(module.entry, shapes, case.scalars)
        return cls(case, module, Choices(binding.dtypes, {}, binding.consts, binding.dims))

    @cached_property
    def units(self) -> dict[str, tuple[DeviceUnit, ...] | str]:
        return {arch: self._units(arch) for arch in ARCHS}

    def _units(self, arch: str) -> tuple[DeviceUnit, ...] | str:
        try:
            return device_units(self.module, self.choices, arch)
        except KernelError as refusal:
            return str(refusal)


def facts(case: Case) -> Record:
    """Everything about one case: `builds`, one record an architecture, and `runs`, one a shape and code."""
    lowered = Lowered.of(case, case.shapes[0].dims)
    return {
        "case": case.name,
        "builds": [_built(case, arch, units) for arch, units in lowered.units.items()],
        "runs": list(runs(lowered)),
    }


# Machine code ---------------------------------------------------------------------------------------


def _built(case: Case, arch: str, units: tuple[DeviceUnit, ...] | str) -> Record:
    """`build`, or what the CUDA compiler says."""
    try:
        return build(case, arch, units)
    except KernelError as refusal:
        return build(case, arch, _first_line(refusal))


def build(case: Case, arch: str, units: tuple[DeviceUnit, ...] | str) -> Record:
    """The cubins of a case: each kernel in each shape class, and the opcodes that schedules and case ask for."""
    if isinstance(units, str):
        return {"arch": arch, "refused": units, "kernels": [], "opcodes": {}}
    seen: list[Inspection] = []
    kernels = []
    scheduled: Counter[str] = Counter()
    for unit in units:
        inspected = [inspection(code, arch) for code in unit.classes]
        seen.append(inspected[0][0])
        classes = [_class(code, *found) for code, found in zip(unit.classes, inspected, strict=True)]
        kernels.append({"kernel": unit.classes[0].schedule.name, "classes": classes})
        atoms = [a for a in promised(unit.classes[0].schedule) if a.kind in UNITS]
        scheduled.update({opcode(a, arch): count(a, seen[-1].sass) for a in atoms})
    asked = {w: _count(seen, w) for w in expected(case, arch)}
    return {"arch": arch, "refused": None, "kernels": kernels, "opcodes": {**scheduled, **asked}}


def inspection(code: DeviceCode, arch: str) -> tuple[Inspection, Resources]:
    """What the machine code of one class says, and what the compiler reported."""
    compiled, schedule = cached_cubin(prelude(arch, code.body) + code.body, arch).compiled, code.schedule
    name = entry_name(schedule)
    return inspect(compiled, arch, schedule.threads, schedule.shared_bytes, name), compiled.kernel(name)


def expected(case: Case, arch: str) -> tuple[str, ...]:
    """Opcodes that the case wants there beside those of its schedule's atoms."""
    return case.opcodes.get(arch, ())


def _count(seen: list[Inspection], wanted: str) -> int:
    opcodes = [item for found in seen for item in found.sass.opcodes.items()]
    spellings = SPELLINGS.get(wanted, (wanted,))
    return sum(n for opcode, n in opcodes if any(has_opcode({opcode}, name) for name in spellings))


def _class(code: DeviceCode, found: Inspection, reported: Resources) -> Record:
    """`agrees`: registers and static shared memory of the compiler's report are those of the cubin. `broken`: promises
    of the schedule that the machine code does not keep."""
    told, held = (reported.registers, reported.shared_bytes), (found.registers, found.static_shared_bytes)
    return {
        "class": code.schedule.shape_class.name,
        "threads": found.threads,
        "registers": found.registers,
        "spill_bytes": reported.spill_store_bytes + reported.spill_load_bytes,
        "local_accesses": found.sass.spill_loads + found.sass.spill_stores,
        "shared_bytes": found.static_shared_bytes + found.dynamic_shared_bytes,
        "blocks": found.occupancy.blocks,
        "warps_share": round(found.occupancy.fraction, 2),
        "limiter": found.occupancy.limiter,
        "agrees": told == held,
        "broken": list(broken(code.schedule, found)),
    }


# Emulation ------------------------------------------------------------------------------------------


def runs(lowered: Lowered) -> Iterator[Record]:
    """Each shape in all orders of completion, once for all architectures whose code is the same.

    A case none of whose shapes takes the general class runs its ragged ones again with rows of odd lengths.
    """
    for archs in same_code(lowered):
        made = [_run(lowered, archs, shape) for shape in lowered.case.shapes]
        if not any("general" in run["classes"] for run in made):
            ragged = [shape for shape in lowered.case.shapes if shape.kind == "ragged"]
            made += [_run(lowered, archs, shape, odd_rows=True) for shape in ragged]
        yield from made


def same_code(lowered: Lowered) -> list[tuple[str, ...]]:
    """Architectures in groups with the same emitted bodies."""
    groups: dict[tuple[str, ...], tuple[str, ...]] = {}
    for arch, units in lowered.units.items():
        if not isinstance(units, str):
            key = tuple(_without_comments(code.body) for unit in units for code in unit.classes)
            groups[key] = (*groups.get(key, ()), arch)
    return list(groups.values())


def _without_comments(body: str) -> str:
    return "\n".join(line for line in body.splitlines() if not line.startswith("//"))


def _run(lowered: Lowered, archs: tuple[str, ...], shape: Shape, odd_rows: bool = False) -> Record:
    case = lowered.case
    record = {"archs": list(archs), "kind": shape.kind, "dims": dict(shape.dims), "odd_rows": odd_rows}
    classes: tuple[str, ...] = ()
    worst, findings = 0.0, []
    for order in ORDERS:
        inputs, outputs = case.inputs(shape.dims), case.outputs(shape.dims)
        arrays = {**inputs, **outputs}
        if odd_rows:
            arrays = {name: lengthened(a) for name, a in arrays.items()}
        try:
            found = emulate(lowered.module, arrays, case.scalars, archs[0], order, seed=1)
        except (KernelError, EmulatorFailed, CompilerFailed) as failure:
            return {**record, "classes": [], "worst": None, "findings": [f"{order}: {_first_line(failure)}"]}
        classes = found.classes
        worst = max(worst, case.verdict(inputs, {name: arrays[name] for name in outputs}).worst)
        findings += [f"{order}, line {f.line}: {f.message}" for f in found.findings]
    return {**record, "classes": list(classes), "worst": _digits(worst), "findings": findings}


def _first_line(failure: Exception) -> str:
    return (str(failure).splitlines() or [type(failure).__name__])[0]


def _digits(worst: float) -> float | None:
    """None for what is not finite: JSON has no infinity."""
    return float(f"{worst:.2g}") if np.isfinite(worst) else None


def lengthened(array: Array) -> Array:
    """The same values in rows one element longer, so that rows start at odd places."""
    if array.ndim < 2 or array.dtype.name == "uint4":
        return array
    room = np.zeros((*array.shape[:-1], array.shape[-1] + 1), array.dtype)
    room[..., :-1] = array
    return room[..., :-1]
