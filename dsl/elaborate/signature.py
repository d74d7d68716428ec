"""Parameters: arrays with their dims and dtypes, runtime scalars, compile-time constants, tunables."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.elaborate.context import Context, Silent, literal_value
from kernelagent.dsl.elaborate.expressions import evaluate
from kernelagent.dsl.elaborate.habits import is_reserved, nearest
from kernelagent.dsl.elaborate.operands import (
    Absent,
    Bound,
    DTypeName,
    Operand,
    Poison,
    Runtime,
    source_text,
)
from kernelagent.dsl.elaborate.views import whole
from kernelagent.dsl.elaborate.words import ROLES
from kernelagent.dsl.index import Compare, Index, index, symbol
from kernelagent.dsl.syntax import fault, span_of

MAX_TUNABLE = 2**20


@dataclass
class Signature:
    arrays: list[ir.Array] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    scalars: list[ir.Scalar] = field(default_factory=list)
    tunables: list[ir.Tunable] = field(default_factory=list)
    dims: list[str] = field(default_factory=list)
    dtype_variables: list[str] = field(default_factory=list)


def read_signature(k: Context, function: ast.FunctionDef, absent: frozenset[str]) -> Signature:
    """Parameters in order; binds every name in the context. Faults are recorded, the parameter poisoned."""
    signature = Signature()
    parameters = _parameters(function)
    names = [p.arg for p, _ in parameters]
    _bind_dims(k, parameters, signature, set(names))
    for parameter, default in parameters:
        complete = False
        with k.recovering():
            _check_name(k, parameter, names)
            _read_parameter(k, parameter, default, signature, absent)
            complete = True
        if not complete and not is_reserved(parameter.arg):
            k.bind(parameter.arg, Poison(), parameter, "array")
    k.symbol_names.update(n for n, b in k.names.items() if isinstance(b, Bound))
    return signature


def _parameters(function: ast.FunctionDef) -> list[tuple[ast.arg, ast.expr | None]]:
    arguments = function.args
    missing: list[ast.expr | None] = [None] * (len(arguments.args) - len(arguments.defaults))
    plain = list(zip(arguments.args, [*missing, *arguments.defaults], strict=True))
    return [*plain, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]


def _check_name(k: Context, parameter: ast.arg, names: list[str]) -> None:
    name = parameter.arg
    span = _name_span(parameter)
    if is_reserved(name):
        raise fault("reserved-word", f"`{name}` is a word of the language", span, f"rename it, e.g. `{name}_`")
    if name in k.constants or name in k.source.functions:
        hint = "rename the parameter"
        raise fault("duplicate-name", f"`{name}` is already a name of the top level", span, hint)
    if names.count(name) > 1:
        raise fault("duplicate-name", f"the parameter `{name}` appears twice", span, "rename one of them")


def _name_span(parameter: ast.arg) -> Span:
    return Span(
        parameter.lineno, parameter.col_offset + 1, parameter.lineno, parameter.col_offset + 1 + len(parameter.arg)
    )


# Dims and dtypes ---------------------------------------------------------------------------------


def _array_entries(annotation: ast.expr | None) -> tuple[str, list[ast.expr]] | None:
    """(role, [dtype, dims ...]) of `In[f32, M, N]`."""
    match annotation:
        case ast.Subscript(value=ast.Name(id=role), slice=entries) if role in ROLES:
            return role, entries.elts if isinstance(entries, ast.Tuple) else [entries]
    return None


def _bind_dims(
    k: Context, parameters: list[tuple[ast.arg, ast.expr | None]], signature: Signature, names: set[str]
) -> None:
    """Every bare name among the dims is a dim; every unknown name in front is a dtype variable."""
    for parameter, _ in parameters:
        found = _array_entries(parameter.annotation)
        if found is None:
            continue
        dtype, *dims = found[1]
        with k.recovering():
            _bind_dtype(k, dtype, signature, names)
        for dim in dims:
            if isinstance(dim, ast.Name):
                with k.recovering():
                    _bind_dim(k, dim, signature, names)


def _bind_dtype(k: Context, node: ast.expr, signature: Signature, names: set[str]) -> None:
    if not isinstance(node, ast.Name):
        hint = "write the dtype first: `In[f32, M, N]` or `In[T, M, N]`"
        raise fault("unknown-dtype", f"`{source_text(node)}` is not a dtype", node, hint)
    name = node.id
    if name in dtypes.DTYPES or name in signature.dtype_variables:
        return
    if name in names or name in signature.dims or is_reserved(name):
        raise fault("duplicate-name", f"`{name}` is used as a dtype and as something else", node, "rename one of them")
    if not name[0].isupper() or name in dtypes.HABITS:
        close = dtypes.HABITS.get(name) or nearest(name, list(dtypes.DTYPES))
        hint = (
            f"write `{close}`" if close else "dtypes are f32, bf16, f16, i32 ...; dtype variables begin with a capital"
        )
        raise fault("unknown-dtype", f"`{name}` is not a dtype", node, hint, nearest=close)
    signature.dtype_variables.append(name)
    k.bind(name, DTypeName(name), node, "dtype")


def _bind_dim(k: Context, node: ast.Name, signature: Signature, names: set[str]) -> None:
    name = node.id
    if name in signature.dims or name in k.constants:
        return
    if name in names or name in signature.dtype_variables or is_reserved(name) or name in dtypes.DTYPES:
        hint = "dims, parameters, words and dtypes share one namespace: rename the dim"
        raise fault("duplicate-name", f"`{name}` cannot be a dim: it is already something else", node, hint)
    signature.dims.append(name)
    k.bind(name, symbol(name, "dim"), node, "dim")


# Parameters --------------------------------------------------------------------------------------


def _read_parameter(
    k: Context, parameter: ast.arg, default: ast.expr | None, signature: Signature, absent: frozenset[str]
) -> None:
    annotation = parameter.annotation
    if _array_entries(annotation) is not None:
        _read_array(k, parameter, default, signature, absent)
    elif annotation is None:
        _read_tunable(k, parameter, default, signature)
    elif isinstance(annotation, ast.Name) and annotation.id == "const":
        _read_const(k, parameter, default, signature)
    elif isinstance(annotation, ast.Name) and annotation.id in dtypes.DTYPES:
        _read_scalar(k, parameter, default, signature)
    else:
        _refuse_annotation(annotation)


def _refuse_annotation(annotation: ast.expr) -> None:
    name = annotation.id if isinstance(annotation, ast.Name) else ""
    close = dtypes.HABITS.get(name) or nearest(name, [*dtypes.DTYPES, *ROLES, "const"])
    hint = "write `In[f32, M, N]`, `Out[...]`, `InOut[...]`, `Acc[...]`, a dtype for a scalar, or `const`"
    if close:
        hint = f"did you mean `{close}`?"
    raise fault("annotation", f"`{source_text(annotation)}` is not a parameter type", annotation, hint, nearest=close)


def _read_array(
    k: Context, parameter: ast.arg, default: ast.expr | None, signature: Signature, absent: frozenset[str]
) -> None:
    found = _array_entries(parameter.annotation)
    assert found is not None
    role, (dtype, *entries) = found
    optional = isinstance(default, ast.Constant) and default.value is None
    if default is not None and not (optional and role == "In"):
        hint = "only `In` arrays may be optional, with the default None"
        raise fault("array-default", f"`{parameter.arg}` cannot have this default", default, hint)
    if parameter.arg in absent and optional:
        signature.absent.append(parameter.arg)
        k.bind(parameter.arg, Absent(parameter.arg), parameter, "array")
        return
    if not isinstance(dtype, ast.Name) or (dtype.id not in dtypes.DTYPES and dtype.id not in signature.dtype_variables):
        raise Silent  # `_bind_dtype` has reported it
    dims = tuple(_dim(k, e, signature) for e in entries)
    array = ir.Array(parameter.arg, role, dtype.id, dims, _name_span(parameter), optional)  # type: ignore[arg-type]
    signature.arrays.append(array)
    k.arrays[array.name] = array
    k.bind(array.name, whole(array), parameter, "array")


def _dim(k: Context, node: ast.expr, signature: Signature) -> Index:
    """A dim, a literal, or an expression of dims (checked at the call)."""
    for name in ast.walk(node):
        if isinstance(name, ast.Name) and name.id not in signature.dims and name.id not in k.constants:
            hint = f"let `{name.id}` be a dim of some array by itself, or write a literal"
            k.names.setdefault(name.id, Bound(Poison(), "dim", span_of(name)))
            raise fault("dim-unbound", f"`{name.id}` in the dim `{source_text(node)}` is not a dim", name, hint)
    found = evaluate(k, node)
    if not isinstance(found, Index) or (found.constant is not None and found.constant < 0):
        hint = "dims are names, non-negative literals, or `+ - * //` of them"
        raise fault("dim-expression", f"`{source_text(node)}` is not a dim", node, hint)
    return found


def _read_scalar(k: Context, parameter: ast.arg, default: ast.expr | None, signature: Signature) -> None:
    assert isinstance(parameter.annotation, ast.Name)
    dtype = parameter.annotation.id
    value = _default(k, default)
    if value is not None and (
        not dtypes.represents(value, dtype) or (isinstance(value, float) and not dtypes.is_float(dtype))
    ):
        assert default is not None
        hint = f"write a literal that {dtype} holds"
        raise fault("literal-range", f"the default {value!r} does not fit in {dtype}", default, hint, dtype=dtype)
    signature.scalars.append(ir.Scalar(parameter.arg, dtype, value, _name_span(parameter)))
    k.scalars[parameter.arg] = signature.scalars[-1]
    operand: Operand = symbol(parameter.arg, "param") if dtypes.is_integer(dtype) else Runtime(parameter.arg, dtype)
    k.bind(parameter.arg, operand, parameter, "scalar")


def _read_const(k: Context, parameter: ast.arg, default: ast.expr | None, signature: Signature) -> None:
    value = _default(k, default)
    if isinstance(value, float):
        assert default is not None
        hint = f"write `{parameter.arg}: f32 = {value!r}`"
        raise fault("const-float", "compile-time constants are integers or bools", default, hint)
    signature.scalars.append(ir.Scalar(parameter.arg, "const", value, _name_span(parameter)))
    k.scalars[parameter.arg] = signature.scalars[-1]
    k.bind(parameter.arg, _flag(parameter.arg, "const", value), parameter, "const")


def _flag(name: str, kind: Any, value: float | int | bool | None) -> Operand:
    """A bool is the condition that its symbol is not zero."""
    found = symbol(name, kind)
    return Compare("!=", found, index(0)) if isinstance(value, bool) else found


def _default(k: Context, node: ast.expr | None) -> float | int | bool | None:
    if node is None:
        return None
    value = literal_value(evaluate(k, node))
    if value is None:
        raise fault("default", f"the default `{source_text(node)}` is not a literal", node, "write a number or a bool")
    return value


# Tunables ----------------------------------------------------------------------------------------


def _read_tunable(k: Context, parameter: ast.arg, default: ast.expr | None, signature: Signature) -> None:
    name = parameter.arg
    if default is None:
        hint = f"write `{name}: In[f32, M, N]` for an array, `{name}: f32` for a scalar, `{name}=64` for a tunable"
        raise fault("parameter", f"`{name}` has neither a type nor a default", _name_span(parameter), hint)
    values, nodes = _choices(k, default)
    for value, node in zip(values, nodes, strict=True):
        _check_tunable_value(name, value, node)
    chosen = tuple(values) if isinstance(default, ast.Call) else ()
    signature.tunables.append(ir.Tunable(name, values[0], chosen, _name_span(parameter)))  # type: ignore[arg-type]
    k.tunables[name] = signature.tunables[-1]
    k.bind(name, _flag(name, "tunable", values[0]), parameter, "tunable")


def _choices(k: Context, node: ast.expr) -> tuple[list[float | int | bool | None], list[ast.expr]]:
    match node:
        case ast.Call(func=ast.Name(id="choices"), args=arguments, keywords=[]) if arguments:
            return [literal_value(_literal(k, a)) for a in arguments], arguments
    return [literal_value(_literal(k, node))], [node]


def _literal(k: Context, node: ast.expr) -> Operand:
    found = evaluate(k, node)
    if literal_value(found) is not None:
        return found
    raise fault("default", f"the default `{source_text(node)}` is not a literal", node, "write a number or a bool")


def _check_tunable_value(name: str, value: float | int | bool | None, node: ast.expr) -> None:
    if isinstance(value, float):
        message = f"`{name}={value!r}` would be a tunable, which a tuner may change, and tunables are integers"
        hint = f"write `{name}: f32 = {value!r}` for a runtime scalar"
        raise fault("tunable-changes-meaning", message, node, hint)
    if value is None or not 0 <= value <= MAX_TUNABLE:
        hint = f"tunables are integers from 0 to {MAX_TUNABLE}, or bools"
        raise fault("tunable-range", f"`{name}` cannot be {value}", node, hint, value=value)
