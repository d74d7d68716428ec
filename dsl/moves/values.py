"""Moves on single values: share a load, hoist it, compute a value again instead of keeping it, divide once."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from kernelagent.dsl.moves.loops import stored
from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (
    Edit,
    MoveError,
    Source,
    assignment,
    below,
    blocks,
    bound,
    called,
    calls,
    edited,
    fresh,
    functions,
    loops,
    named,
    read,
    reads,
    target_names,
)


def array_of(load: ast.Call) -> str:
    """The array a load reads: the `x` of `x`, `x[b]`, `x[lo:hi]`."""
    view = load.args[0] if load.args else None
    while isinstance(view, ast.Subscript | ast.Attribute):
        view = view.value
    if not isinstance(view, ast.Name):
        raise MoveError("a load of something that is not a named view")
    return view.id


def _stays(function: ast.FunctionDef, load: ast.Call) -> bool:
    """Is the array only read by this kernel, so that a load may move among the stores?"""
    return array_of(load) not in stored([function])


def _propose_kernels(source: Source) -> Iterator[Arguments]:
    yield from ({"kernel": function.name} for function in functions(source, "kernel"))


COSTLY = ("exp", "exp2", "log", "log2", "tanh", "erf", "sigmoid", "sin", "cos", "sqrt", "rsqrt", "mma")


@move(_propose_kernels)
def share_load(text: str, kernel: str | None = None) -> str:
    """Name a load that occurs twice in one block, and load once.

    Sound because the kernel never stores the array and no name in the load is rebound between: both give one tile.
    """
    return _share(text, ("load",), kernel)


@move(_propose_kernels)
def share_value(text: str, kernel: str | None = None) -> str:
    """Name a costly expression that occurs twice in one block, and compute it once.

    Sound because expressions have no effects and no name in this one is rebound between the two.
    """
    return _share(text, COSTLY, kernel)


def _share(text: str, words: tuple[str, ...], kernel: str | None) -> str:
    source = read(text)
    for function in named(source, kernel):
        for block in blocks(function):
            for group in _repeated(function, block, words):
                return _name_once(source, block, group)
    raise MoveError(f"no block holds the same {' or '.join(words)} twice")


def _repeated(function: ast.FunctionDef, block: list[ast.stmt], words: tuple[str, ...]) -> Iterator[list[ast.Call]]:
    """Equal calls directly in the statements of a block (not in loops inside it), whose names stay bound alike."""
    groups: dict[str, list[tuple[int, ast.Call]]] = {}
    for n, statement in enumerate(block):
        if isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr):
            for call in calls(statement, *words):
                groups.setdefault(ast.dump(call), []).append((n, call))
    for group in groups.values():
        first, last = group[0][0], group[-1][0]
        found = [call for _, call in group]
        kept = not reads(found) & bound(block[first:last])
        if len(group) > 1 and kept and all(_stays(function, load) for load in calls(found[0], "load")):
            yield found


def _name_once(source: Source, block: list[ast.stmt], found: list[ast.Call]) -> str:
    holder = next(s for s in block if any(n is found[0] for n in below(s)))
    assert isinstance(found[0].func, ast.Name)
    stem = f"{array_of(found[0])}_tile" if called(found[0], "load") else f"{found[0].func.id}_value"
    name = fresh(source, stem)
    edits = [source.replace(call, name) for call in found]
    return edited(source.text, [source.before(holder, [f"{name} = {source.segment(found[0])}"]), *edits])


@move(_propose_kernels)
def hoist_load(text: str, kernel: str | None = None) -> str:
    """Load a tile that does not depend on the loop once, before the loop.

    Sound because nothing in the load changes inside the loop and the kernel never stores the array; a load has no
    effect, so doing it before a loop of zero iterations is harmless.
    """
    source = read(text)
    for function in named(source, kernel):
        for loop in loops(function, "pipeline", "range"):
            changing = set(target_names(loop.target)) | bound(loop.body)
            for load in (c for s in loop.body for c in calls(s, "load")):
                if not reads([load]) & changing and _stays(function, load):
                    name = fresh(source, f"{array_of(load)}_tile")
                    edits = [source.replace(c, name) for s in loop.body for c in calls(s, "load") if _same(c, load)]
                    return edited(text, [source.before(loop, [f"{name} = {source.segment(load)}"]), *edits])
    raise MoveError("no load inside a loop is invariant")


def _same(a: ast.AST, b: ast.AST) -> bool:
    return ast.dump(a) == ast.dump(b)


def _propose_names(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for block in blocks(function):
            for statement in block:
                found = assignment(statement)
                if found and not isinstance(found[1], ast.Name | ast.Constant):
                    yield {"name": found[0], "kernel": function.name}


@move(_propose_names)
def recompute(text: str, name: str, kernel: str | None = None) -> str:
    """Write a value out where it is used instead of keeping it: fewer tiles alive, more work.

    Sound because expressions have no effects and, by the check, every name in this one still means the same wherever
    the value is used.
    """
    source = read(text)
    for function in named(source, kernel):
        for block in blocks(function):
            for statement in block:
                found = assignment(statement)
                if found and found[0] == name:
                    return _inlined(source, function, block, statement, found[1])
    raise MoveError(f"{name!r} is not a named value")


def _inlined(
    source: Source, function: ast.FunctionDef, block: list[ast.stmt], statement: ast.stmt, value: ast.expr
) -> str:
    name = target_names(statement.targets[0])[0] if isinstance(statement, ast.Assign) else ""
    later = block[block.index(statement) + 1 :]
    count = Counter(
        n.id for n in below(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store) and n.id == name
    )
    uses = [n for s in later for n in below(s) if isinstance(n, ast.Name) and n.id == name]
    everywhere = [n for n in below(function) if isinstance(n, ast.Name) and n.id == name]
    if count[name] != 1 or not uses or len(everywhere) != len(uses) + 1:
        raise MoveError(f"{name} is bound more than once, or not used below in its block")
    if reads([value]) & bound(later):
        raise MoveError(f"what {name} is made of changes before it is used")
    if not all(_stays(function, load) for load in calls(value, "load")):
        raise MoveError(f"{name} loads an array that the kernel stores")
    inner = source.segment(value)
    plain = isinstance(value, ast.Call | ast.Name | ast.Subscript)
    edits = [source.replace(use, inner if plain else f"({inner})") for use in uses]
    return edited(source.text, [source.remove(statement), *edits])


def _divisions(function: ast.FunctionDef) -> Iterator[tuple[ast.BinOp, str]]:
    """Every `x / y[:, None]` with the name y."""
    for node in below(function):
        if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Div):
            continue
        divisor = node.right
        if isinstance(divisor, ast.Subscript) and isinstance(divisor.value, ast.Name) and _has_new_axis(divisor.slice):
            yield node, divisor.value.id


def _has_new_axis(subscript: ast.expr) -> bool:
    parts = subscript.elts if isinstance(subscript, ast.Tuple) else [subscript]
    return any(isinstance(p, ast.Constant) and p.value is None for p in parts)


@move(_propose_kernels)
def divide_once(text: str, kernel: str | None = None) -> str:
    """Divide once a row and multiply each element, instead of dividing each element.

    Sound because x / y = x * (1 / y); zero, infinity and NaN of y give the same class of result both ways.
    """
    source = read(text)
    for function in named(source, kernel):
        for block in blocks(function):
            for division, name in _divisions(function):
                place = _below_binding(block, division, name)
                if place is not None:
                    return _multiplied(source, place, division, name)
    raise MoveError("no tile is divided by a stretched row value")


def _below_binding(block: list[ast.stmt], division: ast.BinOp, name: str) -> ast.stmt | None:
    """The statement of the block that holds the division, if the block binds the divisor above and not in it."""
    for n, statement in enumerate(block):
        if any(node is division for node in below(statement)):
            known = name in bound(block[:n]) and name not in bound([statement])
            return statement if known else None
    return None


def _multiplied(source: Source, place: ast.stmt, division: ast.BinOp, name: str) -> str:
    inverse = fresh(source, f"{name}_inverse")
    assert isinstance(division.right, ast.Subscript)
    between = Edit(source.end(division.left), source.start(division.right), "")
    gap = source.text[between.start : between.end]
    if gap.count("/") != 1:
        raise MoveError("the division is not written plainly")
    return edited(source.text, [
        source.before(place, [f"{inverse} = 1.0 / {name}"]),
        Edit(between.start, between.end, gap.replace("/", "*")),
        source.replace(division.right.value, inverse),
    ])  # fmt: skip
