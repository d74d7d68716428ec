"""Launches of few tiles and iterations, on which a refutation is replayed and what has no closed search is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Index
from kernelagent.dsl.level2.traverse import grids
from kernelagent.dsl.verify.schedule.explore import Sizes
from kernelagent.dsl.verify.schedule.extents import extents_of
from kernelagent.dsl.verify.schedule.skeleton import roles_of

MOST_TILES = 3


def some_positions(_: str, at: tuple[int, ...]) -> int:
    """Stands for integer data that the number of tiles depends on: rising, 128 apart."""
    return 128 * at[-1] if at else 0


def launches(kernel: dev.DeviceKernel) -> Iterator[Sizes]:
    """1 to 3 tiles with 0 to 2 S + 1 iterations each, S being the deepest ring; the smallest first."""
    stages = max((b.stages for b in kernel.barriers), default=1)
    grid, inside = _grid_dims(kernel), _loop_dims(kernel)
    unit = _units(kernel, grid, inside)
    first = next((n for n in grid), None)
    for tiles in range(1, MOST_TILES + 1):
        for turns in range(2 * stages + 2):
            values = {n: unit[n] * (turns if n in inside and n not in grid else 1) for n in unit}
            if first is not None:
                values[first] = unit[first] * tiles * kernel.cluster
            if _taken(kernel, values):
                yield Sizes(values, (tiles - 1) * kernel.cluster, some_positions)


def launch_within(kernel: dev.DeviceKernel, within: Mapping[str, tuple[int, int | None]], tiles: int) -> Sizes | None:
    """So many tiles with the smallest dims above one number and at most another; None where the class takes none."""
    grid = _grid_dims(kernel)
    values = _units(kernel, grid, _loop_dims(kernel))
    extents = extents_of(kernel)
    for name, (above, most) in within.items():
        step = extents.multiples.get(name, 1)
        values[name] = max((above // step + 1) * step, extents.smallest(name))
        if most is not None and values[name] > most:
            return None
    first = next((n for n in grid if n not in within), None)
    if first is not None:
        values[first] *= tiles * kernel.cluster
    return Sizes(values, (tiles - 1) * kernel.cluster, some_positions) if _taken(kernel, values) else None


def _units(kernel: dev.DeviceKernel, grid: Mapping[str, int], inside: Mapping[str, int]) -> dict[str, int]:
    """One tile, or one iteration, of each dim."""
    names = sorted({*kernel.dims, *(s.name for s in kernel.scalars)})
    return {n: max(inside.get(n, 1), grid.get(n, 1)) for n in names}


def _grid_dims(kernel: dev.DeviceKernel) -> dict[str, int]:
    """Dims that the number of tiles depends on, with the tiles' extents; the rows of tiles first."""
    found: dict[str, int] = {}
    for role in roles_of(kernel):
        for grid in grids(role.grid):
            bounds = list(zip(grid.hi, grid.step, strict=True))
            for hi, step in (*bounds[-2:-1], *bounds[-1:], *bounds[:-2]):
                _note(found, hi, step)
    return found


def _loop_dims(kernel: dev.DeviceKernel) -> dict[str, int]:
    found: dict[str, int] = {}
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.For):
            for hi, step in zip(statement.hi, statement.step, strict=True):
                _note(found, hi, step)
    return found


def _note(found: dict[str, int], bound: Index, step: Index) -> None:
    for symbol in sorted(bound.symbols()):
        if symbol.kind in ("dim", "param"):
            found[symbol.name] = max(found.get(symbol.name, 1), step.constant or 1)


def _taken(kernel: dev.DeviceKernel, values: Mapping[str, int]) -> bool:
    """Whether dispatch gives such sizes to this shape class."""
    ranges = (g for g in kernel.shape_class.guards if g.kind == "range")
    return extents_of(kernel).take(values) and all(values.get(g.subject, 0) <= g.value for g in ranges)


__all__ = ["launch_within", "launches", "some_positions"]
