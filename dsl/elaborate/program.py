"""One `@program`: straight-line calls of kernels, with temporaries and dims bound from the arguments."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.elaborate.context import Context, literal_value
from kernelagent.dsl.elaborate.expressions import evaluate
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.elaborate.habits import is_reserved, nearest
from kernelagent.dsl.elaborate.header import read_header, split_header
from kernelagent.dsl.elaborate.inherited import inherited
from kernelagent.dsl.elaborate.kernel import name_span
from kernelagent.dsl.elaborate.operands import (
    Absent,
    Bound,
    Number,
    Operand,
    Poison,
    Runtime,
    is_condition,
    shape_text,
    source_text,
)
from kernelagent.dsl.elaborate.signature import read_signature
from kernelagent.dsl.elaborate.views import integers
from kernelagent.dsl.elaborate.words import WORDS, Call, match_arguments
from kernelagent.dsl.index import Compare, Index, Symbol, index
from kernelagent.dsl.syntax import Source, fault, span_of


@dataclass
class _State:
    """What has been written so far: a temporary is written whole by one call, then only read."""

    k: Context
    kernels: dict[str, ir.Kernel]
    broken: frozenset[str]  # kernels with errors of their own
    temps: list[ir.Temp] = field(default_factory=list)
    calls: list[ir.Call] = field(default_factory=list)
    written: dict[str, int] = field(default_factory=dict)  # array -> line of the call that wrote it


def elaborate_program(
    source: Source,
    constants: dict[str, Operand],
    node: ast.FunctionDef,
    kernels: dict[str, ir.Kernel],
    broken: frozenset[str],
    absent: frozenset[str],
) -> tuple[ir.Program | None, list[Diagnostic]]:
    k = Context(source, constants, Facts())
    signature = read_signature(k, node, absent)
    header, body = split_header(node.body)
    assumes, policies, claims = read_header(k, header)
    for claim in claims:
        with k.recovering():
            raise fault("claim", "a program has no schedule of its own", claim.span, "claim it in its kernels")
    state = _State(k, kernels, broken)
    for statement in body:
        with k.recovering():
            _run(state, statement)
    demanded = inherited(state.calls, kernels, signature.arrays)
    assumes += {str((a.condition, a.data)): a for a in demanded}.values()
    program = ir.Program(
        name=node.name, arrays=tuple(signature.arrays), scalars=tuple(signature.scalars),
        tunables=tuple(signature.tunables), dims=tuple(signature.dims),
        dtype_variables=tuple(signature.dtype_variables), assumes=tuple(assumes), policies=tuple(policies),
        temps=tuple(state.temps), calls=tuple(state.calls), span=name_span(node),
    )  # fmt: skip
    if not k.failed:
        _check_written(k, state, program)
    return (None if k.failed else program), k.diagnostics


def _run(state: _State, node: ast.stmt) -> None:
    match node:
        case ast.Assign(targets=[ast.Name(id=name) as target], value=ast.Call(func=ast.Name(id="temp")) as call):
            _temp(state, target, name, call)
        case ast.Assign(targets=[ast.Name(id=name) as target], value=value):
            _scalar_name(state, target, name, value)
        case ast.Expr(value=ast.Call(func=ast.Name(id=name)) as call):
            _call(state, call, name)
        case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
            pass
        case _:
            hint = "write `t = temp(f32, (M, N))` and kernel calls, one a line"
            raise fault("program-statement", "a `@program` is straight-line calls of kernels", node, hint)


def _temp(state: _State, target: ast.Name, name: str, node: ast.Call) -> None:
    k = state.k
    _check_new(k, target, name)
    word = WORDS["temp"]
    matched, _ = match_arguments(word, node)
    call = Call(word, node, matched, {n: evaluate(k, a) for n, a in matched.items()})
    from kernelagent.dsl.elaborate.tilewords import dtype_of

    dims = integers(call, "dims")
    if any(s.kind not in ("dim", "tunable", "param", "const") for d in dims for s in d.symbols()):
        raise fault("dim-expression", "dims of a temporary are dims and tunables", call.at("dims"), "name them")
    temp = ir.Temp(name, dtype_of(call), dims, span_of(node))
    state.temps.append(temp)
    k.arrays[name] = ir.Array(name, "InOut", temp.dtype, dims, temp.span)
    k.bind(name, Absent(name), target, "array")  # it means something only as a call's argument


def _check_new(k: Context, target: ast.Name, name: str) -> None:
    if is_reserved(name):
        raise fault("reserved-word", f"`{name}` is a word of the language", target, f"rename it, e.g. `{name}_`")
    if isinstance(k.names.get(name), Bound) or name in k.constants or name in k.source.functions:
        raise fault("duplicate-name", f"`{name}` is already bound", target, "choose another name")


def _scalar_name(state: _State, target: ast.Name, name: str, value: ast.expr) -> None:
    _check_new(state.k, target, name)
    found = evaluate(state.k, value)
    if not isinstance(found, Index | Number) and not is_condition(found):
        hint = "only index integers, literals and `temp(...)` are bound in a program"
        raise fault("program-statement", f"`{source_text(value)}` computes a tile", value, hint)
    state.k.bind(name, found, target)


# Calls -------------------------------------------------------------------------------------------


def _call(state: _State, node: ast.Call, name: str) -> None:
    kernel = state.kernels.get(name)
    if kernel is None:
        if name in state.broken:
            return
        raise _unknown_kernel(state, node, name)
    given = _match(kernel, node)
    arrays = {a.name: _array_argument(state, given[a.name]) for a in kernel.arrays if a.name in given}
    binder = _DimBinder(state, kernel, node)
    for array in kernel.arrays:
        if array.name not in given:
            hint = f"pass `{array.name}`"
            raise fault("call-argument", f"the array `{array.name}` of `{name}` is missing", node, hint)
        binder.bind(array, state.k.arrays[arrays[array.name]], given[array.name])
    binder.check()
    scalars = [(s.name, _scalar(state, given[s.name])) for s in kernel.scalars if s.name in given]
    tunables = [(t.name, _tunable(state, given[t.name])) for t in kernel.tunables if t.name in given]
    _order(state, kernel, arrays, node)
    dims = tuple(binder.dims.items())
    state.calls.append(ir.Call(name, tuple(arrays.items()), tuple(scalars), tuple(tunables), dims, span_of(node)))


def _unknown_kernel(state: _State, node: ast.Call, name: str) -> Exception:
    if name in WORDS:
        hint = "move the work into a `@kernel` and call that"
        return fault("program-statement", f"`{name}` cannot stand in a `@program`", node, hint)
    close = nearest(name, list(state.kernels))
    hint = f"did you mean `{close}`?" if close else "define the kernel above the program"
    return fault("unknown-kernel", f"there is no kernel `{name}`", node.func, hint, nearest=close)


def _match(kernel: ir.Kernel, node: ast.Call) -> dict[str, ast.expr]:
    """Arrays and scalars by position or keyword, tunables by keyword."""
    placed = [(p.span, p.name) for p in kernel.arrays] + [(p.span, p.name) for p in kernel.scalars]
    order = [name for _, name in sorted(placed)]
    tunables = [t.name for t in kernel.tunables]
    if len(node.args) > len(order):
        usage = f"{kernel.name}({', '.join(order)})"
        message = f"`{source_text(node)}` has {len(node.args)} positional arguments, but it is {usage}"
        raise fault("arity", message, node, f"write {usage}; tunables by keyword", expected=usage)
    given = dict(zip(order, node.args, strict=False))
    for keyword in node.keywords:
        name = keyword.arg or "**"
        if name not in (*order, *tunables) or name in given:
            close = nearest(name, [*order, *tunables])
            hint = f"did you mean `{close}`?" if close else f"its parameters are {', '.join([*order, *tunables])}"
            raise fault("unknown-keyword", f"`{kernel.name}` has no free parameter `{name}`", keyword, hint)
        given[name] = keyword.value
    missing = [s.name for s in kernel.scalars if s.name not in given and s.default is None]
    if missing:
        raise fault("call-argument", f"`{missing[0]}` of `{kernel.name}` is missing", node, f"pass `{missing[0]}=...`")
    return given


def _array_argument(state: _State, node: ast.expr) -> str:
    if isinstance(node, ast.Name) and node.id in state.k.arrays:
        state.k.used.add(node.id)
        return node.id
    if isinstance(node, ast.Name) and node.id in state.k.names:
        found = state.k.names[node.id]
        if isinstance(found, Bound) and isinstance(found.operand, Poison):
            state.k.lookup(node)  # silent: reported before
    hint = "pass an array parameter of the program, or a `temp`"
    raise fault("call-argument", f"`{source_text(node)}` is not an array", node, hint)


class _DimBinder:
    """Solves a kernel's dims from the arrays of a call and checks the rest."""

    def __init__(self, state: _State, kernel: ir.Kernel, node: ast.Call) -> None:
        self.state, self.kernel, self.node = state, kernel, node
        self.dims: dict[str, Index] = {}
        self.dtypes: dict[str, str] = {}
        self.pending: list[tuple[Index, Index, ir.Array, ast.expr]] = []

    def bind(self, array: ir.Array, argument: ir.Array, at: ast.expr) -> None:
        if len(array.dims) != len(argument.dims):
            shapes = f"{shape_text(argument.dims)} for {shape_text(array.dims)}"
            message = f"`{argument.name}` has rank {len(argument.dims)}, but `{array.name}` has {len(array.dims)}"
            raise fault("call-shape", f"{message}: {shapes}", at, "pass an array of the same rank", shapes=shapes)
        self._dtype(array, argument, at)
        for formal, actual in zip(array.dims, argument.dims, strict=True):
            match formal.terms:
                case (((Symbol(name, "dim"),), 1),) if name not in self.dims:
                    self.dims[name] = actual
                case _:
                    self.pending.append((formal, actual, array, at))

    def _dtype(self, array: ir.Array, argument: ir.Array, at: ast.expr) -> None:
        formal = array.dtype
        if not dtypes.is_concrete(formal):
            formal = self.dtypes.setdefault(formal, argument.dtype)
            need = dict(self.kernel.dtype_needs).get(array.dtype)
            if need and dtypes.is_concrete(argument.dtype) and not dtypes.fits_need(argument.dtype, need):
                message = f"`{array.name}` needs a float of at most 32 bits, `{argument.name}` is {argument.dtype}"
                raise fault("call-dtype", message, at, "pass a float array")
            if need and not dtypes.is_concrete(argument.dtype):
                self.state.k.need_float(argument.dtype)
        if formal != argument.dtype:
            message = f"`{argument.name}` is {argument.dtype}, but `{array.name}` of `{self.kernel.name}` is {formal}"
            raise fault("call-dtype", message, at, "pass an array of that dtype; calls never convert")

    def check(self) -> None:
        for formal, actual, array, at in self.pending:
            expected = formal.substitute(self.dims)
            if not self.state.k.facts.equal(expected, actual):
                text = f"{actual} for {formal}" + (f" = {expected}" if expected != formal else "")
                message = f"`{array.name}` of `{self.kernel.name}`: the sizes do not agree ({text})"
                hint = "make the sizes the same expression, or add `assume(...)` to the program"
                raise fault("call-shape", message, at, hint, shapes=text)


def _scalar(state: _State, node: ast.expr) -> Index | str | float | int | bool:
    found: Operand
    if isinstance(node, ast.Name) and isinstance(bound := state.k.names.get(node.id), Bound):
        state.k.used.add(node.id)
        if isinstance(bound.operand, Runtime):
            return bound.operand.name
    found = evaluate(state.k, node)
    if isinstance(found, Index):
        return found
    literal = literal_value(found)
    if literal is not None:
        return literal
    match found:
        case Compare("!=", a, b) if b == index(0):
            return a  # a bool const or tunable: its symbol
    hint = "pass a scalar parameter, a literal or an index integer"
    raise fault("call-argument", f"`{source_text(node)}` is not a scalar", node, hint)


def _tunable(state: _State, node: ast.expr) -> Index:
    found = evaluate(state.k, node)
    if isinstance(found, Index) and all(s.kind in ("tunable", "const") for s in found.symbols()):
        return found
    literal = literal_value(found)
    if isinstance(literal, bool):
        return index(int(literal))
    match found:
        case Compare("!=", a, b) if b == index(0):
            return a
    hint = "pass a literal or a tunable of the program"
    raise fault("call-argument", f"`{source_text(node)}` is not a compile-time constant", node, hint)


# Order of reads and writes -----------------------------------------------------------------------


def _order(state: _State, kernel: ir.Kernel, arrays: dict[str, str], node: ast.Call) -> None:
    """Temporaries and outputs are written once, and temporaries are read only afterwards."""
    temps = {t.name for t in state.temps}
    for array in kernel.arrays:
        name = arrays[array.name]
        role = state.k.arrays[name].role if name not in temps else "temp"
        if array.role == "In":
            _check_read(state, name, role, node)
            continue
        _check_write(state, name, role, array, node)
    for array in kernel.arrays:
        if array.role != "In":
            state.written[arrays[array.name]] = node.lineno
    _check_overlap(kernel, arrays, node)


def _check_read(state: _State, name: str, role: str, node: ast.Call) -> None:
    if role == "temp" and name not in state.written:
        raise fault("temp-order", f"`{name}` is read before a call has written it", node, "write it whole first")
    if role in ("Out", "Acc"):
        raise fault(
            "load-of-output", f"`{name}` is {role} and cannot be read", node, "use a `temp`, or declare it InOut"
        )


def _check_write(state: _State, name: str, role: str, array: ir.Array, node: ast.Call) -> None:
    if role == "In":
        raise fault("store-to-input", f"`{name}` is an In array of the program", node, f"declare `{name}: Out[...]`")
    if array.role == "InOut":
        _check_updated(state, name, role, node)
    elif role in ("temp", "Out") and name in state.written:
        line = state.written[name]
        raise fault(
            "stored-twice", f"`{name}` was already written by the call at line {line}", node, "use another temp"
        )
    if role != "temp" and array.role == "Acc" and role != "Acc":
        raise fault("role", f"`{name}` is {role}, the kernel accumulates into it", node, f"declare `{name}: Acc[...]`")


def _check_updated(state: _State, name: str, role: str, node: ast.Call) -> None:
    """What a kernel updates in place, it reads."""
    if role == "Acc":
        hint = f"sum into a `temp` and read that, or declare `{name}: InOut[...]`"
        raise fault("load-of-output", f"`{name}` is Acc and cannot be read, which an InOut parameter does", node, hint)
    if role in ("temp", "Out") and name not in state.written:
        message = f"`{name}` is updated in place before a call has written it"
        raise fault("temp-order", message, node, "write it whole first, or pass it as an Out")


def _check_overlap(kernel: ir.Kernel, arrays: dict[str, str], node: ast.Call) -> None:
    names = list(arrays.values())
    for array in kernel.arrays:
        if array.role != "In" and names.count(arrays[array.name]) > 1:
            message = f"`{arrays[array.name]}` is passed twice to `{kernel.name}`, which writes it"
            raise fault("call-overlap", message, node, "pass different arrays")


def _check_written(k: Context, state: _State, program: ir.Program) -> None:
    for array in program.arrays:
        if array.role != "In" and array.name not in state.written:
            with k.recovering():
                hint = "pass it to a kernel that stores it"
                raise fault("not-stored", f"`{array.name}` is {array.role} but no call writes it", array.span, hint)
