"""Whether one tile is another one moved: positions follow from a tile's place by additions and constant factors.

Then what a few tiles show (inner ones, and those that an end of an axis cuts) holds for all. A slice that a whole tile
is taken from, such as the head that a query's head shares, may depend on the place in any way: it is the same index
expression that the kernel of tiles has.
"""

from __future__ import annotations

from collections.abc import Iterator

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Element, Index, Symbol
from kernelagent.dsl.ir import View, position


def moved_alike(kernel: dev.DeviceKernel) -> str:
    """ "" if it is so, else the position that does not follow."""
    variables = _variables(kernel)
    for view, start in _places(kernel):
        for at in start:
            if any(at.affine(v) is None for v in variables):
                return f"the start {at} is not affine in the place of the tile"
        for coordinate in view.coordinates:
            if not _affine_in_positions(coordinate, len(view.axes)):
                return f"the coordinate {coordinate} of {view.array} is not affine in a tile's positions"
            if any(isinstance(a, Element) for a in coordinate.atoms()):
                return f"data decides the coordinate {coordinate} of {view.array}"
    return ""


def _affine_in_positions(coordinate: Index, rank: int) -> bool:
    parts = [coordinate.affine(position(a)) for a in range(rank)]
    return all(p is not None and not _positions(p[0]) for p in parts)


def _positions(value: Index) -> bool:
    return any(s.kind == "position" for s in value.symbols())


def _variables(kernel: dev.DeviceKernel) -> set[Symbol]:
    found: set[Symbol] = set()
    for walk in (kernel.grid, *(r.grid for r in kernel.roles)):
        grid: dev.Grid | None = walk
        while grid is not None:
            found |= set(grid.variables)
            grid = grid.inner
    return found | {v for s in dev.statements(kernel) if isinstance(s, dev.For) for v in s.variables}


def _places(kernel: dev.DeviceKernel) -> Iterator[tuple[View, tuple[Index, ...]]]:
    for s in dev.statements(kernel):
        match s:
            case dev.Let(operation=dev.Load(view=view, start=start) | dev.Gather(view=view, start=start)):
                yield view, start
            case dev.Store(view=view, start=start) | dev.Scatter(view=view, start=start):
                yield view, start
            case dev.Copy(view=view, start=start) | dev.CopyBulk(view=view, start=start):
                yield view, start
            case dev.StoreBulk(view=view, start=start):
                yield view, start
