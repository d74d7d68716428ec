"""Moves on policy: how a schedule is made, never what is computed.

They preserve the meaning because policy words choose among schedules of the same text (the language allows them to
change rounding through regrouping, nothing else).
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any

from kernelagent.dsl.moves.registry import Arguments, Propose, move
from kernelagent.dsl.moves.source import MoveError, Source, below, called, edited, functions, loops, named, read

WORDS: dict[str, tuple[int | bool | str, ...]] = {
    "stages": (1, 2, 3, 4),
    "unroll": (1, 2, 4, 8),
    "raster": ("row", "column", "grouped", "hilbert"),
    "via": ("cached", "stream"),
    "layout": ("packed", "direct"),
}
"""Policy words that a search may try without being told, with their values."""


def statements_for(function: ast.FunctionDef, target: str | None) -> list[ast.Expr]:
    """The `on(...)` statements of a scope."""
    found = []
    for statement in function.body:
        if isinstance(statement, ast.Expr) and called(statement.value, "on"):
            assert isinstance(statement.value, ast.Call)
            scope = statement.value.args[0] if statement.value.args else None
            if (scope.id if isinstance(scope, ast.Name) else None) == target:
                found.append(statement)
    return found


def _keyword(statement: ast.Expr, word: str) -> ast.keyword | None:
    assert isinstance(statement.value, ast.Call)
    return next((k for k in statement.value.keywords if k.arg == word), None)


def _value(node: ast.expr) -> object:
    """A policy value as it is written: `grouped` and "grouped" are one."""
    return node.id if isinstance(node, ast.Name) else node.value if isinstance(node, ast.Constant) else None


def _literal(value: Any) -> str:
    if isinstance(value, str):
        if not value.isidentifier():
            raise MoveError(f"{value!r} is not a policy value")
        return f'"{value}"'
    if isinstance(value, bool | int):
        return repr(value)
    raise MoveError(f"{value!r} is not a policy value")


def _place(function: ast.FunctionDef) -> ast.stmt:
    """The statement above which a new `on` goes: the first that is neither docstring nor policy."""
    for statement in function.body:
        is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        if not is_text and not (isinstance(statement, ast.Expr) and called(statement.value, "on")):
            return statement
    raise MoveError(f"the kernel {function.name} has no statement")


def _propose_words(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for word, values in WORDS.items():
            for value in values:
                yield {"word": word, "value": value, "target": "cpu", "kernel": function.name}


@move(_propose_words)
def set_policy(
    text: str, word: str, value: int | bool | str, target: str | None = "cpu", kernel: str | None = None
) -> str:
    """Set a policy word for a target (None: unscoped), in place if it is set already."""
    source = read(text)
    if not word.isidentifier() or not (target is None or target.isidentifier()):
        raise MoveError(f"{word!r} for {target!r} is not a policy")
    edits = []
    for function in _kernels(source, kernel):
        scoped = statements_for(function, target)
        present = next((k for s in scoped if (k := _keyword(s, word))), None)
        if present is not None and _value(present.value) == value:
            continue
        if present is not None:
            edits.append(source.replace(present.value, _literal(value)))
        elif scoped:
            last = scoped[-1].value
            assert isinstance(last, ast.Call)
            inner = [*last.args, *(k.value for k in last.keywords)][-1]
            edits.append(source.replace(inner, f"{source.segment(inner)}, {word}={_literal(value)}"))
        else:
            scope = f"{target}, " if target else ""
            edits.append(source.before(_place(function), [f"on({scope}{word}={_literal(value)})"]))
    return edited(text, edits)


def _kernels(source: Source, kernel: str | None) -> list[ast.FunctionDef]:
    found = [f for f in named(source, kernel) if f in functions(source, "kernel")]
    if not found:
        raise MoveError("programs take no policy")
    return found


def _propose_present(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for statement in function.body:
            if isinstance(statement, ast.Expr) and called(statement.value, "on"):
                assert isinstance(statement.value, ast.Call)
                scope = statement.value.args[0] if statement.value.args else None
                target = scope.id if isinstance(scope, ast.Name) else None
                for keyword in statement.value.keywords:
                    yield {"word": keyword.arg, "target": target, "kernel": function.name}


@move(_propose_present)
def drop_policy(text: str, word: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Remove a policy word from a scope, and the `on` with it when nothing is left."""
    source = read(text)
    edits = []
    for function in _kernels(source, kernel):
        for statement in statements_for(function, target):
            if _keyword(statement, word) is None:
                continue
            assert isinstance(statement.value, ast.Call)
            kept = [k for k in statement.value.keywords if k.arg != word]
            parts = [*map(source.segment, statement.value.args), *map(source.segment, kept)]
            edits.append(source.replace(statement, f"on({', '.join(parts)})") if kept else source.remove(statement))
    if not edits:
        raise MoveError(f"no policy of {target} sets {word!r}")
    return edited(text, edits)


def _require_loops(text: str, kernel: str | None, *words: str) -> None:
    if not any(loops(f, *words) for f in _kernels(read(text), kernel)):
        raise MoveError(f"there is no {' or '.join(words)} loop")


def _require_calls(text: str, kernel: str | None, word: str) -> None:
    kernels = _kernels(read(text), kernel)
    if not any(called(n, word) for f in kernels for n in below(f)):
        raise MoveError(f"the kernel has no {word}")


def propose_kernels(**choices: Iterable[object]) -> Propose:
    """A proposer of one argument with each of its values, or of none, for each kernel."""

    def propose(source: Source) -> Iterator[Arguments]:
        for function in functions(source, "kernel"):
            if not choices:
                yield {"kernel": function.name}
            for argument, values in choices.items():
                yield from ({argument: value, "kernel": function.name} for value in values)

    return propose


@move(propose_kernels(stages=(1, 2, 4, 8)))
def prefetch(text: str, stages: int, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Fetch this many pipeline iterations ahead."""
    _require_loops(text, kernel, "pipeline")
    if type(stages) is not int or not 1 <= stages <= 16:
        raise MoveError("stages lie in 1..16")
    return set_policy(text, "stages", stages, target, kernel)


@move(propose_kernels(factor=(1, 2, 4, 8)))
def unroll(text: str, factor: int, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Unroll inner loops, for more independent chains in flight."""
    if type(factor) is not int or not 1 <= factor <= 64:
        raise MoveError("the unroll factor lies in 1..64")
    return set_policy(text, "unroll", factor, target, kernel)


@move(propose_kernels())
def stream_stores(text: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Write outputs past the caches: no read for ownership, and inputs stay cached."""
    _require_calls(text, kernel, "store")
    return set_policy(text, "via", "stream", target, kernel)


@move(propose_kernels())
def cached_stores(text: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Write outputs through the caches: right when the next kernel reads them soon."""
    _require_calls(text, kernel, "store")
    return set_policy(text, "via", "cached", target, kernel)


@move(propose_kernels())
def direct_operands(text: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Multiply straight from the arrays: no packing, for operands used only a few times."""
    _require_calls(text, kernel, "mma")
    return set_policy(text, "layout", "direct", target, kernel)


@move(propose_kernels())
def packed_operands(text: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Copy operands of a product into contiguous panels first, for operands used many times."""
    _require_calls(text, kernel, "mma")
    return set_policy(text, "layout", "packed", target, kernel)


@move(propose_kernels(order=("row", "column", "grouped")))
def swap_raster(text: str, order: str, target: str | None = "cpu", kernel: str | None = None) -> str:
    """Walk the grid in another order, so that neighbours share operands in cache."""
    tiled = [len(loop.target.elts) for f in _kernels(read(text), kernel) for loop in loops(f, "tiles")
             if isinstance(loop.target, ast.Tuple)]  # fmt: skip
    if order not in WORDS["raster"] or not any(count > 1 for count in tiled):
        raise MoveError(f"raster {order!r} needs a grid of two axes or more")
    return set_policy(text, "raster", order, target, kernel)
