"""Whole launches at a few sizes: bounds, alignment, coverage, and the values of the kernel that the schedule is of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.interpret.fault import RunError, WorkLimit
from kernelagent.dsl.interpret.machine import Options
from kernelagent.dsl.interpret.run import execute
from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.globals import NOBODY, GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Event, Machine, Site
from kernelagent.dsl.verify.schedule.sizes import Sizes

RESIDENT = 2
"""Clusters of a persistent launch: fewer than tiles, so that each takes several."""
WORK_LIMIT = 50_000_000


@dataclass(frozen=True)
class Launch:
    """What one call did. `compared`: whether its values were held against those of the kernel."""

    events: tuple[Event, ...]
    sizes: Sizes
    compared: bool


def launch(case: Case, sizes: Sizes, seed: int = 0) -> Launch:
    """Run every block. Raises Unmodelled, LookupError."""
    made = call(case, sizes, seed)
    kernel = case.kernel
    memory = GlobalMemory(kernel.arrays, made.sizes, 1)
    machine = Machine(kernel, made.sizes, Real(made.arrays, made.scalars), memory, made.read)
    blocks = launch_blocks(kernel, made.sizes, RESIDENT * kernel.cluster)
    for first in range(0, blocks, kernel.cluster):
        machine.run(first, blocks)
    events = list(machine.events.values())
    events += list(_left_out(kernel, memory, machine)) if blocks and not events else []
    expected = None if events or case.oracle is None else _expected(case, made)
    if expected is not None:
        events += list(_wrong(expected, memory, machine, kernel))
    return Launch(tuple(events), sizes, expected is not None)


def _left_out(kernel: dev.DeviceKernel, memory: GlobalMemory, machine: Machine) -> Iterator[Event]:
    """Elements of outputs that nobody stored."""
    for name, stored in memory.stored.items():
        missing = np.argwhere(stored.count == 0) if memory.roles[name] == "Out" else np.zeros((0, 1))
        if len(missing):
            element = tuple(int(c) for c in missing[0])
            site = Site(_store_of(kernel, name), 0, "", 0, {})
            yield Event(
                "coverage", "not-stored", site, f"`{name}{list(element)}` is never stored", array=name, element=element,
                count=len(missing),
            )  # fmt: skip


def _store_of(kernel: dev.DeviceKernel, array: str) -> dev.Statement:
    """The statement that stores an array; any, if none does."""
    every = list(dev.statements(kernel))
    stores = [s for s in every if isinstance(s, dev.Store | dev.Scatter | dev.StoreBulk) and s.view.array == array]
    return stores[0] if stores else every[0]


def _expected(case: Case, made: Call) -> Mapping[str, Any] | None:
    """The interpreter's outputs; None for a call that it refuses: that says nothing of the schedule."""
    assert case.oracle is not None
    try:
        options = Options(work_limit=WORK_LIMIT, target=case.kernel.target)
        return execute(case.oracle, made.arrays, made.scalars, {}, options).outputs
    except (WorkLimit, KernelError, RunError):
        return None


def _wrong(
    expected: Mapping[str, Any], memory: GlobalMemory, machine: Machine, kernel: dev.DeviceKernel
) -> Iterator[Event]:
    """The first element of each output that is off, with the statement that stored it."""
    for name, right in expected.items():
        stored = memory.stored[name]
        found, wanted = stored.values[0], np.asarray(right).astype(np.float64)
        off = np.argwhere(~_close(found, wanted, np.asarray(right).dtype))
        if len(off):
            element = tuple(int(c) for c in off[0])
            number = int(stored.site[element])
            site = Site(_store_of(kernel, name), 0, "", 0, {}) if number == NOBODY else machine.sites[number]
            message = f"{name}{list(element)} is {found[element]:.6g}, the kernel says {wanted[element]:.6g}"
            yield Event("flow", "value", site, message, array=name, element=element, count=len(off))


def _close(found: Any, wanted: Any, dtype: Any) -> Any:
    """Within what another order of sums can change. Integers may be one off where they were rounded from floats."""
    import ml_dtypes

    if dtype.kind in "iub":
        return np.abs(found - wanted) <= 1
    unit = float(ml_dtypes.finfo(dtype).eps)
    with np.errstate(all="ignore"):
        finite = np.isfinite(wanted)
        scale = float(np.abs(wanted[finite]).max(initial=0.0))
        close = np.abs(found - wanted) <= max(4 * unit, 1e-4) * np.abs(wanted) + max(unit, 1e-5) * scale
    return np.where(finite, close, (found == wanted) | (np.isnan(found) & np.isnan(wanted)))
