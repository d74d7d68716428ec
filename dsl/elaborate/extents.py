"""Tile extents and loop steps: positive constants, compared as expressions."""

from __future__ import annotations

import ast

from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.live import Shape
from kernelagent.dsl.elaborate.operands import Operand, describe, source_text
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.syntax import Fault, fault

MAX_EXTENT = 2**24


def extents(k: Context, operand: Operand, node: ast.expr) -> Shape:
    """A shape argument: a tuple of extents, or one extent. Faults: extent-not-constant, extent-range."""
    parts = operand if isinstance(operand, tuple) else (operand,)
    nodes = node.elts if isinstance(node, ast.Tuple) and len(node.elts) == len(parts) else [node] * len(parts)
    return tuple(extent(k, part, at) for part, at in zip(parts, nodes, strict=True))


def extent(k: Context, operand: Operand, node: ast.expr, what: str = "extent") -> Index:
    """A positive compile-time constant: literals, tunables, consts, and dims restricted by `assume(D in ...)`."""
    if not isinstance(operand, Index):
        hint = "use literals, tunables (`BM=64`) and dims with `assume(D in (64, 128))`"
        raise fault("extent-not-constant", f"the {what} `{source_text(node)}` is {describe(operand)}", node, hint)
    for symbol in sorted(operand.symbols()):
        _check_symbol(k, symbol, node, what)
    if any(not isinstance(a, Symbol) and type(a).__name__ == "Element" for a in operand.atoms()):
        hint = "load a tile of a constant extent from the view; what lies outside is void"
        raise fault("extent-not-constant", f"the {what} `{operand}` is data", node, hint)
    if operand.constant is not None and not (0 < operand.constant <= MAX_EXTENT):
        hint = f"use 1 to {MAX_EXTENT}"
        raise fault("extent-range", f"the {what} is {operand.constant}", node, hint, value=operand.constant)
    return operand


def _check_symbol(k: Context, symbol: Symbol, node: ast.expr, what: str) -> None:
    if symbol.kind in ("tunable", "const"):
        return
    if symbol.kind == "dim":
        if symbol.name not in k.facts.members:
            raise _runtime_dim(symbol, node, what)
        return
    kinds = {"loop": "a loop variable", "param": "a runtime integer"}
    hint = "use a tunable, and let positions past the end be void"
    message = f"the {what} `{source_text(node)}` depends on {symbol}, {kinds.get(symbol.kind, symbol.kind)}"
    raise fault("extent-not-constant", message, node, hint, symbol=str(symbol))


def _runtime_dim(symbol: Symbol, node: ast.expr, what: str) -> Fault:
    message = f"{symbol} is a runtime dim, but the {what} `{source_text(node)}` must be a constant"
    hint = f"write `assume({symbol} in (64, 128))`, or loop over {symbol} with an extent tunable"
    return fault("extent-not-constant", message, node, hint, symbol=str(symbol))
