"""Moves on row passes: how often the elements of a row are visited."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .loops import Neighbours, body_text, neighbours, outside, pair_at, stored
from .loops import merged as merge_text
from .registry import Arguments, move
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
    functions,
    read,
    reads,
    renamed,
    same,
    target_names,
)  # fmt: skip

LOWEST = "-3.4e38"
"""Stands for -inf as a start of a running maximum: exp(-inf - -inf) is NaN, and no f32 logit lies below."""


def _propose_pairs(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        yield from ({"pair": n, "kernel": function.name} for n, _ in enumerate(neighbours(function)))


@move(_propose_pairs)
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


@move(_propose_pairs)
def fuse_moments(text: str, pair: int = 0, kernel: str | None = None) -> str:
    """Find a row's sum and its centred sum of squares in one pass, merging tile moments as Chan et al. (1979) do.

    Sound because sum((x - mean)^2) over two groups is the sum within each, around its own mean, plus
    (difference of means)^2 * n1 * n2 / (n1 + n2). Unlike sum(x^2) - n * mean^2 it does not cancel.
    """
    source = read(text)
    found = pair_at(source, pair, kernel)
    moments = _moments(source, found)
    first = found.first.body[0]
    indent = source.indent(first)
    names = {k: fresh(source, k) for k in ("part", "count", "part_mean", "shift")}
    part, count, part_mean, shift = names.values()
    loop = source.segment(found.first.target)
    lines = [
        *moments.setup,
        f"{part} = {moments.row_sum}",
        f"{count} = minimum({moments.step}, {moments.end} - {loop})",
        f"{part_mean} = {part} / {count}",
        f"{shift} = {part_mean} - {moments.total} / maximum({loop}, 1)",
        f"{moments.centred} = {moments.element} - {part_mean}[:, None]",
        f"{moments.squares} += {moments.square_sum} + {shift} * {shift} * {loop} * {count} / ({loop} + {count})",
        f"{moments.total} += {part}",
    ]
    return _replace_moments(source, found, moments, "".join(f"{indent}{line}\n" for line in lines))


class _Moments:
    """Texts of the parts of the two loops."""

    def __init__(self, source: Source, total: str, row_sum: ast.Call, squares: str, square_sum: ast.expr,
                 centred: str, element: ast.expr, mean: ast.stmt) -> None:  # fmt: skip
        self.total, self.squares, self.centred = total, squares, centred
        self.row_sum, self.square_sum = source.segment(row_sum), source.segment(square_sum)
        self.element, self.mean = source.segment(element), mean
        self.setup: list[str] = []
        self.step = self.end = ""


def _moments(source: Source, pair: Neighbours) -> _Moments:
    bounds = pair.first.iter.args if isinstance(pair.first.iter, ast.Call) else []
    single = len(target_names(pair.first.target)) == 1 and len(bounds) == 3
    if not single or not (isinstance(bounds[0], ast.Constant) and bounds[0].value == 0):
        raise MoveError("the loops do not run from 0 over one axis")
    sums = accumulation(pair.first.body[0]) if len(pair.first.body) == 1 else None
    if sums is None or not isinstance(sums[1], ast.Call) or not called(sums[1], "sum"):
        raise MoveError("the first loop is not one row sum")
    if len(pair.second.body) != 2:
        raise MoveError("the second loop is not a centred sum of squares")
    deviation, update = assignment(pair.second.body[0]), accumulation(pair.second.body[1])
    means = [s for s in pair.between if (a := assignment(s)) and sums[0] in reads([a[1]])]
    if deviation is None or update is None or len(means) != 1:
        raise MoveError("the second loop is not a centred sum of squares")
    _require_centred(source, pair, sums, deviation, update, means[0])
    element = deviation[1]
    assert isinstance(element, ast.BinOp)
    moments = _Moments(source, sums[0], sums[1], update[0], update[1], deviation[0], element.left, means[0])
    shared = fresh(source, "value")
    moments.setup = [f"{shared} = {moments.element}"]
    moments.row_sum = moments.row_sum.replace(moments.element, shared, 1)
    moments.element = shared
    moments.step, moments.end = source.segment(bounds[2]), source.segment(bounds[1])
    return moments


def _require_centred(
    source: Source, pair: Neighbours, sums: tuple[str, ast.expr], deviation: tuple[str, ast.expr],
    update: tuple[str, ast.expr], mean: ast.stmt,
) -> None:  # fmt: skip
    name, value = sums[0], assignment(mean)
    assert value is not None
    assert isinstance(pair.first.iter, ast.Call)
    end = pair.first.iter.args[1]
    is_mean = isinstance(value[1], ast.BinOp) and isinstance(value[1].op, ast.Div) and same(value[1].right, end)
    if not is_mean or source.segment(value[1]).split("/")[0].strip() != name:
        raise MoveError(f"{value[0]} is not {name} / {source.segment(end)}")
    centred, element = deviation
    by_mean = isinstance(element, ast.BinOp) and isinstance(element.op, ast.Sub)
    if not by_mean or source.segment(element.right).replace(" ", "") != f"{value[0]}[:,None]":  # type: ignore[attr-defined]
        raise MoveError(f"{centred} is not centred on {value[0]}")
    if source.segment(update[1]).replace(" ", "") != f"sum({centred}*{centred},axis=1)":
        raise MoveError(f"line {pair.second.body[1].lineno} is not a sum of squares along axis 1")
    row = sums[1]
    assert isinstance(row, ast.Call)
    if pair.renaming or not same(row.args[0], element.left) or not called(row.args[0], "load"):  # type: ignore[attr-defined]
        raise MoveError("the loops do not visit the same elements")
    if source.segment(row).replace(" ", "")[-7:] != "axis=1)" or stored([pair.first, pair.second]):
        raise MoveError("the first loop does not sum along axis 1")
    used = reads(s for s in pair.between if s is not mean)
    if used & (bound([mean]) | {name}) or value[0] in bound(pair.before):
        raise MoveError("what stands between the loops uses the mean")


def _replace_moments(source: Source, pair: Neighbours, moments: _Moments, body: str) -> str:
    """The other statements between, the fused loop, then the mean."""
    kept = "".join(source.lines_of([s]) for s in pair.between if s is not moments.mean)
    head = source.text[source.line_start(pair.first) : source.line_start(pair.first.body[0])]
    mean = source.lines_of([moments.mean])
    start, end = source.line_start(pair.first), source.line_end(pair.second)
    return source.text[:start] + kept + head + body + mean + source.text[end:]
