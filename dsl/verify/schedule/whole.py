"""Whole launches at a few sizes: bounds, alignment, coverage, and the values of the kernel that the schedule is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import STEPS, from_numpy, is_float
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.lower.device.grids import innermost
from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks
from kernelagent.dsl.verify.schedule.cases import Call, Case, call
from kernelagent.dsl.verify.schedule.domains.domain import Domain
from kernelagent.dsl.verify.schedule.domains.finite import Finite, Mixed, Oracle, Total
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.footprints import Footprints, Paired
from kernelagent.dsl.verify.schedule.globals import NOBODY, GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Event, Machine, Site
from kernelagent.dsl.verify.schedule.sizes import Sizes
from kernelagent.dsl.verify.schedule.tagged import Traces, trace
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.semantics.field import PAIRS, Unfielded
from kernelagent.dsl.verify.semantics.field_domain import FieldDomain

RESIDENT = 2
"""Clusters of a persistent launch: fewer than tiles, so that each takes several."""
WORK_LIMIT = 50_000_000
SPREAD = 1000
"""Times what inputs are drawn as: exponentials of such differences are 0 or not finite."""


@dataclass(frozen=True)
class Launch:
    """What one call did. `compared`: whether its values were held against those of the kernel, as numbers of finite
    `fields` or as floats; `traces`: where elements came from, if there is no kernel."""

    events: tuple[Event, ...]
    made: Call
    compared: bool = False
    fields: bool = False
    traces: Traces | None = None
    outcomes: Mapping[int, set[bool]] = field(default_factory=dict)  # which ways branches went, by identity

    @property
    def sizes(self) -> Sizes:
        """Dims and integer scalars."""
        return self.made.sizes


def launch(case: Case, sizes: Sizes, seed: int = 0) -> Launch:
    """Run every block. Raises Unmodelled, LookupError."""
    made = call(case, sizes, seed)
    if case.oracle is not None:
        try:
            return _over_fields(case, made, sum(made.sizes.values()))
        except (Unfielded, KernelError, RunError, WorkLimit):
            pass  # no such formula: floats instead
    if case.oracle is None:
        try:
            return _traced(case, made)
        except (Unmodelled, LookupError):
            pass  # floats decide what happens
    machine, events = run_launch(case, made, Real(made.arrays, made.scalars))
    expected = None if events or case.oracle is None else expected_outputs(case, made, None)
    if expected is not None:
        events = (*events, *wrong_values(expected, machine, case.kernel, rounded(case.kernel)))
    return Launch(events, made, expected is not None, outcomes=machine.outcomes)


def _over_fields(case: Case, made: Call, seed: int) -> Launch:
    """The `seed` decides what is larger than what; calls of other sizes have others."""
    numbers = Total(PAIRS[seed % len(PAIRS)], seed)
    domain = Finite(numbers, made.arrays, made.scalars)
    machine, events = run_launch(case, made, domain)
    expected = _execute(case, made, Oracle(domain, Mixed(numbers.pair, seed)))
    if not events:
        events = tuple(wrong_values(expected, machine, case.kernel, _same))
        if events and not _differs(case, made):
            return Launch((), made, True, outcomes=machine.outcomes)
    return Launch(events, made, True, True, outcomes=machine.outcomes)


def _differs(case: Case, made: Call) -> bool:
    """Whether floats differ too, for these inputs or with some that are far larger than others. A formula may be
    another and mean the same: over fields the largest of x + 1 is not the largest of x, plus 1."""
    for spread in (1, SPREAD):
        arrays = {n: a if a.dtype.kind in "iub" else (a * a.dtype.type(spread)) for n, a in made.arrays.items()}
        other = replace(made, arrays=arrays)
        expected = expected_outputs(case, other, None)
        machine, events = run_launch(case, other, Real(arrays, made.scalars))
        if events or (expected is not None and any(wrong_values(expected, machine, case.kernel, rounded(case.kernel)))):
            return True
    return False


def _traced(case: Case, made: Call) -> Launch:
    outcomes: dict[int, set[bool]] = {}

    def blocks(machine: Machine) -> tuple[Event, ...]:
        machine.outcomes = outcomes
        return _blocks(case.kernel, machine)

    events, traces = trace(case.kernel, made, blocks, case.elements)
    return Launch(events, made, traces=traces, outcomes=outcomes)


def run_launch(case: Case, made: Call, domain: Domain) -> tuple[Machine, tuple[Event, ...]]:
    """Every block of a call, and the faults that show without a comparison. By merged places first, which shows that
    there is none; a fault is told by elements."""
    machine, events = _run(case, made, domain, Paired(case.elements, case.merged))
    if not events:
        return machine, events
    if isinstance(domain, Finite):
        domain.rounds = False
    return _run(case, made, domain, case.elements)


def _run(case: Case, made: Call, domain: Domain, footprints: Footprints) -> tuple[Machine, tuple[Event, ...]]:
    memory = GlobalMemory(case.kernel.arrays, made.sizes, 1)
    _begin(memory, domain)
    machine = Machine(case.kernel, made.sizes, domain, memory, made.read, footprints=footprints)
    return machine, _blocks(case.kernel, machine)


def _begin(memory: GlobalMemory, domain: Domain) -> None:
    """Arrays that are changed in place keep what nobody stores."""
    for name, stored in memory.stored.items():
        if memory.roles[name] == "InOut":
            shape, dtype = memory.shapes[name], memory.dtypes[name]
            whole = domain.load(name, tuple(np.indices(shape)), np.ones(shape, np.bool_), 0, dtype)
            stored.values[:] = domain.pack(whole, dtype, shape)


def _blocks(kernel: dev.DeviceKernel, machine: Machine) -> tuple[Event, ...]:
    """Every block of a launch."""
    blocks = launch_blocks(kernel, machine.sizes, RESIDENT * kernel.cluster)
    for first in range(0, blocks, kernel.cluster):
        machine.run(first, blocks)
    events = tuple(machine.events.values())
    return events or tuple(_left_out(kernel, machine.memory, machine) if blocks else ())


def _left_out(kernel: dev.DeviceKernel, memory: GlobalMemory, machine: Machine) -> Iterator[Event]:
    """Elements of outputs that nobody stored."""
    for name, stored in memory.stored.items():
        missing = np.argwhere(stored.count == 0) if memory.roles[name] == "Out" else np.zeros((0, 1))
        if len(missing):
            element = tuple(int(c) for c in missing[0])
            site = Site(_store_of(kernel, name), 0, "", 0, {})
            message = f"`{name}{list(element)}` is never stored" + _by_nobody(kernel, name)
            walk = Site(_last_walk(kernel), 0, "", 0, {}) if not _stored(kernel, name) else None
            yield Event("coverage", "not-stored", site, message, walk, array=name, element=element, count=len(missing))


def _by_nobody(kernel: dev.DeviceKernel, array: str) -> str:
    """That no statement stores an array at all."""
    if _stored(kernel, array):
        return ""
    declared = next(a for a in kernel.arrays if a.name == array)
    return f": no statement stores `{array}`, the array of line {declared.span.line}"


def _stored(kernel: dev.DeviceKernel, array: str) -> list[dev.Statement]:
    """The statements that store an array."""
    stores = (s for s in dev.statements(kernel) if isinstance(s, dev.Store | dev.Scatter | dev.StoreBulk))
    return [s for s in stores if s.view.array == array]


def _last_walk(kernel: dev.DeviceKernel) -> dev.Grid:
    """The walk over tiles of the role that stores."""
    return kernel.roles[-1].grid if kernel.roles else kernel.grid


def _store_of(kernel: dev.DeviceKernel, array: str) -> dev.Statement | dev.Grid:
    """The statement that stores an array; if none does, the last of a tile that computes something, where the store is
    missing."""
    stores, walk = _stored(kernel, array), _last_walk(kernel)
    if stores:
        return stores[0]
    made = [s for s in dev.walk(innermost(walk).body) if isinstance(s, dev.Let | dev.StoreShared)]
    return made[-1] if made else walk


def expected_outputs(case: Case, made: Call, domain: FieldDomain | None) -> Mapping[str, Any] | None:
    """The interpreter's outputs; None for a call that it refuses: that says nothing of the schedule."""
    try:
        return _execute(case, made, domain)
    except (WorkLimit, KernelError, RunError):
        return None


def _execute(case: Case, made: Call, domain: FieldDomain | None) -> Mapping[str, Any]:
    assert case.oracle is not None
    options = Options(work_limit=WORK_LIMIT, target=case.kernel.target, domain=domain)
    return execute(case.oracle, made.arrays, made.scalars, {}, options, case.instances).outputs


def wrong_values(
    expected: Mapping[str, Any], machine: Machine, kernel: dev.DeviceKernel, same: Callable[[Any, Any], Any]
) -> Iterator[Event]:
    """The first element of each output that is off, with the statement that stored it."""
    for name, right in expected.items():
        stored = machine.memory.stored[name]
        off = np.argwhere(~same(stored.values[0], np.asarray(right)))
        if len(off):
            element = tuple(int(c) for c in off[0])
            site = stored_by(machine, kernel, name, element)
            message = f"{name}{list(element)} is not what the kernel computes there"
            if same is not _same:
                message = (
                    f"{name}{list(element)} is {stored.values[0][element]:.6g}, the kernel says {right[element]:.6g}"
                )
            yield Event("flow", "value", site, message, array=name, element=element, count=len(off))


def stored_by(machine: Machine, kernel: dev.DeviceKernel, array: str, element: tuple[int, ...]) -> Site:
    """The statement that stored an element, as it ran."""
    number = int(machine.memory.stored[array].site[element])
    return Site(_store_of(kernel, array), 0, "", 0, {}) if number == NOBODY else machine.sites[number]


def _same(found: Any, wanted: Any) -> Any:
    return np.ascontiguousarray(found).view(np.int64) == wanted.astype(np.int64)


def rounded(kernel: dev.DeviceKernel) -> Callable[[Any, Any], Any]:
    """Integers that are rounded from floats may be one off."""
    lets = [s for s in dev.statements(kernel) if isinstance(s, dev.Let)]
    rounds = any(_rounds(s.operation, s.fragment.dtype) for s in lets)
    return partial(_close, off=1 if rounds else 0)


def _rounds(operation: dev.Operation, dtype: str) -> bool:
    match operation:
        case dev.Pointwise("cast", (x,)):
            return is_float(x.dtype) and not is_float(dtype)
    return False


def _close(found: Any, right: Any, off: int) -> Any:
    """Within what another order of sums can change."""
    wanted = right.astype(np.float64)
    if right.dtype.kind in "iub":
        return np.abs(found - wanted) <= off
    unit = STEPS[from_numpy(right.dtype)]
    with np.errstate(all="ignore"):
        finite = np.isfinite(wanted)
        scale = float(np.abs(wanted[finite]).max(initial=0.0))
        close = np.abs(found - wanted) <= max(4 * unit, 1e-4) * np.abs(wanted) + max(unit, 1e-5) * scale
    return np.where(finite, close, (found == wanted) | (np.isnan(found) & np.isnan(wanted)))
