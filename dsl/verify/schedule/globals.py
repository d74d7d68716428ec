"""Global memory as the engine sees it: what was stored where, by whom, and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl.ir import Array

NOBODY = -1
Add: TypeAlias = Callable[[Any, Any, str], Any]


class Stored:
    """An array that a kernel writes. `count`: how often each element was stored; `site`: the last statement."""

    def __init__(self, shape: tuple[int, ...], channels: int, start: float) -> None:
        self.values = np.full((channels, *shape), start)
        self.count = np.zeros(shape, np.int32)
        self.site = np.full(shape, NOBODY, np.int32)
        self.block = np.full(shape, NOBODY, np.int32)


class GlobalMemory:
    """Shapes of all arrays, and what was stored into those that are written."""

    def __init__(self, arrays: tuple[Array, ...], sizes: Mapping[str, int], channels: int) -> None:
        self.roles = {a.name: a.role for a in arrays}
        self.shapes = {a.name: tuple(d.evaluate(sizes) for d in a.dims) for a in arrays}
        self.dtypes = {a.name: a.dtype for a in arrays}
        written = [a for a in arrays if a.role != "In"]
        self.stored = {a.name: Stored(self.shapes[a.name], channels, _start(a)) for a in written}

    def outside(self, array: str, at: tuple[Any, ...], inside: Any) -> Any:
        """Which elements lie inside the view but not inside the array."""
        wrong = np.zeros(inside.shape, np.bool_)
        for coordinate, extent in zip(at, self.shapes[array], strict=True):
            wrong |= (coordinate < 0) | (coordinate >= extent)
        return wrong & inside

    def store(self, array: str, at: tuple[Any, ...], values: Any, site: int, block: int, add: Add | None) -> Any:
        """Write elements, or `add` to them; True where one had been written before. `at`: flat coordinates, values
        (channels, n)."""
        stored = self.stored[array]
        again = stored.count[at] > 0
        np.add.at(stored.count, at, 1)
        again |= stored.count[at] > 1
        if add:
            self._add(array, at, values, add)
        else:
            stored.values[(slice(None), *at)] = values
        stored.site[at], stored.block[at] = site, block
        return again

    def _add(self, array: str, at: tuple[Any, ...], values: Any, add: Add) -> None:
        """Each value for itself: an element may be among them several times."""
        held = self.stored[array].values
        left = np.arange(values.shape[1])
        while len(left):
            _, first = np.unique(np.stack([c[left] for c in at]), axis=1, return_index=True)
            chosen = left[first]
            whole = (slice(None), *(c[chosen] for c in at))
            held[whole] = add(held[whole], values[:, chosen], self.dtypes[array])
            left = np.delete(left, first)


def _start(array: Array) -> float:
    """Sums begin at zero; what nobody stores is no number."""
    return 0.0 if array.role == "Acc" else np.nan
