"""Operators that change one thing in a schedule's text, each with the families that an obligation about it may have."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from support.mutation_texts import MOVES, STORES, SYNCS, Change, Text, called

Operator = Callable[[Text], Iterator[Change]]

# Synchronisation --------------------------------------------------------------------------------------


def drop_sync(text: Text) -> Iterator[Change]:
    """A barrier, wait, fence, arrival or commit less."""
    for statement, block in text.statements():
        if _is_sync(statement) and len(block) > 1:
            yield _dropped("drop-sync", text, statement, text.ordered(statement))


def move_sync(text: Text) -> Iterator[Change]:
    """A synchronisation changes places with the statement in front of it: a release or a wait at the wrong time."""
    for statement, block in text.statements():
        at = block.index(statement)
        before = block[at - 1] if at else None
        if _is_sync(statement) and before is not None and before.lineno == before.end_lineno:
            line = before.lineno
            ordered = text.ordered(statement) + (text.ordered(before) if _is_sync(before) else ())
            new = (text.lines[statement.lineno - 1], text.lines[line - 1])
            if statement.lineno == line + 1:
                yield Change("move-sync", line, 2, new, tuple(sorted({*ordered, line, line + 1})))


def wait_count(text: Text) -> Iterator[Change]:
    """One group more, or less, may be in flight."""
    for call in text.calls("wait_group", "wgmma_wait", "wait_bulk"):
        (count,) = call.args
        ordered = text.ordered(_statement_of(text, call))
        number = int(text.source(count))
        for other in (number + 1, number - 1):
            if other >= 0:
                yield text.put("wait-count", count, str(other), *ordered)


def parity(text: Text) -> Iterator[Change]:
    """A wait for the other phase."""
    for call in text.calls("wait"):
        ordered = text.ordered(_statement_of(text, call))
        yield text.put("parity", call.args[1], f"({text.source(call.args[1])} + 1) % 2", *ordered)


def stage(text: Text) -> Iterator[Change]:
    """The stage beside, of one access or one use of a barrier."""
    buffers = {**text.shared(), **text.shared("mbarrier")}
    for place in text.expressions(ast.Subscript):
        match place:
            case ast.Subscript(value=ast.Name(id=name), slice=number) if name in buffers:
                stages = _keyword(text, buffers[name], "stages", 1)
                if stages > 1:
                    others = _concerned(text, name)
                    match number:
                        case ast.BinOp(op=ast.Mod(), left=inner):
                            for step in (1, stages - 1):
                                new = f"({text.source(inner)} + {step}) % {stages}"
                                yield text.put("stage", number, new, *others)
                        case ast.Constant():
                            yield text.put("stage", number, str((int(text.source(number)) + 1) % stages), *others)


def bytes_announced(text: Text) -> Iterator[Change]:
    for call in text.calls("expect"):
        ordered = text.ordered(_statement_of(text, call))
        for factor in (2, 0.5):
            yield text.put("bytes", call.args[1], str(int(int(text.source(call.args[1])) * factor)), *ordered)


def barrier_declared(text: Text) -> Iterator[Change]:
    """Arrivals of a phase."""
    for name, call in text.shared("mbarrier").items():
        for key in call.keywords:
            if key.arg == "arrivals":
                number = int(text.source(key.value))
                others = _concerned(text, name)
                for other in {number + 1, number // 2, number * 2} - {0, number}:
                    yield text.put("arrivals", key.value, str(other), *others)


def barrier_named(text: Text) -> Iterator[Change]:
    """Another barrier."""
    names = list(text.shared("mbarrier"))
    for place in text.expressions(ast.Name):
        assert isinstance(place, ast.Name)
        if place.id in names and len(names) > 1:
            other = names[(names.index(place.id) + 1) % len(names)]
            yield text.put("barrier-name", place, other, *_concerned(text, place.id), *_concerned(text, other))


def everywhere(text: Text) -> Iterator[Change]:
    """What reaches all blocks of a cluster reaches one."""
    for call in text.calls("arrive", "copy_bulk"):
        for key in call.keywords:
            if key.arg == "everywhere":
                yield text.put("cluster-scope", key.value, "False", *text.ordered(_statement_of(text, call)))
            if key.arg == "shared_by":
                yield text.put("cluster-scope", key.value, "1", *_barrier_lines(text, call))


# Positions and bounds ---------------------------------------------------------------------------------


def start(text: Text) -> Iterator[Change]:
    """One element further, or back, along one axis."""
    for call in text.calls("load", "gather", "copy", "copy_async", "copy_bulk", *STORES):
        position = next((a for a in call.args if isinstance(a, ast.Tuple)), None)
        for coordinate in position.elts if position else ():
            also = _value_lines(text)
            width = _vector(text, call)
            yield text.put("start", coordinate, f"{text.source(coordinate)} + {width}", *also)
            yield text.put("start", coordinate, f"{text.source(coordinate)} - 1", *also)


def view_index(text: Text) -> Iterator[Change]:
    """Another slice of an array."""
    arrays = _arrays(text)
    for place in text.expressions(ast.Subscript):
        match place:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Tuple(elts=[first, second])) if name in arrays:
                swapped = f"{text.source(second)}, {text.source(first)}"
                yield text.put("view-index", place, f"{name}[{swapped}]", *_value_lines(text))
                yield text.put("view-index", second, f"{text.source(second)} + 1", *_value_lines(text))
            case ast.Subscript(value=ast.Name(id=name), slice=first) if name in arrays:
                yield text.put("view-index", first, f"{text.source(first)} + 1", *_value_lines(text))


def predicate(text: Text) -> Iterator[Change]:
    """`<` becomes `<=`, or the bound moves by one."""
    for place in text.expressions(ast.Compare):
        match place:
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                inside = _guards(text, place)
                also = (*inside, *_value_lines(text))
                a, b, sign = text.source(left), text.source(right), _SIGNS[type(op)]
                widened = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}.get(sign)
                if widened:
                    yield text.put("predicate", place, f"{a} {widened} {b}", *also)
                for step in ("+ 1", "- 1", "+ 8"):
                    if _scalar(right):
                        yield text.put("predicate", place, f"{a} {sign} {b} {step}", *also)


_SIGNS: Mapping[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
}  # fmt: skip


def mask_bound(text: Text) -> Iterator[Change]:
    """The limit that a mask compares with, and positions that it compares."""
    for call in text.calls("number"):
        for new in (f"{text.source(call.args[0])} + 1", f"{text.source(call.args[0])} - 1"):
            yield text.put("mask", call.args[0], new, *_value_lines(text))
    for call in text.calls("coords"):
        yield text.put("mask", call.args[0], f"{text.source(call.args[0])} + 1", *_value_lines(text))


def drop_mask(text: Text) -> Iterator[Change]:
    """Nothing is masked."""
    for call in text.calls("where"):
        yield text.put("drop-mask", call, text.source(call.args[1]), *_value_lines(text))


def loop_bound(text: Text) -> Iterator[Change]:
    for call in text.calls("range"):
        lo, hi, step = (text.source(a) for a in call.args)
        also = (*_inside(text, call), *_value_lines(text))
        if not step.isdigit():
            continue
        yield text.put("loop-bound", call.args[0], f"{lo} + {step}", *also)
        yield text.put("loop-bound", call.args[1], f"{hi} - {step}", *also)
        yield text.put("loop-bound", call.args[1], f"{hi} + 1", *also)
        yield text.put("loop-bound", call.args[1], f"{hi} - 1", *also)
        yield text.put("loop-bound", call.args[2], str(int(step) * 2), *also)


def grid(text: Text) -> Iterator[Change]:
    """Extents and sizes of the tiles."""
    for call in text.calls("tiles"):
        extents, sizes = call.args[:2]
        assert isinstance(extents, ast.Tuple)
        assert isinstance(sizes, ast.Tuple)
        also = (*_inside(text, call), *_walks(text), *_value_lines(text))
        for extent in extents.elts:
            yield text.put("grid", extent, f"{text.source(extent)} - 1", *also)
            yield text.put("grid", extent, f"{text.source(extent)} + 1", *also)
        for size in sizes.elts:
            number = int(text.source(size))
            yield text.put("grid", size, str(2 * number), *also)
            if number > 1:
                yield text.put("grid", size, str(number // 2), *also)


def walk(text: Text) -> Iterator[Change]:
    """Another order of tiles, or other blocks: harmless in a schedule without roles."""
    for call in text.calls("tiles"):
        also = (*_inside(text, call), *_walks(text), *_value_lines(text))
        for key in call.keywords:
            if key.arg == "raster":
                yield text.put("walk", key.value, "column" if text.source(key.value) != "column" else "row", *also)
            if key.arg == "persistent":
                yield text.put("walk", key.value, "False", *also)


# Operands and values ----------------------------------------------------------------------------------


def swap(text: Text) -> Iterator[Change]:
    """Operands of a product change places, `.T` comes or goes, a position's axes change places."""
    for call in text.calls("mma"):
        a, b = (text.source(x) for x in call.args[:2])
        line = text.lines[call.lineno - 1]
        yield Change("swap", call.lineno, 1, (line.replace(f"mma({a}, {b},", f"mma({b}, {a},"),),
                     (call.lineno, *_value_lines(text)))  # fmt: skip
        turned = b.removesuffix(".T") if b.endswith(".T") else f"{b}.T"
        yield text.put("swap", call.args[1], turned, *_value_lines(text))
    for call in text.calls("load", "gather", "copy", "copy_async", "copy_bulk", *STORES):
        position = next((a for a in call.args if isinstance(a, ast.Tuple)), None)
        if position is not None and len(position.elts) > 1:
            turned = ", ".join(text.source(e) for e in reversed(position.elts))
            yield text.put("swap", position, f"({turned})", *_value_lines(text))


def swap_arguments(text: Text) -> Iterator[Change]:
    """The other operand first where that matters."""
    for place in text.expressions(ast.BinOp):
        assert isinstance(place, ast.BinOp)
        if isinstance(place.op, ast.Sub | ast.Div) and not _is_index(text, place):
            sign = "-" if isinstance(place.op, ast.Sub) else "/"
            left, right = text.source(place.left), text.source(place.right)
            yield text.put("swap-arguments", place, f"({right}) {sign} ({left})", *_value_lines(text))


def fill(text: Text) -> Iterator[Change]:
    """Another value outside an array, in front of a loop, or where a mask is false."""
    for call in text.calls("load", "gather"):
        for key in call.keywords:
            if key.arg == "fill":
                yield text.put("fill", key.value, _other(text.source(key.value)), *_value_lines(text))
    for call in text.calls("full"):
        yield text.put("fill", call.args[1], _other(text.source(call.args[1])), *_value_lines(text))
    for call in text.calls("where"):
        if text.source(call.args[2]) in ("0", "0.0", "-inf"):
            yield text.put("fill", call.args[2], _other(text.source(call.args[2])), *_value_lines(text))


def _other(value: str) -> str:
    return "0.0" if "inf" in value or "e+" in value else "1" if re.fullmatch(r"-?\d+", value) else "1.0"


def dtype(text: Text) -> Iterator[Change]:
    """A narrower accumulator, a sum that is rounded on its way."""
    for call in text.calls("full"):
        if text.source(call.args[2]) == "f32":
            for other in ("f16", "bf16"):
                yield text.put("dtype", call.args[2], other, *_assigned(text, call), *_value_lines(text))
    for statement, _ in text.statements():
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in ("acc", "l", "total", "squares"):
                if not (isinstance(value, ast.Call) and called(value) == "full"):
                    new = f"cast(cast({text.source(value)}, bf16), f32)"
                    yield text.put("dtype", value, new, *_value_lines(text))


def word(text: Text) -> Iterator[Change]:
    """Another operation of the same kind."""
    for call in text.calls(*_WORDS):
        line = call.func
        yield text.put("word", line, _WORDS[called(call) or ""], *_value_lines(text))
    for place in text.expressions(ast.BinOp):
        assert isinstance(place, ast.BinOp)
        if not _is_index(text, place) and type(place.op) in _ARITHMETIC:
            new = f"{text.source(place.left)} {_ARITHMETIC[type(place.op)]} {text.source(place.right)}"
            yield text.put("word", place, f"({new})", *_value_lines(text))


_WORDS = {"maximum": "minimum", "max": "min", "exp": "exp2", "rsqrt": "sqrt", "log": "log2"}
_ARITHMETIC: Mapping[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "+", ast.Div: "*"}


def rescale(text: Text) -> Iterator[Change]:
    """A factor less."""
    for place in text.expressions(ast.BinOp):
        assert isinstance(place, ast.BinOp)
        if isinstance(place.op, ast.Mult) and not _is_index(text, place):
            yield text.put("rescale", place, text.source(place.left), *_value_lines(text))


# Stores and buffers -----------------------------------------------------------------------------------


def drop_store(text: Text) -> Iterator[Change]:
    for statement, block in text.statements():
        if isinstance(statement, ast.Expr) and called(statement.value) in MOVES and len(block) > 1:
            yield _dropped("drop-store", text, statement, (*_readers(text, statement), *_shared_lines(text, statement)))


def repeat_store(text: Text) -> Iterator[Change]:
    for statement, _ in text.statements():
        if isinstance(statement, ast.Expr) and called(statement.value) in MOVES:
            line = text.lines[statement.lineno - 1]
            also = _shifted(_shared_lines(text, statement), statement.lineno, 1)
            lines = (statement.lineno, statement.lineno + 1, *also)
            yield Change("repeat-store", statement.lineno, 1, (line, line), lines)


def alias(text: Text) -> Iterator[Change]:
    """Two buffers in the same bytes; one buffer's access in another's."""
    buffers = text.shared()
    offsets = {n: text.source(k.value) for n, c in buffers.items() for k in c.keywords if k.arg == "offset"}
    for name, call in buffers.items():
        for key in call.keywords:
            for other in sorted({*offsets.values()} - {offsets.get(name)}) if key.arg == "offset" else ():
                also = {n for m, o in offsets.items() if m == name or o == other for n in _concerned(text, m)}
                yield text.put("alias", key.value, other, *sorted(also))
    for place in text.expressions(ast.Name):
        assert isinstance(place, ast.Name)
        for other in buffers if place.id in buffers else ():
            if other != place.id and _shape(text, buffers[other]) == _shape(text, buffers[place.id]):
                also = (*_concerned(text, place.id), *_concerned(text, other), *_value_lines(text))
                yield text.put("alias", place, other, *also)


def declared(text: Text) -> Iterator[Change]:
    """Fewer stages, another swizzle or padding. Harmless as long as everybody uses the same and nothing overlaps."""
    for name, call in text.shared().items():
        also = _concerned(text, name)
        for key in call.keywords:
            if key.arg == "stages":
                yield text.put("declared", key.value, str(int(text.source(key.value)) - 1), *also)
            if key.arg == "swizzle":
                yield text.put("declared", key.value, "None", *also)
                yield text.put("declared", key.value, "(2, 2, 2)", *also)
            if key.arg == "pad":
                yield text.put("declared", key.value, "0", *also)


def access_width(text: Text) -> Iterator[Change]:
    """Half as many elements an access: slower, not wrong."""
    for call in text.calls("load", "store", "store_shared", "load_shared"):
        for key in call.keywords:
            if key.arg == "vector" and int(text.source(key.value)) > 1:
                yield text.put("vector", key.value, str(int(text.source(key.value)) // 2), *_value_lines(text))
                yield text.put("vector", key.value, str(int(text.source(key.value)) * 2), *_value_lines(text))


def layout(text: Text) -> Iterator[Change]:
    """Two extents of a distribution change places, or a stride grows."""
    for call in (c for c in text.declared.values() if called(c) == "distribution"):
        line, source = call.lineno, text.source(call)
        for mode in re.finditer(r"\((\d+), (\d+), (\d+)\)", source):
            extent, axis, stride = (int(x) for x in mode.groups())
            new = f"({extent}, {axis}, {stride * 2})"
            made = source[: mode.start()] + new + source[mode.end() :]
            yield replace(text.put("layout", call, made), lines=(line, *_users(text, call), *_value_lines(text)))


# What a change may be blamed on -------------------------------------------------------------------------


def _is_sync(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and called(statement.value) in SYNCS


def _dropped(operator: str, text: Text, statement: ast.stmt, lines: tuple[int, ...]) -> Change:
    return Change(operator, statement.lineno, 1, (), tuple(sorted({*_shifted(lines, statement.lineno, -1)})))


def _shifted(lines: tuple[int, ...], at: int, by: int) -> tuple[int, ...]:
    """Lines behind one that goes or is doubled."""
    return tuple(n + by if n > at else n for n in lines if n != at or by > 0)


def _statement_of(text: Text, node: ast.expr) -> ast.stmt:
    return next(s for s, _ in text.statements() if any(n is node for n in ast.walk(s)))


def _value_lines(text: Text) -> tuple[int, ...]:
    """Where wrong values are seen: the stores to arrays."""
    return text.stores


def _concerned(text: Text, name: str) -> tuple[int, ...]:
    """Lines that use or declare a buffer or barrier, and what it guards or is guarded by."""
    return tuple(sorted(text.uses(text.together({name}))))


def _names(statement: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(statement) if isinstance(n, ast.Name)}


def _users(text: Text, call: ast.Call) -> tuple[int, ...]:
    """Lines that use a distribution."""
    name = next(n for n, c in text.declared.items() if c is call)
    return tuple(sorted({s.lineno for s, _ in text.statements() if name in _names(s)}))


def _assigned(text: Text, node: ast.expr) -> tuple[int, ...]:
    """Lines that use the name that a statement's value gets: where types no longer agree."""
    match _statement_of(text, node):
        case ast.Assign(targets=[ast.Name(id=name)]):
            return tuple(
                sorted({n.lineno for n in text.expressions(ast.Name) if isinstance(n, ast.Name) and n.id == name})
            )
    return ()


def _barrier_lines(text: Text, call: ast.Call) -> tuple[int, ...]:
    found: set[int] = set()
    for name in _names(call) & text.shared("mbarrier").keys():
        found |= {*_concerned(text, name)}
    return tuple(sorted(found))


def _shared_lines(text: Text, statement: ast.stmt) -> tuple[int, ...]:
    """Lines that use the shared memory, or the barrier, that a statement uses."""
    names = _names(statement) & (text.shared().keys() | text.shared("mbarrier").keys())
    return tuple(sorted({n for name in names for n in _concerned(text, name)}))


def _readers(text: Text, statement: ast.stmt) -> tuple[int, ...]:
    """For a store to an array that goes: the other statements that name the array, or the walk over its tiles."""
    arrays = _names(statement) & _arrays(text)
    lines = {s.lineno for s, _ in text.statements() if _names(s) & arrays}
    return tuple(sorted(lines | {c.lineno for c in text.calls("tiles")} | {*text.stores}))


def _arrays(text: Text) -> set[str]:
    function = next(n for n in text.tree.body if isinstance(n, ast.FunctionDef))
    return {a.arg for a in function.args.args}


def _walks(text: Text) -> tuple[int, ...]:
    """Lines of all walks over tiles: those of roles agree."""
    return tuple(sorted({c.lineno for c in text.calls("tiles")}))


def _inside(text: Text, head: ast.Call) -> tuple[int, ...]:
    """Lines of a loop's body, and of what shares buffers and barriers with it."""
    loop = next(n for s in text.body for n in ast.walk(s) if isinstance(n, ast.For) and n.iter is head)
    names = _names(loop) & {*text.shared(), *text.shared("mbarrier")}
    own = range(loop.lineno, (loop.end_lineno or loop.lineno) + 1)
    return tuple(sorted({*own} | (text.uses(text.together(names)) if text.shared("mbarrier") else set())))


def _guards(text: Text, condition: ast.expr) -> tuple[int, ...]:
    """Lines under an `if`, and those that use what is written there."""
    for statement in text.body:
        for found in ast.walk(statement):
            if isinstance(found, ast.If) and found.test is condition:
                return tuple(sorted({n for s in found.body for n in (s.lineno, *_shared_lines(text, s))}))
    return ()


def _keyword(text: Text, call: ast.Call, name: str, otherwise: int) -> int:
    return next((int(text.source(k.value)) for k in call.keywords if k.arg == name), otherwise)


def _shape(text: Text, call: ast.Call) -> tuple[str, ...]:
    stages = [text.source(k.value) for k in call.keywords if k.arg == "stages"]
    return (*(text.source(a) for a in call.args), *stages)


def _vector(text: Text, call: ast.Call) -> int:
    return _keyword(text, call, "vector", 1)


def _scalar(node: ast.expr) -> bool:
    """Of index integers: no fragment occurs."""
    return not any(isinstance(n, ast.Call) and called(n) not in ("minimum", "maximum", "cdiv") for n in ast.walk(node))


def _is_index(text: Text, place: ast.BinOp) -> bool:
    """Whether a sum or product is of index integers: inside of a position, a subscript, a bound or a condition."""
    values = {t.id for s, _ in text.statements() for t in getattr(s, "targets", []) if isinstance(t, ast.Name)}
    return not _names(place) & values


OPERATORS: tuple[Operator, ...] = (
    drop_sync, move_sync, wait_count, parity, stage, bytes_announced, barrier_declared, barrier_named, everywhere,
    start, view_index, predicate, mask_bound, drop_mask, loop_bound, grid, walk, swap, swap_arguments, fill, dtype,
    word, rescale, drop_store, repeat_store, alias, declared, access_width, layout,
)  # fmt: skip

_MEMORY = frozenset({"races", "definedness", "completion"})
_PHASES = _MEMORY | {"protocol", "uniformity"}
_VALUES = frozenset({"flow", "bounds", "coverage", "alignment"})
FAMILIES: Mapping[str, frozenset[str]] = {
    "drop-sync": _PHASES,
    "move-sync": _PHASES,
    "wait-count": _PHASES,
    "parity": _PHASES,
    "stage": _PHASES | {"flow", "bounds"},
    "bytes": _PHASES,
    "arrivals": _PHASES,
    "barrier-name": _PHASES | {"bounds"},
    "cluster-scope": _PHASES | {"flow"},
    "start": _VALUES,
    "view-index": _VALUES,
    "predicate": _VALUES | _PHASES | {"skipping", "stability"},
    "mask": _VALUES | {"stability"},
    "drop-mask": _VALUES | {"stability"},
    "loop-bound": _VALUES | _PHASES | {"skipping"},
    "grid": _VALUES | {"protocol", "skipping"},
    "walk": _VALUES | _PHASES,
    "swap": _VALUES,
    "swap-arguments": _VALUES | {"stability"},
    "fill": _VALUES | {"stability"},
    "dtype": frozenset({"flow", "accumulator", "stability"}),
    "word": _VALUES | {"stability"},
    "rescale": _VALUES | {"stability"},
    "drop-store": frozenset({"coverage", "flow"}) | _PHASES,
    "repeat-store": frozenset({"coverage", "flow", "aliasing"}) | _PHASES,
    "alias": _MEMORY | {"flow", "protocol"},
    "declared": _MEMORY | {"flow", "bounds", "alignment"},
    "vector": _VALUES | _MEMORY,
    "layout": _VALUES | _MEMORY,
}
"""Of obligations; a refusal of the text's rules (`schedule`) is right anywhere."""
