"""Moves on row passes: how often the elements of a row are visited."""

from __future__ import annotations

import ast

from .loops import Neighbours, body_text, outside, pair_at, propose_pairs
from .loops import merged as merge_text
from .registry import move
from .source import (
    Edit,
    MoveError,
    Source,
    accumulation,
    assignment,
    bound,
    called,
    extract,
    fresh,
    read,
    reads,
    renamed,
)  # fmt: skip

LOWEST = "-3.4e38"
"""Stands for -inf as a start of a running maximum: exp(-inf - -inf) is NaN, and no f32 logit lies below."""


@move(propose_pairs)
def fuse_passes(text: str, pair: int = 0, kernel: str | None = None) -> str:
    """Online softmax: find the row maximum and the sum of exponentials in one pass instead of two.

    Sound because sum(exp(x - m_old)) * exp(m_old - m_new) = sum(exp(x - m_new)): rescaling the running sum whenever
    the running maximum m moves leaves, after the last tile, the sum for the final maximum. Every use of m in the second
    loop must be the m of such an exponential inside a sum.
    """
    source = read(text)
    found = pair_at(source, pair, kernel)
    maximum = _running_maximum(found)
    sums = _exponential_sums(found, maximum)
    _require_independent(found, maximum, sums)
    newer, scale = fresh(source, f"{maximum}_new"), fresh(source, f"{maximum}_scale")
    first = _first_body(source, found, maximum, newer, scale)
    second = _second_body(source, found, maximum, newer, scale, sums)
    indent = source.indent(found.first.body[0])
    fused = merge_text(source, found, first, f"{second}{indent}{maximum} = {newer}\n")
    return _finite_start(fused, source, found, maximum)


def _running_maximum(pair: Neighbours) -> str:
    """The name m of `m = maximum(m, max(..., axis=...))`, the last statement of the first loop and its only result."""
    last = assignment(pair.first.body[-1])
    if last is None or not called(last[1], "maximum"):
        raise MoveError("the first loop does not end in a running maximum")
    name, value = last
    assert isinstance(value, ast.Call)
    own = len(value.args) == 2 and isinstance(value.args[0], ast.Name) and value.args[0].id == name
    if not own or not called(value.args[1], "max") or name in reads([value.args[1], *pair.first.body[:-1]]):
        raise MoveError(f"{name} is not a running maximum")
    if outside(pair) & bound(pair.first.body) != {name}:
        raise MoveError("the first loop carries more than the maximum")
    return name


def _exponential_sums(pair: Neighbours, maximum: str) -> dict[str, ast.stmt]:
    """Accumulators of the second loop that sum exp(... - m[:, None]), with their statements."""
    found: dict[str, ast.stmt] = {}
    for statement in pair.second.body:
        update = accumulation(statement)
        if update and called(update[1], "sum") and maximum in reads([update[1]]):
            found[update[0]] = statement
    if not found:
        raise MoveError(f"the second loop sums no exponential of {maximum}")
    return found


def _is_exponential(node: ast.expr, maximum: str) -> bool:
    """`exp(x - m[:, None])` with an x that does not depend on m."""
    if not isinstance(node, ast.Call) or not called(node, "exp") or len(node.args) != 1:
        return False
    difference = node.args[0]
    if not isinstance(difference, ast.BinOp) or not isinstance(difference.op, ast.Sub):
        return False
    right = difference.right
    column = isinstance(right, ast.Subscript) and isinstance(right.value, ast.Name) and right.value.id == maximum
    return column and maximum not in reads([difference.left])


def _require_independent(pair: Neighbours, maximum: str, sums: dict[str, ast.stmt]) -> None:
    for statement in pair.second.body:
        update = accumulation(statement)
        if statement in sums.values():
            assert update is not None
            assert isinstance(update[1], ast.Call)
            if not _is_exponential(update[1].args[0], maximum):
                raise MoveError(f"line {statement.lineno} is not a sum of exp(x - {maximum}[:, None])")
        elif maximum in reads([statement]) | bound([statement]):
            raise MoveError(f"line {statement.lineno} uses {maximum} before it is final")
    if any(called(n, "store", "scatter", "atomic_add") for s in (pair.first, pair.second) for n in ast.walk(s)):
        raise MoveError("a loop stores")
    if set(sums) & reads(s for s in pair.second.body if s not in sums.values()):
        raise MoveError("the second loop uses its sum before it is final")
    if bound(pair.between) & (reads(pair.first.body) | bound(pair.first.body)):
        raise MoveError("the first loop uses what is bound later")
    if bound(pair.first.body) & (reads(pair.between) | bound(pair.between)):
        raise MoveError("what stands between the loops uses the maximum")


def _first_body(source: Source, pair: Neighbours, maximum: str, newer: str, scale: str) -> str:
    last = pair.first.body[-1]
    assert isinstance(last, ast.Assign)
    indent = source.indent(last)
    return body_text(source, pair.first.body, [source.replace(last.targets[0], newer)]) + (
        f"{indent}{scale} = exp({maximum} - {newer})\n"
    )


def _second_body(
    source: Source, pair: Neighbours, maximum: str, newer: str, scale: str, sums: dict[str, ast.stmt]
) -> str:
    edits = renamed(source, [s for s in pair.second.body if s not in sums.values()], pair.renaming)
    for name, statement in sums.items():
        update = accumulation(statement)
        assert update is not None
        inner = renamed(source, [update[1]], {**pair.renaming, maximum: newer})
        new = _inside(source, update[1], inner)
        edits.append(Edit(source.start(statement), source.end(statement), f"{name} = {name} * {scale} + {new}"))
    return body_text(source, pair.second.body, edits)


def _inside(source: Source, node: ast.expr, edits: list[Edit]) -> str:
    return extract(source, source.start(node), source.end(node), edits)


def _finite_start(fused: str, source: Source, pair: Neighbours, maximum: str) -> str:
    """Start the maximum at LOWEST instead of -inf."""
    starts = [s for s in pair.before if (a := assignment(s)) and a[0] == maximum]
    value = assignment(starts[-1])[1] if starts else None  # type: ignore[index]
    if not isinstance(value, ast.Call) or not called(value, "full") or len(value.args) != 3:
        raise MoveError(f"{maximum} does not start as full(...) beside the loop")
    initial = source.segment(value.args[1])
    if initial not in ("-inf", "-1e30", LOWEST):
        raise MoveError(f"{maximum} starts at {initial}")
    start, end = source.start(value.args[1]), source.end(value.args[1])
    return fused[:start] + (LOWEST if initial == "-inf" else initial) + fused[end:]
