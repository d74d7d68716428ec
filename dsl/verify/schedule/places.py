"""Where the elements of a tile lie: coordinates of registers, bytes of shared memory, elements of arrays."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import (
    AllOf,
    AnyOf,
    Atom,
    Compare,
    Condition,
    Element,
    Extremum,
    FloorDiv,
    Index,
    Mod,
    ReadElement,
    Select,
    Symbol,
)
from kernelagent.dsl.ir import View, position
from kernelagent.dsl.lanes import Distribution, Mode, digits

Integers = np.ndarray[Any, np.dtype[np.int64]]
Truths = np.ndarray[Any, np.dtype[np.bool_]]


# Registers -------------------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def held(layout: Distribution) -> Integers:
    """(rank, threads, registers): the coordinates of each register of each thread."""
    lanes, values = _moves(layout.lanes, len(layout.shape)), _moves(layout.values, len(layout.shape))
    return lanes[:, :, None] + values[:, None, :]


def _moves(modes: tuple[Mode, ...], rank: int) -> Integers:
    """(rank, prod of extents): where the modes lead, first mode fastest."""
    found: Integers = np.zeros((rank, 1), np.int64)
    for mode in modes:
        step = np.zeros((rank, mode.extent), np.int64)
        if mode.axis >= 0:
            step[mode.axis] = np.arange(mode.extent) * mode.stride
        found = (step[:, :, None] + found[:, None, :]).reshape(rank, -1)
    return found


@lru_cache(maxsize=512)
def owners(layout: Distribution) -> Truths:
    """(threads,): whether a thread is the first of those that hold copies; it is the one that writes."""
    copied = [m.axis < 0 and m.extent > 1 for m in layout.lanes]
    return np.array(
        [not any(c and d for c, d in zip(copied, digits(layout.lanes, t), strict=True)) for t in range(layout.threads)]
    )


@lru_cache(maxsize=128)
def grid_of(shape: tuple[int, ...]) -> Integers:
    """(rank, *shape): every element's coordinates."""
    return np.indices(shape, np.int64) if shape else np.zeros((0,), np.int64)


# Shared memory ---------------------------------------------------------------------------------------


def stage_offsets(buffer: dev.SharedBuffer, axes: tuple[int, ...], shape: tuple[int, ...], at: Integers) -> Integers:
    """Bytes from the start of a stage to elements `at` (rank first) of a tile of `shape` seen through `axes`.

    A tile of another rank splits the buffer's rows: a row-major reshape of all axes but the last.
    """
    if len(axes) == len(shape) and axes != tuple(range(len(axes))):
        own: list[Any] = [None] * len(axes)
        for j, axis in enumerate(axes):
            own[axis] = at[j]
        at, shape = np.stack(own), tuple(buffer.shape)
    row = np.zeros(at.shape[1:], np.int64)
    for extent, coordinate in zip(shape[:-1], at[:-1], strict=True):
        row = row * extent + coordinate
    column = at[-1]
    return swizzled(buffer, _element(buffer, row, column)) * (bits(buffer.dtype) // 8)


def _element(buffer: dev.SharedBuffer, row: Integers, column: Integers) -> Integers:
    if not buffer.panel:
        return row * (buffer.shape[-1] + buffer.pad) + column
    rows = buffer.shape[0]
    return column // buffer.panel * (rows * buffer.panel) + row * buffer.panel + column % buffer.panel


def swizzled(buffer: dev.SharedBuffer, element: Integers) -> Integers:
    return element if buffer.swizzle is None else np.asarray(buffer.swizzle(element))


@lru_cache(maxsize=1024)
def register_bytes(
    buffer: dev.SharedBuffer, axes: tuple[int, ...], layout: Distribution, shape: tuple[int, ...]
) -> Integers:
    """(threads, registers): byte of each register's element, from the start of a stage."""
    return stage_offsets(buffer, axes, shape, held(layout))


@lru_cache(maxsize=512)
def tile_bytes(buffer: dev.SharedBuffer, axes: tuple[int, ...], shape: tuple[int, ...]) -> Integers:
    """(*shape): byte of each element, from the start of a stage."""
    return stage_offsets(buffer, axes, shape, grid_of(shape))


def referred(buffer: dev.SharedBuffer, shared: dev.Shared) -> tuple[int, ...]:
    """The shape of a stage as a reference sees it."""
    return tuple(buffer.shape[a] for a in shared.axes)


# Index integers over many elements at once ----------------------------------------------------------------


def many(value: Index, environment: Mapping[str, Any], read: ReadElement | None = None) -> Any:
    """As `Index.evaluate`, where symbols may stand for arrays of integers."""
    total: Any = 0
    for monomial, coefficient in value.terms:
        product: Any = coefficient
        for atom in monomial:
            product = product * _many(atom, environment, read)
        total = total + product
    return total


def _many(atom: Atom, environment: Mapping[str, Any], read: ReadElement | None) -> Any:
    match atom:
        case Symbol(name, _):
            return environment[name]
        case Element(array, coordinates):
            if read is None:
                raise KeyError(str(atom))
            at = np.broadcast_arrays(*(many(c, environment, read) for c in coordinates))
            return np.vectorize(lambda *c: read(array, tuple(map(int, c))), otypes=[np.int64])(*at)
        case FloorDiv(a, b):
            return many(a, environment, read) // many(b, environment, read)
        case Mod(a, b):
            return many(a, environment, read) % many(b, environment, read)
        case Extremum(which, a, b):
            least = np.minimum if which == "min" else np.maximum
            return least(many(a, environment, read), many(b, environment, read))
        case Select(condition, then, otherwise):
            taken = many_true(condition, environment, read)
            return np.where(taken, many(then, environment, read), many(otherwise, environment, read))


_RELATIONS: Mapping[str, Any] = {
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
}  # fmt: skip


def many_true(condition: Condition, environment: Mapping[str, Any], read: ReadElement | None = None) -> Any:
    match condition:
        case Compare(relation, a, b):
            return _RELATIONS[relation](many(a, environment, read), many(b, environment, read))
        case AllOf(parts):
            return np.logical_and.reduce([many_true(p, environment, read) for p in parts]) if parts else True
        case AnyOf(parts):
            return np.logical_or.reduce([many_true(p, environment, read) for p in parts]) if parts else False
    return np.logical_not(many_true(condition.part, environment, read))


# Arrays ----------------------------------------------------------------------------------------------


def view_positions(
    view: View, starts: tuple[int, ...], offsets: Integers, environment: Mapping[str, Any], read: ReadElement | None
) -> tuple[tuple[Any, ...], Truths]:
    """Array coordinates of the elements at `offsets` (rank first) from `starts`, and which lie inside the view."""
    positions = [offsets[a] + start for a, start in enumerate(starts)]
    inside: Any = np.ones(offsets.shape[1:], np.bool_)
    for axis, at in zip(view.axes, positions, strict=True):
        inside &= (at >= axis.lo.evaluate(environment, read)) & (at < axis.hi.evaluate(environment, read))
    names = {**environment, **{position(a).name: at for a, at in enumerate(positions)}}
    coordinates = tuple(np.broadcast_to(many(c, names, read), inside.shape) for c in view.coordinates)
    return coordinates, inside
