"""A tile that is only transposed needs no buffer: registers take it from one array to the other."""

from __future__ import annotations

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.lower.fuse_nests import map_bodies
from kernelagent.dsl.lower.multiply import array_offset


def turn_directly(nodes: tuple[sch.Node, ...], unit_stride: bool) -> tuple[sch.Node, ...]:
    """Merge a transpose into a buffer with the streamed store that only copies this buffer on.

    Whole cache lines then go around the caches straight from registers; the buffer is dropped with its last use.
    """
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: turn_directly(body, unit_stride))
        merged = _merged(result[-1], node, unit_stride) if result else None
        if merged is None:
            result.append(node)
        else:
            result[-1] = merged
    return tuple(result)


def _merged(before: sch.Node, node: sch.Node, unit_stride: bool) -> sch.Invoke | None:
    if not (isinstance(before, sch.Invoke) and before.atom.kind == "transpose" and isinstance(node, sch.Nest)):
        return None
    output = node.outputs[0]
    if len(node.outputs) != 1 or not isinstance(output, sch.WriteArray) or output.via != "stream" or output.inside:
        return None
    value = output.value
    if not isinstance(value, sch.Read) or value.buffer.name != before.operands[1].base:
        return None
    along, across = ([a for a in node.axes if index(a.symbol) == c] for c in value.coordinates)
    others = [a for a in node.axes if a not in (*along, *across)]
    if len(along) != 1 or len(across) != 1 or any(a.extent != 1 for a in others):
        return None
    target = _target(output, along[0], across[0], others, before.operands[0], unit_stride)
    return sch.Invoke(before.atom, (before.operands[0], target), node.origin, accumulate=False) if target else None


def _target(
    output: sch.WriteArray, along: sch.Axis, across: sch.Axis, others: list[sch.Axis], source: sch.Region, unit: bool
) -> sch.Region | None:
    """Rows of the target run along the source's columns."""
    coordinates = [c for c in output.coordinates if isinstance(c, Index)]
    if len(coordinates) != len(output.coordinates):
        return None
    offset = array_offset(unit, output.array, coordinates)
    offset = offset.substitute({a.symbol.name: a.lo for a in others})
    by_along, by_across = offset.affine(along.symbol), offset.affine(across.symbol)
    if by_along is None or by_across is None or by_across[0].constant != 1:
        return None
    start = offset.substitute({along.symbol.name: along.lo, across.symbol.name: across.lo})
    return sch.Region(
        output.array, "f32", start, by_along[0], index(1), source.columns, source.rows, base_is_buffer=False
    )
