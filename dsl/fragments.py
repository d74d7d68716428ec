"""Where a block of threads keeps its values: fragments in registers, buffers and barriers in shared memory."""

from __future__ import annotations

from dataclasses import dataclass

from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index
from kernelagent.dsl.ir import DType, Origin
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.swizzle import Swizzle


@dataclass(frozen=True)
class Fragment:
    """A tile in registers. `layout` None: rank 0, the same in every thread. Numbers are unique in a kernel."""

    number: int
    name: str
    dtype: DType
    shape: tuple[int, ...]
    layout: Distribution | None
    origin: Origin


@dataclass(frozen=True)
class SharedBuffer:
    """`stages` tiles of `shape` in shared memory at byte `offset`, rows `pad` elements longer than the last extent.

    Buffers may overlap in bytes when their lifetimes do not: a barrier lies between. `panel` above 0: the columns are
    cut into panels of so many, one behind the other, each with all rows (rank 2, what boxes of tensor maps write).
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    stages: int = 1
    swizzle: Swizzle | None = None
    pad: int = 0
    offset: int = 0
    origin: Origin | None = None
    panel: int = 0


@dataclass(frozen=True)
class MBarrier:
    """`stages` barriers with phases in shared memory at byte `offset`, 8 bytes each: a phase completes when
    `arrivals` have arrived and every expected byte has landed."""

    name: str
    arrivals: int
    stages: int = 1
    offset: int = 0
    origin: Origin | None = None


@dataclass(frozen=True)
class Shared:
    """One stage of a buffer; `axes` permutes it (`.T` is (1, 0)): axis j of the reference is axis axes[j]."""

    buffer: str
    stage: Index
    axes: tuple[int, ...]


def stage_elements(buffer: SharedBuffer) -> int:
    """Elements of one stage, rows padded."""
    *outer, last = buffer.shape
    count = last + buffer.pad
    for extent in outer:
        count *= extent
    return count


def stage_bytes(buffer: SharedBuffer) -> int:
    """Bytes of one stage, rounded up to 128 so that every stage starts on an aligned line."""
    return -(-stage_elements(buffer) * bits(buffer.dtype) // 1024) * 128
