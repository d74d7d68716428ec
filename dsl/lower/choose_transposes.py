"""Turn reads across an array's rows into a tile transposed in registers, then read in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Index, index
from kernelagent.dsl.lower.fuse_nests import map_bodies
from kernelagent.dsl.lower.multiply import array_offset, buffer_region
from kernelagent.dsl.lower.rewrite import Substitution, map_output, output_expressions

NewBuffer = Callable[..., sch.Buffer]

ATOM = sch.Atom("transpose", "transpose", (), (("source", "global"), ("target", "l1")), ("f32", "f32"))


@dataclass(frozen=True)
class Crossing:
    """A fetch whose contiguous array axis runs along nest axis `along`, while vectors run along nest axis `across`."""

    fetch: sch.Fetch
    along: sch.Axis
    across: sch.Axis


def choose_transposes(
    nodes: tuple[sch.Node, ...], new_buffer: NewBuffer, unit_stride: bool, choices: list[sch.Choice]
) -> tuple[sch.Node, ...]:
    """Insert a transpose in front of each nest that reads f32 rows crosswise."""
    result: list[sch.Node] = []
    for node in nodes:
        node = map_bodies(node, lambda body: choose_transposes(body, new_buffer, unit_stride, choices))
        if isinstance(node, sch.Nest) and unit_stride:
            result += _rewritten(node, new_buffer, choices)
        else:
            result.append(node)
    return tuple(result)


def _rewritten(nest: sch.Nest, new_buffer: NewBuffer, choices: list[sch.Choice]) -> list[sch.Node]:
    crossings = {id(e): c for o in nest.outputs for e in output_expressions(o) if (c := _crossing(nest, e))}
    if not crossings:
        return [nest]
    before: list[sch.Node] = []
    placed: dict[int, sch.Read] = {}
    for key, crossing in crossings.items():
        shape = (crossing.along.extent, crossing.across.extent)
        buffer = new_buffer(f"{crossing.fetch.array}_turned", "f32", shape, nest.origin)
        before.append(_transpose(crossing, buffer, nest))
        at = (index(crossing.along.symbol), index(crossing.across.symbol))
        placed[key] = sch.Read(buffer, at, "f32")
        choices.append(sch.Choice(f"tile of {crossing.fetch.array}", "transposed", "read across its rows", nest.origin))
    swap = _Swap(placed)
    return [*before, replace(nest, outputs=tuple(map_output(o, swap) for o in nest.outputs))]


def _crossing(nest: sch.Nest, e: sch.Expression) -> Crossing | None:
    long = [a for a in nest.axes if a.extent > 1]
    if not isinstance(e, sch.Fetch) or e.dtype != "f32" or e.inside or len(long) != 2 or len(e.coordinates) < 2:
        return None
    along, across = long
    plain = [c for c in e.coordinates if isinstance(c, Index)]
    if len(plain) != len(e.coordinates) or min(along.extent, across.extent) < 4:
        return None
    last = plain[-1].affine(along.symbol)
    straight = last is not None and last[0].constant == 1 and across.symbol not in plain[-1].symbols()
    crosswise = any(across.symbol in c.symbols() for c in plain[:-1])
    mixed = any(along.symbol in c.symbols() for c in plain[:-1])
    return Crossing(e, along, across) if straight and crosswise and not mixed else None


def _transpose(crossing: Crossing, buffer: sch.Buffer, nest: sch.Nest) -> sch.Invoke:
    """Over the live part only: element (a, c) of the buffer from position a along, c across."""
    along, across = crossing.along, crossing.across
    plain = [c for c in crossing.fetch.coordinates if isinstance(c, Index)]
    fixed = {a.symbol.name: a.lo for a in nest.axes if a not in (along, across)}
    offset = array_offset(True, crossing.fetch.array, plain).substitute(fixed)
    by_across = offset.affine(across.symbol)
    assert by_across is not None
    start = offset.substitute({along.symbol.name: along.lo, across.symbol.name: across.lo})
    rows, columns = across.hi - across.lo, along.hi - along.lo
    source = sch.Region(crossing.fetch.array, "f32", start, by_across[0], index(1), rows, columns, False)
    target = buffer_region(buffer, columns, rows)
    shifted = replace(target, offset=target.row * along.lo + across.lo)
    return sch.Invoke(ATOM, (source, shifted), nest.origin, accumulate=False)


class _Swap(Substitution):
    """Replaces chosen fetches by reads of their transposed tiles."""

    def __init__(self, placed: dict[int, sch.Read]) -> None:
        super().__init__({})
        self.placed = placed

    def expression(self, expression: sch.Expression) -> sch.Expression:
        return self.placed.get(id(expression)) or super().expression(expression)
