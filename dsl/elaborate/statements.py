"""Statements: assignments, effects, `if`, and the expansion of `@inline` bodies. Loops are in `loops`."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.arithmetic import OPERATORS, binary, conjunction, disjunction, negation
from kernelagent.dsl.elaborate.context import Context, Silent
from kernelagent.dsl.elaborate.expressions import evaluate, inline_call, scalar_condition, word_call
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.elaborate.operands import Bound, Ended, Operand, Poison, as_condition, source_text
from kernelagent.dsl.elaborate.words import WORDS
from kernelagent.dsl.index import Condition, Index, decide, select
from kernelagent.dsl.syntax import fault

Names = dict[str, Bound | Ended]


def run_block(k: Context, body: Iterable[ast.stmt]) -> None:
    """Elaborate statements one after another; a faulty one poisons the names it would have bound."""
    for node in body:
        k.count_statement(node)
        before = len(k.block)
        complete = False
        with k.recovering():
            run_statement(k, node)
            complete = True
        if not complete:
            del k.block[before:]
            for name in assigned_names([node]):
                if _may_poison(k, name):
                    k.bind(name, Poison(), node)


def _may_poison(k: Context, name: str) -> bool:
    found = k.names.get(name)
    return not is_reserved(name) and (not isinstance(found, Bound) or found.kind in ("local", "parameter"))


def run_statement(k: Context, node: ast.stmt) -> None:
    from kernelagent.dsl.elaborate.loops import run_for

    match node:
        case ast.Assign():
            _assign(k, node)
        case ast.AugAssign():
            _augmented(k, node)
        case ast.Expr():
            _expression(k, node.value)
        case ast.For():
            run_for(k, node)
        case ast.If():
            _if(k, node)
        case ast.Return():
            where = "an `@inline` function ends with its one `return`; put the rest under an `if`"
            hint = where if k.inlines else "kernels return nothing: `store` the result"
            raise fault("early-return", "`return` cannot stand here", node, hint)
        case ast.Pass():
            pass
        case _:
            raise fault("statement", f"`{source_text(node)}` is not a statement of the language", node, "delete it")


def assigned_names(body: Iterable[ast.stmt]) -> dict[str, ast.stmt]:
    """Every name that the statements assign, at any depth, with the last statement that does (not loop variables)."""
    found: dict[str, ast.stmt] = {}
    for statement in body:
        for node in ast.walk(statement):
            if not isinstance(node, ast.Assign | ast.AugAssign):
                continue
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                found |= dict.fromkeys((n.id for n in ast.walk(target) if isinstance(n, ast.Name)), node)
    return found


# Assignment --------------------------------------------------------------------------------------


def _assign(k: Context, node: ast.Assign) -> None:
    operand = evaluate(k, node.value)
    for target in node.targets:
        _bind_target(k, target, operand, node.value)


def _bind_target(k: Context, target: ast.expr, operand: Operand, value: ast.expr) -> None:
    if isinstance(target, ast.Name):
        check_bindable(k, target.id, target)
        if operand == ():
            hint = "call it on a line of its own"
            raise fault("no-value", f"`{source_text(value)}` gives no value", value, hint)
        if isinstance(operand, ir.Value):
            operand = k.renamed(operand, target.id)
        k.bind(target.id, operand, target)
        return
    assert isinstance(target, ast.Tuple)
    if not isinstance(operand, tuple) or len(operand) != len(target.elts):
        got = f"{len(operand)} values" if isinstance(operand, tuple) else "one value"
        message = f"{len(target.elts)} names are bound to {got}"
        raise fault("unpack", message, target, "give one value for each name", names=len(target.elts))
    for part, one in zip(target.elts, operand, strict=True):
        _bind_target(k, part, one, value)


_OWNED = {
    "array": "assign-to-array", "dim": "rebind-parameter", "tunable": "rebind-parameter",
    "scalar": "rebind-parameter", "const": "rebind-parameter", "dtype": "rebind-parameter",
    "loop variable": "rebind-loop-variable",
}  # fmt: skip


def check_bindable(k: Context, name: str, node: ast.AST) -> None:
    """Refuse to rebind words, parameters, loop variables, and names from outside a `tiles` loop."""
    if is_reserved(name):
        raise fault("reserved-word", f"`{name}` is a word of the language", node, f"rename it, e.g. `{name}_`")
    if name in k.constants or name in k.source.functions:
        message = f"`{name}` is already a name of the top level"
        raise fault("duplicate-name", message, node, "choose another name")
    found = k.names.get(name)
    if not isinstance(found, Bound):
        return
    if found.kind == "array":
        hint = f"write into an output with `store({name}, position, value)`; bind values to other names"
        raise fault("assign-to-array", f"`{name}` is an array parameter and cannot be assigned", node, hint)
    if found.kind in _OWNED:
        message = f"`{name}` is a {found.kind} and cannot be rebound"
        raise fault(_OWNED[found.kind], message, node, "choose another name")
    if any(frame.kind == "tiles" for frame in k.loops[found.loop :]):
        message = f"`{name}` (line {found.span.line}) is rebound inside `tiles`, whose iterations are independent"
        hint = "accumulate with `atomic_add` into an `Acc` array, or use two kernels in a `@program`"
        raise fault("carried-across-tiles", message, node, hint)


def _augmented(k: Context, node: ast.AugAssign) -> None:
    assert isinstance(node.target, ast.Name)
    check_bindable(k, node.target.id, node.target)
    current = ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target)
    if type(node.op) not in OPERATORS:
        raise fault("augmented", f"`{source_text(node)}` is not in the language", node, "write `x = x ...`")
    whole = ast.copy_location(ast.BinOp(current, node.op, node.value), node)
    _bind_target(k, node.target, binary(k, OPERATORS[type(node.op)], *_sides(k, current, node), whole), node.value)


def _sides(k: Context, current: ast.Name, node: ast.AugAssign) -> tuple[Operand, Operand]:
    return evaluate(k, current), evaluate(k, node.value)


# Effects -----------------------------------------------------------------------------------------


def _expression(k: Context, node: ast.expr) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return  # a docstring
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = node.func.id
        if name in WORDS and name not in k.names:
            _word_statement(k, node, name)
            return
        if name in k.source.functions:
            if inline_call(k, node, name) != ():
                raise _dropped(node)
            return
    evaluate(k, node)
    raise _dropped(node)


def _word_statement(k: Context, node: ast.Call, name: str) -> None:
    where = WORDS[name].where
    if where == "statement":
        word_call(k, node)
    elif where == "header":
        hint = "move it to the top of the kernel, before the first assignment or loop"
        raise fault("header-late", f"`{name}` stands behind other statements", node, hint)
    else:
        evaluate(k, node)
        raise _dropped(node)


def _dropped(node: ast.expr) -> Exception:
    hint = "bind it to a name, `store` it, or delete the line"
    return fault("unused-value", f"the value of `{source_text(node)}` is dropped", node, hint)


# If ----------------------------------------------------------------------------------------------


def _if(k: Context, node: ast.If) -> None:
    test = scalar_condition(k, node.test)
    condition = as_condition(test)
    known = decide(condition) if condition is not None else None
    if known is not None:
        run_block(k, node.body if known else node.orelse)
        return
    before = k.names
    arms = [_arm(k, before, body) for body in (node.body, node.orelse)]
    k.names = dict(before)
    decider = condition if condition is not None else test
    assert isinstance(decider, ir.Value) or condition is not None
    (then, then_names), (otherwise, else_names) = arms
    merged = _merge_names(k, node, condition, then_names, else_names)
    k.block.append(ir.If(decider, tuple(then), tuple(otherwise), tuple(merged), k.origin(node)))  # type: ignore[arg-type]


def _arm(k: Context, before: Names, body: list[ast.stmt]) -> tuple[list[ir.Statement], Names]:
    k.names = dict(before)
    with k.nested_block("if") as block:
        run_block(k, body)
        return block, k.names


def _merge_names(
    k: Context, node: ast.If, condition: Condition | None, then: Names, otherwise: Names
) -> Iterator[ir.Merged]:
    for name in dict.fromkeys([*then, *otherwise]):
        a, b = then.get(name), otherwise.get(name)
        if a is b and a is not None:
            continue
        if isinstance(a, Bound) and isinstance(b, Bound):
            merge = _Merge(k, node, condition, name)
            operand = merge.join(a.operand, b.operand)
            yield from merge.merged
            if operand is not None:
                k.names[name] = Bound(operand, "local", a.span, len(k.loops))
                continue
            reason = f"has another type in each arm of the `if` at line {node.lineno}"
        else:
            reason = f"is bound in only one arm of the `if` at line {node.lineno}"
        found = a or b
        assert found is not None
        k.names[name] = Ended(reason, found.span, "bind it alike in both arms, or before the `if`", "ended-with-if")


class _Merge:
    """Joins what a name means in the two arms; collects the values that need a runtime choice."""

    def __init__(self, k: Context, node: ast.If, condition: Condition | None, name: str) -> None:
        self.k, self.node, self.condition, self.name = k, node, condition, name
        self.merged: list[ir.Merged] = []

    def join(self, a: Operand, b: Operand) -> Operand | None:
        if isinstance(a, Poison) or isinstance(b, Poison):
            return Poison()
        if isinstance(a, ir.Value) and isinstance(b, ir.Value):
            return self._values(a, b)
        if a == b:
            return a
        if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
            parts = [self.join(x, y) for x, y in zip(a, b, strict=True)]
            return None if None in parts else tuple(p for p in parts if p is not None)
        if self.condition is None:
            return None
        if isinstance(a, Index) and isinstance(b, Index):
            return select(self.condition, a, b)
        x, y = as_condition(a), as_condition(b)
        if x is not None and y is not None:
            c = self.condition
            return disjunction([conjunction([c, x]), conjunction([negation(c), y])])
        return None

    def _values(self, a: ir.Value, b: ir.Value) -> Operand | None:
        if a.number == b.number:
            return a
        if (a.type.dtype, a.type.shape) != (b.type.dtype, b.type.shape):
            return None
        lives = live.intersect_all([a.type.live, b.type.live], self.k.facts)
        type_ = ir.TileType(a.type.dtype, a.type.shape, lives)
        result = self.k.fresh(type_, self.name, self.k.origin(self.node))
        self.merged.append(ir.Merged(a, b, result))
        return result


# Inline ------------------------------------------------------------------------------------------


def run_inline(k: Context, function: ast.FunctionDef) -> Operand:
    """Elaborate the body in place; the operand of the final `return`, or () without one."""
    *body, last = function.body
    errors = len(k.diagnostics)
    place, k.place = k.place, "inline"
    try:
        if not isinstance(last, ast.Return):
            run_block(k, function.body)
            result: Operand = ()
        else:
            run_block(k, body)
            result = evaluate(k, last.value) if last.value is not None else ()
    finally:
        k.place = place
    if any(d.severity == "error" for d in k.diagnostics[errors:]):
        raise Silent
    return result
