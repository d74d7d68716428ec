"""What a text stores into its outputs, in the names of its entry: one kernel, or the calls of a program in order.

A called kernel is read in its own names; then dims become those of the program, arrays the program's, and a temporary
is what the call that wrote it made of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Index
from kernelagent.dsl.instantiation import fixed_dims, resolve_tunables
from kernelagent.dsl.verify.families import Choice, call_dtypes, concrete, concrete_kernels
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.semantics.kernel import ArrayMeaning, KernelMeaning, Made, Place, Stored
from kernelagent.dsl.verify.semantics.known import Answers, Known
from kernelagent.dsl.verify.semantics.reductions import restart
from kernelagent.dsl.verify.semantics.reference import input_element
from kernelagent.dsl.verify.semantics.rewriting import Rewriting
from kernelagent.dsl.verify.semantics.samples import Samples
from kernelagent.dsl.verify.semantics.terms import (
    Element,
    Parameter,
    Poly,
    Undenoted,
    atom,
    from_index,
    number,
)


@dataclass(frozen=True)
class Case:
    """One class of calls: the entry's arrays as instantiated, and what it stores.

    `kernels` were read; `history` has every term that was computed, with its line; `words` says by which monoid each
    state of a loop is reduced.
    """

    name: str
    arrays: tuple[ir.Array, ...]
    stored: tuple[Stored, ...]
    kernels: tuple[ir.Kernel, ...]
    history: tuple[Made, ...]
    words: Mapping[str, str]


@dataclass(frozen=True)
class Contract:
    """What the reference demands of integer data: elements of `array` lie in [0, size), in the entry's names."""

    array: str
    size: Index


Shared: TypeAlias = dict[str, Answers]
"""Answers by what kernels or programs assume."""


def known_of(
    kernel: ir.Kernel | ir.Program,
    assumes: tuple[ir.Assume, ...],
    contracts: tuple[Contract, ...],
    shared: Shared | None = None,
) -> Known:
    """Knowledge at the top of a kernel or program."""
    data = tuple(ir.Assume(None, ("range", c.array, (ix.index(0), c.size)), "", kernel.span) for c in contracts)
    arrays = tuple(a for a in kernel.arrays)
    bare = ir.Kernel(
        kernel.name, arrays, kernel.scalars, (), kernel.dims, (), (), (*assumes, *data), (), (), kernel.span
    )
    told = f"{kernel.name} {kernel.dims} {[(a.condition, a.data) for a in bare.assumes]}"
    answers = {} if shared is None else shared.setdefault(told, {})
    return Known(Ranges.of(bare), Samples.of(kernel.dims, bare.assumes), (), answers)


Contracts: TypeAlias = Callable[[tuple[ir.Array, ...]], tuple[Contract, ...]]


def cases(module: ir.Module, choice: Choice, contracts: Contracts) -> Iterator[Case]:
    """The classes of calls of the entry. Raises Undenoted where a construct has no denotation."""
    entry, shared = module.entry, Shared()
    if isinstance(entry, ir.Program):
        for fixed in _classes(module, entry):
            restart()
            yield _program(module, entry, choice, contracts, fixed, shared)
        return
    for kernel in concrete_kernels(module, choice):
        arrays: dict[str, ArrayMeaning] = {a.name: _reader(a) for a in kernel.arrays}
        restart()
        meaning = KernelMeaning(kernel, arrays, known_of(kernel, kernel.assumes, contracts(kernel.arrays), shared))
        name = ", ".join(f"{d}={_fixed_value(entry, kernel, d)}" for d in entry.dims if d not in kernel.dims)
        stored = tuple(meaning.run())
        words = {n: w for s in meaning.summaries for n, w in s.words.items()}
        yield Case(name, kernel.arrays, stored, (kernel,), tuple(meaning.history), words)


def _fixed_value(entry: ir.Kernel, kernel: ir.Kernel, dim: str) -> str:
    for generic, concrete_array in zip(entry.arrays, kernel.arrays, strict=True):
        for before, after in zip(generic.dims, concrete_array.dims, strict=True):
            if str(before) == dim:
                return str(after)
    return "fixed"


def _reader(array: ir.Array) -> ArrayMeaning:
    return lambda place: input_element(array.name, array.dtype, place)


# Programs ----------------------------------------------------------------------------------------


def _classes(module: ir.Module, program: ir.Program) -> Iterator[dict[str, int]]:
    """Values of the dims that a called kernel needs as extents: every combination that the program allows."""
    bare = ir.Kernel(
        program.name, program.arrays, program.scalars, (), program.dims, (), (), program.assumes, (), (), program.span
    )
    members = Ranges.of(bare).members
    open_: dict[str, None] = {}
    for call in program.calls:
        sizes = dict(call.dims)
        for dim in fixed_dims(module.kernel(call.kernel)):
            open_ |= {s.name: None for s in sizes[dim].symbols() if s.name in members}
    for values in itertools.product(*(members[dim] for dim in open_)):
        yield dict(zip(open_, values, strict=True))


def _program(
    module: ir.Module,
    program: ir.Program,
    choice: Choice,
    contracts: Contracts,
    fixed: Mapping[str, int],
    shared: Shared,
) -> Case:
    tunables = {n: ix.index(int(v)) for n, v in resolve_tunables(program, choice.tunables, choice.target).items()}
    tunables |= {dim: ix.index(value) for dim, value in fixed.items()}
    dtypes = {v: choice.dtypes.get(v, "f32") for v in program.dtype_variables}
    arrays = tuple(
        replace(a, dtype=dtypes.get(a.dtype, a.dtype), dims=tuple(d.substitute(tunables) for d in a.dims))
        for a in program.arrays
    )
    dims = tuple(d for d in program.dims if d not in fixed)
    assumes = tuple(_fixed_in(a, tunables) for a in program.assumes)
    base = known_of(replace(program, arrays=arrays, dims=dims), assumes, contracts(arrays), shared)
    meanings: dict[str, ArrayMeaning] = {a.name: _reader(a) for a in arrays if a.role in ("In", "InOut")}
    outputs: list[Stored] = []
    kernels: list[ir.Kernel] = []
    history: list[Made] = []
    words: dict[str, str] = {}
    for call in program.calls:
        kernel = _called(module, program, call, choice, tunables)
        kernels.append(kernel)
        for stored in _call(kernel, call, tunables, meanings, base, history, words, shared):
            name = dict(call.arrays)[stored.store.view.array]
            if any(t.name == name for t in program.temps):
                meanings[name] = _temporary(name, stored, base)
            else:
                outputs.append(_named(stored, name))
    name = ", ".join(f"{dim}={value}" for dim, value in fixed.items())
    return Case(name, arrays, tuple(outputs), tuple(kernels), tuple(history), words)


def _fixed_in(assume: ir.Assume, values: Mapping[str, Index]) -> ir.Assume:
    if assume.condition is None:
        return assume
    return replace(assume, condition=ix.substitute_condition(assume.condition, values))


def _named(stored: Stored, name: str) -> Stored:
    store = replace(stored.store, view=replace(stored.store.view, array=name))
    return replace(stored, store=store)


def _called(
    module: ir.Module, program: ir.Program, call: ir.Call, choice: Choice, tunables: Mapping[str, Index]
) -> ir.Kernel:
    kernel = module.kernel(call.kernel)
    given = {name: value.substitute(tunables).constant for name, value in call.tunables}
    chosen = {name: value for name, value in given.items() if value is not None}
    dtypes = call_dtypes(module, program, call.kernel, dict(call.arrays), choice.dtypes)
    consts = {n: v for n, v in call.scalars if isinstance(v, bool | int)}
    sizes = {name: size.substitute(tunables).constant for name, size in call.dims}
    fixed: dict[str, int] = {}
    for dim in fixed_dims(kernel):
        size = sizes.get(dim)
        if size is None:
            raise Undenoted(f"{dim} of {kernel.name}, which a program leaves open")
        fixed[dim] = size
    return concrete(kernel, Choice(dtypes, consts, chosen, choice.target, {}, choice.instances), fixed)


def _call(
    kernel: ir.Kernel,
    call: ir.Call,
    tunables: Mapping[str, Index],
    meanings: Mapping[str, ArrayMeaning],
    base: Known,
    history: list[Made],
    words: dict[str, str],
    shared: Shared,
) -> Iterator[Stored]:
    """What a call stores, in the program's names."""
    own: dict[str, ArrayMeaning] = {a.name: _reader(a) for a in kernel.arrays}
    meaning = KernelMeaning(kernel, own, known_of(kernel, kernel.assumes, (), shared))
    dims = {name: size.substitute(tunables) for name, size in call.dims}
    given = dict(call.arrays)
    for array in kernel.arrays:
        if not is_float(array.dtype) and array.role == "In" and given.get(array.name) != array.name:
            raise Undenoted(
                f"the integers {array.name} of {kernel.name}, which the program calls {given.get(array.name)}"
            )
    scalars = dict(call.scalars)
    found = meaning.run()
    history += meaning.history
    words |= {n: w for s in meaning.summaries for n, w in s.words.items()}
    for stored in found:
        known = stored.known.moved(base, dims)

        def leaves(leaf: Element | Parameter) -> Poly:
            if isinstance(leaf, Element):
                return meanings[given[leaf.array]](leaf.place)
            return _scalar(leaf, scalars, tunables)

        value = Rewriting(dims, None, known, leaves).poly(stored.value)
        place = tuple(known.tidy(i.substitute(dims)) for i in stored.place)
        yield replace(stored, value=value, place=place, known=known)


def _scalar(leaf: Parameter, scalars: Mapping[str, object], tunables: Mapping[str, Index]) -> Poly:
    value = scalars.get(leaf.name.removeprefix("$")) if leaf.name.startswith("$") else None
    match value:
        case Index():
            return from_index(value.substitute(tunables))
        case str():
            return atom(Parameter(f"${value}"))
        case bool() | int():
            return number(int(value))
        case float():
            from kernelagent.dsl.verify.semantics.constants import literal

            return literal(value)
    return atom(leaf)


# Temporaries -------------------------------------------------------------------------------------


def _temporary(name: str, stored: Stored, base: Known) -> ArrayMeaning:
    """An element of a temporary at any coordinates, from the one store that writes it."""
    coordinates = [f"{name}/{axis}" for axis in range(len(stored.place))]
    solved = _solve(stored, coordinates)
    known = base
    for coordinate in coordinates:
        known = known.where(ix.Compare(">=", ix.symbol(coordinate, "loop"), ix.index(0)))
    value = stored.value
    for _ in range(len(solved)):
        if not value.free & solved.keys():
            break
        value = Rewriting(solved, None, known).poly(value)
    if value.free & {v.name for loop in stored.loops for v in loop.variables} | value.free & set(stored.axes):
        raise Undenoted(f"the temporary {name}, whose elements depend on the tile that they are in")

    def meaning(place: Place) -> Poly:
        return Rewriting(dict(zip(coordinates, place, strict=True)), None, base).poly(value)

    return meaning


def _solve(stored: Stored, coordinates: list[str]) -> dict[str, Index]:
    """View positions and loop variables from array coordinates: c = q + rest, and i from the tile that holds q."""
    variables = [v.name for loop in stored.loops for v in loop.variables]
    solved: dict[str, Index] = {}
    for place, coordinate in zip(stored.place, coordinates, strict=True):
        for unknown in (*stored.axes, *variables):
            kind = ix.Symbol(unknown, "loop")
            affine = place.affine(kind) if kind in place.symbols() and unknown not in solved else None
            if affine is not None and affine[0].constant == 1:
                solved[unknown] = ix.symbol(coordinate, "loop") - affine[1]
                break
    for loop in stored.loops:
        for variable, lo, step in zip(loop.variables, loop.lo, loop.step, strict=True):
            for axis, start in zip(stored.axes, stored.store.start, strict=True):
                affine = start.affine(variable)
                if variable.name in solved or affine is None or affine[0].constant != 1:
                    continue
                within = ix.symbol(axis, "loop") - affine[1] - lo
                solved[variable.name] = lo + step * ix.floordiv(within, step)
    return solved
