"""Expressions of level two: one function a construct, from syntax to operands. Words are in `calls`."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate import arithmetic, views
from kernelagent.dsl.elaborate import operands as level1
from kernelagent.dsl.elaborate.arithmetic import COMPARISONS, OPERATORS
from kernelagent.dsl.elaborate.operands import DTypeName, Number, Poison, Runtime, Word, source_text
from kernelagent.dsl.index import FALSE, TRUE, AllOf, AnyOf, Compare, Condition, Index, Negation, index, select
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.rules import shape_text, type_of
from kernelagent.dsl.level2.state import Operand, Phased, State
from kernelagent.dsl.level2.text import leading_rows
from kernelagent.dsl.level2.words import WORDS2
from kernelagent.dsl.syntax import Fault, fault

CONDITIONS = (Compare, AllOf, AnyOf, Negation)


def evaluate(k: State, node: ast.expr) -> Operand:
    """What an expression means here. Raises Fault, or Silent where something was reported before."""
    handler = _EXPRESSIONS.get(type(node))
    if handler is None:
        raise fault("slice-place", f"the slice `{source_text(node)}` cannot stand here", node, "use `view(...)`")
    return handler(k, node)


def describe(operand: Operand) -> str:
    match operand:
        case dev.Fragment():
            return f"the fragment {type_of(operand)}"
        case dev.Shared(buffer=buffer):
            return f"the shared buffer `{buffer}`"
        case Phased(barrier=barrier):
            return f"the barrier `{barrier}`"
        case Distribution(shape=shape):
            return f"a distribution of {shape_text(shape)}"
        case tuple():
            return f"a tuple of {len(operand)}"
        case _:
            return level1.describe(operand)


def _constant(k: State, node: ast.Constant) -> Operand:
    match node.value:
        case bool(value):
            return TRUE if value else FALSE
        case int(value):
            return index(value)
        case float(value):
            return Number(value)
        case str(value):
            return Word(value)
    raise fault("not-a-value", "`None` is not a value", node, "delete it")


def _name(k: State, node: ast.Name) -> Operand:
    name = node.id
    found = k.lookup(node)
    if found is not None:
        return found
    if name in ("inf", "nan"):
        return Number(float(name))
    if name in dtypes.DTYPES:
        return DTypeName(name)
    if name in k.base.names:
        known = k.base.lookup(node)
        if isinstance(known, Runtime):
            return k.emit(dev.Parameter(name), node, {})
        return known  # type: ignore[return-value]  # dims, integer scalars, arrays
    if name in WORDS2:
        return Word(name)
    raise k.unknown(node)


def _tuple(k: State, node: ast.Tuple) -> Operand:
    return tuple(evaluate(k, e) for e in node.elts)


# Operators -------------------------------------------------------------------------------------------


def _binary(k: State, node: ast.BinOp) -> Operand:
    a, b = evaluate(k, node.left), evaluate(k, node.right)
    word = OPERATORS.get(type(node.op))
    if word is None:
        raise fault("power", f"`{source_text(node)}`: there is no such operator here", node, "write a product")
    if isinstance(a, dev.Fragment) or isinstance(b, dev.Fragment):
        return pointwise(k, word, [a, b], [node.left, node.right], node)
    for operand, at in ((a, node.left), (b, node.right)):
        if not isinstance(operand, (Index, Number)):
            raise fault("not-a-value", f"`{source_text(at)}` is {describe(operand)}", at, "use a fragment or a number")
    return arithmetic.binary(k.base, word, a, b, node)  # type: ignore[arg-type, return-value]


def pointwise(k: State, word: str, parts: list[Operand], nodes: list[ast.expr], node: ast.expr) -> dev.Fragment:
    """An elementwise word; literals become constants of the dtype that they meet."""
    first = 1 if word == "where" else 0
    dtype = next((p.dtype for p in parts[first:] if isinstance(p, dev.Fragment)), None)
    arguments = tuple(as_fragment(k, p, n, dtype) for p, n in zip(parts, nodes, strict=True))
    names = ("condition", "a", "b")[1 - first :]
    return k.emit(dev.Pointwise(word, arguments), node, dict(zip(names, nodes, strict=False)))


def as_fragment(k: State, operand: Operand, node: ast.expr, dtype: str | None) -> dev.Fragment:
    """A fragment, or a rank-0 constant of `dtype` from a literal."""
    if isinstance(operand, dev.Fragment):
        return operand
    value = literal(operand)
    if value is None or dtype is None:
        hint = "write `scalar(value, dtype)` for a constant, `number(index, dtype)` for an index integer"
        raise fault("not-a-value", f"`{source_text(node)}` is {describe(operand)}, not a fragment", node, hint)
    return k.emit(dev.Constant(value), node, {"value": node}, dtype)


def literal(operand: Operand) -> float | int | bool | None:
    """The number or bool that a literal stands for."""
    if isinstance(operand, Number):
        return operand.value
    if isinstance(operand, Index):
        return operand.constant
    return True if operand == TRUE else False if operand == FALSE else None


def _unary(k: State, node: ast.UnaryOp) -> Operand:
    x = evaluate(k, node.operand)
    if isinstance(x, dev.Fragment):
        word = "neg" if isinstance(node.op, ast.USub) else "not"
        return x if isinstance(node.op, ast.UAdd) else pointwise(k, word, [x], [node.operand], node)
    if isinstance(x, CONDITIONS) and isinstance(node.op, ast.Not):
        return Negation(x)
    if isinstance(x, (Index, Number)) and isinstance(node.op, (ast.USub, ast.UAdd)):
        negative = isinstance(node.op, ast.USub)
        return (Number(-x.value) if isinstance(x, Number) else -x) if negative else x
    raise fault("not-a-value", f"`{source_text(node)}`: the operand is {describe(x)}", node, "use a number or fragment")


def condition(k: State, node: ast.expr) -> Condition:
    """A condition on index integers."""
    found = evaluate(k, node)
    if isinstance(found, CONDITIONS):
        return found
    raise fault("not-a-condition", f"`{source_text(node)}` is {describe(found)}", node, "compare index integers")


def _boolean(k: State, node: ast.BoolOp) -> Operand:
    parts = tuple(condition(k, v) for v in node.values)
    return AllOf(parts) if isinstance(node.op, ast.And) else AnyOf(parts)


def _compare(k: State, node: ast.Compare) -> Operand:
    nodes = [node.left, *node.comparators]
    parts = [evaluate(k, n) for n in nodes]
    results = [_pair(k, op, parts[n : n + 2], nodes[n : n + 2], node) for n, op in enumerate(node.ops)]
    if len(results) == 1:
        return results[0]
    conditions = [r for r in results if isinstance(r, CONDITIONS)]
    if len(conditions) < len(results):
        hint = "write two comparisons joined by `&`"
        raise fault("chained-comparison", f"`{source_text(node)}` chains comparisons of fragments", node, hint)
    return AllOf(tuple(conditions))


def _pair(k: State, op: ast.cmpop, parts: list[Operand], nodes: list[ast.expr], node: ast.Compare) -> Operand:
    if type(op) not in COMPARISONS:
        raise fault(
            "membership", f"`{source_text(node)}` is not a comparison of level two", node, "use < <= == != >= >"
        )
    word, relation = COMPARISONS[type(op)]
    a, b = parts
    if isinstance(a, Index) and isinstance(b, Index):
        return Compare(relation, a, b)
    return pointwise(k, word, parts, nodes, node)


def _choice(k: State, node: ast.IfExp) -> Operand:
    test, a, b = condition(k, node.test), evaluate(k, node.body), evaluate(k, node.orelse)
    if isinstance(a, Index) and isinstance(b, Index):
        return select(test, a, b)
    hint = "write `where(condition, a, b)` for fragments, or an `if`"
    raise fault("not-a-value", f"`{source_text(node)}` chooses between {describe(a)} and {describe(b)}", node, hint)


# Attributes and subscripts -----------------------------------------------------------------------------


def _attribute(k: State, node: ast.Attribute) -> Operand:
    if node.attr != "T":
        hint = "the only attribute is `.T`; everything else is a word"
        raise fault("attribute", f"`.{node.attr}` is not in the language", node, hint)
    return permute(k, evaluate(k, node.value), (1, 0), node)


def permute(k: State, x: Operand, axes: tuple[int, ...], node: ast.expr) -> Operand:
    """Axis j of the result is axis `axes[j]` of a fragment, stage or view."""
    rank = _rank(k, x)
    if rank is None or sorted(axes) != list(range(rank)):
        what = f"{describe(x)} of rank {rank}" if rank is not None else describe(x)
        raise fault(
            "transpose-rank", f"{shape_text(axes)} is no order of the axes of {what}", node, "name each axis once"
        )
    if isinstance(x, dev.Fragment):
        return k.emit(dev.Reindex("permute", (x,), axes), node, {})
    if isinstance(x, dev.Shared):
        return dev.Shared(x.buffer, x.stage, tuple(x.axes[a] for a in axes))
    assert isinstance(x, ir.View)
    return views.permuted(x, axes)


def _rank(k: State, x: Operand) -> int | None:
    match x:
        case dev.Fragment(shape=shape):
            return len(shape)
        case dev.Shared(axes=axes) | ir.View(axes=axes):
            return len(axes)
        case _:
            return None


def _subscript(k: State, node: ast.Subscript) -> Operand:
    x = evaluate(k, node.value)
    match x:
        case dev.Shared():
            return dev.Shared(x.buffer, _stage(k, node), x.axes)
        case Phased():
            return Phased(x.barrier, _stage(k, node))
        case ir.View():
            return _view_subscript(k, x, node)
        case dev.Fragment():
            return _fragment_subscript(k, x, node)
    raise fault(
        "subscript", f"`{source_text(node.value)}` is {describe(x)}", node, "arrays, buffers and fragments only"
    )


def _stage(k: State, node: ast.Subscript) -> Index:
    stage = evaluate(k, node.slice)
    if not isinstance(stage, Index):
        hint = "one index integer: the stage, e.g. `(k // 64) % 3`"
        raise fault("stage", f"`{source_text(node.slice)}` is {describe(stage)}, not a stage", node.slice, hint)
    return stage


def _view_subscript(k: State, x: ir.View, node: ast.Subscript) -> Operand:
    """Leading integers; all axes of a float array leave a view of rank 0, of an integer array its element."""
    entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    whole = len(entries) == len(x.axes) and not any(isinstance(e, ast.Slice) for e in entries)
    if whole and not dtypes.is_integer(x.dtype):
        return leading_rows(x, tuple(index_of(k, e) for e in entries))
    return views.subscript(k.base, x, node, lambda _, e: index_of(k, e))  # type: ignore[return-value]


def _fragment_subscript(k: State, x: dev.Fragment, node: ast.Subscript) -> Operand:
    """`x[:, None]` adds axes, `x[:, 0]` takes a constant of the last one."""
    entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    new = tuple(n for n, e in enumerate(entries) if isinstance(e, ast.Constant) and e.value is None)
    kept = [e for e in entries if isinstance(e, ast.Slice) and e.lower is None and e.upper is None]
    if new and len(kept) == len(x.shape) == len(entries) - len(new):
        return k.emit(dev.Reindex("expand", (x,), new), node, {})
    if not new and len(entries) == len(x.shape) == len(kept) + 1 and entries[-1] not in kept:
        return k.emit(dev.Reindex("take", (x,), (integer(k, entries[-1]),)), node, {"position": entries[-1]})
    hint = "write `x[:, None]` for a new axis, or `x[:, 0]` for a constant of the last axis"
    raise fault("tile-index", f"`{source_text(node)}` of {describe(x)}", node, hint)


# Arguments of a kind -------------------------------------------------------------------------------------


def index_of(k: State, node: ast.expr) -> Index:
    found = evaluate(k, node)
    if not isinstance(found, Index):
        hint = "use dims, integer scalars, loop variables, literals, or elements of integer In arrays"
        raise fault("position-not-index", f"`{source_text(node)}` is {describe(found)}", node, hint)
    return found


def indices_of(k: State, node: ast.expr) -> tuple[Index, ...]:
    return tuple(index_of(k, e) for e in node.elts) if isinstance(node, ast.Tuple) else (index_of(k, node),)


def integer(k: State, node: ast.expr) -> int:
    found = evaluate(k, node)
    if not isinstance(found, Index) or found.constant is None:
        hint = "write an integer"
        raise fault("not-a-literal", f"`{source_text(node)}` is {describe(found)}, not a literal integer", node, hint)
    return found.constant


def integers(k: State, node: ast.expr) -> tuple[int, ...]:
    if not isinstance(node, ast.Tuple):
        raise fault("not-a-literal", f"`{source_text(node)}` is not a tuple of integers", node, "write `(a, b)`")
    return tuple(integer(k, e) for e in node.elts)


def _call(k: State, node: ast.Call) -> Operand:
    from kernelagent.dsl.level2.calls import call

    return call(k, node)


def misplaced(node: ast.expr, name: str, hint: str) -> Fault:
    return fault("misplaced-word", f"`{name}` cannot stand here", node, hint)


_EXPRESSIONS: dict[type[ast.expr], Callable[[State, Any], Operand]] = {
    ast.Constant: _constant, ast.Name: _name, ast.Tuple: _tuple, ast.BinOp: _binary, ast.UnaryOp: _unary,
    ast.BoolOp: _boolean, ast.Compare: _compare, ast.IfExp: _choice, ast.Attribute: _attribute,
    ast.Subscript: _subscript, ast.Call: _call,
}  # fmt: skip

__all__ = [
    "Poison",
    "as_fragment",
    "condition",
    "describe",
    "evaluate",
    "index_of",
    "indices_of",
    "integer",
    "integers",
]
