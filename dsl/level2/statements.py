"""Statements of level two: assignments, effects, loops with carried names, `if` with joined names, the grid."""

from __future__ import annotations

import ast
from collections.abc import Container, Iterable
from dataclasses import replace
from typing import Any, cast

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.context import Silent
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.elaborate.operands import Bound, Poison, source_text
from kernelagent.dsl.elaborate.statements import assigned_names
from kernelagent.dsl.elaborate.words import WORDS
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.level2.calls import EFFECTS, Matched, match
from kernelagent.dsl.level2.effects import check_grid
from kernelagent.dsl.level2.expressions import CONDITIONS, describe, evaluate, indices_of
from kernelagent.dsl.level2.rules import type_of
from kernelagent.dsl.level2.state import Ended, Operand, Phased, State, placed
from kernelagent.dsl.level2.words import WORDS2
from kernelagent.dsl.raster import RASTERS
from kernelagent.dsl.syntax import fault, span_of

Names = dict[str, "Operand | Ended"]


def run_block(k: State, body: Iterable[ast.stmt]) -> None:
    """Parse statements one after another; a faulty one poisons the names it would have bound."""
    for node in body:
        before, complete = len(k.block), False
        with k.recovering():
            run_statement(k, node)
            complete = True
        if not complete:
            del k.block[before:]
            for name in assigned_names([node]):
                k.names[name] = Poison()


def run_statement(k: State, node: ast.stmt) -> None:
    match node:
        case ast.Assign(targets=[target], value=value):
            _bind_target(k, target, evaluate(k, value), value)
        case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
            whole = ast.copy_location(ast.BinOp(_read(target), op, value), node)
            _bind_target(k, target, evaluate(k, whole), value)
        case ast.Expr(value=ast.Call() as call):
            _effect(k, call)
        case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
            pass
        case ast.For():
            _for(k, node)
        case ast.If():
            _if(k, node)
        case _:
            text = source_text(node).splitlines()[0]
            raise fault("statement", f"`{text}` is not a statement of level two", node, "delete it")


def _read(name: ast.Name) -> ast.Name:
    return ast.copy_location(ast.Name(name.id, ast.Load()), name)


def _bind_target(k: State, target: ast.expr, operand: Operand, value: ast.expr) -> None:
    if isinstance(target, ast.Tuple):
        if not isinstance(operand, tuple) or len(operand) != len(target.elts):
            got = f"{len(operand)} values" if isinstance(operand, tuple) else "one value"
            raise fault("unpack", f"{len(target.elts)} names are bound to {got}", target, "one value for each name")
        for part, one in zip(target.elts, operand, strict=True):
            _bind_target(k, part, one, value)
        return
    assert isinstance(target, ast.Name)  # `syntax` lets nothing else through
    check_bindable(k, target)
    if isinstance(operand, (Distribution, dev.Shared, Phased)):
        hint = "distributions, buffers and barriers are declared at the top; statements name them in place"
        raise fault("not-a-value", f"`{source_text(value)}` is {describe(operand)}", value, hint)
    k.names[target.id] = k.named(operand, target.id) if isinstance(operand, dev.Fragment) else operand


def check_bindable(k: State, target: ast.Name, words: Container[str] = WORDS2) -> None:
    """Refuse words, parameters, buffers, distributions and loop variables. Loop variables of level one may have names
    that are words of level two only."""
    name = target.id
    if name in words or is_reserved(name):
        raise fault("reserved-word", f"`{name}` is a word of the language", target, f"rename it, e.g. `{name}_`")
    owner = k.names.get(name)
    if isinstance(k.base.names.get(name), Bound) or isinstance(owner, (dev.Shared, Phased, Distribution)):
        raise fault(
            "rebind-parameter", f"`{name}` is declared above and cannot be rebound", target, "choose another name"
        )
    if isinstance(owner, Index) and any(s.kind == "loop" and s.name == name for s in owner.symbols()):
        raise fault("rebind-loop-variable", f"`{name}` is a loop variable", target, "choose another name")


def _effect(k: State, node: ast.Call) -> None:
    call = match(k, node)
    if call.word.name in EFFECTS:
        EFFECTS[call.word.name](call)
        return
    if call.word.where == "expression":
        hint = "bind it to a name, store it, or delete the line"
        raise fault("unused-value", f"the value of `{source_text(node)}` is dropped", node, hint)
    raise fault(
        "misplaced-word", f"`{call.word.name}` cannot stand here", node, "see where the word stands in the guide"
    )


# Loops -----------------------------------------------------------------------------------------------


def _for(k: State, node: ast.For) -> None:
    call = loop_call(k, node, "range")
    parts = [indices_of(k, call.nodes[p]) for p in ("lo", "hi", "step")]
    lo, hi, step = parts
    variables = loop_variables(k, node, call, parts)
    carried = _carried_names(k, node)
    initial = {name: cast(dev.Fragment, k.names[name]) for name in carried}
    own = {v.name for v in variables}  # an earlier loop may have had the same
    outer = {name: x for name, x in k.names.items() if name not in own}
    inside = {name: _again(k, x, name, node) for name, x in initial.items()}
    k.names |= {**inside, **{v.name: index(v) for v in variables}}
    with k.nested_block() as block:
        run_block(k, node.body)
    ends = {name: _end(k, name, initial[name], node) for name in carried}
    _refuse_static(k, node, outer, carried)
    after = {n: Ended(f"ended with the loop at line {node.lineno}") for n in k.names if n not in outer}
    k.names = {**after, **outer}
    results = {name: _again(k, x, name, node) for name, x in initial.items()}
    k.names |= results
    joined = tuple(dev.Carried(initial[n], inside[n], ends[n], results[n]) for n in carried)
    unroll = call.count("unroll", 1)
    loop = dev.For(variables, lo, hi, step, joined, tuple(block), origin(node.iter), unroll, counter_of(k, call))
    k.effect(loop, node.iter, call.nodes)


def loop_call(k: State, node: ast.For, word: str) -> Matched:
    """The matched `range(...)` or `tiles(...)` behind `in`."""
    if not isinstance(node.iter, ast.Call):
        raise fault("for-iter", f"`{source_text(node.iter)}` is no loop", node.iter, f"write `{WORDS2[word].usage}`")
    call = match(k, node.iter)
    if call.word.name != word:
        hint = (
            "`tiles` is the outermost loop, `range` every other"
            if call.word.where == "loop"
            else f"write `{word}(...)`"
        )
        raise fault("for-iter", f"`{call.word.name}` cannot stand behind `in` here", node.iter, hint)
    return call


def counter_of(k: State, call: Matched) -> Symbol | None:
    """The name behind `count=`, which the role knows from its beginning."""
    node = call.nodes.get("count")
    if node is None:
        return None
    if not isinstance(node, ast.Name):
        raise fault("counter", f"`{source_text(node)}` is not a name", node, "write a new name: `count=k_count`")
    if not k.machine.role:
        hint = "put the grid into a role: `with role(...):`"
        raise fault("counter", f"`{node.id}` counts over the life of a role, but there is none", node, hint)
    return Symbol(node.id, "loop")


def loop_variables(k: State, node: ast.For, call: Matched, parts: list[tuple[Index, ...]]) -> tuple[Symbol, ...]:
    targets = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
    if any(len(p) != len(targets) for p in parts):
        counts = ", ".join(str(len(p)) for p in parts)
        message = f"{len(targets)} variables, but the bounds have {counts} entries"
        raise fault("loop-rank", message, call.node, "give one entry for each variable", variables=len(targets))
    found: list[Symbol] = []
    for target in targets:
        if not isinstance(target, ast.Name):
            raise fault("loop-target", f"`{source_text(target)}` is not a name", target, "write `for i, j in ...`")
        check_bindable(k, target, WORDS)
        if not isinstance(k.names.get(target.id, Ended("")), Ended) or target.id in [s.name for s in found]:
            raise fault("duplicate-name", f"`{target.id}` is bound already", target, "rename the loop variable")
        found.append(Symbol(target.id, "loop"))
    return tuple(found)


def _carried_names(k: State, node: ast.For) -> list[str]:
    """Fragments bound in front of the loop that its body rebinds, sorted."""
    return sorted(n for n in assigned_names(node.body) if isinstance(k.names.get(n), dev.Fragment))


def _again(k: State, x: dev.Fragment, name: str, node: ast.For) -> dev.Fragment:
    return k.fresh(name, type_of(x), origin(node.iter))


def _end(k: State, name: str, initial: dev.Fragment, node: ast.For) -> dev.Fragment:
    found = k.names[name]
    if isinstance(found, dev.Fragment):
        return found
    if isinstance(found, Poison):
        raise Silent
    what = found.reason if isinstance(found, Ended) else describe(found)
    message = f"`{name}` is {type_of(initial)} in front of the loop and {what} at its end"
    raise fault("carried-type", message, node.iter, "a carried name keeps its dtype, shape and distribution")


def _refuse_static(k: State, node: ast.For, outer: Names, carried: list[str]) -> None:
    for name, before in outer.items():
        if name not in carried and k.names.get(name) != before:
            message = f"`{name}` is no fragment, so the loop cannot carry it from one iteration to the next"
            hint = "compute it from the loop variable, or use another name inside"
            raise fault("carried-type", message, assigned_names(node.body).get(name, node.iter), hint)


# If --------------------------------------------------------------------------------------------------


def _if(k: State, node: ast.If) -> None:
    test = evaluate(k, node.test)
    if not isinstance(test, (dev.Fragment, *CONDITIONS)):
        raise fault("not-a-condition", f"`{source_text(node.test)}` is {describe(test)}", node.test, "compare: `i < N`")
    before = k.names
    arms = []
    for body in (node.body, node.orelse):
        k.names = dict(before)
        with k.nested_block() as block:
            run_block(k, body)
        arms.append((tuple(block), k.names))
    (then, then_names), (otherwise, else_names) = arms
    merged = _join_names(k, node, then_names, else_names)
    condition = cast(Any, test)
    branch = dev.If(condition, then, otherwise, tuple(merged), origin(node.test))
    k.effect(branch, node.test, {"condition": node.test})


def _join_names(k: State, node: ast.If, then: Names, otherwise: Names) -> list[dev.Merged]:
    k.names, merged = {}, []
    for name in sorted({*then, *otherwise}):
        a, b = then.get(name), otherwise.get(name)
        if a is not None and a == b:
            k.names[name] = a
        elif isinstance(a, dev.Fragment) and isinstance(b, dev.Fragment) and type_of(a) == type_of(b):
            result = k.fresh(name, type_of(a), origin(node.test))
            merged.append(dev.Merged(a, b, result))
            k.names[name] = result
        elif isinstance(a, Poison) or isinstance(b, Poison):
            k.names[name] = Poison()
        else:
            both = isinstance(a, dev.Fragment) and isinstance(b, dev.Fragment)
            what = "has another type in each arm of" if both else "is bound in only one arm of"
            k.names[name] = Ended(f"{what} the `if` at line {node.lineno}")
    return merged


# Grid ------------------------------------------------------------------------------------------------


def run_grid(k: State, node: ast.For) -> dev.Grid:
    """`for i, j in tiles(...)`, whose body may end in one inner `tiles` loop."""
    call = loop_call(k, node, "tiles")
    hi, step = indices_of(k, call.nodes["extents"]), indices_of(k, call.nodes["sizes"])
    lo = indices_of(k, call.nodes["start"]) if "start" in call.nodes else (index(0),) * len(hi)
    variables = loop_variables(k, node, call, [lo, hi, step])
    k.names |= {v.name: index(v) for v in variables}
    *body, last = node.body
    nested = isinstance(last, ast.For) and isinstance(last.iter, ast.Call) and _is_tiles(last.iter)
    with k.nested_block() as block:
        run_block(k, body if nested else node.body)
    inner = run_grid(k, last) if nested and isinstance(last, ast.For) else None
    raster = call.name("raster") if "raster" in call.nodes else "row"
    if raster not in RASTERS:
        message = f"`raster={raster}` is no order of tiles"
        raise fault("grid", message, call.nodes["raster"], f"write raster={' or '.join(RASTERS)}")
    grid = dev.Grid(
        variables, lo, hi, step, tuple(block), origin(node.iter), cast(Any, raster), call.count("group", 8),
        call.flag("persistent"), inner, counter_of(k, call), (1, 1) if inner else k.machine.together,
    )  # fmt: skip
    with placed(node.iter, {**call.nodes, "step": call.nodes["sizes"]}):
        check_grid(grid)
    return grid


def _is_tiles(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "tiles"


# Roles -----------------------------------------------------------------------------------------------


def run_prologue(k: State, body: Iterable[ast.stmt]) -> tuple[dev.Statement, ...]:
    """What all threads do in front of the roles; its values end there."""
    outer = dict(k.names)
    with k.nested_block() as block:
        run_block(k, body)
    k.names = {n: outer.get(n, Ended("belongs to the statements in front of the roles")) for n in k.names}
    return tuple(block)


def run_role(k: State, node: ast.With, head: dev.Role) -> dev.Role:
    """The grid of the role, then what it does behind its last tile."""
    machine, names = k.machine, dict(k.names)
    first, *rest = node.body
    if not isinstance(first, ast.For):
        hint = "begin the role with `for i, j in tiles(...):`, as the others do"
        raise fault("no-tiles", f"the role `{head.name}` does not begin with its grid", first, hint)
    k.machine = machine.of_role(head)
    try:
        _name_counters(k, node)
        grid = run_grid(k, first)
        k.names = dict(names)
        with k.nested_block() as block:
            run_block(k, rest)
    finally:
        k.machine, k.names = machine, names
    return replace(head, grid=grid, after=tuple(block))


def _name_counters(k: State, role: ast.With) -> None:
    """Names behind `count=` are index integers everywhere in the role's tiles."""
    calls = [n for n in ast.walk(role) if isinstance(n, ast.Call)]
    named = [w.value for c in calls for w in c.keywords if w.arg == "count" and isinstance(w.value, ast.Name)]
    for name, node in {n.id: n for n in named}.items():
        check_bindable(k, node)
        k.names[name] = index(Symbol(name, "loop"))


def origin(node: ast.AST) -> ir.Origin:
    return ir.Origin(span_of(node))


__all__ = ["check_bindable", "run_block", "run_grid", "run_prologue", "run_role"]
