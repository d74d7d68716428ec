"""Moves on row passes: how often the elements of a row are visited."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from kernelagent.dsl.moves.loops import Neighbours, body_text, outside, pair_at, propose_pairs, zero_start
from kernelagent.dsl.moves.loops import merged as merge_text
from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (  # fmt: skip
    Edit,
    MoveError,
    Source,
    accumulation,
    assignment,
    below,
    bound,
    called,
    edited,
    extract,
    fresh,
    functions,
    loops,
    named,
    read,
    reads,
    renamed,
    target_names,
)

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
    _require_zero_starts(source, kernel, found.second, sums)
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
    if any(called(n, "store", "scatter", "atomic_add") for s in (pair.first, pair.second) for n in below(s)):
        raise MoveError("a loop stores")
    if set(sums) & reads(s for s in pair.second.body if s not in sums.values()):
        raise MoveError("the second loop uses its sum before it is final")
    if bound(pair.between) & (reads(pair.first.body) | bound(pair.first.body)):
        raise MoveError("the first loop uses what is bound later")
    if bound(pair.first.body) & (reads(pair.between) | bound(pair.between)):
        raise MoveError("what stands between the loops uses the maximum")


def _require_zero_starts(source: Source, kernel: str | None, loop: ast.For, sums: Iterable[str]) -> None:
    """Anything but zero would be rescaled with the sum."""
    function = next(f for f in named(source, kernel) if any(n is loop for n in below(f)))
    for name in sums:
        zero_start(source, function, loop, name)


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


def _propose_online(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for loop in loops(function, "pipeline"):
            yield from ({"loop": name, "kernel": function.name} for name in target_names(loop.target)[:1])


@move(_propose_online)
def unfuse_passes(text: str, loop: str, kernel: str | None = None) -> str:
    """The inverse of `fuse_passes`: find the maximum first, then the sums, without rescaling in between.

    Worth it where rows stay in cache: the second pass is cheap and the chain through the running maximum is gone. Sound
    because of the same identity: with the final maximum known, every scale is exp(0) = 1.
    """
    source = read(text)
    for function in named(source, kernel):
        for found in loops(function, "pipeline"):
            online = _online(found) if target_names(found.target)[:1] == [loop] else None
            if online is not None:
                _require_zero_starts(source, kernel, found, online.sums)
                return _unfused(source, found, online)
    raise MoveError(f"no loop over {loop!r} is an online softmax written plainly")


@dataclass(frozen=True)
class Online:
    """`newer = maximum(maximum_, max(...))`, `scale = exp(maximum_ - newer)`, `sum = sum * scale + ...`, and at the end
    `maximum_ = newer`."""

    maximum: str
    newer: ast.stmt
    newer_name: str
    scale: ast.stmt
    sums: dict[str, tuple[ast.stmt, ast.expr]]
    last: ast.stmt


def _online(loop: ast.For) -> Online | None:
    last = assignment(loop.body[-1])
    if last is None or not isinstance(last[1], ast.Name):
        return None
    maximum, newer = last[0], last[1].id
    plain = {a[0]: s for s in loop.body[:-1] if (a := assignment(s))}
    scale = next((s for n, s in plain.items() if _text(s) == f"{n} = exp({maximum} - {newer})"), None)
    if scale is None or newer not in plain or not _text(plain[newer]).startswith(f"{newer} = maximum({maximum}, max("):
        return None
    found = assignment(scale)
    assert found is not None
    sums = {n: (s, added) for n, s in plain.items() if (added := _rescaled(s, n, found[0], newer)) is not None}
    others = [s for s in loop.body[:-1] if s not in (plain[newer], scale) and s not in [s for s, _ in sums.values()]]
    unsafe = {maximum, newer, found[0], *sums} & reads(others)
    return None if unsafe or not sums else Online(maximum, plain[newer], newer, scale, sums, loop.body[-1])


def _rescaled(statement: ast.stmt, name: str, scale: str, newer: str) -> ast.expr | None:
    """The v of `name = name * scale + v`, where v is a sum of exp(... - newer[:, None])."""
    found = assignment(statement)
    value = found[1] if found else None
    if not isinstance(value, ast.BinOp) or not isinstance(value.op, ast.Add):
        return None
    sound = called(value.right, "sum") and _is_exponential(value.right.args[0], newer)  # type: ignore[attr-defined]
    return value.right if sound and ast.unparse(value.left) == f"{name} * {scale}" else None


def _text(statement: ast.stmt) -> str:
    return ast.unparse(statement)


def _unfused(source: Source, loop: ast.For, online: Online) -> str:
    head = source.text[source.line_start(loop) : source.line_start(loop.body[0])]
    before = loop.body[: loop.body.index(online.newer)]
    newer = assignment(online.newer)
    assert newer is not None
    needed = _needed_by(before, reads([newer[1]]))
    _require_local(source, loop, needed, reads([newer[1], *needed]) - {online.maximum})
    indent = source.indent(online.newer)
    first = "".join(source.lines_of([s]) for s in needed)
    first += f"{indent}{online.maximum} = {source.segment(newer[1])}\n"
    skipped = (online.newer, online.scale, online.last)
    second = "".join(_second_line(source, s, online) for s in loop.body if s not in skipped)
    place = Edit(source.line_start(loop), source.line_end(loop), head + first + head + second)
    return edited(source.text, [place])


def _require_local(source: Source, loop: ast.For, needed: Sequence[ast.stmt], used: set[str]) -> None:
    """What the maximum is taken of must not pass from one iteration to the next."""
    own = bound(needed)
    inside = {id(n) for s in loop.body for n in below(s)}
    others = [n for n in below(source.tree) if isinstance(n, ast.Name) and id(n) not in inside]
    if own & bound(others) or used & (bound(loop.body) - own):
        raise MoveError("the maximum is taken of a carried value")


def _second_line(source: Source, statement: ast.stmt, online: Online) -> str:
    for name, (sum_statement, added) in online.sums.items():
        if statement is sum_statement:
            inner = _inside(source, added, renamed(source, [added], {online.newer_name: online.maximum}))
            return f"{source.indent(statement)}{name} += {inner}\n"
    return source.lines_of([statement])


def _needed_by(statements: Sequence[ast.stmt], wanted: set[str]) -> list[ast.stmt]:
    """The local values among the statements that these names depend on, in order."""
    kept: list[ast.stmt] = []
    for statement in reversed(statements):
        local = assignment(statement)
        if local is not None and local[0] in wanted:
            kept.append(statement)
            wanted = wanted | reads([statement])
    return kept[::-1]
