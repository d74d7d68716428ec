"""Loops: `tiles`, `pipeline`, `range`; carried names and their live positions."""

from __future__ import annotations

import ast
from dataclasses import dataclass, replace

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Severity
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.context import Context, LoopFrame, Silent
from kernelagent.dsl.elaborate.expressions import evaluate
from kernelagent.dsl.elaborate.extents import extents
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.elaborate.operands import (
    Bound,
    Ended,
    Operand,
    Poison,
    describe,
    shape_text,
    source_text,
    type_text,
)
from kernelagent.dsl.elaborate.statements import assigned_names, run_block
from kernelagent.dsl.elaborate.words import WORDS
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.syntax import fault, span_of

MAX_LOOP_DEPTH = 8
_MAX_PASSES = 6


@dataclass(frozen=True)
class Header:
    kind: ir.LoopKind
    lo: tuple[Index, ...]
    hi: tuple[Index, ...]
    step: tuple[Index, ...]


def run_for(k: Context, node: ast.For) -> None:
    targets = _targets(node)
    header: Header | None = None
    with k.recovering():
        header = _header(k, node, len(targets))
        _check_targets(k, targets)
    if header is None:
        _run_poisoned(k, node, targets)
        raise Silent
    variables = tuple(k.fresh_symbol(t.id) for t in targets)
    _run_loop(k, _Loop(node, targets, header, variables, _carried_values(k, node, header), dict(k.names)))


def _targets(node: ast.For) -> list[ast.Name]:
    parts = node.target.elts if isinstance(node.target, ast.Tuple) else [node.target]
    for part in parts:
        if not isinstance(part, ast.Name):
            raise fault("loop-target", f"`{source_text(part)}` is not a name", part, "write `for i, j in ...`")
    return [p for p in parts if isinstance(p, ast.Name)]


def _check_targets(k: Context, targets: list[ast.Name]) -> None:
    for n, target in enumerate(targets):
        if is_reserved(target.id):
            hint = f"rename it, e.g. `{target.id}_`"
            raise fault("reserved-word", f"`{target.id}` is a word of the language", target, hint)
        taken = isinstance(k.names.get(target.id), Bound) or target.id in [t.id for t in targets[:n]]
        if target.id != "_" and (taken or target.id in k.constants):
            message = f"the loop variable `{target.id}` is already bound here"
            raise fault("duplicate-name", message, target, "choose another name")


def _run_poisoned(k: Context, node: ast.For, targets: list[ast.Name]) -> None:
    """Look for more mistakes in the body of a loop whose header is wrong."""
    names = dict(k.names)
    for target in targets:
        k.bind(target.id, Poison(), target, "loop variable")
    with k.nested_block("tiles"):
        run_block(k, node.body)
    k.names = names


# Header ------------------------------------------------------------------------------------------


def _header(k: Context, node: ast.For, count: int) -> Header:
    call = node.iter
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name)):
        hint = "write `for i in range(lo, hi, step):`, `pipeline(...)` or `tiles(extents, sizes)`"
        raise fault("for-iter", f"`{source_text(call)}` cannot be looped over", call, hint)
    word = call.func.id
    if word not in ("tiles", "pipeline", "range"):
        if word not in WORDS and word not in k.names and word not in k.source.functions:
            raise k.unknown(call.func)
        hint = "write `for i in range(lo, hi, step):`, `pipeline(...)` or `tiles(extents, sizes)`"
        raise fault("for-iter", f"`{word}` cannot be looped over", call, hint)
    if call.keywords:
        from kernelagent.dsl.elaborate.habits import keyword_hint

        keyword = call.keywords[0]
        hint = keyword_hint(word, keyword.arg) or f"write {WORDS[word].usage}; policy goes into `on(...)`"
        raise fault("unknown-keyword", f"`{word}` has no keyword `{keyword.arg}`", keyword, hint)
    if len(k.loops) >= MAX_LOOP_DEPTH:
        hint = "flatten with tuples: `for r, s, c in pipeline((0, 0, 0), (3, 3, C), (1, 1, BC)):`"
        raise fault("too-large", f"loops are nested more than {MAX_LOOP_DEPTH} deep", call, hint)
    header = _tiles(k, call) if word == "tiles" else _counted(k, call, word)
    if len(header.hi) != count:
        message = f"{count} loop variable{'s' * (count != 1)} for {len(header.hi)} extents"
        raise fault("loop-target", message, node.target, f"give {len(header.hi)} names", extents=len(header.hi))
    return header


def _tiles(k: Context, call: ast.Call) -> Header:
    if len(call.args) != 2:
        message = f"`{source_text(call)}` has {len(call.args)} arguments, but it is {WORDS['tiles'].usage}"
        raise fault("arity", message, call, "write `for i, j in tiles((M, N), (BM, BN)):`", given=len(call.args))
    _check_tiles_place(k, call)
    hi = _bounds(k, call.args[0])
    step = extents(k, evaluate(k, call.args[1]), call.args[1])
    if len(hi) != len(step):
        message = f"{len(hi)} extents {shape_text(hi)} but {len(step)} sizes {shape_text(step)}"
        raise fault("loop-rank", message, call, "give one size for each extent", shapes=message)
    return Header("tiles", tuple(index(0) for _ in hi), hi, step)


def _check_tiles_place(k: Context, call: ast.Call) -> None:
    if k.place not in ("kernel", "tiles"):
        hint = "`tiles` stands at the top of the kernel, or directly in another `tiles`; use `range` or `pipeline` here"
        raise fault("tiles-place", f"`tiles` cannot stand inside {_PLACES[k.place]}", call, hint)
    if any(isinstance(s, ir.For) and s.kind == "tiles" for s in k.block):
        hint = "write two kernels and call them from a `@program`"
        raise fault("tiles-twice", "a second `tiles` loop follows the first", call, hint)


_PLACES = {"loop": "a sequential loop", "if": "an `if`", "inline": "an `@inline` function"}


def _counted(k: Context, call: ast.Call, word: str) -> Header:
    if not 1 <= len(call.args) <= 3:
        message = f"`{source_text(call)}` has {len(call.args)} arguments, but it is {WORDS[word].usage}"
        raise fault("arity", message, call, f"write `{word}(lo, hi, step)`", given=len(call.args))
    bounds = [_bounds(k, a) for a in call.args[:2]]
    hi = bounds[-1]
    lo = bounds[0] if len(bounds) == 2 else tuple(index(0) for _ in hi)
    step = tuple(index(1) for _ in hi)
    if len(call.args) == 3:
        step = _steps(k, call.args[2])
    if not len(lo) == len(hi) == len(step):
        message = f"bounds {shape_text(lo)}, {shape_text(hi)} and steps {shape_text(step)} differ in length"
        raise fault("loop-rank", message, call, "give tuples of one length", shapes=message)
    return Header("pipeline" if word == "pipeline" else "range", lo, hi, step)


def _steps(k: Context, node: ast.expr) -> tuple[Index, ...]:
    found = evaluate(k, node)
    parts = found if isinstance(found, tuple) else (found,)
    for part in parts:
        if isinstance(part, Index) and part.constant is not None and part.constant <= 0:
            hint = "count upwards: compute `hi - 1 - i` in the body for the reverse order"
            raise fault("loop-step", f"the step {part.constant} is not positive", node, hint, step=part.constant)
    return extents(k, found, node)


def _bounds(k: Context, node: ast.expr) -> tuple[Index, ...]:
    found = evaluate(k, node)
    parts: tuple[Operand, ...] = found if isinstance(found, tuple) else (found,)
    nodes = node.elts if isinstance(node, ast.Tuple) else [node] * len(parts)
    for part, at in zip(parts, nodes, strict=True):
        if not isinstance(part, Index):
            hint = "bounds are index integers: dims, integer parameters, loop variables, `In` elements"
            raise fault("bound-not-index", f"the bound `{source_text(at)}` is {describe(part)}", at, hint)
    return tuple(p for p in parts if isinstance(p, Index))


# Body --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Loop:
    """A loop to elaborate; `initial` holds the carried names' values before it, `before` all names."""

    node: ast.For
    targets: list[ast.Name]
    header: Header
    variables: tuple[Symbol, ...]
    initial: dict[str, ir.Value]
    before: dict[str, Bound | Ended]


@dataclass(frozen=True)
class _Pass:
    """One elaboration of the body: carried values at its top and bottom, its statements, its names at the end.

    `shrunk` has the live part that is left of each carried name that lost some.
    """

    inside: dict[str, ir.Value]
    ends: dict[str, ir.Value]
    shrunk: dict[str, live.Lives]
    block: list[ir.Statement]
    names: dict[str, Bound | Ended]


def _run_loop(k: Context, loop: _Loop) -> None:
    """Elaborate the body until the carried names' live parts hold from one iteration to the next.

    The first pass starts from what was live before the loop; each further one from what the last one left of it.
    """
    guess = {name: value.type for name, value in loop.initial.items()}
    for _ in range(_MAX_PASSES):
        mark = _mark(k)
        done = _run_body(k, loop, guess)
        _check_live(k, loop, done)
        if not done.shrunk or k.failed:
            break
        guess |= {name: replace(guess[name], live=left) for name, left in done.shrunk.items()}
        k.names = dict(loop.before)
        _reset(k, mark)
    else:
        raise fault("carried-live-shrinks", "live positions shrink in every iteration", loop.node.iter, _LIVE_HINT)
    _finish(k, loop, done)


def _carried_values(k: Context, node: ast.For, header: Header) -> dict[str, ir.Value]:
    """Names bound to values before the loop that the body rebinds."""
    if header.kind == "tiles":
        return {}
    found = {name: k.names.get(name) for name in assigned_names(node.body)}
    return {n: b.operand for n, b in found.items() if isinstance(b, Bound) and isinstance(b.operand, ir.Value)}


def _mark(k: Context) -> tuple[int, int, set[str]]:
    return len(k.diagnostics), k.next_number, set(k.symbol_names)


def _reset(k: Context, mark: tuple[int, int, set[str]]) -> None:
    """Forget an elaboration of the body that started from too large live intervals."""
    count, k.next_number, names = mark
    del k.diagnostics[count:]
    k.symbol_names = set(names)


def _run_body(k: Context, loop: _Loop, guess: dict[str, ir.TileType]) -> _Pass:
    header, frame = loop.header, LoopFrame(loop.header.kind, loop.variables, loop.header.step)
    k.loops.append(frame)
    k.facts.enter(loop.variables, header.lo, header.hi)
    inside = {name: k.fresh(guess[name], name, k.origin(loop.node)) for name in loop.initial}
    for name, value in inside.items():
        k.names[name] = Bound(value, "local", loop.before[name].span, len(k.loops))
    for target, variable in zip(loop.targets, loop.variables, strict=True):
        k.bind(target.id, index(variable), target, "loop variable")
    with k.nested_block("tiles" if header.kind == "tiles" else "loop") as block:
        run_block(k, loop.node.body)
    _judge_rows(k, frame)
    ends = _ends(k, inside, loop.before)
    shrunk = {
        name: live.intersect_all([guess[name].live, end.type.live], k.facts)
        for name, end in ends.items()
        if not live.all_within(guess[name].live, end.type.live, k.facts)
    }
    k.facts.leave(len(loop.variables))
    k.loops.pop()
    return _Pass(inside, ends, shrunk, block, k.names)


def _ends(k: Context, inside: dict[str, ir.Value], outer: dict[str, Bound | Ended]) -> dict[str, ir.Value]:
    """What each carried name means at the bottom of the body, checked against its start."""
    ends = {}
    for name, start in inside.items():
        found = k.names[name]
        end = found.operand if isinstance(found, Bound) else None
        if isinstance(end, Poison):
            continue
        if isinstance(end, ir.Value) and (end.type.dtype, end.type.shape) == (start.type.dtype, start.type.shape):
            ends[name] = end
            continue
        with k.recovering():
            raise _carried_mismatch(name, start, found, outer[name].span.line)
    _check_static_carried(k, inside, outer)
    return ends


def _carried_mismatch(name: str, start: ir.Value, found: Bound | Ended, line: int) -> Exception:
    if isinstance(found, Ended):
        return fault(found.code, f"`{name}` {found.reason}", found.span, found.hint)
    end = found.operand
    now = type_text(end.type) if isinstance(end, ir.Value) else describe(end)
    same = isinstance(end, ir.Value) and end.type.shape == start.type.shape
    code = "carried-type" if same or not isinstance(end, ir.Value) else "carried-shape"
    message = f"`{name}` is {type_text(start.type)} before the loop (line {line}) and {now} at its end"
    hint = "a carried name keeps its dtype and shape; `cast`, or use another name"
    return fault(code, message, found.span, hint, before=type_text(start.type), after=now)


def _check_static_carried(k: Context, inside: dict[str, ir.Value], outer: dict[str, Bound | Ended]) -> None:
    """Literals, index integers and views cannot change from one iteration to the next."""
    for name, found in k.names.items():
        before = outer.get(name)
        if name in inside or not isinstance(before, Bound) or found is before or before.kind == "loop variable":
            continue
        if not isinstance(found, Bound) or isinstance(before.operand, Poison) or isinstance(found.operand, Poison):
            continue
        if found.operand == before.operand:
            continue
        with k.recovering():
            raise _static_carried(name, before, found)


def _static_carried(name: str, before: Bound, found: Bound) -> Exception:
    after = found.operand
    if isinstance(after, ir.Value):
        message = f"`{name}` is {describe(before.operand)} before the loop and {type_text(after.type)} after line "
        message += str(found.span.line)
        hint = f"write `{name} = zeros({shape_text(after.type.shape)}, {after.type.dtype})` before the loop"
        return fault("carried-type", message, before.span, hint, after=type_text(after.type))
    message = f"`{name}` is {describe(before.operand)} before the loop and {describe(after)} after line "
    message += str(found.span.line)
    hint = "only tiles are carried: compute it from the loop variable, or use another name"
    return fault("carried-type", message, before.span, hint)


def _judge_rows(k: Context, frame: LoopFrame) -> None:
    """`x[i]` with i in steps of BM reads one row of BM: almost surely a tile was meant."""
    for variable, step in zip(frame.variables, frame.step, strict=True):
        node = frame.row_uses.get(variable.name)
        if node is None:
            continue
        text = source_text(node)
        array = source_text(node.value) if isinstance(node, ast.Subscript) else text
        message = f"{variable} advances by {step}, but `{text}` reads one row only"
        hint = f"write `load({array}, ({variable}, ...), ({step}, ...))` for the tile"
        severity: Severity = "warning" if variable.name in frame.positions else "error"
        k.warn("single-row", message, node, hint, severity)


# Live positions ----------------------------------------------------------------------------------

_LIVE_HINT = "write `load(..., fill=0)`, or reduce inside the loop"


def _check_live(k: Context, loop: _Loop, done: _Pass) -> None:
    """What survives every iteration may not depend on the loop variable."""
    for name, found in done.shrunk.items():
        for axis, interval in enumerate(found):
            if not (interval.lo.symbols() | interval.hi.symbols()) & set(loop.variables):
                continue
            message = (
                f"axis {axis} of `{name}` is live only up to {interval.hi} here: in the last iteration the positions "
                f"behind become void, with what they held"
            )
            with k.recovering():
                span = done.ends[name].origin.span
                raise fault("carried-live-shrinks", message, span, _LIVE_HINT, live=str(interval.hi))
            return


def _finish(k: Context, loop: _Loop, done: _Pass) -> None:
    """Append the loop, and bind what its carried names mean behind it."""
    k.names = _names_after(loop.node, done.names, loop.before)
    carried = []
    for name, start in loop.initial.items():
        operand: Operand = Poison()
        if name in done.ends:
            operand = k.fresh(done.inside[name].type, name, k.origin(loop.node))
            carried.append(ir.Carried(start, done.inside[name], done.ends[name], operand))
        before = loop.before[name]
        assert isinstance(before, Bound)
        k.names[name] = replace(before, operand=operand)
    header, origin = loop.header, k.origin(loop.node)
    k.block.append(
        ir.For(
            header.kind, loop.variables, header.lo, header.hi, header.step, tuple(carried), tuple(done.block), origin
        )
    )


def _names_after(
    node: ast.For, names: dict[str, Bound | Ended], before: dict[str, Bound | Ended]
) -> dict[str, Bound | Ended]:
    """Names of outside stay; names first bound in the loop end with it."""
    after = dict(before)
    for name, found in names.items():
        if isinstance(before.get(name), Bound):
            continue
        is_variable = isinstance(found, Bound) and found.kind == "loop variable"
        what = "is the variable of" if is_variable else "is bound only in"
        hint = "bind it before the loop to carry it out, or use it inside"
        reason = f"{what} the loop at line {span_of(node).line}"
        after[name] = Ended(reason, found.span, hint, "ended-with-loop")
    return after
