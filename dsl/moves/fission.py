"""Splitting a loop that feeds several accumulators into one loop for each group of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (
    Edit,
    MoveError,
    Source,
    accumulation,
    assignment,
    blocks,
    bound,
    called,
    edited,
    functions,
    loops,
    named,
    read,
    reads,
    target_names,
)


def _propose(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for loop in loops(function, "pipeline"):
            yield from ({"loop": name, "kernel": function.name} for name in target_names(loop.target)[:1])


@move(_propose)
def split_loop(text: str, loop: str, kernel: str | None = None) -> str:
    """Feed the first accumulator in one loop and the others in a second over the same range.

    Sound because every statement is either an accumulation or a value local to the iteration, the accumulators do not
    use each other, and each loop computes the local values it needs: every accumulator sees the same updates in the
    same order.
    """
    source = read(text)
    for function in named(source, kernel):
        for block in blocks(function):
            for found in block:
                if isinstance(found, ast.For) and called(found.iter, "pipeline") and loop in target_names(found.target):
                    updates = _updates(found, bound(block[: block.index(found)]))
                    if len(updates) > 1:
                        return _split(source, found, updates)
    raise MoveError(f"no pipeline loop over {loop!r} feeds several accumulators")


def _updates(loop: ast.For, carried: set[str]) -> list[ast.stmt]:
    """The accumulations of a loop whose other statements are local values; empty when it is not of that form."""
    found = []
    for statement in loop.body:
        update, local = accumulation(statement), assignment(statement)
        if update is not None and update[0] in carried:
            found.append(statement)
        elif local is None or local[0] in carried:
            return []
    sums = {accumulation(s)[0] for s in found}  # type: ignore[index]
    values = [accumulation(s)[1] for s in found]  # type: ignore[index]
    locals_ = [s for s in loop.body if s not in found]
    independent = len(sums) == len(found) and not sums & reads([*values, *locals_])
    return found if independent and not loop.orelse else []


def _split(source: Source, loop: ast.For, updates: Sequence[ast.stmt]) -> str:
    head = source.text[source.line_start(loop) : source.line_start(loop.body[0])]
    first, second = (head + _lines(source, _needed(loop, group)) for group in (updates[:1], updates[1:]))
    return edited(source.text, [Edit(source.line_start(loop), source.line_end(loop), first + second)])


def _needed(loop: ast.For, group: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements of the body that a group of updates depends on, and the group, in order."""
    wanted = reads(group)
    kept = []
    for statement in reversed(loop.body):
        local = assignment(statement)
        if statement in group or (accumulation(statement) is None and local and local[0] in wanted):
            kept.append(statement)
            wanted |= reads([statement])
    return kept[::-1]


def _lines(source: Source, statements: Sequence[ast.stmt]) -> str:
    parts = [source.lines_of([s]) for s in statements]
    return "".join(p if p.endswith("\n") else p + "\n" for p in parts)
