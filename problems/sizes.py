"""Extents written as arithmetic over dims: "E + 1", "K // 128", "2 * P"."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator, Mapping

from kernelagent.problems.problem import Dim

_OPERATORS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def evaluate(dim: Dim, dims: Mapping[str, int]) -> int:
    """Value of `dim` under `dims`.

    Raises KeyError (with the name) for an undefined dim and ValueError for anything but integers, names,
    `+ - * // %` and parentheses.
    """
    if isinstance(dim, int):
        return dim
    return _evaluate(_tree(dim), dim, dims)


def free_names(dim: Dim) -> frozenset[str]:
    """The dim names that `dim` mentions. Raises ValueError as `evaluate` does."""
    if isinstance(dim, int):
        return frozenset()
    return frozenset(_names(_tree(dim), dim))


def _tree(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"{text!r} is not an expression over dims") from error


def _evaluate(node: ast.expr, text: str, dims: Mapping[str, int]) -> int:
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.Name(id=name):
            return dims[name]
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            b = _evaluate(right, text, dims)
            if b == 0 and isinstance(op, ast.FloorDiv | ast.Mod):
                raise ValueError(f"{text!r} divides by zero")
            return _OPERATORS[type(op)](_evaluate(left, text, dims), b)
        case _:
            raise ValueError(f"{text!r} is not an expression over dims")


def _names(node: ast.expr, text: str) -> Iterator[str]:
    match node:
        case ast.Name(id=name):
            yield name
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            yield from _names(left, text)
            yield from _names(right, text)
        case ast.Constant(value=int()):
            return
        case _:
            raise ValueError(f"{text!r} is not an expression over dims")
