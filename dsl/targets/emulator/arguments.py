"""Arguments of an emulated launch, and the file in which their bytes lie between guard zones."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.tensor_map import TensorMap, TensorMapSpec
from numpy.typing import NDArray

Role = Literal["in", "out", "inout"]

GUARD = 4096
"""Bytes between arrays."""
ALIGNMENT = 256
"""Of an array's first byte, as a device allocator gives."""


@dataclass(frozen=True)
class ArrayArgument:
    """An array as the kernel gets it: any strides that are whole elements.

    "in": the kernel must not store; "out": starts uninitialised (NaN bytes) and each element is stored once; "inout":
    starts with `data`. Outputs are written back into `data`. `covered`: each element of the input is meant to be
    read. `misalign` moves the first element that many bytes off a 256-byte boundary. `packed`: u4, `data` has bytes of
    two elements each, contiguous along the last axis. Rank at least 1.
    """

    name: str
    data: NDArray[Any]
    role: Role = "in"
    covered: bool = False
    misalign: int = 0
    packed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """In elements."""
        *outer, last = self.data.shape
        return (*outer, last * 2) if self.packed else (*outer, last)

    @property
    def strides(self) -> tuple[int, ...]:
        """In elements."""
        size = self.data.dtype.itemsize
        if any(s % size for s in self.data.strides):
            raise ValueError(f"array {self.name}: strides of {self.data.strides} bytes are not whole elements")
        units = tuple(s // size for s in self.data.strides)
        if self.packed and self.data.shape[-1] > 1 and units[-1] != 1:
            raise ValueError(f"array {self.name}: pairs must be contiguous along the last axis")
        return (*(2 * s for s in units[:-1]), 1) if self.packed else units

    @property
    def span(self) -> tuple[int, int]:
        """Lowest offset from element (0, ..., 0) and the extent of the storage, in units of `data`'s elements."""
        if 0 in self.data.shape:
            return 0, 0
        units = (s // self.data.dtype.itemsize for s in self.data.strides)
        reach = [(n - 1) * s for n, s in zip(self.data.shape, units, strict=True)]
        lowest = sum(r for r in reach if r < 0)
        return lowest, sum(r for r in reach if r > 0) - lowest + 1


@dataclass(frozen=True)
class ScalarArgument:
    """A runtime scalar of one of our dtypes, rounded to it once."""

    value: float | int
    dtype: str = "f32"

    @property
    def bytes(self) -> int:
        return int(numpy_dtype(self.dtype).itemsize)

    @property
    def bits(self) -> int:
        """As a signed integer of 64 bits."""
        held = np.asarray(self.value).astype(numpy_dtype(self.dtype)).tobytes()
        return int.from_bytes(held.ljust(8, b"\0"), "little", signed=True)


@dataclass(frozen=True)
class TensorMapArgument:
    """A tensor map of a passed array, `spec.array`: of all of it, or of the part of `shape` (in the array's own
    order, elements) that starts at `start`, for groups that each have their own map."""

    spec: TensorMapSpec
    start: tuple[int, ...] | None = None
    shape: tuple[int, ...] | None = None

    def bound(self, array: ArrayArgument, address: int) -> TensorMap:
        """The map when the array's first element lies at `address`. Raises KernelError for what no driver encodes."""
        start = self.start or (0,) * len(array.shape)
        first = sum(i * s for i, s in zip(start, array.strides, strict=True)) * self.spec.element_bytes
        return self.spec.bind(address + first, self.shape or array.shape, array.strides)


_NUMBERS = ("f32", "f64", "f16", "bf16", "i32")
"""In the order of `enum ka_number`: what bulk additions add."""


class Storage:
    """A temporary file with every array in it, mapped here and in the emulator's process."""

    def __init__(self, arrays: Sequence[ArrayArgument]) -> None:
        self.arrays = tuple(arrays)
        self.offsets: list[int] = []  # of element (0, ..., 0)
        self.line_offsets: list[int] = []  # of the lines of stores to an output
        end = GUARD
        for a in self.arrays:
            lowest, elements = a.span
            size = a.data.dtype.itemsize
            begin = -(-end // ALIGNMENT) * ALIGNMENT + a.misalign
            self.offsets.append(begin - lowest * size)
            self.line_offsets.append(-(-(begin + elements * size + GUARD) // ALIGNMENT) * ALIGNMENT)
            end = self.line_offsets[-1] + (elements * 4 + GUARD if a.role != "in" else 0)
        self.bytes = end
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self.file.truncate(end)
        self.memory = mmap.mmap(self.file.fileno(), end)

    def view(self, number: int) -> NDArray[Any]:
        """An array's place in the file."""
        a = self.arrays[number]
        return np.ndarray(a.data.shape, a.data.dtype, self.memory, self.offsets[number], a.data.strides)

    def lines(self, number: int) -> NDArray[np.int32]:
        """Line of the last store to each storage unit of an output, in its shape; 0: never stored."""
        a = self.arrays[number]
        strides = tuple(s // a.data.dtype.itemsize * 4 for s in a.data.strides)
        first = self.line_offsets[number] - a.span[0] * 4
        return np.ndarray(a.data.shape, np.int32, self.memory, first, strides).copy()

    def fill(self) -> None:
        """Guard zones and outputs: all bits set; the rest from the caller's arrays."""
        np.frombuffer(self.memory, np.uint8)[:] = 0xFF
        for i, a in enumerate(self.arrays):
            if a.role != "out" and a.data.size:
                self.view(i)[...] = a.data

    def copy_back(self) -> None:
        """What the kernel stored, into the caller's arrays."""
        for i, a in enumerate(self.arrays):
            if a.role != "in" and a.data.size:
                a.data[...] = self.view(i)

    def close(self) -> None:
        self.memory.close()
        self.file.close()

    def map_line(self, argument: TensorMapArgument) -> str:
        """A tensor map as the runner reads it. Raises ValueError where its array was not passed, KernelError."""
        names = [a.name for a in self.arrays]
        if argument.spec.array not in names:
            raise ValueError(f"a tensor map of array {argument.spec.array}, which was not passed")
        number = names.index(argument.spec.array)
        spec, bound = argument.spec, argument.bound(self.arrays[number], self.offsets[number])
        kind = _NUMBERS.index(spec.dtype) if spec.dtype in _NUMBERS else len(_NUMBERS)
        numbers = [number, spec.rank, spec.element_bytes, kind, spec.swizzle, bound.address - self.offsets[number]]
        numbers += [*bound.dims, *bound.strides, *spec.counts, *spec.element_strides]
        return "map " + " ".join(map(str, numbers))

    def job_lines(self) -> list[str]:
        """The storage and its arrays as the runner reads them."""
        lines = [f"storage {self.file.fileno()} {self.bytes}"]
        for offset, line_offset, a in zip(self.offsets, self.line_offsets, self.arrays, strict=True):
            lowest, elements = a.span
            shape = [a.data.ndim, *a.shape, *a.strides]
            placed = [1 + a.packed, offset, line_offset, lowest, elements]
            numbers = [int(a.covered), a.data.dtype.itemsize, *placed, *shape]
            lines.append(f"array {a.role} " + " ".join(map(str, numbers)))
        return lines
