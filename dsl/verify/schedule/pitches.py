"""How far apart the rows of an array may lie: a shape class asks that strides are aligned, not that rows are full.

`aligned(x, 16)` takes rows of 44 elements that lie 48 apart. So sizes that the class takes are those of padded arrays,
and only `divides(K, 8)` says that a row has no half of a wide access at its end.
"""

from __future__ import annotations

from math import gcd, lcm, prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits


def pitch(kernel: dev.DeviceKernel, array: str, extent: int) -> int:
    """Elements from one row of `extent` elements to the next: as few as the class allows."""
    width = bits(next(a.dtype for a in kernel.arrays if a.name == array))
    asked = [8 * g.value for g in kernel.shape_class.guards if (g.kind, g.subject) == ("aligned", array)]
    unit = lcm(*(value // gcd(value, width) for value in asked))
    return -(-extent // unit) * unit


def strides(kernel: dev.DeviceKernel, array: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of an array with such rows and nothing else between its elements, in elements."""
    if len(shape) < 2:
        return (1,) * len(shape)
    rows = pitch(kernel, array, shape[-1])
    return (*(rows * prod(shape[axis + 1 : -1]) for axis in range(len(shape) - 1)), 1)


__all__ = ["pitch", "strides"]
