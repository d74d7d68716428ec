"""Mean and variance of a row in one pass."""

from __future__ import annotations

import ast
from dataclasses import dataclass

from kernelagent.dsl.moves.loops import Neighbours, pair_at, propose_pairs
from kernelagent.dsl.moves.registry import move
from kernelagent.dsl.moves.source import (
    Edit,
    MoveError,
    Source,
    accumulation,
    arguments_of,
    assignment,
    bound,
    called,
    edited,
    fresh,
    read,
    reads,
)


@dataclass(frozen=True)
class Moments:
    """`total += sum(element, axis=1)`, `mean = total / end`, then `squares += sum(d * d, axis=1)` with
    `d = element - mean[:, None]`, each in a loop from 0 to `end` by `step`."""

    variable: str
    end: str
    step: str
    element: str
    total: str
    mean: ast.stmt
    centred: str
    squares: str


@move(propose_pairs)
def fuse_moments(text: str, pair: int = 0, kernel: str | None = None) -> str:
    """Find a row's sum and its centred sum of squares in one pass, merging tile moments as Chan et al. (1979) do.

    Sound because sum((x - mean)^2) over two groups is the sum within each, around its own mean, plus
    (difference of means)^2 * n1 * n2 / (n1 + n2). Unlike sum(x^2) - n * mean^2 it does not cancel.
    """
    source = read(text)
    found = pair_at(source, pair, kernel)
    moments = _recognised(found)
    start, end = source.line_start(found.first), source.line_end(found.second)
    head = source.text[start : source.line_start(found.first.body[0])]
    indent = source.indent(found.first.body[0])
    body = "".join(f"{indent}{line}\n" for line in _merged_lines(source, moments))
    kept = "".join(source.lines_of([s]) for s in found.between if s is not moments.mean)
    return edited(text, [Edit(start, end, kept + head + body + source.lines_of([moments.mean]))])


def _merged_lines(source: Source, m: Moments) -> list[str]:
    value, part, count, shift = (fresh(source, stem) for stem in ("value", "part", "count", "shift"))
    part_mean = fresh(source, "part_mean")
    return [
        f"{value} = {m.element}",
        f"{part} = sum({value}, axis=1)",
        f"{count} = minimum({m.step}, {m.end} - {m.variable})",
        f"{part_mean} = {part} / {count}",
        f"{shift} = {part_mean} - {m.total} / maximum({m.variable}, 1)",
        f"{m.centred} = {value} - {part_mean}[:, None]",
        f"{m.squares} += sum({m.centred} * {m.centred}, axis=1)",
        f"{m.squares} += {shift} * {shift} * {m.variable} * {count} / ({m.variable} + {count})",
        f"{m.total} += {part}",
    ]


def _recognised(pair: Neighbours) -> Moments:
    """The parts, or MoveError: the loops must be exactly a row sum and a centred sum of squares of one load."""
    variable, end, step = _range(pair)
    total, element = _row_sum(pair)
    mean, mean_name = _mean(pair, total, end)
    centred, squares = _squares(pair, element, mean_name)
    if called(ast.parse(element, mode="eval").body, "load"):
        return Moments(variable, end, step, element, total, mean, centred, squares)
    raise MoveError("the loops do not sum the elements of one load")


def _range(pair: Neighbours) -> tuple[str, str, str]:
    bounds = arguments_of(pair.first)
    if pair.renaming or not isinstance(pair.first.target, ast.Name) or len(bounds) != 3:
        raise MoveError("the loops do not run over one axis with one name")
    if not isinstance(bounds[0], ast.Constant) or bounds[0].value != 0:
        raise MoveError("the loops do not start at 0")
    return pair.first.target.id, ast.unparse(bounds[1]), ast.unparse(bounds[2])


def _row_sum(pair: Neighbours) -> tuple[str, str]:
    """`(total, element)` of a first loop that is `total += sum(element, axis=1)` alone."""
    update = accumulation(pair.first.body[0]) if len(pair.first.body) == 1 else None
    call = update[1] if update else None
    if update is None or not isinstance(call, ast.Call) or not called(call, "sum") or not call.args:
        raise MoveError("the first loop is not one row sum")
    element = ast.unparse(call.args[0])
    if ast.unparse(call) != f"sum({element}, axis=1)":
        raise MoveError("the first loop does not sum along axis 1")
    return update[0], element


def _mean(pair: Neighbours, total: str, end: str) -> tuple[ast.stmt, str]:
    """The statement `mean = total / end` between the loops, on which nothing else there depends."""
    users = [s for s in pair.between if total in reads([s]) | bound([s])]
    found = assignment(users[0]) if len(users) == 1 else None
    if found is None or ast.unparse(found[1]) != f"{total} / {end}":
        raise MoveError(f"what stands between the loops is not one mean of {total}")
    others = [s for s in pair.between if s is not users[0]]
    if found[0] in reads(others) | bound(others) | bound(pair.before):
        raise MoveError(f"{found[0]} is used between the loops")
    return users[0], found[0]


def _squares(pair: Neighbours, element: str, mean: str) -> tuple[str, str]:
    """`(d, squares)` of a second loop `d = element - mean[:, None]; squares += sum(d * d, axis=1)`."""
    body = pair.second.body
    deviation = assignment(body[0]) if len(body) == 2 else None
    update = accumulation(body[1]) if len(body) == 2 else None
    if deviation is None or update is None:
        raise MoveError("the second loop is not a centred sum of squares")
    centred = deviation[0]
    if ast.unparse(deviation[1]) != f"{element} - {mean}[:, None]":
        raise MoveError(f"{centred} is not the distance of the same elements from {mean}")
    if ast.unparse(update[1]) != f"sum({centred} * {centred}, axis=1)":
        raise MoveError(f"{update[0]} is not a sum of squares along axis 1")
    return centred, update[0]
