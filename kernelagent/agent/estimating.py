"""What a text would do on a GPU that is not at hand: which binaries a workload takes, and the static model's estimate.

An estimate is a rank among candidates and is labelled UNTIMED wherever it is shown or kept.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from kernelagent.dsl.diagnostics import KernelError
from kernelagent.harness.static_model import ChipRates, Estimate, NotEstimated, estimate, together
from kernelagent.problems.problem import Problem, Workload

if TYPE_CHECKING:
    from kernelagent.dsl.targets.calls import Choices
    from kernelagent.dsl.targets.cuda.units import DeviceCode, Placed
    from kernelagent.solar.chips import Chip

_REMARK = re.compile(r"^(#line|//) .*$", re.MULTILINE)
HELD_REGISTERS = 64
"""A thread's registers beside the sums of its products: a guess for texts that were not compiled yet."""


@dataclass(frozen=True)
class DeviceCall:
    """One kernel of a text on a workload: the code of the shape class that the call takes, and its place."""

    code: DeviceCode
    number: int
    which: int
    sizes: Mapping[str, int]


def rates_of(chip: Chip) -> ChipRates:
    """What the static model needs of a chip's file. Raises NotEstimated for a chip without those figures."""
    peak = chip.peak
    if peak.special is None or "f32" not in peak.fma:
        raise NotEstimated(f"the file of {chip.name} has no rates of special functions or f32 arithmetic")
    matrix = {dtype: figure.value for dtype, figure in peak.matrix.items()}
    return ChipRates(
        chip.name, chip.arch, chip.units, 1e9 * chip.clock_ghz, chip.cache_bytes, peak.dram.value, matrix,
        peak.fma["f32"].value, peak.special.value,
    )  # fmt: skip


def device_calls(text: str, problem: Problem, workload: Workload, arch: str) -> tuple[Choices, tuple[DeviceCall, ...]]:
    """What binaries of the text depend on for a workload with dense arrays, and its kernels. Raises KernelError."""
    from kernelagent import dsl, problems
    from kernelagent.dsl.targets.calls import Choices, entry_dims, placed_calls
    from kernelagent.dsl.targets.cuda.units import chosen, device_units

    module = dsl.parse(text)
    shapes = problems.shapes(problem, workload)
    given = {t.name: (shapes[t.name], t.dtype) for t in (*problem.inputs, *problem.outputs)}
    binding = dsl.bind(module.entry, given, problems.scalars(problem, workload))
    choices = Choices(binding.dtypes, {}, binding.consts, entry_dims(module, binding.dims))
    units = device_units(module, choices, arch)
    arrays = {name: _dense(shape) for name, (shape, _) in given.items()}
    items = tuple(unit.item for unit in units)
    placed = placed_calls(module.entry, items, dict(arrays), binding, {}, lambda shape, dtype: _dense(shape))
    found = []
    for number, (unit, call) in enumerate(zip(units, placed, strict=True)):
        code = chosen(unit.classes, call.arrays, call.dims)
        integers = {n: v for n, v in call.scalars.items() if isinstance(v, int)}
        found.append(DeviceCall(code, number, unit.classes.index(code), {**call.dims, **integers}))
    return choices, tuple(found)


def _dense(shape: tuple[int, ...]) -> Placed:
    """Row-major, at an aligned address."""
    from kernelagent.dsl.targets.cuda.units import Placed

    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return Placed(0, tuple(shape), strides)


def compiled_estimate(text: str, problem: Problem, workload: Workload, chip: ChipRates) -> Estimate:
    """From the compiler's own registers and shared memory. Raises KernelError, NotEstimated, MissingTool."""
    from kernelagent import dsl
    from kernelagent.dsl.targets.cuda.artifact import CudaOptions
    from kernelagent.dsl.targets.cuda.build import compile

    choices, calls = device_calls(text, problem, workload, chip.arch)
    ungated = CudaOptions(gate=False)  # other classes may spill
    made = compile(dsl.parse(text), choices.dtypes, {}, choices.consts, choices.dims, chip.arch, ungated)
    blocks = [made.units[c.number][c.which].resources.blocks for c in calls]
    return together([estimate(c.code.schedule, c.sizes, n, chip) for c, n in zip(calls, blocks, strict=True)])


def quick_estimate(problem: Problem, workload: Workload, chip: ChipRates) -> Callable[[str], float | None]:
    """ms of a text that was not compiled, its registers guessed; None where it does not fit: a search's first guess."""

    @lru_cache(maxsize=4096)
    def cost(text: str) -> float | None:
        try:
            _, calls = device_calls(text, problem, workload, chip.arch)
            parts = [estimate(c.code.schedule, c.sizes, _guessed_blocks(c.code), chip) for c in calls]
        except (KernelError, NotEstimated):
            return None
        return together(parts).time_ms

    return cost


def device_code(problem: Problem, workload: Workload, arch: str) -> Callable[[str], str | None]:
    """Digest of the code that a workload takes of a text, without line marks and remarks; None if it does not fit."""

    @lru_cache(maxsize=4096)
    def code(text: str) -> str | None:
        try:
            _, calls = device_calls(text, problem, workload, arch)
        except KernelError:
            return None
        bodies = "\0".join(_REMARK.sub("", c.code.body) for c in calls)
        return hashlib.sha256(bodies.encode()).hexdigest()

    return code


def _guessed_blocks(code: DeviceCode) -> int:
    """Blocks on a multiprocessor, from shared memory, threads and the sums that a thread holds."""
    from kernelagent.dsl import device as dev
    from kernelagent.dsl.targets.cuda.archs import arch
    from kernelagent.dsl.targets.cuda.occupancy import occupancy

    schedule = code.schedule
    limits = arch(schedule.target)
    products = [
        s.operation.acc for s in dev.statements(schedule) if isinstance(s, dev.Let) and isinstance(s.operation, dev.Mma)
    ]
    held = max((acc.layout.registers for acc in products if acc.layout is not None), default=0)
    declared = [role.registers * role.threads for role in schedule.roles if role.registers is not None]
    registers = (
        sum(declared) // schedule.threads if declared else min(limits.registers_per_thread, HELD_REGISTERS + held)
    )
    return occupancy(limits, schedule.threads, registers, schedule.shared_bytes).blocks
