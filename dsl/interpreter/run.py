"""Run a whole text: bind the arrays, instantiate the kernels, make temporaries, poison the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.binding import Binding, bind
from kernelagent.dsl.dtypes import is_float, numpy_dtype
from kernelagent.dsl.index import Index
from kernelagent.dsl.instantiation import fixed_dims, resolve_tunables
from kernelagent.dsl.interpreter.fault import RunError
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.instances import Instances
from kernelagent.dsl.interpreter.machine import Machine, Options
from kernelagent.dsl.interpreter.memory import Cell, StoreLog

Arrays: TypeAlias = Mapping[str, Array]
Scalars: TypeAlias = Mapping[str, float | int | bool]
Tunables: TypeAlias = Mapping[str, int | bool]


@dataclass(frozen=True)
class CallRun:
    """One kernel call of a run: the concrete kernel, its sizes, its cells by parameter name, its iterations."""

    kernel: ir.Kernel
    sizes: dict[str, int]
    cells: dict[str, Cell]
    iterations: list[dict[str, int]]


@dataclass(frozen=True)
class Run:
    """What a run leaves behind. `outputs`: every Out, InOut and Acc array of the entry, as new arrays."""

    outputs: dict[str, Array]
    calls: tuple[CallRun, ...]
    work: int


def interpret(
    module: ir.Module,
    arrays: Arrays,
    scalars: Scalars | None = None,
    tunables: Tunables | None = None,
    *,
    plant_nan: bool = False,
    widen: bool = False,
    options: Options | None = None,
) -> dict[str, Array]:
    """Run the entry of `module` on numpy arrays and return its outputs by name.

    `arrays` holds every input; outputs may be given for their sizes, contents are ignored. None is changed.
    `plant_nan` plants NaN (or garbage) in every void element: results must not change. `widen` computes all
    floats in f64 without rounding and returns f64. Raises KernelError where arrays do not fit the kernel, or
    where the text breaks a rule of the language on this data.
    """
    chosen = options or Options(plant_nan=plant_nan, widen=widen)
    return execute(module, arrays, scalars or {}, tunables or {}, chosen).outputs


def execute(
    module: ir.Module,
    arrays: Arrays,
    scalars: Scalars,
    tunables: Tunables,
    options: Options,
    instances: Instances | None = None,
) -> Run:
    """`interpret`, with the store logs and the iterations of every kernel call.

    `instances` lets several runs of one module share its concrete kernels.
    """
    made = instances or Instances()
    entry = module.entry
    binding = bind(entry, {name: (a.shape, a.dtype) for name, a in arrays.items()}, scalars)
    cells = {a.name: _cell(a, arrays.get(a.name), binding, options) for a in entry.arrays}
    if isinstance(entry, ir.Kernel):
        calls = [
            _run_kernel(entry, cells, binding.dims, {**binding.scalars, **binding.consts}, tunables, options, made)
        ]
    else:
        calls = _run_program(module, entry, cells, binding, tunables, options, made)
    outputs = {a.name: _given(cells[a.name], options) for a in entry.arrays if a.role != "In"}
    return Run(outputs, tuple(c for c, _ in calls), sum(work for _, work in calls))


def _cell(array: ir.Array, given: Array | None, binding: Binding, options: Options) -> Cell:
    """The memory of one parameter; `given` is None only for outputs (`bind` has seen to that)."""
    dtype = binding.dtypes.get(array.dtype, array.dtype)
    held = options.held(dtype)
    shape = tuple(d.evaluate(binding.environment) for d in array.dims)
    log = StoreLog(shape) if options.log and array.role in ("Out", "InOut") else None
    if array.role in ("In", "InOut") and given is not None:
        domain = options.domain if is_float(dtype) else None
        data = _held(given, dtype, held) if domain is None else domain.enter(given)
        return Cell(array.name, array.role, dtype, data if array.role == "In" else data.copy(), log)
    fill = 0 if array.role == "Acc" else options.garbage(dtype)
    return Cell(array.name, array.role, dtype, np.full(shape, fill, held), log)


def _held(data: Array, dtype: str, held: np.dtype[Any]) -> Array:
    """Stored bools are bytes: any that is not zero is true. Other arrays only change the type that holds them."""
    if dtype == "bool":
        return np.asarray(data.view(np.uint8) != 0 if data.dtype == np.bool_ else data != 0)
    return data if data.dtype == held else data.astype(held)


def _given(cell: Cell, options: Options) -> Array:
    """The array as the caller knows it: in its own dtype, or f64 when widened."""
    if (options.widen or options.domain is not None) and is_float(cell.dtype):
        return cell.data
    return cell.data.astype(numpy_dtype(cell.dtype)) if cell.dtype == "u4" else cell.data


def _run_kernel(
    kernel: ir.Kernel,
    cells: dict[str, Cell],
    dims: Mapping[str, int],
    scalars: Scalars,
    tunables: Tunables,
    options: Options,
    made: Instances,
) -> tuple[CallRun, int]:
    concrete = _concrete(kernel, cells, dims, scalars, tunables, options, made)
    check_data(concrete, cells, dims)
    machine = Machine(concrete, cells, dims, _runtime_scalars(kernel, scalars), options)
    machine.run()
    return CallRun(concrete, dict(dims), cells, machine.iterations), machine.work


def _concrete(
    kernel: ir.Kernel,
    cells: dict[str, Cell],
    dims: Mapping[str, int],
    scalars: Scalars,
    tunables: Tunables,
    options: Options,
    made: Instances,
) -> ir.Kernel:
    """The kernel for this call: dims stay symbols unless they are extents, as in compiled code."""
    dtypes = {a.dtype: cells[a.name].dtype for a in kernel.arrays}
    names = {v: dtypes[v] for v in kernel.dtype_variables}
    consts = {s.name: int(scalars[s.name]) for s in kernel.scalars if s.dtype == "const" and s.name in scalars}
    fixed = {d: dims[d] for d in fixed_dims(kernel)}
    return made.get(kernel, names, tunables, consts, options.target, fixed, options.claims)


def _runtime_scalars(kernel: ir.Kernel, scalars: Scalars) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for scalar in kernel.scalars:
        value = scalars.get(scalar.name, scalar.default)
        if value is not None:
            found[scalar.name] = value
    return found


def _run_program(
    module: ir.Module,
    program: ir.Program,
    cells: dict[str, Cell],
    binding: Binding,
    tunables: Tunables,
    options: Options,
    made: Instances,
) -> list[tuple[CallRun, int]]:
    """Calls in order. Temporaries start as garbage, and count as Out for the call that writes them."""
    chosen = resolve_tunables(program, tunables, options.target)
    environment = {**binding.environment, **{name: int(v) for name, v in chosen.items()}}
    for temp in program.temps:
        cells[temp.name] = _temp(temp, environment, binding, options)
    scalars = {**binding.scalars, **binding.consts}
    return [_run_call(module, call, cells, environment, scalars, options, made) for call in program.calls]


def _temp(temp: ir.Temp, environment: Mapping[str, int], binding: Binding, options: Options) -> Cell:
    dtype = binding.dtypes.get(temp.dtype, temp.dtype)
    shape = tuple(d.evaluate(environment) for d in temp.dims)
    data = np.full(shape, options.garbage(dtype), options.held(dtype))
    return Cell(temp.name, "Out", dtype, data, StoreLog(shape) if options.log else None)


def _run_call(
    module: ir.Module,
    call: ir.Call,
    cells: dict[str, Cell],
    environment: Mapping[str, int],
    scalars: Scalars,
    options: Options,
    made: Instances,
) -> tuple[CallRun, int]:
    kernel = module.kernel(call.kernel)
    own = {parameter: cells[name] for parameter, name in call.arrays}
    dims = {name: size.evaluate(environment) for name, size in call.dims}
    tunables = {name: size.evaluate(environment) for name, size in call.tunables}
    values = {name: _scalar(value, environment, scalars) for name, value in call.scalars}
    for array in kernel.arrays:
        if array.name in own:
            own[array.name] = _as_parameter(own[array.name], array)
    return _run_kernel(kernel, own, dims, values, tunables, options, made)


def _scalar(value: Index | str | float | int | bool, environment: Mapping[str, int], scalars: Scalars) -> Any:
    if isinstance(value, Index):
        return value.evaluate(environment)
    if isinstance(value, str):
        return scalars[value] if value in scalars else environment[value]
    return value


def _as_parameter(cell: Cell, array: ir.Array) -> Cell:
    """The same memory under the name and role of a kernel's parameter; `Acc` is zeroed by the call."""
    if array.role == "Acc":
        cell.data[...] = 0
    logged = cell.log is not None and array.role in ("Out", "InOut")  # a call's own: calls follow each other
    return Cell(array.name, array.role, cell.dtype, cell.data, StoreLog(cell.data.shape) if logged else None)


def check_data(kernel: ir.Kernel, cells: Mapping[str, Cell], dims: Mapping[str, int]) -> None:
    """Compare integer arrays with what the kernel assumes about their contents. Raises RunError."""
    for assume in kernel.assumes:
        if assume.data is None or assume.data[1] not in cells:
            continue
        kind, name, bounds = assume.data
        data = cells[name].data.astype(np.int64)
        if not _holds(kind, data, [b.evaluate(dims) for b in bounds]):
            message = f"{name} breaks the assumption `{assume.text}`"
            raise RunError("assume-violated", message, ir.Origin(assume.span), array=name)


def _holds(kind: str, data: Array, bounds: list[int]) -> bool:
    if kind == "range":
        return bool(((data >= bounds[0]) & (data < bounds[1])).all())
    if kind == "distinct":
        return np.unique(data).size == data.size
    steps = np.diff(data)
    return bool(data.size and data[0] == 0 and data[-1] == bounds[0] and (steps >= 0).all())


__all__ = ["Arrays", "CallRun", "Run", "Scalars", "Tunables", "execute", "interpret"]
