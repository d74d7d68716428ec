"""Expressions: one function a construct, from syntax to operands."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate import tilewords, views
from kernelagent.dsl.elaborate.arithmetic import (
    OPERATORS,
    as_value,
    binary,
    compare,
    conjunction,
    disjunction,
    invert,
    need_value,
    power,
    unary,
)
from kernelagent.dsl.elaborate.context import MAX_INLINE_DEPTH, Context, Silent
from kernelagent.dsl.elaborate.habits import is_reserved, unknown_attribute
from kernelagent.dsl.elaborate.operands import (
    Absent,
    DTypeName,
    Number,
    Operand,
    Poison,
    Runtime,
    Word,
    as_condition,
    describe,
    is_condition,
    source_text,
    type_text,
)
from kernelagent.dsl.elaborate.words import HANDLERS, WORDS, Call, match_arguments
from kernelagent.dsl.index import FALSE, TRUE, Index, decide, index, select
from kernelagent.dsl.syntax import Fault, fault, span_of


def evaluate(k: Context, node: ast.expr) -> Operand:
    """What an expression means here. Raises Fault, or Silent where something was reported before."""
    if isinstance(node, ast.Slice):
        hint = "slices stand in subscripts of arrays: `x[lo:hi]`"
        raise fault("slice-place", f"the slice `{source_text(node)}` cannot stand here", node, hint)
    result = _EXPRESSIONS[type(node)](k, node)  # complete for what the allow-list of `syntax` lets through
    if isinstance(result, Poison):
        raise Silent
    return result


def _constant(k: Context, node: ast.Constant) -> Operand:
    match node.value:
        case bool(value):
            return TRUE if value else FALSE
        case int(value):
            return index(value)
        case float(value):
            return Number(value)
        case None:
            return Absent("None")
    raise fault("string", "strings are not in the language", node, "delete it; infinity is `inf`")


def _name(k: Context, node: ast.Name) -> Operand:
    name = node.id
    if name in k.names:
        found = k.lookup(node)
        return k.emit(ir.ScalarParam(found.name), found.dtype, (), node) if isinstance(found, Runtime) else found
    if name in ("inf", "nan"):
        return Number(float(name))
    if name in dtypes.DTYPES:
        return DTypeName(name)
    if is_reserved(name):
        return Word(name)
    if name in k.source.functions:
        raise fault("function-as-value", f"`{name}` is a function", node, f"call it: `{name}(...)`")
    return k.lookup(node)


def _tuple(k: Context, node: ast.Tuple) -> Operand:
    return tuple(evaluate(k, e) for e in node.elts)


def _binary(k: Context, node: ast.BinOp) -> Operand:
    left, right = evaluate(k, node.left), evaluate(k, node.right)
    for operand, at in ((left, node.left), (right, node.right)):
        _refuse_as_number(operand, at)
    if isinstance(node.op, ast.Pow):
        return power(k, left, right, node)
    return binary(k, OPERATORS[type(node.op)], left, right, node)


def _refuse_as_number(operand: Operand, node: ast.expr) -> None:
    if isinstance(operand, DTypeName | Word | Absent | tuple):
        hint = "use a tile, a number or a condition"
        raise fault("not-a-value", f"`{source_text(node)}` is {describe(operand)}", node, hint)


def _unary(k: Context, node: ast.UnaryOp) -> Operand:
    x = evaluate(k, node.operand)
    _refuse_as_number(x, node.operand)
    if isinstance(node.op, ast.Not | ast.Invert):
        return invert(k, x, node, scalar=isinstance(node.op, ast.Not))
    if isinstance(node.op, ast.UAdd):
        return x
    return unary(k, "neg", x, node, node.operand)


def _boolean(k: Context, node: ast.BoolOp) -> Operand:
    parts = [scalar_condition(k, v) for v in node.values]
    conditions = [c for p in parts if (c := as_condition(p)) is not None]
    joined = conjunction if isinstance(node.op, ast.And) else disjunction
    if len(conditions) == len(parts):
        return joined(conditions)
    word: ir.BinaryWord = "and" if isinstance(node.op, ast.And) else "or"
    result, *others = (as_value(k, p, "bool", n) for p, n in zip(parts, node.values, strict=True))
    for other in others:
        result = k.emit(ir.Binary(word, result, other), "bool", (), node)
    return result


def scalar_condition(k: Context, node: ast.expr) -> Operand:
    """A condition on index integers, or a rank-0 bool value. Faults: tile-as-condition."""
    found = evaluate(k, node)
    if is_condition(found):
        return found
    if isinstance(found, ir.Value):
        if found.type.shape:
            hint = "an `if` takes one scalar: use `where(mask, a, b)`, or `any(mask)` / `all(mask)`"
            message = f"`{source_text(node)}` is {type_text(found.type)}, not one condition"
            raise fault("tile-as-condition", message, node, hint, shape=type_text(found.type))
        if found.type.dtype == "bool":
            return found
    hint = "compare: `x > 0`; or use a bool"
    raise fault("not-a-condition", f"`{source_text(node)}` is {describe(found)}, not a condition", node, hint)


def _compare(k: Context, node: ast.Compare) -> Operand:
    operands = [evaluate(k, e) for e in (node.left, *node.comparators)]
    nodes = [node.left, *node.comparators]
    results = []
    for n, op in enumerate(node.ops):
        at = ast.copy_location(ast.Compare(nodes[n], [op], [nodes[n + 1]]), node)
        results.append(_compare_pair(k, op, operands[n], operands[n + 1], at))
    if len(results) == 1:
        return results[0]
    conditions = [c for r in results if (c := as_condition(r)) is not None]
    if len(conditions) == len(results):
        return conjunction(conditions)
    hint = "write two comparisons joined by `&`"
    raise fault("chained-comparison", f"`{source_text(node)}` chains comparisons of tiles", node, hint)


def _compare_pair(k: Context, op: ast.cmpop, a: Operand, b: Operand, node: ast.Compare) -> Operand:
    if isinstance(op, ast.Is | ast.IsNot):
        return _is_none(op, a, b, node)
    if isinstance(op, ast.In | ast.NotIn):
        return _membership(k, op, a, b, node)
    for operand, at in ((a, node.left), (b, node.comparators[0])):
        _refuse_as_number(operand, at)
    return compare(k, op, a, b, node)


def _is_none(op: ast.cmpop, a: Operand, b: Operand, node: ast.Compare) -> Operand:
    if not (isinstance(b, Absent) and b.name == "None" and isinstance(a, Absent | ir.View)):
        hint = "`is` only asks for optional arrays: `if res is not None:`"
        raise fault("is-none", f"`{source_text(node)}` is not a question the language answers", node, hint)
    return TRUE if isinstance(a, Absent) == isinstance(op, ast.Is) else FALSE


def _membership(k: Context, op: ast.cmpop, a: Operand, b: Operand, node: ast.Compare) -> Operand:
    if not isinstance(a, Index) or not isinstance(b, tuple) or not all(isinstance(x, Index) for x in b):
        hint = "write `D in (64, 128)`"
        raise fault("membership", f"`{source_text(node)}`: an index integer in a tuple of integers", node, hint)
    parts = [as_condition(compare(k, ast.Eq(), a, x, node)) for x in b]
    found = disjunction([p for p in parts if p is not None])
    return found if isinstance(op, ast.In) else invert(k, found, node, scalar=True)


def _choice(k: Context, node: ast.IfExp) -> Operand:
    condition = scalar_condition(k, node.test)
    known = as_condition(condition)
    if known is not None and decide(known) is not None:
        return evaluate(k, node.body if decide(known) else node.orelse)
    a, b = evaluate(k, node.body), evaluate(k, node.orelse)
    if known is not None and isinstance(a, Index) and isinstance(b, Index):
        return select(known, a, b)
    return tilewords.choose(k, condition, node.test, a, b, node)


def _attribute(k: Context, node: ast.Attribute) -> Operand:
    if node.attr != "T":
        raise unknown_attribute(node)
    x = evaluate(k, node.value)
    if isinstance(x, ir.View):
        return views.transposed(k, x, node)
    value = need_value(x, node.value, ".T")
    if value.type.rank != 2:
        hint = "write `permute(x, axes)`"
        raise fault("transpose-rank", f"`.T` needs rank 2, not {type_text(value.type)}", node, hint)
    return tilewords.permute_value(k, value, (1, 0), node)


def _subscript(k: Context, node: ast.Subscript) -> Operand:
    x = evaluate(k, node.value)
    if isinstance(x, ir.View):
        return views.subscript(k, x, node, evaluate)
    if isinstance(x, ir.Value):
        return tilewords.subscript_tile(k, x, node, evaluate)
    hint = "arrays and tiles have subscripts; unpack a tuple by assignment: `a, b = t`"
    raise fault("subscript", f"`{source_text(node.value)}` is {describe(x)} and has no subscripts", node, hint)


# Calls -------------------------------------------------------------------------------------------


def _call(k: Context, node: ast.Call) -> Operand:
    if isinstance(node.func, ast.Attribute):
        raise unknown_attribute(node.func)
    if not isinstance(node.func, ast.Name):
        raise fault("call", f"`{source_text(node.func)}` cannot be called", node.func, "call a word by its name")
    name = node.func.id
    function = k.function(name)
    if function is not None and name not in k.names:
        return inline_call(k, node, name)
    word = WORDS.get(name)
    if word is None:
        if name in k.names:
            hint = "names of values cannot be called; load from an array with `load(x, position, shape)`"
            raise fault("call", f"`{name}` is {describe(k.lookup(node.func))}", node.func, hint)
        raise k.unknown(node.func)
    if word.where != "expression":
        raise _misplaced(word.name, node)
    return word_call(k, node)


def _misplaced(name: str, node: ast.Call) -> Exception:
    places = {
        "statement": "it gives no value: write it on a line of its own",
        "loop": f"write `for i in {name}(...):`",
        "header": "write it on a line of its own at the top of the kernel",
        "program": "it stands in a `@program` only: `t = temp(f32, (M, N))`",
    }
    hint = places[WORDS[name].where] if name != "choices" else "it is the default of a tunable: `BM=choices(32, 64)`"
    return fault("misplaced-word", f"`{name}` cannot stand here", node, hint)


def word_call(k: Context, node: ast.Call) -> Operand:
    """Match, evaluate and hand over to the word's function."""
    assert isinstance(node.func, ast.Name)
    word = WORDS[node.func.id]
    matched, rest = match_arguments(word, node)
    operands = {name: evaluate(k, argument) for name, argument in matched.items()}
    call = Call(word, node, matched, operands, tuple(evaluate(k, r) for r in rest), tuple(rest))
    return HANDLERS[word.name](k, call)


def inline_call(k: Context, node: ast.Call, name: str) -> Operand:
    """Expand an `@inline` function: it sees its parameters and the top-level constants, nothing else."""
    from kernelagent.dsl.elaborate.statements import run_inline

    function = k.source.functions[name]
    if function.role != "inline":
        hint = "kernels are called from a `@program`; share code with `@inline`"
        raise fault("call-of-kernel", f"`{name}` is a @{function.role} and cannot be called here", node, hint)
    if name in k.inlines or len(k.inlines) >= MAX_INLINE_DEPTH:
        chain = " -> ".join([*k.inlines, name])
        raise fault("inline-recursion", f"@inline functions cannot call themselves: {chain}", node, "write a loop")
    arguments = {p: evaluate(k, a) for p, a in _inline_arguments(function.node, node).items()}
    outer = k.names, k.calls, k.inlines
    k.calls, k.inlines = (*k.calls, span_of(node)), (*k.inlines, name)
    k.names = {}
    try:
        for parameter in function.node.args.args:
            if is_reserved(parameter.arg):
                hint = "rename the parameter"
                raise fault("reserved-word", f"`{parameter.arg}` is a word of the language", parameter, hint)
            k.bind(parameter.arg, arguments[parameter.arg], parameter, "parameter")
        return run_inline(k, function.node)
    except Fault as problem:
        raise problem.inside(k.calls) from None
    finally:
        k.names, k.calls, k.inlines = outer


def _inline_arguments(function: ast.FunctionDef, node: ast.Call) -> dict[str, ast.expr]:
    names = [a.arg for a in function.args.args]
    defaults = dict(zip(reversed(names), reversed(function.args.defaults), strict=False))
    given = dict(zip(names, node.args, strict=False))
    usage = f"{function.name}({', '.join(names)})"
    for keyword in node.keywords:
        if keyword.arg not in names or keyword.arg in given:
            raise fault("unknown-keyword", f"`{function.name}` has no free `{keyword.arg}`", keyword, f"write {usage}")
        given[keyword.arg] = keyword.value
    missing = [n for n in names if n not in given and n not in defaults]
    if missing or len(node.args) > len(names):
        count = len(node.args) + len(node.keywords)
        message = f"`{source_text(node)}` has {count} arguments, but it is {usage}"
        raise fault("arity", message, node, f"write {usage}", given=count, expected=usage)
    return {n: given.get(n, defaults.get(n)) for n in names}  # type: ignore[misc]  # one of them is there


_EXPRESSIONS: dict[type[ast.expr], Callable[[Context, Any], Operand]] = {
    ast.Constant: _constant, ast.Name: _name, ast.Tuple: _tuple, ast.BinOp: _binary, ast.UnaryOp: _unary,
    ast.BoolOp: _boolean, ast.Compare: _compare, ast.IfExp: _choice, ast.Attribute: _attribute,
    ast.Subscript: _subscript, ast.Call: _call,
}  # fmt: skip
