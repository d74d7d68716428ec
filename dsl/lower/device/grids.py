"""Nested grids: the innermost one has the body."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Symbol


def innermost(grid: dev.Grid) -> dev.Grid:
    return grid if grid.inner is None else innermost(grid.inner)


def with_innermost(grid: dev.Grid, body: tuple[dev.Statement, ...], counter: Symbol | None = None) -> dev.Grid:
    """The grid with another body at its innermost level, whose tiles `counter` counts."""
    if grid.inner is None:
        return replace(grid, body=body, counter=counter)
    return replace(grid, inner=with_innermost(grid.inner, body, counter))
