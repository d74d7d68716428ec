"""Moves on causally masked loops: do not visit, or do not mask, tiles whose mask is uniform."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl.moves.loops import body_text
from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (  # fmt: skip
    Edit,
    MoveError,
    Source,
    arguments_of,
    assignment,
    below,
    called,
    calls,
    edited,
    functions,
    loops,
    named,
    read,
)


@dataclass(frozen=True)
class Masked:
    """`for j in pipeline(lo, hi, BN)` with `s = where(coords(E, BM)[:, None] >= coords(j, BN)[None, :], x, -inf)`."""

    loop: ast.For
    statement: ast.stmt  # s = where(...)
    name: str
    unmasked: ast.expr  # x
    rows: ast.expr  # E: position of the first row
    height: ast.expr  # BM
    width: ast.expr  # BN


def masked_loops(function: ast.FunctionDef) -> Iterator[Masked]:
    for loop in loops(function, "pipeline"):
        for statement in loop.body:
            found = assignment(statement)
            if found and isinstance(loop.target, ast.Name) and called(found[1], "where"):
                mask = _mask(loop, statement, *found)
                if mask is not None:
                    yield mask


def _mask(loop: ast.For, statement: ast.stmt, name: str, where: ast.expr) -> Masked | None:
    assert isinstance(where, ast.Call)
    if len(where.args) != 3 or ast.unparse(where.args[2]) != "-inf" or len(arguments_of(loop)) != 3:
        return None
    condition = where.args[0]
    if not isinstance(condition, ast.Compare) or not isinstance(condition.ops[0], ast.GtE) or len(condition.ops) > 1:
        return None
    rows, columns = _coords(condition.left, "(:, None)"), _coords(condition.comparators[0], "(None, :)")
    assert isinstance(loop.target, ast.Name)
    if rows is None or columns is None or ast.unparse(columns[0]) != loop.target.id:
        return None
    if ast.unparse(columns[1]) != ast.unparse(arguments_of(loop)[2]):
        return None
    return Masked(loop, statement, name, where.args[1], rows[0], rows[1], columns[1])


def _coords(node: ast.expr, axes: str) -> tuple[ast.expr, ast.expr] | None:
    """The arguments of `coords(start, extent)` stretched as `axes` says."""
    if not isinstance(node, ast.Subscript) or ast.unparse(node.slice) != axes:
        return None
    call = node.value
    if not isinstance(call, ast.Call) or not called(call, "coords") or len(call.args) != 2:
        return None
    return call.args[0], call.args[1]


def _find(source: Source, kernel: str | None) -> Masked:
    for function in named(source, kernel):
        for masked in masked_loops(function):
            return masked
    raise MoveError("no loop has a causal mask where(coords(...)[:, None] >= coords(...)[None, :], s, -inf)")


def _propose(source: Source) -> Iterator[Arguments]:
    yield from ({"kernel": function.name} for function in functions(source, "kernel"))


def _term(source: Source, node: ast.expr) -> str:
    """The expression as a summand."""
    text = source.segment(node)
    return text if isinstance(node, ast.Name | ast.Constant | ast.Call | ast.BinOp) else f"({text})"


@move(_propose)
def skip_masked_tiles(text: str, kernel: str | None = None) -> str:
    """Stop the loop where every later tile is wholly masked: causal attention does half the work.

    Sound because rows of the tile stand at E .. E + BM - 1, so a key at or beyond E + BM is masked for all of them:
    s = -inf, its exponential is 0 and the running maximum stays. Required: the scores feed nothing but `max` and
    exp(s - ...), hence the skipped iterations would have added zeros.
    """
    source = read(text)
    masked = _find(source, kernel)
    _require_softmax_use(masked)
    end = arguments_of(masked.loop)[1]
    limit = f"{_term(source, masked.rows)} + {_term(source, masked.height)}"
    if called(end, "minimum") or isinstance(end, ast.Call):
        raise MoveError("the loop's end is already limited")
    return edited(text, [source.replace(end, f"minimum({source.segment(end)}, {limit})")])


def _require_softmax_use(masked: Masked) -> None:
    """Scores are used only as `max(s, ...)` and as the left side of exp(s - ...), below the mask."""
    later = masked.loop.body[masked.loop.body.index(masked.statement) + 1 :]
    allowed: set[int] = set()
    for statement in later:
        for call in calls(statement, "max", "exp"):
            inner = call.args[0]
            if called(call, "exp") and isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Sub):
                inner = inner.left
            allowed.add(id(inner))
    uses = [n for s in later for n in below(s) if isinstance(n, ast.Name) and n.id == masked.name]
    if not uses or any(id(use) not in allowed for use in uses):
        raise MoveError(f"{masked.name} is used for more than a softmax")


@move(_propose)
def split_masked_tiles(text: str, kernel: str | None = None) -> str:
    """Run the tiles below the diagonal without a mask, then the others with it.

    Sound because keys j .. j + BN - 1 are visible to every row of the tile when j + BN <= E + 1; there `where` returns
    its second operand unchanged. The loops cover the same tiles in the same order: the first up to (E + 1) // BN * BN,
    a multiple of the step, the second from there.
    """
    source = read(text)
    masked = _find(source, kernel)
    start, end, width = arguments_of(masked.loop)
    if not isinstance(start, ast.Constant) or start.value != 0:
        raise MoveError("the loop does not start at 0")
    rows, step, last = _term(source, masked.rows), _term(source, width), source.segment(end)
    full = f"minimum({last}, maximum(0, ({rows} + 1) // {step} * {step}))"
    plain = source.replace(masked.statement, f"{masked.name} = {source.segment(masked.unmasked)}")
    if isinstance(masked.unmasked, ast.Name) and masked.unmasked.id == masked.name:
        plain = source.remove(masked.statement)
    head = source.text[source.line_start(masked.loop) : source.line_start(masked.loop.body[0])]
    at = source.start(end) - source.line_start(masked.loop)
    first = head[:at] + full + head[at + len(last) :] + body_text(source, masked.loop.body, [plain])
    place = source.line_start(masked.loop)
    return edited(text, [Edit(place, place, first), source.replace(start, full)])
