"""The kernels that an entry runs, concrete and lowered, in call order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.instantiation import policies_for
from kernelagent.dsl.lower import lower
from kernelagent.dsl.lower.machine import Machine
from kernelagent.dsl.lower.rewrite import statement_values, walk_statements
from kernelagent.dsl.targets.calls import ConcreteCall
from kernelagent.dsl.targets.cpu import atoms
from kernelagent.dsl.targets.cpu.ctypes_of import STORED
from kernelagent.dsl.targets.cpu.emit_kernel import Unit
from kernelagent.dsl.targets.cpu.emit_nest import is_vectorisable
from kernelagent.dsl.targets.cpu.features import LANES


def machine(level: str, rows: int) -> Machine:
    """The CPU of a feature level whose register tile suits products of `rows` rows."""
    tile_rows = atoms.register_rows(level, rows)
    return Machine(
        name=f"cpu-{level}",
        lanes=LANES[level],
        tile_columns=atoms.register_columns(level),
        tile_rows=lambda _: tile_rows,
        pack_size_a=lambda m, k: atoms.packed_a_floats(level, m, k, tile_rows) + LANES[level],
        pack_size_b=lambda n, k: atoms.packed_b_floats(level, n, k) + LANES[level],
    )


def product_rows(calls: Sequence[ConcreteCall]) -> int:
    """Rows of the largest product, for which the register tile is chosen; 1 without products."""
    rows = [1]
    for item in calls:
        for statement in walk_statements(item.kernel.body):
            if isinstance(statement, ir.Let) and isinstance(statement.operation, ir.Mma):
                rows.append(statement.value.type.shape[0].constant or 1)
    return max(rows)


def lowered(calls: Sequence[ConcreteCall], level: str, unit_stride: bool) -> tuple[Unit, ...]:
    """Schedules of all calls. Raises KernelError for what this target cannot do."""
    target = machine(level, product_rows(calls))
    lanes = LANES[level]

    def compatible(a: sch.Nest, b: sch.Nest) -> bool:
        return is_vectorisable(a, lanes, unit_stride) == is_vectorisable(b, lanes, unit_stride)

    units: list[Unit] = []
    for k, item in enumerate(calls):
        refuse_unsupported(item.kernel)
        policy = policies_for(item.kernel, "cpu")
        schedule = lower(item.kernel, target, policy.words, unit_stride, compatible)
        dropped = tuple(sch.Choice("policy", line, "cpu") for line in policy.report)
        raster = policy.words.get("raster", "row")
        if raster not in ("row", "column"):
            dropped += (sch.Choice(f"policy raster={raster}", "dropped", "the cpu target knows row and column"),)
        schedule = replace(schedule, choices=(*schedule.choices, *dropped))
        units.append(Unit(f"k{k}_{item.kernel.name}", item.kernel, schedule, unit_stride, lanes, str(raster)))
    return tuple(units)


def refuse_unsupported(kernel: ir.Kernel) -> None:
    """Raises KernelError where a dtype or a required policy has no meaning on this target."""
    found = [
        Diagnostic("cpu-unsupported", f"{a.dtype} arrays do not run on the cpu target", a.span, facts={"array": a.name})
        for a in kernel.arrays
        if a.dtype not in STORED
    ]
    for statement in walk_statements(kernel.body):
        if isinstance(statement, ir.Let) and statement.value.type.dtype not in STORED:
            dtype, span = statement.value.type.dtype, statement.value.origin.span
            found.append(Diagnostic("cpu-unsupported", f"{dtype} values do not run on the cpu target", span))
        extents = [e for v in statement_values(statement) for e in v.type.shape if e.constant is None]
        if extents:
            message = f"extent {extents[0]} has no value yet"
            hint = "give the dim's size when compiling"
            found.append(Diagnostic("cpu-unsupported", message, kernel.span, hint=hint))
    if found:
        raise KernelError(found[:5])
