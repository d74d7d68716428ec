"""Slips that are legal but surely not meant: hand masks that repeat what void does anyway."""

from __future__ import annotations

import ast

from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.index import Index, index


def warn_redundant_mask(k: Context, mask: ir.Value, chosen: ir.Value, node: ast.expr) -> None:
    """Warn about `where(coords(j, BN) < N, x, 0)` when x is void from N on: `where` keeps it void."""
    found = _upper_bound(k, mask)
    if found is None:
        return
    start, bound, axis = found
    rank = chosen.type.rank
    if axis >= rank or not k.facts.less_equal(chosen.type.live[axis].hi, bound - start):
        return
    message = f"positions from {bound} on are void in the tile already, and `where` keeps them void"
    k.warn("mask-redundant", message, node, "delete the mask; or load with `fill=0` if those zeros must count")


def _upper_bound(k: Context, mask: ir.Value) -> tuple[Index, Index, int] | None:
    """(start, bound, axis) of a mask `coords(start, extent) < bound` along `axis`."""
    match _definition(k, mask):
        case ir.Binary("lt", a, b):
            low, high = a, b
        case ir.Binary("gt", a, b):
            low, high = b, a
        case _:
            return None
    start, bound = _coordinates(k, low), _uniform_index(k, high)
    return (start[0], bound, start[1]) if start and bound is not None else None


def _definition(k: Context, value: ir.Value) -> ir.Operation | None:
    return k.definitions.get(value.number)


def _coordinates(k: Context, value: ir.Value) -> tuple[Index, int] | None:
    """The start of a `coords` tile and the axis along which it runs."""
    match _definition(k, value):
        case ir.Iota(start):
            return start, 0
        case ir.Cast(x) | ir.Broadcast(x):
            return _coordinates(k, x)
        case ir.ExpandDims(x, axes) if x.type.rank == 1:
            inner = _coordinates(k, x)
            axis = next(a for a in range(value.type.rank) if a not in axes)
            return (inner[0], axis) if inner else None
    return None


def _uniform_index(k: Context, value: ir.Value) -> Index | None:
    match _definition(k, value):
        case ir.FromIndex(found):
            return found
        case ir.Full(number) if isinstance(number, int):
            return index(number)
        case ir.Broadcast(x) | ir.Cast(x):
            return _uniform_index(k, x)
    return None
