"""Byte offsets of shared buffers: those that never live at the same time share memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from kernelagent.dsl import device as dev

SWIZZLED_ALIGNMENT = 1024
"""Bytes after which the 128-byte swizzle pattern repeats."""
PLAIN_ALIGNMENT = 128
SMALL_BYTES = 1024


@dataclass(frozen=True)
class Access:
    """A buffer used at a position in text order, inside the loops with these position ranges."""

    buffer: str
    position: int
    loops: tuple[tuple[int, int], ...]


def place_shared(
    body: tuple[dev.Statement, ...], buffers: list[dev.SharedBuffer], apart: frozenset[str] = frozenset()
) -> tuple[dev.SharedBuffer, ...]:
    """Offsets by first fit, in the order of first use. Buffers in `apart` share memory with no other: roles that
    run ahead fill them at any time."""
    ranges = lifetimes(list(_accesses(body, [0], ())))
    placed: list[dev.SharedBuffer] = []
    for buffer in sorted((b for b in buffers if b.name in ranges), key=lambda b: ranges[b.name]):
        lonely = buffer.name in apart
        others = [
            b
            for b in placed
            if lonely or b.name in apart or _meet(ranges[b.name], ranges[buffer.name]) or _small(b, buffer)
        ]
        placed.append(replace(buffer, offset=first_fit(buffer, others)))
    order = {b.name: k for k, b in enumerate(buffers)}
    return tuple(sorted(placed, key=lambda b: order[b.name]))


def first_fit(buffer: dev.SharedBuffer, others: list[dev.SharedBuffer]) -> int:
    """The lowest aligned offset that meets none of the others."""
    alignment = SWIZZLED_ALIGNMENT if buffer.swizzle else PLAIN_ALIGNMENT
    size = dev.stage_bytes(buffer) * buffer.stages
    offset = 0
    for other in sorted(others, key=lambda b: b.offset):
        if offset + size <= other.offset:
            break
        end = other.offset + dev.stage_bytes(other) * other.stages
        offset = max(offset, -(-end // alignment) * alignment)
    return offset


def lifetimes(accesses: list[Access]) -> dict[str, tuple[int, int]]:
    """First and last position; a loop that holds only some of the accesses belongs whole to the lifetime."""
    found: dict[str, tuple[int, int]] = {}
    by_name: dict[str, list[Access]] = {}
    for access in accesses:
        by_name.setdefault(access.buffer, []).append(access)
    for name, own in by_name.items():
        lo, hi = min(a.position for a in own), max(a.position for a in own)
        for loop in {loop for a in own for loop in a.loops}:
            if not all(loop in a.loops for a in own):
                lo, hi = min(lo, loop[0]), max(hi, loop[1])
        found[name] = (lo, hi)
    return found


def _accesses(
    body: tuple[dev.Statement, ...], counter: list[int], loops: tuple[tuple[int, int], ...]
) -> Iterator[Access]:
    for statement in body:
        counter[0] += 1
        position = counter[0]
        for name, _ in shared_accesses(statement):
            yield Access(name, position, loops)
        match statement:
            case dev.For():
                end = position + sum(1 for _ in dev.walk(statement.body)) + 1
                yield from _accesses(statement.body, counter, (*loops, (position, end)))
                counter[0] = end
            case dev.If():
                yield from _accesses(statement.then, counter, loops)
                yield from _accesses(statement.otherwise, counter, loops)


def shared_accesses(statement: dev.Statement) -> Iterator[tuple[str, bool]]:
    """Buffers that a statement itself touches, and whether it writes."""
    match statement:
        case dev.Let(_, dev.LoadShared(source)):
            yield source.buffer, False
        case dev.Let(_, dev.Mma(_, a, b, _)):
            for operand in (a, b):
                if isinstance(operand, dev.Shared):
                    yield operand.buffer, False
        case dev.StoreBulk(source):
            yield source.buffer, False
        case dev.StoreShared(target) | dev.Copy(target):
            yield target.buffer, True


def _small(a: dev.SharedBuffer, b: dev.SharedBuffer) -> bool:
    """Sharing memory would save less than the barrier between them costs."""
    return all(dev.stage_bytes(buffer) * buffer.stages <= SMALL_BYTES for buffer in (a, b))


def _meet(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[1] and b[0] <= a[1]
