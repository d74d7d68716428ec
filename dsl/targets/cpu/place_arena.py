"""Where a tile's buffers lie within a page.

A load whose low 12 address bits are those of an older store that has not left the store queue waits for it, although
the addresses differ. A pass that reads an array's row and writes a buffer's row in step runs several times slower when
the two lie at the same place of a page, and so does one that reads a buffer and writes an array.
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.lower.multiply import array_offset
from kernelagent.dsl.lower.rewrite import output_expressions
from kernelagent.dsl.targets.cpu.emit_index import array_name, index_text

PAGE = 4096
"""Bytes that decide about such a wait; the arena is moved by less than this."""
LEAST_ROW = 256
"""Elements of a row that is worth moving buffers for."""


def arena_shift(body: Sequence[sch.Node], unit_stride: bool) -> list[str]:
    """The statement that moves the arena away from the first row read and the last row written, or nothing.

    Of a tile that chooses between two forms the first arm that has such rows counts. Where the next tile reads what
    this one left, the arena stays where it is best for the first rows of the arrays.
    """
    match body:
        case (sch.Branch(then=then, otherwise=otherwise),):
            return arena_shift(then, unit_stride) or arena_shift(otherwise, unit_stride)
    stays = any(isinstance(n, sch.Pipelined) for n in body)
    body = [m for n in body for m in ((n.first, n.last) if isinstance(n, sch.Pipelined) else (n,))]
    nests = [n for n in body if isinstance(n, sch.Nest) and n.axes and n.axes[-1].extent >= LEAST_ROW]
    filled = [n for n in nests if any(isinstance(o, sch.WriteBuffer) and o.coordinates for o in n.outputs)]
    read = [
        t for n in filled for o in n.outputs for e in output_expressions(o) if (t := _row(e, n, unit_stride, stays))
    ]
    written = [t for n in nests for o in n.outputs if (t := _row(o, n, unit_stride, stays))]
    if not filled or not (read or written):
        return []
    first = (read or written)[0]
    return [f"arena += ka_apart({first}, {written[-1] if written else first}, arena);"]


def _row(element: object, nest: sch.Nest, unit_stride: bool, stays: bool) -> str | None:
    """The address where a nest begins to read or write an array, if it is a plain index; `stays`: in the first tile."""
    if not isinstance(element, sch.Fetch | sch.WriteArray):
        return None
    start = {a.symbol.name: a.lo for a in nest.axes}
    if stays:
        start |= {s.name: index(0) for c in element.coordinates if isinstance(c, Index) for s in c.symbols()}
    plain = [c.substitute(start) for c in element.coordinates if isinstance(c, Index)]
    if not plain or len(plain) != len(element.coordinates):
        return None
    return f"{array_name(element.array)} + {index_text(array_offset(unit_stride, element.array, plain))}"
