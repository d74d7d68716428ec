"""The runner's records with names in place of numbers, and how they name threads and places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from kernelagent.dsl.device import MBarrier, SharedBuffer, stage_bytes, stage_elements
from kernelagent.dsl.dtypes import DTYPES

Placed: TypeAlias = SharedBuffer | MBarrier
"""What has a place in shared memory and a name."""

BARRIER_BYTES = 8


@dataclass(frozen=True)
class Fact:
    """A record of the runner with names in place of numbers; -1 stands for what does not apply."""

    kind: str
    detail: str
    call: str
    block: int
    thread: int
    line: int
    array: str | None
    at: int
    bytes: int
    coordinates: tuple[int, ...]
    place: str
    other_block: int
    other_thread: int
    other_line: int
    number: int
    waits: tuple[tuple[str, int, int, int, int, str], ...]
    count: int

    @staticmethod
    def of(record: Mapping[str, Any], names: Sequence[str], buffers: Sequence[Placed]) -> Fact:
        values = dict(record)
        array = names[values["array"]] if values["array"] >= 0 else None
        coordinates = tuple(values["coordinates"])
        shared = values["kind"] in SHARED or values["detail"] == "shared"
        place = f"{array}[{commas(coordinates)}]" if array else ""
        if shared:
            place = shared_place(values["at"], buffers)
        waits = tuple((c, ln, n, t, b, _named(d, buffers)) for c, ln, n, t, b, d in values.pop("waits"))
        values |= {"array": array, "coordinates": coordinates, "place": place, "waits": waits}
        return Fact(**values)


SHARED = frozenset({
    "race", "missing-wait", "overwrite-in-flight", "uninitialised-shared", "shared-out-of-bounds", "torn-matrix",
    "unread-copy", "missing-proxy-fence", "barrier-overwritten", "barrier-init", "barrier-count", "transaction-bytes",
    "overlapping-tile",
})  # fmt: skip


def shared_place(at: int, buffers: Sequence[Placed]) -> str:
    """The elements at a byte offset, of every buffer that lies there: `a_tile[1][3, 16]`."""
    return " or ".join(p for p in (_in_buffer(at, b) for b in buffers) if p)


def _in_buffer(at: int, placed: Placed) -> str | None:
    if isinstance(placed, MBarrier):
        stage = (at - placed.offset) // BARRIER_BYTES
        return _staged(placed, stage) if 0 <= stage < placed.stages else None
    stage, within = divmod(at - placed.offset, stage_bytes(placed))
    element = within * 8 // DTYPES[placed.dtype].bits
    if not 0 <= stage < placed.stages or element >= stage_elements(placed):
        return None
    if s := placed.swizzle:
        element ^= (element >> s.shift) & (((1 << s.bits) - 1) << s.base)
    return f"{_staged(placed, stage)}[{commas(_coordinates(element, placed))}]"


def _staged(placed: Placed, stage: int) -> str:
    return f"{placed.name}[{stage}]" if placed.stages > 1 else placed.name


def _coordinates(element: int, buffer: SharedBuffer) -> list[int]:
    """Of an element of a stage: row major, or panel behind panel."""
    width = buffer.panel or buffer.shape[-1] + buffer.pad
    panel = 0
    if buffer.panel:
        panel, element = divmod(element, buffer.shape[0] * width)
    coordinates: list[int] = []
    for extent in reversed((*buffer.shape[:-1], width)):
        coordinates.insert(0, element % extent)
        element //= extent
    coordinates[-1] += panel * width
    return coordinates


def _named(detail: str, buffers: Sequence[Placed]) -> str:
    """With the name of the barrier that a waiting thread's detail speaks of."""
    return re.sub(r"^barrier at byte (\d+)", lambda m: shared_place(int(m[1]), buffers) or str(m[0]), detail)


def commas(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def who(fact: Fact) -> str:
    return f"thread {fact.thread} of block {fact.block}"


def where(fact: Fact) -> str:
    """The shared bytes of an access."""
    place = f" ({fact.place})" if fact.place else ""
    return f"shared byte {fact.at}{place}"


def line_of(number: int) -> str:
    return f"line {number}" if number else "no line"
