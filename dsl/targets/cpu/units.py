"""The kernels that an entry runs, concrete and lowered, in call order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.index import Index
from kernelagent.dsl.instantiate import fixed_dims, instantiate, policies_for
from kernelagent.dsl.lower import lower
from kernelagent.dsl.lower.machine import Machine
from kernelagent.dsl.lower.rewrite import statement_values, walk_statements
from kernelagent.dsl.targets.cpu import atoms
from kernelagent.dsl.targets.cpu.ctypes_of import STORED
from kernelagent.dsl.targets.cpu.emit_kernel import Unit
from kernelagent.dsl.targets.cpu.emit_nest import is_vectorisable
from kernelagent.dsl.targets.cpu.features import LANES


@dataclass(frozen=True)
class Choices:
    """How the dtype variables, tunables, constants and fixed dims of an entry are chosen."""

    dtypes: Mapping[str, str]
    tunables: Mapping[str, int | bool]
    consts: Mapping[str, int | bool]
    dims: Mapping[str, int]


@dataclass(frozen=True)
class ConcreteCall:
    """One kernel of the entry. `call` is None for a single kernel."""

    kernel: ir.Kernel
    call: ir.Call | None


def concrete_calls(module: ir.Module, choices: Choices) -> tuple[ConcreteCall, ...]:
    """Instantiate every kernel of the entry. Raises KernelError."""
    entry = module.entry
    if isinstance(entry, ir.Kernel):
        fixed = needed_dims(entry, choices.dims)
        tunables = dict(choices.tunables)
        kernel = instantiate(
            entry, dtypes=dict(choices.dtypes), tunables=tunables, consts=dict(choices.consts), dims=fixed
        )
        return (ConcreteCall(kernel, None),)
    return tuple(ConcreteCall(_called(module, entry, call, choices), call) for call in entry.calls)


def _called(module: ir.Module, program: ir.Program, call: ir.Call, choices: Choices) -> ir.Kernel:
    kernel = module.kernel(call.kernel)
    known = program_environment(program, choices)
    dtypes = _call_dtypes(program, kernel, call, choices)
    tunables = {name: size.evaluate(known) for name, size in call.tunables}
    dims = {name: value for name, size in call.dims if (value := _value(size, known)) is not None}
    constant = {s.name for s in kernel.scalars if s.dtype == "const"}
    consts = {name: _constant(value, known, choices) for name, value in call.scalars if name in constant}
    return instantiate(kernel, dtypes=dtypes, tunables=tunables, consts=consts, dims=needed_dims(kernel, dims))


def program_environment(program: ir.Program, choices: Choices) -> dict[str, int]:
    """Tunables and fixed dims of a program by name."""
    tunables = {t.name: int(choices.tunables.get(t.name, t.default)) for t in program.tunables}
    return {**tunables, **{name: int(value) for name, value in choices.dims.items()}}


def _call_dtypes(program: ir.Program, kernel: ir.Kernel, call: ir.Call, choices: Choices) -> dict[str, str]:
    passed = dict(call.arrays)
    held = {a.name: a.dtype for a in program.arrays} | {t.name: t.dtype for t in program.temps}
    found: dict[str, str] = {}
    for array in kernel.arrays:
        if array.dtype in kernel.dtype_variables and array.name in passed:
            dtype = held[passed[array.name]]
            found[array.dtype] = choices.dtypes.get(dtype, dtype)
    return found


def _value(size: Index, known: Mapping[str, int]) -> int | None:
    try:
        return size.evaluate(known)
    except KeyError:
        return None


def _constant(value: Index | str | float | int | bool, known: Mapping[str, int], choices: Choices) -> int | bool:
    """A compile-time constant that a call passes."""
    if isinstance(value, Index):
        return value.evaluate(known)
    given = choices.consts[value] if isinstance(value, str) else value
    return given if isinstance(given, bool) else int(given)


def needed_dims(kernel: ir.Kernel, dims: Mapping[str, int]) -> dict[str, int]:
    """The dims that are tile extents, so that other sizes do not make another binary."""
    return {name: dims[name] for name in fixed_dims(kernel) if name in dims}


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
