"""Arrays that the parent and its workers share: one memfd per arena, guard zones on both sides of every array.

The parent creates an arena and hands its file descriptor to a worker, so that nothing has a name in a file system and
nothing is left behind when either of them is killed. The parent poisons and inspects; a worker only binds.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from kernelagent.problems.dtypes import numpy_dtype
from numpy.typing import NDArray

PAGE = 4096
GUARD = PAGE
"""Bytes of guard zone before and (at least) after the data of every array."""

POISONS = (0xFF, 0x5A)
"""Bytes that fill an output before a run: NaN in every float dtype, then a large finite number."""

INPUT_GUARD = 0xFF  # NaN in every float dtype: an element read out of bounds shows in the result
OUTPUT_GUARD = 0xC3


@dataclass(frozen=True)
class Slot:
    """One array of an arena; `offset` and `guard_end` are bytes from the start of the arena."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    output: bool
    offset: int
    nbytes: int
    guard_end: int


def plan(arrays: Iterable[tuple[str, str, Sequence[int], bool]]) -> tuple[Slot, ...]:
    """Place arrays (name, dtype, shape, is output) one after another, each on a page of its own with guards."""
    slots, position = [], 0
    for name, dtype, shape, output in arrays:
        offset = position + GUARD
        nbytes = int(np.prod(shape, dtype=np.int64)) * numpy_dtype(dtype).itemsize
        position = _round_up(offset + nbytes, PAGE) + GUARD
        slots.append(Slot(name, dtype, tuple(int(n) for n in shape), output, offset, nbytes, position))
    return tuple(slots)


Fingerprint = NDArray[np.uint64]
_WEIGHTS = np.random.default_rng(0x5EED).integers(0, 2**63, PAGE // 8, dtype=np.uint64) | np.uint64(1)


class Arena:
    """A shared mapping and the arrays in it. `close` drops the descriptor; the mapping lives as long as its views."""

    def __init__(self, descriptor: int, slots: Sequence[Slot]) -> None:
        self.descriptor = descriptor
        self.slots = {slot.name: slot for slot in slots}
        self.nbytes = max(PAGE, max((s.guard_end for s in slots), default=0))
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        self._bytes: NDArray[np.uint8] = np.frombuffer(mmap.mmap(descriptor, self.nbytes, flags=flags), np.uint8)

    @classmethod
    def create(cls, slots: Sequence[Slot]) -> Arena:
        """A new arena with zeroed data and filled guards. Raises OSError when there is no memory for it."""
        descriptor = _anonymous_file()
        os.ftruncate(descriptor, max(PAGE, max((s.guard_end for s in slots), default=0)))
        arena = cls(descriptor, slots)
        arena.fill_guards()
        return arena

    def layout(self) -> list[dict[str, Any]]:
        return [asdict(slot) for slot in self.slots.values()]

    def array(self, name: str) -> NDArray[Any]:
        slot = self.slots[name]
        data = self._bytes[slot.offset : slot.offset + slot.nbytes]
        return data.view(numpy_dtype(slot.dtype)).reshape(slot.shape)

    def raw(self, name: str) -> NDArray[np.uint8]:
        slot = self.slots[name]
        return self._bytes[slot.offset : slot.offset + slot.nbytes]

    def outputs(self) -> list[str]:
        return [s.name for s in self.slots.values() if s.output]

    def inputs(self) -> list[str]:
        return [s.name for s in self.slots.values() if not s.output]

    def poison(self, byte: int) -> None:
        """Overwrite every output, and restore the guards around all arrays."""
        for name in self.outputs():
            self.raw(name)[...] = byte
        self.fill_guards()

    def fill_guards(self) -> None:
        for slot in self.slots.values():
            for zone, _ in self._guards(slot):
                zone[...] = OUTPUT_GUARD if slot.output else INPUT_GUARD

    def broken_guard(self) -> str | None:
        """Where the first write outside an array hit, or None."""
        for slot in self.slots.values():
            expected = OUTPUT_GUARD if slot.output else INPUT_GUARD
            for zone, side in self._guards(slot):
                hits = np.flatnonzero(zone != expected)
                if hits.size:
                    return _guard_message(slot, side, hits, len(zone))
        return None

    def fingerprint(self, name: str) -> Fingerprint:
        """One weighted sum (mod 2^64) per page of the array's data: a page that changed keeps its sum with a
        probability of about 2^-61."""
        slot = self.slots[name]
        end = _round_up(slot.offset + slot.nbytes, PAGE)
        words = self._bytes[slot.offset : end].view(np.uint64).reshape(-1, PAGE // 8)
        return np.asarray(np.einsum("ij,j->i", words, _WEIGHTS))

    def place(self, name: str, page: int) -> str:
        """The first element of an array that lies on a page of its data, for messages."""
        array = self.array(name)
        first = min(page * PAGE // array.dtype.itemsize, array.size - 1)
        return f"{name}[{', '.join(str(int(i)) for i in np.unravel_index(first, array.shape))}]"

    def _guards(self, slot: Slot) -> tuple[tuple[NDArray[np.uint8], str], tuple[NDArray[np.uint8], str]]:
        before = self._bytes[slot.offset - GUARD : slot.offset]
        after = self._bytes[slot.offset + slot.nbytes : slot.guard_end]
        return (before, "before"), (after, "after")

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def slots_from(layout: Iterable[dict[str, Any]]) -> list[Slot]:
    """Inverse of `Arena.layout`."""
    return [Slot(**{**record, "shape": tuple(record["shape"])}) for record in layout]


def _guard_message(slot: Slot, side: str, hits: NDArray[np.intp], length: int) -> str:
    itemsize = numpy_dtype(slot.dtype).itemsize
    nearest = int(hits[0]) if side == "after" else length - 1 - int(hits[-1])
    elements = nearest // itemsize + 1
    place = "past its end" if side == "after" else "before its start"
    return f"wrote outside {slot.name}{list(slot.shape)}: element {elements} {place}, {hits.size} bytes in all"


def _anonymous_file() -> int:
    if sys.platform == "linux":
        return os.memfd_create("kernelagent", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple
