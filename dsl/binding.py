"""A call's arrays and scalars against a kernel's signature: sizes, dtypes, and what is assumed about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.elaborate.operands import shape_text
from kernelagent.dsl.index import Element, Index, Symbol, condition_indices, evaluate_condition
from kernelagent.dsl.instantiation import check_dtype

MAX_DIM = 2**31 - 1
Number = float | int | bool


@dataclass(frozen=True)
class Binding:
    """What a call fixes: dims, dtype variables, runtime scalars (defaults included), compile-time constants."""

    dims: dict[str, int]
    dtypes: dict[str, str]
    scalars: dict[str, Number]
    consts: dict[str, int | bool]

    @property
    def environment(self) -> dict[str, int]:
        """Values of every symbol but tunables and loop variables, for `Index.evaluate`."""
        integers = {n: v for n, v in self.scalars.items() if isinstance(v, int)}
        return {**self.dims, **integers, **{n: int(v) for n, v in self.consts.items()}}


def bind(
    entry: ir.Kernel | ir.Program | ir.Module,
    arrays: Mapping[str, tuple[Sequence[int], Any]],
    scalars: Mapping[str, Number] | None = None,
) -> Binding:
    """Match arrays (name -> (shape, dtype)) and scalars with the signature.

    Outputs may be left out when the inputs fix their sizes. dtypes are our names or numpy's. Raises KernelError with
    every mismatch: unknown and missing names, ranks, sizes, dtypes, and `assume` conditions on sizes.
    """
    if isinstance(entry, ir.Module):
        entry = entry.entry
    work = _Binder(entry)
    work.names(arrays, scalars or {})
    for array in entry.arrays:
        if array.name in arrays:
            shape, dtype = arrays[array.name]
            work.array(array, tuple(int(n) for n in shape), dtype)
    work.stop()
    work.sizes()
    work.scalars(scalars or {})
    work.stop()
    work.assumptions()
    work.stop()
    return Binding(work.dims, work.dtypes, work.numbers, work.consts)


class _Binder:
    def __init__(self, entry: ir.Kernel | ir.Program) -> None:
        self.entry = entry
        self.dims: dict[str, int] = {}
        self.sources: dict[str, str] = {}  # dim or dtype variable -> the array that fixed it
        self.dtypes: dict[str, str] = {}
        self.numbers: dict[str, Number] = {}
        self.consts: dict[str, int | bool] = {}
        self.pending: list[tuple[ir.Array, int, Index, int]] = []
        self.diagnostics: list[Diagnostic] = []

    def report(self, code: str, message: str, span: Span, hint: str, **facts: object) -> None:
        self.diagnostics.append(Diagnostic(code, message, span, hint=hint, facts=facts))

    def stop(self) -> None:
        if self.diagnostics:
            raise KernelError(self.diagnostics)

    # Names -------------------------------------------------------------------------------------

    def names(self, arrays: Mapping[str, Any], scalars: Mapping[str, Any]) -> None:
        known_arrays = [a.name for a in self.entry.arrays]
        known_scalars = [s.name for s in self.entry.scalars]
        missing = [a for a in self.entry.arrays if a.role in ("In", "InOut") and a.name not in arrays]
        for given, known, what in ((arrays, known_arrays, "array"), (scalars, known_scalars, "scalar")):
            for name in given:
                if name not in known:
                    self._unknown(name, known, what)
        for array in missing:
            hint = f"pass `{array.name}`"
            if array.optional:
                hint = f"parse the text with absent={{'{array.name}'}}, or pass the array"
            close = nearest(array.name, [n for n in arrays if n not in known_arrays])
            hint = f"rename the parameter to `{close}`" if close else hint
            self.report("missing-array", f"no array was given for `{array.name}`", array.span, hint, nearest=close)

    def _unknown(self, name: str, known: Sequence[str], what: str) -> None:
        close = nearest(name, list(known))
        listing = ", ".join(known) or "none"
        hint = f"did you mean `{close}`?" if close else f"the {what} parameters of `{self.entry.name}` are: {listing}"
        message = f"`{self.entry.name}` has no {what} parameter `{name}`"
        self.report(f"unknown-{what}", message, self.entry.span, hint, nearest=close)

    # Arrays ------------------------------------------------------------------------------------

    def array(self, array: ir.Array, shape: tuple[int, ...], dtype: object) -> None:
        if len(shape) != len(array.dims):
            text = f"{shape} for {shape_text(array.dims)}"
            message = f"`{array.name}` has rank {len(shape)}, but rank {len(array.dims)} is declared: {text}"
            self.report("rank", message, array.span, f"pass an array of rank {len(array.dims)}", shapes=text)
            return
        self._dtype(array, dtype)
        for axis, (dim, size) in enumerate(zip(array.dims, shape, strict=True)):
            self._size(array, axis, dim, size)

    def _size(self, array: ir.Array, axis: int, dim: Index, size: int) -> None:
        if not 0 <= size <= MAX_DIM:
            self.report("dim-range", f"axis {axis} of `{array.name}` is {size}", array.span, "sizes are below 2 ** 31")
        match dim.terms:
            case (((Symbol(name, "dim"),), 1),) if name not in self.dims:
                self.dims[name] = size
                self.sources[name] = array.name
            case _:
                self.pending.append((array, axis, dim, size))

    def _dtype(self, array: ir.Array, given: object) -> None:
        try:
            dtype = types.from_numpy(given)
        except KeyError:
            hint = f"dtypes are {', '.join(types.DTYPES)}"
            self.report("unknown-dtype", f"`{array.name}` has the dtype {given}", array.span, hint)
            return
        expected = array.dtype
        if not types.is_concrete(expected):
            if expected not in self.dtypes:
                self.dtypes[expected], self.sources[expected] = dtype, array.name
                self._need(expected, dtype)
            expected = self.dtypes[expected]
        if dtype != expected:
            fixed = self.sources.get(array.dtype)
            reason = f" ({array.dtype} was fixed by `{fixed}`)" if fixed else ""
            message = f"`{array.name}` is {dtype}, but {expected} is declared{reason}"
            self.report("array-dtype", message, array.span, f"pass {expected}; calls never convert", dtype=dtype)

    def _need(self, variable: str, dtype: str) -> None:
        try:
            check_dtype(self.entry, variable, dtype)
        except KernelError as error:
            self.diagnostics += error.diagnostics

    def sizes(self) -> None:
        """Dims that occur again, literal dims, and dims that are expressions of others."""
        for array, axis, dim, size in self.pending:
            if any(s.name not in self.dims for s in dim.symbols()):
                continue  # told below as dims that nothing fixes
            try:
                expected = dim.evaluate(self.dims)
            except ZeroDivisionError:
                message = f"the dim {dim} of `{array.name}` divides by zero"
                self.report("dim-mismatch", message, array.span, "pass other sizes")
                continue
            if size != expected:
                names = sorted(s.name for s in dim.symbols())
                known = ", ".join(f"{n}={self.dims[n]} from `{self.sources[n]}`" for n in names)
                message = f"axis {axis} of `{array.name}` is {size}, but {dim} is {expected}" + (
                    f" ({known})" if known else ""
                )
                hint = f"pass {expected} there"
                self.report("dim-mismatch", message, array.span, hint, expected=expected, given=size)
        unbound = [d for d in self.entry.dims if d not in self.dims]
        for name in unbound:
            message = f"nothing fixes the dim `{name}`: the arrays that have it by itself were not given"
            self.report("dim-unbound", message, self.entry.span, "pass the output array as well")

    # Scalars -----------------------------------------------------------------------------------

    def scalars(self, given: Mapping[str, Number]) -> None:
        for scalar in self.entry.scalars:
            value = given.get(scalar.name, scalar.default)
            if value is None:
                hint = f"pass `{scalar.name}`"
                self.report("missing-scalar", f"the scalar `{scalar.name}` has no value", scalar.span, hint)
            elif self._fits(scalar, value):
                self._store(scalar, value)

    def _fits(self, scalar: ir.Scalar, value: Number) -> bool:
        if scalar.dtype == "const":
            fine = isinstance(value, int)
            hint = "pass an integer or a bool"
        elif types.is_float(scalar.dtype):
            fine = isinstance(value, int | float) and not isinstance(value, bool)
            fine = fine and (value != value or abs(value) == float("inf") or types.represents(value, scalar.dtype))
            hint = f"pass a number that {scalar.dtype} holds"
        else:
            fine = types.represents(value, scalar.dtype)
            hint = f"pass a value that {scalar.dtype} holds"
        if not fine:
            message = f"`{scalar.name}` = {value!r} does not fit in {scalar.dtype}"
            self.report("scalar-range", message, scalar.span, hint, value=value)
        return fine

    def _store(self, scalar: ir.Scalar, value: Number) -> None:
        if scalar.dtype == "const":
            assert isinstance(value, int)
            self.consts[scalar.name] = value
        else:
            self.numbers[scalar.name] = float(value) if types.is_float(scalar.dtype) else value

    # Assumptions -------------------------------------------------------------------------------

    def assumptions(self) -> None:
        """Conditions on sizes; those about tunables belong to `instantiate`, those about data to debug runs."""
        environment = Binding(self.dims, self.dtypes, self.numbers, self.consts).environment
        for assume in self.entry.assumes:
            if assume.condition is None or not _is_about_call(assume, environment):
                continue
            try:
                holds = evaluate_condition(assume.condition, environment)
            except ZeroDivisionError:
                holds = False
            if not holds:
                names = sorted(_symbols(assume))
                values = ", ".join(f"{n}={environment[n]}" for n in names)
                message = f"this call does not satisfy `assume({assume.text})` at line {assume.span.line}: {values}"
                hint = "pass sizes that satisfy it, or remove the assumption from the kernel"
                self.report("assume-violated", message, assume.span, hint, **{n: environment[n] for n in names})


def _is_about_call(assume: ir.Assume, environment: Mapping[str, int]) -> bool:
    assert assume.condition is not None
    atoms = [a for i in condition_indices(assume.condition) for a in i.atoms()]
    return not any(isinstance(a, Element) for a in atoms) and _symbols(assume) <= set(environment)


def _symbols(assume: ir.Assume) -> set[str]:
    assert assume.condition is not None
    return {s.name for i in condition_indices(assume.condition) for s in i.symbols()}
