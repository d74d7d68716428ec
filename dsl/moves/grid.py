"""Moves on the grid of tiles."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise

from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import MoveError, Source, edited, functions, loops, named, read


def _grids(function: ast.FunctionDef) -> Iterator[tuple[ast.Tuple, ast.Tuple, ast.Tuple]]:
    """(variables, extents, sizes) of every grid written with tuples of one length."""
    for loop in loops(function, "tiles"):
        assert isinstance(loop.iter, ast.Call)
        if len(loop.iter.args) != 2 or not isinstance(loop.target, ast.Tuple):
            continue
        extents, sizes = loop.iter.args
        if not isinstance(extents, ast.Tuple) or not isinstance(sizes, ast.Tuple):
            continue
        if len(loop.target.elts) == len(extents.elts) == len(sizes.elts):
            yield loop.target, extents, sizes


def _propose(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for variables, _, _ in _grids(function):
            for first, second in pairwise(v.id for v in variables.elts if isinstance(v, ast.Name)):
                yield {"first": first, "second": second, "kernel": function.name}


@move(_propose)
def interchange_tiles(text: str, first: str, second: str, kernel: str | None = None) -> str:
    """Swap two axes of a grid, so that another operand is reused by consecutive tiles.

    Sound because iterations of `tiles` are independent and unordered by definition.
    """
    source = read(text)
    for function in named(source, kernel):
        for axes in _grids(function):
            order = [v.id for v in axes[0].elts if isinstance(v, ast.Name)]
            if first in order and second in order and first != second:
                p, q = order.index(first), order.index(second)
                pairs = [(t.elts[p], t.elts[q]) for t in axes]
                swaps = [(source.replace(a, source.segment(b)), source.replace(b, source.segment(a))) for a, b in pairs]
                return edited(text, [edit for swap in swaps for edit in swap])
    raise MoveError(f"no grid has the axes {first!r} and {second!r}")
