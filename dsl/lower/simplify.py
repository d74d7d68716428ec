"""Forward values through operations that do nothing, and drop what nobody reads."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl.lower.rewrite import map_values, operands, statement_values, walk_statements


def simplify(kernel: ir.Kernel) -> ir.Kernel:
    """Same-dtype casts, stretches to the same shape, identity permutations and fills of live tiles vanish."""
    aliases: dict[int, ir.Value] = {}
    for statement in walk_statements(kernel.body):
        if isinstance(statement, ir.Let):
            source = _source_of_no_op(statement)
            if source is not None:
                aliases[statement.value.number] = aliases.get(source.number, source)
    body = map_values(kernel.body, lambda v: aliases.get(v.number, v))
    return replace(kernel, body=remove_unread(body))


def _source_of_no_op(let: ir.Let) -> ir.Value | None:
    value, operation = let.value, let.operation
    for x in operands(operation)[:1]:
        same_shape = x.type.shape == value.type.shape and x.type.dtype == value.type.dtype
        match operation:
            case ir.Cast() | ir.Broadcast() | ir.Reshape() if same_shape and x.type.live == value.type.live:
                return x
            case ir.Permute(_, axes) if axes == tuple(range(len(axes))):
                return x
            case ir.Fill() if is_wholly_live(x.type):
                return x
            case _:
                return None
    return None


def is_wholly_live(tile: ir.TileType) -> bool:
    """Whether every position is known to be live."""
    return all(live.lo.constant == 0 and live.hi == extent for live, extent in zip(tile.live, tile.shape, strict=True))


def remove_unread(body: tuple[ir.Statement, ...]) -> tuple[ir.Statement, ...]:
    """Drop `Let`s whose value is never read, to a fixed point."""
    while True:
        read = {v.number for s in walk_statements(body) for v in statement_values(s)}
        kept = _keep(body, read)
        if kept == body:
            return body
        body = kept


def _keep(body: tuple[ir.Statement, ...], read: set[int]) -> tuple[ir.Statement, ...]:
    kept: list[ir.Statement] = []
    for statement in body:
        match statement:
            case ir.Let(value, _) if value.number not in read:
                continue
            case ir.For(body=inner):
                kept.append(replace(statement, body=_keep(inner, read)))
            case ir.If(then=then, otherwise=otherwise):
                kept.append(replace(statement, then=_keep(then, read), otherwise=_keep(otherwise, read)))
            case _:
                kept.append(statement)
    return tuple(kept)
