"""The kernels that an entry runs, in call order: concrete for a target, and with the arrays of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kernelagent.dsl import ir
from kernelagent.dsl.binding import Binding
from kernelagent.dsl.index import Index
from kernelagent.dsl.instantiation import fixed_dims, instantiate

Scalars = Mapping[str, float | int | bool]
Allocate = Callable[[tuple[int, ...], str], Any]
"""An uninitialised array of a shape and one of our dtypes."""


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


def concrete_calls(module: ir.Module, choices: Choices, target: str = "cpu") -> tuple[ConcreteCall, ...]:
    """Instantiate every kernel of the entry for a target. Raises KernelError."""
    entry = module.entry
    if isinstance(entry, ir.Kernel):
        fixed = needed_dims(entry, choices.dims)
        tunables = dict(choices.tunables)
        kernel = instantiate(entry, dict(choices.dtypes), tunables, dict(choices.consts), target, fixed)
        return (ConcreteCall(kernel, None),)
    return tuple(ConcreteCall(_called(module, entry, call, choices, target), call) for call in entry.calls)


def _called(module: ir.Module, program: ir.Program, call: ir.Call, choices: Choices, target: str) -> ir.Kernel:
    kernel = module.kernel(call.kernel)
    known = program_environment(program, choices)
    dtypes = _call_dtypes(program, kernel, call, choices)
    tunables = {name: size.evaluate(known) for name, size in call.tunables}
    dims = {name: value for name, size in call.dims if (value := _value(size, known)) is not None}
    constant = {s.name for s in kernel.scalars if s.dtype == "const"}
    consts = {name: _constant(value, known, choices) for name, value in call.scalars if name in constant}
    return instantiate(kernel, dtypes, tunables, consts, target, needed_dims(kernel, dims))


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


def entry_dims(module: ir.Module, dims: Mapping[str, int]) -> dict[str, int]:
    """The given dims on which the binary depends: those that decide a tile extent of some kernel."""
    entry = module.entry
    if isinstance(entry, ir.Kernel):
        return needed_dims(entry, dims)
    used: set[str] = set()
    for call in entry.calls:
        kernel = module.kernel(call.kernel)
        needed = needed_dims(kernel, dict.fromkeys(kernel.dims, 0))
        used |= {s.name for name, size in call.dims if name in needed for s in size.symbols()}
    return {name: size for name, size in dims.items() if name in used}


def absent_arrays(module: ir.Module) -> tuple[str, ...]:
    """Optional arrays of the entry that the module was parsed without."""
    if "None" not in module.text:
        return ()
    from kernelagent.dsl.level2.module import read_module

    present = {a.name for a in module.entry.arrays}
    return tuple(a.name for a in read_module(module.text).entry.arrays if a.optional and a.name not in present)


@dataclass(frozen=True)
class PlacedCall:
    """A kernel call with everything it is given, by the names of the kernel's own parameters."""

    item: ConcreteCall
    arrays: Mapping[str, Any]
    dims: Mapping[str, int]
    scalars: Scalars


def placed_calls(
    entry: ir.Kernel | ir.Program,
    calls: tuple[ConcreteCall, ...],
    arrays: dict[str, Any],
    binding: Binding,
    tunables: Mapping[str, int | bool],
    allocate: Allocate,
) -> tuple[PlacedCall, ...]:
    """Arrays, dims and scalars of every call; temporaries are allocated here and added to `arrays`."""
    if isinstance(entry, ir.Kernel):
        return (PlacedCall(calls[0], arrays, binding.dims, binding.scalars),)
    known = {**program_environment(entry, Choices({}, tunables, {}, {})), **binding.dims}
    for temp in entry.temps:
        shape = tuple(d.evaluate(known) for d in temp.dims)
        arrays[temp.name] = allocate(shape, binding.dtypes.get(temp.dtype, temp.dtype))
    return tuple(_placed(item, arrays, known, binding.scalars) for item in calls)


def _placed(item: ConcreteCall, arrays: Mapping[str, Any], known: Mapping[str, int], scalars: Scalars) -> PlacedCall:
    assert item.call is not None
    own = {parameter: arrays[name] for parameter, name in item.call.arrays}
    dims = {name: size.evaluate(known) for name, size in item.call.dims}
    values = {name: call_scalar(value, known, scalars) for name, value in item.call.scalars}
    defaults = {s.name: s.default for s in item.kernel.scalars if s.default is not None}
    return PlacedCall(item, own, dims, {**defaults, **values})


def call_scalar(
    value: Index | str | float | int | bool, known: Mapping[str, int], scalars: Scalars
) -> float | int | bool:
    """What a program passes for a kernel's scalar."""
    if isinstance(value, Index):
        return value.evaluate(known)
    if isinstance(value, str):
        return scalars[value] if value in scalars else known[value]
    return value
