"""Moves on tile sizes and other tunables.

They preserve the meaning because the language promises that tunables never change it: tile sizes only say how the same
elements are grouped, and what lies beyond an edge is void.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import Edit, MoveError, Source, below, edited, functions, loops, named, read

LARGEST = 1 << 16


@dataclass(frozen=True)
class Declared:
    """A tunable of a signature: `BM=64` or `BM=choices(32, 64)`; the first choice is the default."""

    function: ast.FunctionDef
    name: str
    node: ast.expr
    values: tuple[int | bool, ...]


def declared(function: ast.FunctionDef) -> list[Declared]:
    """Parameters without annotation whose default is a literal or `choices(...)`."""
    parameters = [*function.args.posonlyargs, *function.args.args]
    pairs = list(zip(parameters[len(parameters) - len(function.args.defaults) :], function.args.defaults, strict=True))
    keyword = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    pairs += [(p, d) for p, d in keyword if d is not None]
    found = [(p, d, _values(d)) for p, d in pairs if p.annotation is None]
    return [Declared(function, p.arg, d, values) for p, d, values in found if values]


def _values(default: ast.expr) -> tuple[int | bool, ...]:
    if isinstance(default, ast.Constant) and isinstance(default.value, int):
        return (default.value,)
    if isinstance(default, ast.Call) and isinstance(default.func, ast.Name) and default.func.id == "choices":
        literals = [a.value for a in default.args if isinstance(a, ast.Constant) and isinstance(a.value, int)]
        return tuple(literals) if len(literals) == len(default.args) else ()
    return ()


def find(source: Source, name: str, kernel: str | None) -> list[Declared]:
    """Where a tunable is declared. Raises MoveError when nowhere."""
    found = [d for f in named(source, kernel) for d in declared(f) if d.name == name]
    if not found:
        raise MoveError(f"there is no tunable {name!r}")
    return found


def policies(function: ast.FunctionDef, name: str) -> list[tuple[str | None, ast.keyword]]:
    """The `on(...)` statements that set a word, by target."""
    found = []
    for statement in function.body:
        call = statement.value if isinstance(statement, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in ("on", "require"):
            target = call.args[0].id if call.args and isinstance(call.args[0], ast.Name) else None
            found += [(target, keyword) for keyword in call.keywords if keyword.arg == name]
    return found


def _check(tunable: Declared, value: Any) -> None:
    wanted = bool if isinstance(tunable.values[0], bool) else int
    if type(value) is not wanted:
        raise MoveError(f"{tunable.name} takes {wanted.__name__} values, not {value!r}")
    if wanted is int and not 0 < value <= LARGEST:
        raise MoveError(f"{tunable.name}={value} is not in 1..{LARGEST}")


def _written(tunable: Declared, value: int | bool) -> str:
    """The new default, choices kept."""
    if len(tunable.values) == 1 and isinstance(tunable.node, ast.Constant):
        return repr(value)
    rest = [v for v in tunable.values if v != value]
    return f"choices({', '.join(map(repr, [value, *rest]))})"


def _propose_values(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel", "program"):
        for tunable in declared(function):
            yield from ({"name": tunable.name, "value": v, "kernel": function.name} for v in tunable.values[1:])
            if isinstance(tunable.values[0], bool):
                yield {"name": tunable.name, "value": not tunable.values[0], "kernel": function.name}


@move(_propose_values)
def set_tunable(text: str, name: str, value: int | bool, kernel: str | None = None) -> str:
    """Give a tunable another default, everywhere or in one kernel, and in every `on(...)` that sets it."""
    source = read(text)
    edits: list[Edit] = []
    for tunable in find(source, name, kernel):
        _check(tunable, value)
        edits.append(source.replace(tunable.node, _written(tunable, value)))
        edits += [source.replace(k.value, repr(value)) for _, k in policies(tunable.function, name)]
    return edited(text, edits)


def _propose_factors(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel", "program"):
        for tunable in declared(function):
            if not isinstance(tunable.values[0], bool):
                yield from ({"name": tunable.name, "factor": f, "kernel": function.name} for f in (2, 0.5, 4, 0.25))


@move(_propose_factors)
def scale_tunable(text: str, name: str, factor: float, kernel: str | None = None) -> str:
    """Multiply an integer tunable's default by a factor that leaves it whole."""
    source = read(text)
    current = {t.values[0] for t in find(source, name, kernel)}
    if len(current) != 1:
        raise MoveError(f"kernels disagree about {name}; name one")
    value = current.pop() * factor
    if isinstance(next(iter(find(source, name, kernel))).values[0], bool) or value != int(value):
        raise MoveError(f"{name} cannot be scaled by {factor}")
    return set_tunable(text, name, int(value), kernel)


def _propose_choices(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for tunable in declared(function):
            value = tunable.values[0]
            if not isinstance(value, bool) and value >= 2:
                yield {"name": tunable.name, "values": [value // 2, value, value * 2], "kernel": function.name}


@move(_propose_choices)
def add_choices(text: str, name: str, values: list[int | bool], kernel: str | None = None) -> str:
    """Let the tuner move a tunable among values; its default stays first."""
    source = read(text)
    if not isinstance(values, list) or not values:
        raise MoveError("add_choices needs a list of values")
    edits = []
    for tunable in find(source, name, kernel):
        for value in values:
            _check(tunable, value)
        merged = list(dict.fromkeys([*tunable.values, *values]))
        if len(merged) > len(tunable.values):
            edits.append(source.replace(tunable.node, f"choices({', '.join(map(repr, merged))})"))
    return edited(text, edits)


def row_tunables(function: ast.FunctionDef) -> set[str]:
    """Tunables that are the tile size of a grid axis (`tiles`) of a kernel that loops inside a tile."""
    found: set[str] = set()
    for loop in loops(function, "tiles"):
        assert isinstance(loop.iter, ast.Call)
        if loops(ast.Module(loop.body, []), "pipeline", "range") and len(loop.iter.args) == 2:
            found |= {n.id for n in below(loop.iter.args[1]) if isinstance(n, ast.Name)}
    return found


def _propose_rows(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for tunable in declared(function):
            if tunable.name in row_tunables(function):
                yield from ({"name": tunable.name, "factor": f, "kernel": function.name} for f in (2, 4, 8))


@move(_propose_rows)
def widen_row_tile(text: str, name: str, factor: int, kernel: str | None = None) -> str:
    """Handle more rows per tile, so that each loaded operand, or each pass, serves more of them."""
    source = read(text)
    if factor not in (2, 4, 8, 16):
        raise MoveError("widen_row_tile takes a factor of 2, 4, 8 or 16")
    if not any(name in row_tunables(t.function) for t in find(source, name, kernel)):
        raise MoveError(f"{name} is not the tile size of a grid axis around a loop")
    return scale_tunable(text, name, factor, kernel)
