"""What a bulk copy does with the bytes of a box: gather with zeros outside, scatter clipped, swizzle. In numpy.

Arrays have their innermost axis last; coordinates and `spec.box` have it first. The bytes of a box are those in shared
memory from an address that is a multiple of `spec.alignment`. Source: PTX ISA 9.0, "Tensors": tiled mode, bounding
boxes, out-of-boundary access, swizzling modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.tensor_map import TensorMapSpec, swizzle_of
from numpy.typing import NDArray

Values = NDArray[Any]


def places(spec: TensorMapSpec) -> Values:
    """Where each byte of the box lies, from the start of the box: (elements of the box in row order, bytes of one)."""
    linear = np.arange(spec.box_bytes)
    return np.asarray(swizzle_of(spec.swizzle)(linear)).reshape(-1, spec.element_bytes)


def load(spec: TensorMapSpec, array: Values, corner: Sequence[int]) -> Values:
    """The box at `corner` as bytes in shared memory; elements outside the array are 0."""
    index, inside = _positions(spec, array, corner)
    taken = np.where(inside, array[index].view(_raw(spec)), 0).astype(_raw(spec))
    out = np.zeros(spec.box_bytes, np.uint8)
    out[places(spec)] = taken.reshape(-1, 1).view(np.uint8)
    return out


def store(spec: TensorMapSpec, array: Values, corner: Sequence[int], shared: Values) -> Values:
    """The array after the box's bytes were written at `corner`; elements outside are dropped."""
    index, inside = _positions(spec, array, corner)
    out = array.copy()
    out[tuple(axis[inside] for axis in index)] = _elements(spec, shared).reshape(inside.shape)[inside]
    return out


def add(spec: TensorMapSpec, array: Values, corner: Sequence[int], shared: Values) -> Values:
    """As `store`, but added: one rounding an element, integers wrap."""
    index, inside = _positions(spec, array, corner)
    out = array.copy()
    with np.errstate(over="ignore"):
        out[tuple(axis[inside] for axis in index)] += _elements(spec, shared).reshape(inside.shape)[inside]
    return out


def _positions(spec: TensorMapSpec, array: Values, corner: Sequence[int]) -> tuple[tuple[Values, ...], Values]:
    """Index arrays over the box (clamped into the array), and which elements are inside."""
    starts = tuple(reversed(corner))
    steps = tuple(reversed(spec.element_strides))
    axes = [
        start + step * np.arange(count) for start, step, count in zip(starts, steps, reversed(spec.counts), strict=True)
    ]
    grid = np.meshgrid(*axes, indexing="ij")
    inside = np.ones(grid[0].shape, bool)
    for axis, extent in zip(grid, array.shape, strict=True):
        inside &= (axis >= 0) & (axis < extent)
    clamped = (np.clip(axis, 0, extent - 1) for axis, extent in zip(grid, array.shape, strict=True))
    return tuple(clamped), inside


def _elements(spec: TensorMapSpec, shared: Values) -> Values:
    """The elements of a box in row order."""
    return np.ascontiguousarray(shared[places(spec)]).view(numpy_dtype(spec.dtype)).reshape(-1)


def _raw(spec: TensorMapSpec) -> str:
    return f"u{spec.element_bytes}"
