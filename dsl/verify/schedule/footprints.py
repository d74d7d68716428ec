"""Which bytes of shared memory a statement accesses, and which thread each: element by element, or merged.

Merged: bytes that every statement accesses together, by the same thread, are one place. Whatever is known of one of
them is known of all, so where no values are kept a block has some hundred places instead of its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import WARP, Distribution
from kernelagent.dsl.level2.traverse import parts
from kernelagent.dsl.verify.schedule.places import (
    Integers,
    grid_of,
    held,
    owners,
    referred,
    register_bytes,
    tile_bytes,
)

if TYPE_CHECKING:
    from kernelagent.dsl.verify.schedule.turning import Turning

MANY = -2
"""Stands for several threads."""
ASYNCHRONOUS = -1
"""The thread of an access that no thread does itself."""
ALONE = Distribution((1,), (), ())
"""A scalar in shared memory: one element, by the first thread."""

Accessing: TypeAlias = dev.StoreShared | dev.Copy | dev.CopyBulk | dev.StoreBulk | dev.Let


@dataclass(frozen=True)
class Footprint:
    """`bytes`: of each element from the start of shared memory, or numbers of merged places; `threads` of the role, for
    each (or one for all); `at`: (rank, *) coordinates in the tile; `size`: bytes of an element; `repeated`: several
    threads read the same element; `places`: the same access in merged places, where both are needed."""

    bytes: Integers
    threads: Any
    at: Integers
    size: int
    repeated: bool = False
    places: Footprint | None = None


def shared_of(statement: Accessing, operand: str = "") -> dev.Shared | None:
    """The stage that a statement accesses; `operand` a or b of a product."""
    match statement:
        case dev.StoreShared(target=shared) | dev.Copy(target=shared) | dev.CopyBulk(target=shared):
            return shared
        case dev.StoreBulk(source=shared) | dev.Let(operation=dev.LoadShared(source=shared)):
            return shared
        case dev.Let(operation=dev.Mma(a=a, b=b)):
            side = a if operand == "a" else b
            return side if isinstance(side, dev.Shared) else None
    return None


def elements(kernel: dev.DeviceKernel, statement: Accessing, operand: str = "", rank: int = 0) -> Footprint:
    """In a stage, bytes from its start. `rank`: of the block in its cluster, for copies that blocks share."""
    shared = shared_of(statement, operand)
    assert shared is not None
    buffer = kernel.buffer(shared.buffer)
    match statement:
        case dev.StoreShared(value=value):
            return _held(buffer, shared, value.layout or ALONE, True)
        case dev.Copy(layout=layout):
            return _held(buffer, shared, layout, True)
        case dev.Let(fragment=fragment, operation=dev.LoadShared()):
            return _held(buffer, shared, fragment.layout or ALONE, False)
        case dev.CopyBulk(shape=shape):
            whole = _tile(buffer, shared, shape, ASYNCHRONOUS)
            return whole if statement.shared_by == 1 else _part(buffer, statement, whole, rank)
        case dev.StoreBulk(shape=shape):
            return _tile(buffer, shared, shape, 0)
        case _:
            return _tile(buffer, shared, referred(buffer, shared), MANY)


def _held(buffer: dev.SharedBuffer, shared: dev.Shared, layout: Distribution, writes: bool) -> Footprint:
    """Registers of threads; of those that hold copies the first writes."""
    at, where = held(layout), register_bytes(buffer, shared.axes, layout, layout.shape)
    threads = np.arange(layout.threads)
    if writes:
        threads = np.flatnonzero(owners(layout))
        at, where = at[:, threads], where[threads]
    size = bits(buffer.dtype) // 8
    return Footprint(where, threads[:, None], at, size, not writes and layout.copies > 1)


def _tile(buffer: dev.SharedBuffer, shared: dev.Shared, shape: tuple[int, ...], thread: int) -> Footprint:
    return Footprint(tile_bytes(buffer, shared.axes, shape), thread, grid_of(shape), bits(buffer.dtype) // 8)


def _part(buffer: dev.SharedBuffer, copy: dev.CopyBulk, whole: Footprint, rank: int) -> Footprint:
    """What one block brings of a shared copy: whole panels, or rows of every panel."""
    rows, columns = buffer.shape
    column = copy.target.axes.index(1) if len(copy.shape) == 2 else len(copy.shape) - 1
    panels = columns // buffer.panel
    if panels % copy.shared_by == 0:
        mine = whole.at[column] // (panels // copy.shared_by * buffer.panel) == rank
    else:
        row = np.zeros(whole.bytes.shape, np.int64)
        for axis, extent in enumerate(copy.shape):
            if axis != column:
                row = row * extent + whole.at[axis]
        mine = row // (rows // copy.shared_by) == rank
    return replace(whole, bytes=whole.bytes[mine], at=whole.at[:, mine])


def accesses(kernel: dev.DeviceKernel) -> Iterator[tuple[Accessing, str, int]]:
    """Every statement that accesses shared memory, which operand, and the first thread of its role."""
    for part in parts(kernel):
        first = part.role.first_warp * WARP if part.role else 0
        for statement in (s for block in part.blocks for s in dev.walk(block)):
            for operand in ("a", "b") if _is_product(statement) else ("",):
                if shared_of(statement, operand) is not None:  # type: ignore[arg-type]
                    yield statement, operand, first  # type: ignore[misc]


def _is_product(statement: dev.Statement) -> bool:
    return isinstance(statement, dev.Let) and isinstance(statement.operation, dev.Mma)


# All of a kernel -----------------------------------------------------------------------------------------

_Key: TypeAlias = tuple[int, str, int, int]


class Footprints:
    """Those of a kernel, absolute: element by element, or `merged`. `places`: how many bytes or places there are;
    `place_of`: the one of each `unit` bytes of shared memory."""

    def __init__(self, kernel: dev.DeviceKernel, merged: bool) -> None:
        self.kernel = kernel
        self._found: dict[_Key, Footprint] = {}
        self.places = max(kernel.shared_bytes, 1)
        self.merged = merged
        self.unit, self.place_of = 1, np.arange(self.places)
        if merged:
            self._merge()

    def of(self, statement: Accessing, operand: str, stage: int, rank: int, first_thread: int) -> Footprint:
        """With threads of the block."""
        key = (id(statement), operand, stage, rank)
        if key not in self._found:
            self._found[key] = self._absolute(statement, operand, stage, rank, first_thread)
        return self._found[key]

    def _absolute(self, statement: Accessing, operand: str, stage: int, rank: int, first_thread: int) -> Footprint:
        found = elements(self.kernel, statement, operand, rank)
        shared = shared_of(statement, operand)
        assert shared is not None
        buffer = self.kernel.buffer(shared.buffer)
        start = buffer.offset + stage * dev.stage_bytes(buffer)
        threads = found.threads if np.ndim(found.threads) == 0 and found.threads < 0 else found.threads + first_thread
        return replace(found, bytes=found.bytes + start, threads=threads)

    @cached_property
    def turning(self) -> Turning:
        """The kernel's rings of stages, turned in these places."""
        from kernelagent.dsl.verify.schedule.turning import Turning

        return Turning(self)

    def _merge(self) -> None:
        """Number the places: bytes with the same mark in every access are one."""
        every = dict(self._every())
        unit = _unit(every.values())
        marks = np.zeros(-(-self.places // unit), np.uint64)
        for number, found in enumerate(every.values()):
            at, who = _by_units(found, unit)
            marks[at] ^= _mixed(who + 3, number)
        _, place = np.unique(marks, return_inverse=True)
        self.places = int(place.max()) + 1
        self.unit, self.place_of = unit, place
        for key, found in every.items():
            self._found[key] = _merged(found, place, unit)

    def _every(self) -> Iterator[tuple[_Key, Footprint]]:
        for statement, operand, first in accesses(self.kernel):
            shared = shared_of(statement, operand)
            assert shared is not None
            ranks = range(statement.shared_by) if isinstance(statement, dev.CopyBulk) else (0,)
            for stage in range(self.kernel.buffer(shared.buffer).stages):
                for rank in ranks:
                    yield (id(statement), operand, stage, rank), self._absolute(statement, operand, stage, rank, first)


class Paired(Footprints):
    """Element by element, each with its merged places."""

    def __init__(self, elements: Footprints, merged: Footprints) -> None:
        super().__init__(elements.kernel, merged=False)
        self.elements, self.rules = elements, merged

    def of(self, statement: Accessing, operand: str, stage: int, rank: int, first_thread: int) -> Footprint:
        key = (id(statement), operand, stage, rank)
        if key not in self._found:
            at = (statement, operand, stage, rank, first_thread)
            self._found[key] = replace(self.elements.of(*at), places=self.rules.of(*at))
        return self._found[key]


def _unit(every: Iterable[Footprint]) -> int:
    """The largest power of two bytes of which every access takes whole ones."""
    bits = 16
    for found in every:
        bits |= found.size | int(np.bitwise_or.reduce(found.bytes, axis=None))
    return bits & -bits


def _by_units(found: Footprint, unit: int) -> tuple[Integers, Integers]:
    """Every unit once, with its thread (one for all, if there is one); MANY where several read it."""
    count = found.size // unit
    at = found.bytes.reshape(-1) // unit
    at = at if count == 1 else (at[:, None] + np.arange(count)).reshape(-1)
    if np.ndim(found.threads) == 0 and not found.repeated:
        return at, np.asarray(found.threads)
    who = np.broadcast_to(found.threads, found.bytes.shape).reshape(-1).repeat(count)
    if not found.repeated:
        return at, who
    size = int(at.max()) + 1
    low, high = np.full(size, 1 << 30), np.full(size, -(1 << 30))
    np.minimum.at(low, at, who)
    np.maximum.at(high, at, who)
    once = np.unique(at)
    return once, np.where(low[once] == high[once], low[once], MANY)


def _mixed(who: Integers, number: int) -> Any:
    """A number of 64 random-looking bits for a thread in an access (the finaliser of splitmix64)."""
    with np.errstate(over="ignore"):
        x = who.astype(np.uint64) + np.uint64((number + 1) * 0x9E3779B97F4A7C15 % 2**64)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))


def _merged(found: Footprint, place: Integers, unit: int) -> Footprint:
    """The places of an access, each with the thread and the coordinates of one of its elements."""
    flat = found.bytes.reshape(-1) // unit
    numbers, first = np.unique(place[flat], return_index=True)
    threads = np.broadcast_to(found.threads, found.bytes.shape).reshape(-1)[first]
    if found.repeated:
        at, who = _by_units(found, unit)
        by_unit = dict(zip(at.tolist(), who.tolist(), strict=True))
        threads = np.array([by_unit[int(b)] for b in flat[first]])
    return Footprint(numbers, threads, found.at.reshape(len(found.at), -1)[:, first], 1)
