"""Random edits of texts of either level, as fine as their syntax: a number, a name, an operator, a condition, a
statement. They know nothing of what a text means, and most leave one that is refused or wrong."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from support.mutation_texts import called

HEADER = frozenset({"schedule", "shape_class", "distribution", "shared", "mbarrier"})
THRESHOLDS = (1, 40, 97, 130, 200, 300, 500)
"""Of conditions and ends: some are beyond the sizes that any proof runs, none beyond those of `soundness`."""
FUNCTIONS = (
    ("maximum", "minimum"), ("max", "min", "sum", "prod"), ("exp", "exp2", "tanh", "sigmoid", "abs"),
    ("store", "atomic_add"), ("copy", "copy_async"), ("barrier", "commit", "fence_async"), ("argmax", "argmin"),
    ("cdiv", "maximum"),
)  # fmt: skip
COMPARISONS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod)
RASTERS = ("row", "column", "grouped", "hilbert")


@dataclass(frozen=True)
class Spot:
    """An expression and how to put another in its place."""

    node: ast.expr
    put: Callable[[ast.expr], None]
    index: bool  # of index integers, as far as the syntax tells
    keyword: str = ""


def edited(text: str, source: random.Random, number: int) -> tuple[str, list[str]]:
    """The text after so many edits, with their names. The signature stays."""
    tree = ast.parse(text)
    function = next(n for n in reversed(tree.body) if isinstance(n, ast.FunctionDef))
    done: list[str] = []
    while len(done) < number:
        edit = source.choice(EDITS)
        if said := edit(function, source):
            done.append(f"{edit.__name__} {said}")
    return ast.unparse(ast.fix_missing_locations(tree)) + "\n", done


# Expressions --------------------------------------------------------------------------------------------


def spots(function: ast.FunctionDef) -> list[Spot]:
    return [spot for statement in function.body for spot in _inside(statement, False)]


def _inside(node: ast.AST, index: bool, keyword: str = "") -> Iterator[Spot]:
    word = called(node)
    for name, value in ast.iter_fields(node):
        if name in ("func", "ctx", "op", "ops", "targets", "target"):
            continue
        inner = index or isinstance(node, ast.Tuple | ast.Slice) or name in ("slice", "test")
        inner = inner or word in ("wait", "range", "tiles", "wait_group", "coords", "number", "pipeline", "full")
        for k, part in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(part, ast.keyword):
                yield from _inside(part, inner, part.arg or "")
            elif isinstance(part, ast.expr):
                yield Spot(part, _putter(node, name, k if isinstance(value, list) else None), inner, keyword)
                yield from _inside(part, inner, keyword)
            elif isinstance(part, ast.AST):
                yield from _inside(part, False)


def _putter(node: ast.AST, name: str, k: int | None) -> Callable[[ast.expr], None]:
    def put(new: ast.expr) -> None:
        if k is None:
            setattr(node, name, new)
        else:
            getattr(node, name)[k] = new

    return put


def _pick(function: ast.FunctionDef, source: random.Random, fits: Callable[[Spot], bool]) -> Spot | None:
    found = [s for s in spots(function) if fits(s)]
    return source.choice(found) if found else None


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _replaced(spot: Spot, new: ast.expr) -> str:
    said = f"{ast.unparse(spot.node)} -> {ast.unparse(new)}"
    spot.put(new)
    return said


def integer(function: ast.FunctionDef, source: random.Random) -> str:
    """Another number."""
    spot = _pick(function, source, lambda s: isinstance(s.node, ast.Constant) and type(s.node.value) is int)
    if spot is None or not isinstance(spot.node, ast.Constant) or not isinstance(spot.node.value, int):
        return ""
    n = spot.node.value
    others = {n + 1, n - 1, n * 2, n // 2, n + 8, n + 16, n - 8, n + 128, 0, 1, 2, n + 1024} - {n}
    return _replaced(spot, ast.Constant(source.choice(sorted(others))))


def number(function: ast.FunctionDef, source: random.Random) -> str:
    spot = _pick(function, source, lambda s: isinstance(s.node, ast.Constant) and isinstance(s.node.value, float))
    return _replaced(spot, _expression(source.choice(("0.0", "1.0", "-1.0", "2.0", "-inf")))) if spot else ""


def name(function: ast.FunctionDef, source: random.Random) -> str:
    """Another name that occurs in the text in such a place."""
    every = [s for s in spots(function) if isinstance(s.node, ast.Name)]
    if not every:
        return ""
    spot = source.choice(every)
    known = sorted({ast.unparse(s.node) for s in every if s.index == spot.index} - {ast.unparse(spot.node)})
    return _replaced(spot, ast.Name(source.choice(known))) if known else ""


def operator(function: ast.FunctionDef, source: random.Random) -> str:
    spot = _pick(function, source, lambda s: isinstance(s.node, ast.BinOp | ast.Compare | ast.BoolOp))
    match spot:
        case Spot(ast.BinOp() as node):
            before = ast.unparse(node)
            node.op = source.choice(ARITHMETIC)()
        case Spot(ast.Compare() as node):
            before = ast.unparse(node)
            node.ops = [source.choice(COMPARISONS)()]
        case Spot(ast.BoolOp() as node):
            before = ast.unparse(node)
            node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        case _:
            return ""
    return f"{before} -> {ast.unparse(node)}" if ast.unparse(node) != before else ""


def moved(function: ast.FunctionDef, source: random.Random) -> str:
    """An index expression becomes one that is near it, or equal at small numbers."""
    spot = _pick(function, source, lambda s: s.index and not s.keyword and isinstance(s.node, ast.Name | ast.BinOp))
    if spot is None:
        return ""
    x, t = ast.unparse(spot.node), source.choice(THRESHOLDS)
    forms = (
        f"{x} + {source.choice((1, 2, 8, 16, 32, 64))}", f"{x} - {source.choice((1, 8, 16))}", f"minimum({x}, {t})",
        f"({x}) % {t}", f"maximum({x}, {source.choice((0, 1, 8))})", f"{x} + ({x}) // {t}", f"({x}) // 8 * 8",
        f"({x}) // 16 * 16", f"({x}) * 2 // 2", f"({x}) + {x} - {x}", f"({x}) // {t} * {t} + ({x}) % {t}",
    )  # fmt: skip
    return _replaced(spot, _expression(source.choice(forms)))


def _condition(function: ast.FunctionDef, source: random.Random) -> str:
    """About sizes, places and counts, mostly true at small ones."""
    symbols = sorted({ast.unparse(s.node) for s in spots(function) if s.index and isinstance(s.node, ast.Name)})
    if not symbols:
        return "0 < 1"
    x, y, t = source.choice(symbols), source.choice(symbols), source.choice(THRESHOLDS)
    return source.choice(
        (f"{x} < {t}", f"{x} != {t}", f"{x} >= 0", f"{x} < {y}", f"{x} % 2 == 0", f"{x} >= {t}", "0 < 1")
    )


def condition(function: ast.FunctionDef, source: random.Random) -> str:
    """A branch asks for more, or for less."""
    spot = _pick(function, source, lambda s: isinstance(s.node, ast.Compare | ast.BoolOp))
    if spot is None:
        return ""
    word = source.choice(("and", "or"))
    return _replaced(spot, _expression(f"({ast.unparse(spot.node)}) {word} {_condition(function, source)}"))


def function_word(function: ast.FunctionDef, source: random.Random) -> str:
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    kinds = [(n, k) for n in calls for k in FUNCTIONS if called(n) in k]
    if not kinds:
        return ""
    call, kind = source.choice(kinds)
    before, new = called(call), source.choice(kind)
    call.func = ast.Name(new)
    return f"{before} -> {new}" if before != new else ""


def transposed(function: ast.FunctionDef, source: random.Random) -> str:
    """`.T` more or less."""
    spot = _pick(
        function, source, lambda s: not s.index and isinstance(s.node, ast.Name | ast.Attribute | ast.Subscript)
    )
    if spot is None:
        return ""
    bare = spot.node.value if isinstance(spot.node, ast.Attribute) else ast.Attribute(spot.node, "T")
    return _replaced(spot, bare)


def arguments(function: ast.FunctionDef, source: random.Random) -> str:
    """Two parts of a call, a tuple or an operation change places."""
    nodes = [n for s in function.body for n in ast.walk(s) if isinstance(n, ast.Call | ast.Tuple | ast.BinOp)]
    if not nodes:
        return ""
    node = source.choice(nodes)
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp):
        node.left, node.right = node.right, node.left
        return f"{before} -> {ast.unparse(node)}"
    parts = node.args if isinstance(node, ast.Call) else node.elts
    if len(parts) < 2:
        return ""
    a, b = source.sample(range(len(parts)), 2)
    parts[a], parts[b] = parts[b], parts[a]
    return f"{before} -> {ast.unparse(node)}" if ast.unparse(node) != before else ""


def simplified(function: ast.FunctionDef, source: random.Random) -> str:
    """One side of an operation, or one argument, stands for the whole."""
    spot = _pick(function, source, lambda s: isinstance(s.node, ast.BinOp | ast.BoolOp | ast.Call) and not s.keyword)
    match spot:
        case Spot(ast.BinOp(left=left, right=right)):
            return _replaced(spot, source.choice((left, right)))
        case Spot(ast.BoolOp(values=values)):
            return _replaced(spot, source.choice(values))
        case Spot(ast.Call(args=[_, *_] as args)):
            return _replaced(spot, source.choice(args))
    return ""


def keyword(function: ast.FunctionDef, source: random.Random) -> str:
    """A keyword less, or of another call of the same word, or another raster, persistent or not."""
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call)]
    tiles = [c for c in calls if called(c) == "tiles"]
    if tiles and source.random() < 0.3:
        call = source.choice(tiles)
        call.keywords = [k for k in call.keywords if k.arg not in ("raster", "persistent", "group")]
        call.keywords.append(ast.keyword("raster", ast.Name(source.choice(RASTERS))))
        call.keywords += [ast.keyword("persistent", ast.Constant(True))] if source.random() < 0.4 else []
        return ast.unparse(call)
    with_some = [c for c in calls if c.keywords]
    if not with_some:
        return ""
    call = source.choice(with_some)
    gone = source.choice(call.keywords)
    alike = [k for c in with_some for k in c.keywords if k.arg == gone.arg and ast.unparse(k) != ast.unparse(gone)]
    call.keywords.remove(gone)
    call.keywords += [source.choice(alike)] if alike and source.random() < 0.7 else []
    return f"{ast.unparse(gone)} in {ast.unparse(call)}"


# Statements ---------------------------------------------------------------------------------------------


def _blocks(function: ast.FunctionDef) -> list[list[ast.stmt]]:
    """Bodies that do something."""
    found = [function.body]
    for node in ast.walk(function):
        if isinstance(node, ast.For | ast.If | ast.With):
            found.append(node.body)
        if isinstance(node, ast.If) and node.orelse:
            found.append(node.orelse)
    return found


def _is_header(statement: ast.stmt) -> bool:
    value = getattr(statement, "value", None)
    return isinstance(value, ast.expr) and called(value) in HEADER


def _any_statement(function: ast.FunctionDef, source: random.Random) -> tuple[list[ast.stmt], int]:
    at = [(b, k) for b in _blocks(function) for k, s in enumerate(b) if not _is_header(s)]
    at = at or [(function.body, len(function.body) - 1)]  # edits before this one left nothing else
    simple = [(b, k) for b, k in at if not isinstance(b[k], ast.For | ast.If | ast.With)]
    return source.choice(simple if simple and source.random() < 0.85 else at)


def _head(statement: ast.stmt) -> str:
    return ast.unparse(statement).split("\n")[0]


def _filled(block: list[ast.stmt]) -> None:
    if not block:
        block.append(ast.Pass())


def dropped(function: ast.FunctionDef, source: random.Random) -> str:
    block, k = _any_statement(function, source)
    gone = block.pop(k)
    _filled(block)
    return _head(gone)


def repeated(function: ast.FunctionDef, source: random.Random) -> str:
    block, k = _any_statement(function, source)
    block.insert(k, ast.parse(ast.unparse(block[k])).body[0])
    return _head(block[k])


def reordered(function: ast.FunctionDef, source: random.Random) -> str:
    """A statement changes places with a neighbour, or goes some way up or down its block."""
    block, k = _any_statement(function, source)
    low = next((n for n, s in enumerate(block) if not _is_header(s)), 0)
    to = max(low, min(len(block) - 1, k + source.choice((-3, -2, -1, -1, 1, 1, 2, 3))))
    moving = block.pop(k)
    block.insert(to, moving)
    return f"{_head(moving)} by {to - k}" if to != k else ""


def carried_off(function: ast.FunctionDef, source: random.Random) -> str:
    """A statement goes to another block."""
    block, k = _any_statement(function, source)
    moving = block[k]
    inside = set(ast.walk(moving))
    others = [b for b in _blocks(function) if not any(s in inside for s in b)]
    block.pop(k)
    _filled(block)
    to = source.choice(others or [block])
    at = source.randrange(len(to) + 1)
    to.insert(max(at, next((n for n, s in enumerate(to) if not _is_header(s)), len(to))), moving)
    return _head(moving)


def guarded(function: ast.FunctionDef, source: random.Random) -> str:
    """A statement stands under a condition."""
    block, k = _any_statement(function, source)
    head = f"if {_condition(function, source)}:\n    pass"
    branch = ast.parse(head).body[0]
    assert isinstance(branch, ast.If)
    branch.body = [block[k]]
    block[k] = branch
    return f"{head[:-9]} {_head(branch.body[0])}"


def unwrapped(function: ast.FunctionDef, source: random.Random) -> str:
    """A branch or loop is gone, its statements stay; or its arms change places."""
    at = [(b, k) for b in _blocks(function) for k, s in enumerate(b) if isinstance(s, ast.If)]
    if not at:
        return ""
    block, k = source.choice(at)
    branch = block[k]
    assert isinstance(branch, ast.If)
    said = _head(branch)
    if branch.orelse and source.random() < 0.5:
        branch.body, branch.orelse = branch.orelse, branch.body
    else:
        block[k : k + 1] = source.choice((branch.body, branch.orelse or branch.body))
    return said


def inserted(function: ast.FunctionDef, source: random.Random) -> str:
    """A synchronisation of the text once more, somewhere."""
    statements = [s for b in _blocks(function) for s in b if isinstance(s, ast.Expr) and not _is_header(s)]
    if not statements:
        return ""
    new = ast.parse(ast.unparse(source.choice(statements))).body[0]
    block, k = _any_statement(function, source)
    block.insert(k, new)
    return _head(new)


Edit = Callable[[ast.FunctionDef, random.Random], str]
EDITS: tuple[Edit, ...] = (
    integer, integer, integer, number, name, name, operator, moved, moved, moved, condition, condition, function_word,
    transposed, arguments, simplified, keyword, keyword, dropped, dropped, repeated, reordered, reordered, carried_off,
    guarded, guarded, unwrapped, inserted,
)  # fmt: skip
"""Each does something at random and says what, "" if it found nothing to do."""
