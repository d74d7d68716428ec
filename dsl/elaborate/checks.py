"""Rules about a whole kernel: its form, that outputs are stored, and what looks like a slip."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.index import Condition, FloorDiv, Index, Mod, Symbol, condition_indices
from kernelagent.dsl.syntax import fault

Statements = Sequence[ir.Statement]


def check_kernel(k: Context, kernel: ir.Kernel, header: list[ast.Call]) -> None:
    """Report everything. Errors first: the form of the kernel, then its stores."""
    with k.recovering():
        _check_form(kernel)
    if k.failed:
        return
    for array in kernel.arrays:
        if array.role in ("Out", "Acc", "InOut"):
            with k.recovering():
                _check_written(kernel, array)
    with k.recovering():
        _check_repeated_stores(k, kernel)
    _warn_unused(k, kernel)
    _warn_switches(k, kernel)
    _warn_narrow_assumes(k, kernel)


def walk(body: Iterable[ir.Statement]) -> Iterator[ir.Statement]:
    """Every statement, outer ones first."""
    for statement in body:
        yield statement
        match statement:
            case ir.For(body=inner):
                yield from walk(inner)
            case ir.If(then=then, otherwise=otherwise):
                yield from walk(then)
                yield from walk(otherwise)


# Form --------------------------------------------------------------------------------------------


def _check_form(kernel: ir.Kernel) -> None:
    """Scalar reads, then one perfect nest of `tiles`."""
    body: Statements = kernel.body
    if not any(isinstance(s, ir.For) and s.kind == "tiles" for s in body):
        hint = "write `for i, j in tiles((M, N), (BM, BN)):` around the work, or `tiles((1,), (1,))` to run it once"
        raise fault("no-tiles", f"the kernel `{kernel.name}` has no `tiles` loop", kernel.span, hint)
    while any(isinstance(s, ir.For) and s.kind == "tiles" for s in body):
        *before, last = body
        for statement in before:
            if not (isinstance(statement, ir.Let) and statement.value.type.rank == 0):
                _refuse_outside(statement)
        if not isinstance(last, ir.For) or last.kind != "tiles":
            _refuse_outside(last)
        assert isinstance(last, ir.For)
        body = last.body


def _refuse_outside(statement: ir.Statement) -> None:
    origin = statement.value.origin if isinstance(statement, ir.Let) else statement.origin
    hint = "move it into the innermost `tiles` loop; between nested `tiles` only scalars are read"
    raise fault("outside-tiles", "work beside a `tiles` loop", origin.span, hint)


# Stores ------------------------------------------------------------------------------------------


def _check_written(kernel: ir.Kernel, array: ir.Array) -> None:
    writes = [s for s in walk(kernel.body) if _writes(s, array.name)]
    if not writes:
        word = "atomic_add" if array.role == "Acc" else "store"
        hint = f"write `{word}({array.name}, position, value)`, or remove the parameter"
        raise fault("not-stored", f"`{array.name}` is {array.role} but never written", array.span, hint)
    if array.role == "Out":
        _check_paths(kernel.body, array.name)


def _writes(statement: ir.Statement, array: str) -> bool:
    return isinstance(statement, ir.Store | ir.Scatter) and statement.view.array == array


def _check_paths(body: Statements, array: str) -> bool:
    """Whether the array is written on the way through; a data or size condition must not decide it."""
    written = False
    for statement in body:
        match statement:
            case ir.For(body=inner):
                written |= _check_paths(inner, array)
            case ir.If(condition=condition, then=then, otherwise=otherwise, origin=origin):
                arms = _check_paths(then, array), _check_paths(otherwise, array)
                if arms[0] != arms[1] and not written and not _about_loops(condition):
                    missing = "false" if arms[0] else "true"
                    hint = "store in both arms, or once behind the `if` with a name that both arms bind"
                    message = f"`{array}` is not stored when this condition is {missing}"
                    if not any(_writes(s, array) for s in _after(body, statement)):
                        raise fault("not-stored", message, origin.span, hint)
                written |= any(arms)
            case _:
                written |= _writes(statement, array)
    return written


def _after(body: Statements, statement: ir.Statement) -> Iterator[ir.Statement]:
    place = next(n for n, s in enumerate(body) if s is statement)
    return walk(body[place + 1 :])


def _about_loops(condition: Condition | ir.Value) -> bool:
    """Conditions on loop variables choose among iterations; whether they cover is for the proof."""
    if isinstance(condition, ir.Value):
        return False
    return any(s.kind == "loop" for i in condition_indices(condition) for s in i.symbols())


def _check_repeated_stores(k: Context, kernel: ir.Kernel) -> None:
    _scan_stores(k, kernel.body, [], [])


def _scan_stores(k: Context, body: Statements, loops: list[ir.For], conditions: list[frozenset[Symbol]]) -> None:
    """Refuse two equal stores in a row, and a store that does not depend on a loop around it."""
    seen: list[ir.Store] = []
    for statement in body:
        match statement:
            case ir.For(body=inner):
                _scan_stores(k, inner, [*loops, statement], conditions)
            case ir.If(condition=condition, then=then, otherwise=otherwise):
                used = _condition_symbols(condition)
                _scan_stores(k, then, loops, [*conditions, used])
                _scan_stores(k, otherwise, loops, [*conditions, used])
            case ir.Store():
                with k.recovering():
                    _check_store(statement, seen, loops, conditions)
                seen.append(statement)


def _condition_symbols(condition: Condition | ir.Value) -> frozenset[Symbol]:
    if isinstance(condition, ir.Value):
        return frozenset()
    return frozenset(s for i in condition_indices(condition) for s in i.symbols())


def _check_store(
    store: ir.Store, seen: list[ir.Store], loops: list[ir.For], conditions: list[frozenset[Symbol]]
) -> None:
    name, span = store.view.array, store.origin.span
    for other in seen:
        if (other.view, other.start) == (store.view, store.start):
            line = other.origin.span.line
            hint = "keep one of them: each element of an output is stored once"
            raise fault("stored-twice", f"`{name}` is stored here and, at the same place, at line {line}", span, hint)
    used = _store_symbols(store) | frozenset(s for c in conditions for s in c)
    for loop in loops:
        for variable, lo, hi, step in zip(loop.variables, loop.lo, loop.hi, loop.step, strict=True):
            if variable in used or hi - lo == step or _derived(variable, loops, used):
                continue
            _refuse_repeated(name, store, loop, variable)


def _derived(variable: Symbol, loops: list[ir.For], used: frozenset[Symbol]) -> bool:
    """Whether a used loop variable runs within bounds that depend on this one (ragged groups)."""
    return any(
        v in used and variable in (lo.symbols() | hi.symbols())
        for loop in loops
        for v, lo, hi in zip(loop.variables, loop.lo, loop.hi, strict=True)
    )


def _store_symbols(store: ir.Store) -> frozenset[Symbol]:
    parts: list[Index] = [*store.start, *store.view.coordinates]
    return frozenset(s for part in parts for s in part.symbols())


def _refuse_repeated(name: str, store: ir.Store, loop: ir.For, variable: Symbol) -> None:
    line = loop.origin.span.line
    if loop.kind == "tiles":
        hint = f"drop {variable} from `tiles`, or store under `if {variable} == 0:`, or use an `Acc` with `atomic_add`"
    else:
        hint = "accumulate in a carried name and store behind the loop"
    message = f"`{name}` is stored at the same place for every {variable} of the loop at line {line}"
    raise fault("store-repeated", message, store.origin.span, hint, variable=str(variable))


# Warnings ----------------------------------------------------------------------------------------


def _warn_unused(k: Context, kernel: ir.Kernel) -> None:
    for array in kernel.arrays:
        if array.role == "In" and array.name not in k.used:
            hint = "remove the parameter, or load from it"
            k.warn("unused-parameter", f"the input `{array.name}` is never read", array.span, hint)
    for tunable in kernel.tunables:
        if tunable.name not in k.used:
            hint = "remove it, or use it as an extent"
            k.warn("unused-parameter", f"the tunable `{tunable.name}` is never used", tunable.span, hint)
    for scalar in kernel.scalars:
        if scalar.name not in k.used:
            k.warn("unused-parameter", f"the scalar `{scalar.name}` is never used", scalar.span, "remove it")


def _warn_switches(k: Context, kernel: ir.Kernel) -> None:
    """`causal=True` decides an `if`: surely a constant of the caller, not a choice of the tuner."""
    tests = [s.condition for s in walk(kernel.body) if isinstance(s, ir.If)]
    decided = {s.name for c in tests for s in _condition_symbols(c)}
    for tunable in kernel.tunables:
        if isinstance(tunable.default, bool) and not tunable.choices and tunable.name in decided:
            name = tunable.name
            message = f"`{name}` is a tunable, so a tuner may switch it; the `if` on it must not change the result"
            hint = f"write `{name}: const = {tunable.default}` if it does; else `{name}=choices(True, False)`"
            k.warn("tunable-changes-meaning", message, tunable.span, hint)


def _warn_narrow_assumes(k: Context, kernel: ir.Kernel) -> None:
    """`assume(M % 128 == 0)` that nothing needs only refuses callers."""
    needed = {(a.a, a.b) for i in _indices(kernel) for a in i.atoms() if isinstance(a, FloorDiv | Mod)}
    reshapes = any(isinstance(s, ir.Let) and isinstance(s.operation, ir.Reshape) for s in walk(kernel.body))
    for assume in kernel.assumes:
        match assume.condition:
            case None:
                continue
            case condition:
                pairs = [(m.a, m.b) for i in condition_indices(condition) for m in i.atoms() if isinstance(m, Mod)]
        if not pairs or reshapes or any(p in needed for p in pairs) or any(_about_tunable(*p) for p in pairs):
            continue
        message = f"calls where `{assume.text}` does not hold will be refused; the aligned class exists without it"
        hint = "delete the line if all sizes should work"
        k.warn("assume-narrows", message, assume.span, hint, "note")


def _about_tunable(a: Index, b: Index) -> bool:
    return any(s.kind in ("tunable", "const") for s in a.symbols() | b.symbols())


def _indices(kernel: ir.Kernel) -> Iterator[Index]:
    """Positions, bounds and dims of the kernel."""
    for array in kernel.arrays:
        yield from array.dims
    for statement in walk(kernel.body):
        match statement:
            case ir.For(lo=lo, hi=hi, step=step):
                yield from (*lo, *hi, *step)
            case ir.Store(view=view, start=start) | ir.Scatter(view=view, start=start):
                yield from (*view.coordinates, *start)
            case ir.Let(operation=ir.Load(view=view, start=start)):
                yield from (*view.coordinates, *start)
