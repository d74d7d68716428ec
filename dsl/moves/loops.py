"""Moves on pipeline loops: merging neighbours, splitting a reduction into independent chains."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (  # fmt: skip
    Edit,
    MoveError,
    Source,
    accumulation,
    arguments_of,
    assignment,
    below,
    blocks,
    bound,
    called,
    calls,
    edited,
    extract,
    fresh,
    functions,
    named,
    read,
    reads,
    renamed,
    same,
    target_names,
)


@dataclass(frozen=True)
class Neighbours:
    """Two loops over the same range in one block, and the statements between them."""

    before: tuple[ast.stmt, ...]  # of the block, above the first loop
    first: ast.For
    between: tuple[ast.stmt, ...]
    second: ast.For

    @property
    def renaming(self) -> dict[str, str]:
        """From the second loop's variables to the first's."""
        pairs = zip(target_names(self.second.target), target_names(self.first.target), strict=True)
        return {old: new for old, new in pairs if old != new}


def neighbours(function: ast.FunctionDef) -> Iterator[Neighbours]:
    """Pairs of loops with equal ranges that follow each other with no loop or effect between."""
    for block in blocks(function):
        serial = [n for n, s in enumerate(block) if isinstance(s, ast.For) and called(s.iter, "pipeline", "range")]
        for p, q in pairwise(serial):
            first, second = block[p], block[q]
            assert isinstance(first, ast.For)
            assert isinstance(second, ast.For)
            between = tuple(block[p + 1 : q])
            simple = all(assignment(s) or isinstance(s, ast.Assign) for s in between)
            alike = len(target_names(first.target)) == len(target_names(second.target))
            if simple and alike and same(first.iter, second.iter):
                yield Neighbours(tuple(block[:p]), first, between, second)


def stored(nodes: Sequence[ast.AST]) -> set[str]:
    """Names inside the destinations of stores, scatters and atomic adds."""
    effects = [c for n in nodes for c in calls(n, "store", "scatter", "atomic_add")]
    return {name for call in effects for name in reads(call.args[:1])}


def require_mergeable(pair: Neighbours) -> None:
    """Raise MoveError unless running both bodies in each iteration gives what running the loops in turn gives.

    That is so when the second loop, and what stands between, use nothing the first one carries, and the first uses
    nothing that the others bind; stores go to arrays the other body does not touch.
    """
    first, second, between = pair.first.body, pair.second.body, pair.between
    if pair.first.orelse or pair.second.orelse:
        raise MoveError("a loop has an else")
    if bound(first) & (reads(between) | bound(between)):
        raise MoveError("what stands between the loops uses the first one's results")
    carried = outside(pair)
    if carried & bound(first) & (reads(second) | bound(second)):
        raise MoveError("the second loop uses what the first one carries")
    if bound(between) & (reads(first) | bound(first)) or carried & bound(second) & reads(first):
        raise MoveError("the first loop uses what is bound later")
    if stored(first) & (reads(second)) or stored(second) & reads(first):
        raise MoveError("both loops touch an array that one of them stores")


def outside(pair: Neighbours) -> set[str]:
    """Names that live outside the two loops' bodies: bound before them."""
    return bound(pair.before) | bound(pair.between)


def body_text(source: Source, body: Sequence[ast.stmt], edits: Sequence[Edit] = ()) -> str:
    """The lines of a loop body with edits made, ending in a newline."""
    text = extract(source, source.line_start(body[0]), source.line_end(body[-1]), edits)
    return text if text.endswith("\n") else text + "\n"


def propose_pairs(source: Source) -> Iterator[Arguments]:
    """Every pair of neighbouring loops, by number within its kernel."""
    for function in functions(source, "kernel"):
        yield from ({"pair": n, "kernel": function.name} for n, _ in enumerate(neighbours(function)))


def pair_at(source: Source, pair: int, kernel: str | None) -> Neighbours:
    found = [p for function in named(source, kernel) for p in neighbours(function)]
    if not 0 <= pair < len(found):
        raise MoveError(f"there are {len(found)} pairs of neighbouring loops over one range, none has number {pair}")
    return found[pair]


@move(propose_pairs)
def merge_loops(text: str, pair: int = 0, kernel: str | None = None) -> str:
    """Run two neighbouring loops over the same range as one, so that shared loads happen once.

    Sound because, by `require_mergeable`, neither body sees the other's results, so each carried value goes through the
    same sequence of updates as before, bit for bit.
    """
    source = read(text)
    found = pair_at(source, pair, kernel)
    require_mergeable(found)
    second = body_text(source, found.second.body, renamed(source, found.second.body, found.renaming))
    return merged(source, found, body_text(source, found.first.body), second)


def merged(source: Source, pair: Neighbours, first: str, second: str) -> str:
    """The text with both loops replaced by one that has these body lines; what stood between moves above it."""
    between = source.lines_of(pair.between) if pair.between else ""
    head = source.text[source.line_start(pair.first) : source.line_start(pair.first.body[0])]
    if source.indent(pair.first.body[0]) != source.indent(pair.second.body[0]):
        raise MoveError("the loops are indented differently")
    whole = Edit(source.line_start(pair.first), source.line_end(pair.second), between + head + first + second)
    return edited(source.text, [whole])


def _propose_loops(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for loop in _pipelines(function):
            for name in target_names(loop.target):
                yield {"loop": name, "kernel": function.name}


def _pipelines(function: ast.FunctionDef) -> list[ast.For]:
    return [n for n in below(function) if isinstance(n, ast.For) and called(n.iter, "pipeline")]


@move(_propose_loops)
def split_reduction(text: str, loop: str, kernel: str | None = None) -> str:
    """Sum into two independent accumulators, for two chains in flight instead of one.

    Even tiles go to the first and odd tiles to the second; their sum regroups one sum. Sound because every update must
    be `a += sum(...)` or `a += mma(...)` of tiles loaded along the loop's axis from 0 to its end: the odd tile beyond
    an odd count lies wholly outside its views, is void, and adds nothing. Refused where `fill` would revive it.
    """
    source = read(text)
    for function in named(source, kernel):
        for found in _pipelines(function):
            if target_names(found.target) == [loop]:
                return _split(source, function, found, loop)
    raise MoveError(f"there is no pipeline loop over {loop!r} alone")


def _split(source: Source, function: ast.FunctionDef, loop: ast.For, variable: str) -> str:
    bounds = arguments_of(loop)
    if len(bounds) != 3 or not (isinstance(bounds[0], ast.Constant) and bounds[0].value == 0):
        raise MoveError("the loop does not start at 0")
    if calls_with_fill(loop) or any(accumulation(s) is None for s in loop.body):
        raise MoveError("the body does more than add to accumulators")
    updates = [pair for s in loop.body if (pair := accumulation(s))]
    for _, value in updates:
        if not called(value, "sum", "mma") or not _all_loads_run_along(function, value, variable, bounds[1]):
            raise MoveError("an update is not a sum of tiles loaded along the loop's axis to its end")
    if len({name for name, _ in updates}) != len(updates) or reads(v for _, v in updates) & {n for n, _ in updates}:
        raise MoveError("the accumulators depend on each other")
    step = source.segment(bounds[2])
    others = {name: fresh(source, f"{name}_odd") for name, _ in updates}
    second = _shifted(source, loop, variable, step, others)
    starts = [f"{other} = {zero_start(source, function, loop, name)}" for name, other in others.items()]
    sums = [f"{name} = {name} + {other}" for name, other in others.items()]
    return edited(source.text, [
        source.before(loop, starts),
        source.replace(bounds[2], f"2 * {step}"),
        Edit(source.line_end(loop), source.line_end(loop), second),
        source.after(loop, sums),
    ])  # fmt: skip


def _shifted(source: Source, loop: ast.For, variable: str, step: str, others: dict[str, str]) -> str:
    """The body once more, one step on, into the other accumulators."""
    edits = renamed(source, loop.body, {**others, variable: f"{variable} + {step}"})
    text = body_text(source, loop.body, edits)
    whole = source.text[: source.line_end(loop)]
    return text if whole.endswith("\n") else "\n" + text


def zero_start(source: Source, function: ast.FunctionDef, loop: ast.For, name: str) -> str:
    """The text of an accumulator's initial value. Raises MoveError unless that is zeros(...), beside the loop."""
    for block in blocks(function):
        if loop in block:
            before = [a for s in block[: block.index(loop)] if (a := assignment(s)) and a[0] == name]
            if before and called(before[-1][1], "zeros"):
                return source.segment(before[-1][1])
    raise MoveError(f"{name} does not start as zeros beside the loop")


def calls_with_fill(node: ast.AST) -> bool:
    return any(k.arg == "fill" for c in calls(node, "load", "gather") for k in c.keywords) or any(calls(node, "fill"))


def _all_loads_run_along(function: ast.FunctionDef, value: ast.expr, variable: str, end: ast.expr) -> bool:
    found = list(calls(value, "load"))
    return bool(found) and all(_runs_along(function, load, variable, end) for load in found)


def _runs_along(function: ast.FunctionDef, load: ast.Call, variable: str, end: ast.expr) -> bool:
    """Does the load start at the loop's variable along an array axis whose extent is the loop's end?"""
    if len(load.args) < 2 or not isinstance(load.args[1], ast.Tuple):
        return False
    dims = _view_dims(function, load.args[0])
    starts = load.args[1].elts
    hits = [n for n, s in enumerate(starts) if isinstance(s, ast.Name) and s.id == variable]
    others = reads(s for n, s in enumerate(starts) if n not in hits) | reads([load.args[0]])
    return len(hits) == 1 and len(dims) == len(starts) and same(dims[hits[0]], end) and variable not in others


def _view_dims(function: ast.FunctionDef, view: ast.expr) -> list[ast.expr]:
    """Dims of `x` or `x[b, h]` (leading integers drop axes); empty when it is neither."""
    dropped = 0
    if isinstance(view, ast.Subscript):
        subscripts = view.slice.elts if isinstance(view.slice, ast.Tuple) else [view.slice]
        if any(isinstance(s, ast.Slice) for s in subscripts):
            return []
        dropped, view = len(subscripts), view.value
    parameters = {p.arg: p.annotation for p in [*function.args.args, *function.args.kwonlyargs]}
    annotation = parameters.get(view.id) if isinstance(view, ast.Name) else None
    if not isinstance(annotation, ast.Subscript) or not isinstance(annotation.slice, ast.Tuple):
        return []
    return annotation.slice.elts[1:][dropped:]
