"""Pack an operand's panels once for all tiles that use them, instead of once in every tile.

In a product over tiles (i, j) with a loop over k, the panels of a depend on (i, k) alone: every j packs them again.
They are packed before the grid, in parallel, into memory that all threads read. At run time this needs several tiles
that read each panel, and panels that fit `LARGEST_BYTES`; otherwise each tile packs its own as before.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, replace

from kernelagent.dsl import schedule as sch
from kernelagent.dsl.index import Extremum, Index, Symbol, cdiv, floordiv, index

LARGEST_BYTES = 64 << 20
SLOTS = 16
"""Shared blocks of memory that the runtime provides."""


@dataclass(frozen=True)
class Dimension:
    """One variable that panels depend on, with its range."""

    variable: Symbol
    lo: Index
    hi: Index
    step: Index

    @property
    def count(self) -> Index:
        return cdiv(self.hi - self.lo, self.step)

    @property
    def ordinal(self) -> Index:
        return floordiv(index(self.variable) - self.lo, self.step)


def share_panels(
    body: tuple[sch.Node, ...], buffers: dict[str, sch.Buffer], choices: list[sch.Choice]
) -> tuple[tuple[sch.Node, ...], tuple[sch.SharedPanels, ...]]:
    """Mark the packings of the grid's loops that can be shared; returns the new body and what to pack before it."""
    grid = body[0]
    if not (isinstance(grid, sch.Loop) and grid.parallel and grid.variables):
        return body, ()
    found: list[sch.SharedPanels] = []
    nodes: list[sch.Node] = []
    for node in grid.body:
        if isinstance(node, sch.Loop) and len(node.variables) == 1:
            node = replace(node, body=tuple(_shared(n, node, grid, buffers, found, choices) for n in node.body))
        nodes.append(node)
    return (replace(grid, body=tuple(nodes)),), tuple(found)


def _shared(
    node: sch.Node,
    loop: sch.Loop,
    grid: sch.Loop,
    buffers: dict[str, sch.Buffer],
    found: list[sch.SharedPanels],
    choices: list[sch.Choice],
) -> sch.Node:
    if not (isinstance(node, sch.Invoke) and node.atom.kind == "pack") or len(found) == SLOTS:
        return node
    source, panel = node.operands
    dimensions = _dimensions(source, loop, grid)
    if source.base_is_buffer or dimensions is None:
        return node
    used = {d.variable for d in dimensions}
    reuse = index(1)
    for variable, lo, hi, step in zip(grid.variables, grid.lo, grid.hi, grid.step, strict=True):
        if variable not in used:
            reuse = reuse * cdiv(hi - lo, step)
    if reuse.constant == 1:
        return node
    elements = buffers[panel.base].elements
    shared = sch.SharedPanels(
        panel.base,
        len(found),
        elements,
        node.atom,
        source,
        tuple(d.variable for d in dimensions),
        tuple(d.lo for d in dimensions),
        tuple(d.hi for d in dimensions),
        tuple(d.step for d in dimensions),
        reuse,
        LARGEST_BYTES,
    )
    found.append(shared)
    names = ", ".join(v.name for v in shared.variables)
    choices.append(sch.Choice(f"panels of {source.base}", "packed once for all tiles", f"follow {names}", node.origin))
    return replace(node, shared=sch.SharedUse(shared.slot, _ordinal(dimensions) * elements))


def _dimensions(source: sch.Region, loop: sch.Loop, grid: sch.Loop) -> list[Dimension] | None:
    """The grid variables that the region follows, then the loop's own; None if something else decides about it."""
    symbols = {s for part in (source.offset, source.rows, source.columns) for s in part.symbols() if s.kind == "loop"}
    own = loop.variables[0]
    if own not in symbols or not symbols <= {own, *grid.variables}:
        return None
    grids = [Dimension(*d) for d in zip(grid.variables, grid.lo, grid.hi, grid.step, strict=True) if d[0] in symbols]
    if len(grids) == len(grid.variables) or any(_loops(d.lo) or _loops(d.hi) for d in grids):
        return None
    hi = _bound(loop.hi[0], {d.variable for d in grids})
    if hi is None or _loops(loop.lo[0]) or loop.step[0].constant is None or _loops(hi):
        return None
    return [*grids, Dimension(own, loop.lo[0], hi, loop.step[0])]


def _loops(value: Index) -> bool:
    return any(s.kind == "loop" for s in value.symbols())


def _bound(hi: Index, allowed: Set[Symbol]) -> Index | None:
    """`hi`, or an upper bound of it, that no other loop variable decides: an arm of a minimum."""
    if all(s.kind != "loop" or s in allowed for s in hi.symbols()):
        return hi
    if len(hi.terms) == 1 and hi.terms[0][1] == 1 and len(hi.terms[0][0]) == 1:
        atom = hi.terms[0][0][0]
        if isinstance(atom, Extremum) and atom.which == "min":
            return _bound(atom.a, allowed) or _bound(atom.b, allowed)
    return None


def _ordinal(dimensions: list[Dimension]) -> Index:
    """Number of a panel: the last variable fastest."""
    total = index(0)
    for d in dimensions:
        total = total * d.count + d.ordinal
    return total
