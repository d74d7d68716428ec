"""Global memory as the engine sees it: what was stored where, by whom, and how often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from kernelagent.dsl.ir import Array

NOBODY = -1


class Stored:
    """An array that a kernel writes. `count`: how often each element was stored; `site`: the last statement."""

    def __init__(self, shape: tuple[int, ...], channels: int) -> None:
        self.values = np.full((channels, *shape), np.nan)
        self.count = np.zeros(shape, np.int32)
        self.site = np.full(shape, NOBODY, np.int32)
        self.block = np.full(shape, NOBODY, np.int32)


class GlobalMemory:
    """Shapes of all arrays, and what was stored into those that are written."""

    def __init__(self, arrays: tuple[Array, ...], sizes: Mapping[str, int], channels: int) -> None:
        self.roles = {a.name: a.role for a in arrays}
        self.shapes = {a.name: tuple(d.evaluate(sizes) for d in a.dims) for a in arrays}
        self.dtypes = {a.name: a.dtype for a in arrays}
        self.stored = {a.name: Stored(self.shapes[a.name], channels) for a in arrays if a.role != "In"}

    def outside(self, array: str, at: tuple[Any, ...], inside: Any) -> Any:
        """Which elements lie inside the view but not inside the array."""
        wrong = np.zeros(inside.shape, np.bool_)
        for coordinate, extent in zip(at, self.shapes[array], strict=True):
            wrong |= (coordinate < 0) | (coordinate >= extent)
        return wrong & inside

    def store(self, array: str, at: tuple[Any, ...], values: Any, site: int, block: int) -> Any:
        """Write elements; True where one had been written before. `at`: flat coordinates, values (channels, n)."""
        stored = self.stored[array]
        again = stored.count[at] > 0
        np.add.at(stored.count, at, 1)
        again |= stored.count[at] > 1
        stored.values[(slice(None), *at)] = values
        stored.site[at], stored.block[at] = site, block
        return again
