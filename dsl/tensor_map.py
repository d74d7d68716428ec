"""Tensor maps: which boxes of which array bulk copies move, how they lie in shared memory, and what the driver allows.

A `TensorMapSpec` is known when a kernel is compiled; bound to an array's address, dims and strides it is a `TensorMap`,
which `targets/cuda/tensor_maps.py` encodes and the emulator reads. Axes count from the innermost one, as coordinates
do. Rules: CUDA driver API, `cuTensorMapEncodeTiled`. What breaks one is a KernelError with a `tensor-map` diagnostic
that names the limit and the nearest legal choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, prod

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.swizzle import Swizzle

RANKS = range(1, 6)
LARGEST_BOX = 256
LARGEST_DIM = 1 << 32
STRIDE_UNIT, STRIDE_LIMIT = 16, 1 << 40
ADDRESS_UNIT = 16
LARGEST_ELEMENT_STRIDE = 8
CHUNK = 16
"""Bytes that stay together under every swizzle; rows of a box are whole chunks."""

SWIZZLES = (0, 32, 64, 128)
"""Bytes of the rows over which chunks are exchanged; 0: they stay where they are."""

L2_PROMOTIONS = (0, 64, 128, 256)

ELEMENTS = frozenset({"f16", "bf16", "f32", "f64", "f8e4m3", "f8e5m2", "i8", "u8", "i16", "i32", "u32", "i64", "bool"})
"""Dtypes whose elements are whole bytes."""


def swizzle_of(span: int) -> Swizzle:
    """The swizzle on byte offsets that rows of `span` bytes (0, 32, 64 or 128) get.

    Chunk j of row i lies in place j ^ (i mod 8), j ^ (i / 2 mod 4) or j ^ (i / 4 mod 2).
    """
    return Swizzle({0: 0, 32: 1, 64: 2, 128: 3}[span], 4, 3)


def alignment_of(span: int) -> int:
    """What a box's address in shared memory must be a multiple of, so that the swizzle starts with it, in bytes."""
    return max(swizzle_of(span).period, 128)


@dataclass(frozen=True)
class TensorMapSpec:
    """Boxes of `box` elements (innermost axis first) of the array's `axes` (which array axis each is, innermost first).

    `swizzle` in bytes, 0 for none. `element_strides` takes each n-th element of an axis of the box. `promotion` is
    how many bytes L2 fetches at a time. Raises KernelError for what no array could make legal.
    """

    array: str
    dtype: str
    axes: tuple[int, ...]
    box: tuple[int, ...]
    swizzle: int = 0
    element_strides: tuple[int, ...] = ()
    promotion: int = 128

    def __post_init__(self) -> None:
        if not self.element_strides:
            object.__setattr__(self, "element_strides", (1,) * len(self.box))
        _raise(self, _spec_rules(self))

    @property
    def rank(self) -> int:
        return len(self.box)

    @property
    def element_bytes(self) -> int:
        return bits(self.dtype) // 8

    @property
    def counts(self) -> tuple[int, ...]:
        """Elements that arrive along each axis, innermost first."""
        return tuple(ceil(extent / step) for extent, step in zip(self.box, self.element_strides, strict=True))

    @property
    def row_bytes(self) -> int:
        """Bytes of the box along its innermost axis."""
        return self.counts[0] * self.element_bytes

    @property
    def box_bytes(self) -> int:
        """What a load adds to its barrier, wherever the box lies."""
        return prod(self.counts) * self.element_bytes

    @property
    def alignment(self) -> int:
        """Of a box in shared memory, in bytes."""
        return alignment_of(self.swizzle)

    def bind(self, address: int, shape: Sequence[int], strides: Sequence[int]) -> TensorMap:
        """The map of one array: `shape` and `strides` (in elements) in the array's own order. Raises KernelError.

        The stride of an axis of one element may be anything: a legal one takes its place.
        """
        dims = tuple(shape[axis] for axis in self.axes)
        steps = [strides[axis] * self.element_bytes for axis in self.axes]
        for k, extent in enumerate(dims):
            if extent == 1:
                steps[k] = STRIDE_UNIT if k else self.element_bytes
        return TensorMap(self, address, dims, tuple(steps))


@dataclass(frozen=True)
class TensorMap:
    """A map of one array: `dims` in elements and `strides` in bytes, innermost first (`strides[0]` is one element).

    Raises KernelError for an array that the driver would refuse.
    """

    spec: TensorMapSpec
    address: int
    dims: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        _raise(self.spec, _array_rules(self))


def _raise(spec: TensorMapSpec, broken: Iterable[tuple[str, str]]) -> None:
    facts = {"array": spec.array, "dtype": spec.dtype, "box": spec.box, "swizzle": spec.swizzle}
    found = [
        Diagnostic("tensor-map", f"tensor map of {spec.array}: {message}", hint=hint, facts=facts)
        for message, hint in broken
    ]
    if found:
        raise KernelError(found)


# Rules: what is wrong, and the nearest thing that is right ------------------------------------------------------


def _spec_rules(spec: TensorMapSpec) -> Iterator[tuple[str, str]]:
    if spec.rank not in RANKS:
        yield f"rank {spec.rank} is not 1 to 5", "merge axes that are contiguous, or load the outer ones in a loop"
        return
    if spec.dtype not in ELEMENTS:
        yield f"elements of {spec.dtype} are not whole bytes", "map the array as u8, two elements a byte"
        return
    if not len(spec.axes) == len(spec.element_strides) == spec.rank:
        yield f"{spec.rank} box extents for axes {spec.axes}", "name one axis and one element stride for each extent"
        return
    for axis, (extent, step) in enumerate(zip(spec.box, spec.element_strides, strict=True)):
        yield from _box_rules(axis, extent, step)
    yield from _row_rules(spec)
    if spec.promotion not in L2_PROMOTIONS:
        yield f"promotion of {spec.promotion} bytes", f"take {_nearest(spec.promotion, L2_PROMOTIONS)}"


def _box_rules(axis: int, extent: int, step: int) -> Iterator[tuple[str, str]]:
    if not 1 <= extent <= LARGEST_BOX:
        pieces = ceil(extent / LARGEST_BOX)
        hint = f"load {pieces} boxes of {ceil(extent / pieces)}" if extent > 0 else "take at least 1"
        yield f"a box has {extent} elements along axis {axis}; the limit is {LARGEST_BOX}", hint
    limit = 1 if axis == 0 else LARGEST_ELEMENT_STRIDE  # the driver ignores a stride of the innermost axis
    if not 1 <= step <= limit:
        yield f"element stride {step} along axis {axis}; the limit is {limit}", f"take {min(max(step, 1), limit)}"


def _row_rules(spec: TensorMapSpec) -> Iterator[tuple[str, str]]:
    """Rows shorter than the swizzle's span are allowed by the driver, but where they then lie is not documented."""
    row, each = spec.row_bytes, spec.element_bytes
    if spec.swizzle not in SWIZZLES:
        yield f"swizzle over {spec.swizzle} bytes", f"take {_nearest(spec.swizzle, SWIZZLES)}"
    elif spec.swizzle and row != spec.swizzle:
        fitting = f"swizzle={row}" if row in SWIZZLES else f"boxes of {spec.swizzle // each} elements along axis 0"
        yield f"rows of the box are {row} bytes, the swizzle spans {spec.swizzle}", f"take {fitting}"
    if row % CHUNK:
        up = ceil(row / CHUNK) * CHUNK // each
        yield f"rows of the box are {row} bytes, no multiple of {CHUNK}", f"take {up} elements along axis 0"


def _array_rules(bound: TensorMap) -> Iterator[tuple[str, str]]:
    if bound.address % ADDRESS_UNIT:
        down = bound.address // ADDRESS_UNIT * ADDRESS_UNIT
        hint = f"start {bound.address - down} bytes earlier, or use the schedule without tensor maps"
        yield f"the address {bound.address:#x} is no multiple of {ADDRESS_UNIT}", hint
    for axis, extent in enumerate(bound.dims):
        if not 1 <= extent <= LARGEST_DIM:
            yield f"axis {axis} has {extent} elements; 1 to 2**32 are possible", "an empty array needs no launch"
    if bound.strides[0] != bound.spec.element_bytes:
        have = bound.strides[0] // bound.spec.element_bytes
        yield f"elements of axis 0 lie {have} apart, not side by side", "map an axis of stride 1 as the innermost"
    for axis, stride in list(enumerate(bound.strides))[1:]:
        yield from _stride_rules(axis, stride)


def _stride_rules(axis: int, stride: int) -> Iterator[tuple[str, str]]:
    if stride <= 0:
        yield f"axis {axis} has a stride of {stride} bytes", "copy the array so that its strides are positive"
    elif stride % STRIDE_UNIT:
        up = ceil(stride / STRIDE_UNIT) * STRIDE_UNIT
        message = f"axis {axis} has a stride of {stride} bytes, no multiple of {STRIDE_UNIT}"
        yield message, f"pad its rows to {up} bytes, or use the schedule without tensor maps"
    elif stride >= STRIDE_LIMIT:
        yield f"axis {axis} has a stride of {stride} bytes; the limit is 2**40", "map a part of the array"


def _nearest(value: int, legal: Sequence[int]) -> int:
    return min(legal, key=lambda choice: (abs(choice - value), choice))
