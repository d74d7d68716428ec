"""Choose which stores go around the caches: long contiguous f32 rows of arrays that are only written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index
from kernelagent.dsl.lower.fuse_nests import map_bodies

LEAST_ROW = 32
"""Elements of a streamed row: two cache lines, so that most lines of a row are written whole."""


def choose_stores(
    nodes: tuple[sch.Node, ...], kernel: ir.Kernel, policy: Mapping[str, object], choices: list[sch.Choice]
) -> tuple[sch.Node, ...]:
    """Mark streamed stores. At run time they stream only if the whole array is larger than the caches."""
    outputs = {a.name for a in kernel.arrays if a.role == "Out" and a.dtype == "f32"}
    asked = policy.get("via")
    return tuple(_choose(node, outputs, asked, choices) for node in nodes)


def _choose(node: sch.Node, outputs: set[str], asked: object, choices: list[sch.Choice]) -> sch.Node:
    node = map_bodies(node, lambda body: tuple(_choose(n, outputs, asked, choices) for n in body))
    if not isinstance(node, sch.Nest):
        return node
    written = [o for o in node.outputs if isinstance(o, sch.WriteArray)]
    if len(written) != 1 or written[0].array not in outputs or not _streamable(node, written[0]):
        return node
    if asked == "cached":
        choices.append(sch.Choice(f"store to {written[0].array}", "cached", "policy via", node.origin))
        return node
    reason = "policy via" if asked == "stream" else "written once in long rows"
    choices.append(sch.Choice(f"store to {written[0].array}", "stream", reason, node.origin))
    changed = tuple(replace(o, via="stream") if o is written[0] else o for o in node.outputs)
    return replace(node, outputs=changed)


def _streamable(nest: sch.Nest, output: sch.WriteArray) -> bool:
    """Contiguous along the last axis, and no sum whose order would follow the alignment of the output."""
    if not nest.axes or nest.axes[-1].extent < LEAST_ROW or output.add:
        return False
    if any(isinstance(o, sch.ReduceBuffer) for o in nest.outputs):
        return False
    last = output.coordinates[-1] if output.coordinates else None
    affine = last.affine(nest.axes[-1].symbol) if isinstance(last, Index) else None
    return affine is not None and affine[0].constant == 1
