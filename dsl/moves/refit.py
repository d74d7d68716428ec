"""Fitting a text that was tuned for some sizes to others, before anything is measured there."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

from kernelagent.dsl.moves.source import MoveError, arguments_of, below, functions, loops, read
from kernelagent.dsl.moves.tunables import LARGEST, declared, set_tunable


def refit(text: str, old: Mapping[str, int], new: Mapping[str, int]) -> str:
    """Tile sizes that cover a whole axis at the sizes `old` cover it at the sizes `new` as well.

    What made such a text good is that the axis is one tile, not the number. The tile's other axes shrink or grow the
    other way, so that its area, hence its place in the caches, stays. Preserves the meaning because tunables never
    change it. Returns the text as it is where nothing covers an axis; raises MoveError for a text that does not parse.
    """
    for function in functions(read(text), "kernel"):
        sizes = {d.name: d.values[0] for d in declared(function) if type(d.values[0]) is int}
        for dim, name in _covering(function, sizes, old, new):
            factor = _power(new[dim]) / _power(old[dim])
            text = _scaled(text, function.name, name, sizes[name], factor)
            for other in _beside(function, name):
                if other in sizes:
                    text = _scaled(text, function.name, other, sizes[other], 1.0 / factor)
    return text


def trimmed(text: str, dims: Mapping[str, int]) -> str:
    """Tile sizes beyond the axis that they cover, brought down to the power of two that covers it.

    The rest of such a tile is void: texts that differ in it do the same work. Raises as `refit` does.
    """
    for function in functions(read(text), "kernel"):
        sizes = {d.name: d.values[0] for d in declared(function) if type(d.values[0]) is int}
        for dim, name in dict(_steps(function)).items():
            if name in sizes and dim in dims and sizes[name] > _power(dims[dim]):
                text = _scaled(text, function.name, name, _power(dims[dim]), 1.0)
    return text


def _covering(
    function: ast.FunctionDef, sizes: Mapping[str, int], old: Mapping[str, int], new: Mapping[str, int]
) -> Iterator[tuple[str, str]]:
    """(dim, tunable) of loops from 0 to a dim whose single step covered the dim, where the dim's class changed."""
    seen = set()
    for dim, name in _steps(function):
        known = name in sizes and dim in old and dim in new and name not in seen
        if known and sizes[name] >= old[dim] > 0 and _power(new[dim]) != _power(old[dim]):
            seen.add(name)
            yield dim, name


def _steps(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for loop in loops(function, "pipeline"):
        bounds = arguments_of(loop)
        if len(bounds) == 3 and isinstance(bounds[1], ast.Name) and isinstance(bounds[2], ast.Name):
            yield bounds[1].id, bounds[2].id


def _beside(function: ast.FunctionDef, name: str) -> list[str]:
    """Tunables that share a load's or store's tile with this one."""
    found: list[str] = []
    for node in below(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "load":
            names = [n.id for n in below(node.args[-1]) if isinstance(n, ast.Name)]
            found += [n for n in names if name in names and n != name and n not in found]
    return found


def _scaled(text: str, kernel: str, name: str, value: int, factor: float) -> str:
    wanted = min(LARGEST, max(1, round(value * factor)))
    try:
        return set_tunable(text, name, wanted, kernel)
    except MoveError:
        return text


def _power(size: int) -> int:
    """The power of two at or above a size."""
    return 1 << max(0, size - 1).bit_length()
