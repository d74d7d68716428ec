"""Load a compiled text and bind it to arrays: all checks happen once, then a run is one foreign call."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.binding import Binding, bind
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import from_numpy, numpy_dtype
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.targets.calls import Choices, ConcreteCall, concrete_calls, placed_calls
from kernelagent.dsl.targets.cpu.artifact import CpuArtifact
from kernelagent.dsl.targets.cpu.emit_kernel import Slot, slots
from kernelagent.dsl.targets.cpu.widths import limits
from numpy.typing import NDArray

Array = NDArray[Any]
Scalars = Mapping[str, float | int | bool]


@lru_cache(maxsize=8)
def runtime(path: str) -> ctypes.CDLL:
    """The thread pool; one per process and path."""
    library = ctypes.CDLL(path)
    library.ka_runtime_get.restype = ctypes.c_void_p
    return library


def load(artifact: CpuArtifact) -> LoadedKernel:
    """Load the shared object. Raises OSError if it is gone, KernelError if its text no longer parses."""

    module = parse(artifact.text, frozenset(artifact.absent))
    chosen = Choices(artifact.dtypes, artifact.tunables, artifact.consts, artifact.dims)
    calls = concrete_calls(module, chosen)
    library = ctypes.CDLL(artifact.library_path)
    return LoadedKernel(artifact, module, calls, library, runtime(artifact.runtime_path))


class LoadedKernel:
    """A compiled text in this process."""

    def __init__(
        self,
        artifact: CpuArtifact,
        module: ir.Module,
        calls: Sequence[ConcreteCall],
        library: ctypes.CDLL,
        pool: ctypes.CDLL,
    ) -> None:
        self.artifact = artifact
        self.module = module
        self.calls = calls
        self.limits = [limits(call.kernel) for call in calls]
        self.function = library.ka_run
        self.function.restype = ctypes.c_int
        self.function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
        self.pool = ctypes.c_void_p(pool.ka_runtime_get())
        self._library = library

    def __call__(self, arrays: Mapping[str, Array], scalars: Scalars | None = None) -> None:
        """Bind and run once."""
        self.bind(arrays, scalars)()

    def bind(
        self, arrays: Mapping[str, Array], scalars: Scalars | None = None, threads: int | None = None
    ) -> Callable[[], None]:
        """Check dims, dtypes, strides and overlap, then return a call of no arguments that runs on these arrays.

        The arrays stay referenced. Raises KernelError where they do not fit.
        """
        entry = self.module.entry
        shapes = {name: (tuple(a.shape), from_numpy(a.dtype)) for name, a in arrays.items()}
        binding = bind(entry, shapes, scalars or {})
        self._check_choices(binding)
        check_strides(entry, arrays, self.artifact.strides)
        check_overlap(entry, arrays)
        held = dict(arrays)
        blocks = self._blocks(entry, held, binding)
        pointers = (ctypes.c_void_p * len(blocks))(*(b.ctypes.data for b in blocks))
        used = threads or self.artifact.threads or 0
        return BoundCall(self.function, self.pool, pointers, used, (held, blocks, self._library))

    def _check_choices(self, binding: Binding) -> None:
        """The binary was built for these dtypes and these fixed sizes."""
        for name, dtype in self.artifact.dtypes.items():
            if binding.dtypes.get(name, dtype) != dtype:
                raise mismatch("cpu-shape-class", f"compiled for {name}={dtype}, called with {binding.dtypes[name]}")
        for name, size in self.artifact.dims.items():
            if binding.dims.get(name, size) != size:
                raise mismatch("cpu-shape-class", f"compiled for {name}={size}, called with {binding.dims[name]}")

    def _blocks(self, entry: ir.Kernel | ir.Program, arrays: dict[str, Array], binding: Binding) -> list[Array]:
        """One parameter block per kernel call; temporaries are made here and kept in `arrays`."""

        def allocate(shape: tuple[int, ...], dtype: str) -> Array:
            return aligned_empty(shape, numpy_dtype(dtype))

        placed = placed_calls(entry, tuple(self.calls), arrays, binding, self.artifact.tunables, allocate)
        for call, limit in zip(placed, self.limits, strict=True):
            limit.refuse({**call.dims, **{n: v for n, v in call.scalars.items() if isinstance(v, int)}})
        return [parameter_block(p.item.kernel, p.arrays, p.dims, p.scalars) for p in placed]


class BoundCall:
    """A run on fixed arrays; calling it is one foreign call. Raises MemoryError if the arena cannot grow."""

    def __init__(
        self, function: Any, pool: ctypes.c_void_p, pointers: Any, threads: int, held: tuple[Any, ...]
    ) -> None:
        self.function = function
        self.arguments = (pool, ctypes.cast(pointers, ctypes.c_void_p), threads)
        self.held = (pointers, *held)

    def __call__(self) -> None:
        if self.function(*self.arguments):
            raise MemoryError("not enough memory for the kernel's working buffers")


def parameter_block(kernel: ir.Kernel, arrays: Mapping[str, Array], dims: Mapping[str, int], scalars: Scalars) -> Array:
    """The 8-byte slots of one kernel call."""
    block = np.zeros(len(slots(kernel)) + 1, np.int64)
    for k, slot in enumerate(slots(kernel)):
        block[k] = slot_value(kernel, slot, arrays, dims, scalars)
    return block


def slot_value(
    kernel: ir.Kernel, slot: Slot, arrays: Mapping[str, Array], dims: Mapping[str, int], scalars: Scalars
) -> int:
    match slot.kind:
        case "pointer":
            return arrays[slot.name].ctypes.data
        case "dim":
            return dims[slot.name]
        case "stride":
            array = arrays[slot.name]
            return array.strides[slot.axis] // array.itemsize
        case _:
            dtype = next(s.dtype for s in kernel.scalars if s.name == slot.name)
            return scalar_bits(scalars[slot.name], dtype)


def scalar_bits(value: float | int | bool, dtype: str) -> int:
    """A scalar as the low bits of an int64: rounded to its dtype once, here."""
    if dtype == "f64":
        return int(struct.unpack("<q", struct.pack("<d", float(value)))[0])
    if dtype in ("f32", "f16", "bf16"):
        rounded = float(np.asarray(value).astype(numpy_dtype(dtype)).astype(np.float32))
        return int(struct.unpack("<i", struct.pack("<f", rounded))[0])
    return int(value)


def aligned_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An uninitialised array that starts on a cache line."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def check_strides(entry: ir.Kernel | ir.Program, arrays: Mapping[str, Array], strides: str) -> None:
    """Raises KernelError for strides outside the shape class of the binary, or that overlap in an output."""
    for array in entry.arrays:
        data = arrays.get(array.name)
        if data is None or data.size == 0:
            continue
        if any(s % data.itemsize or s < 0 for s in data.strides):
            raise mismatch(
                "cpu-strides", f"{array.name} has strides {data.strides} bytes; whole, non-negative ones are needed"
            )
        if strides == "dense" and data.ndim and data.shape[-1] > 1 and data.strides[-1] != data.itemsize:
            hint = 'pass a contiguous array, or compile with strides="any"'
            raise mismatch("cpu-shape-class", f"{array.name} is not contiguous along its last axis", hint)
        if array.role != "In" and overlaps_itself(data):
            raise mismatch("cpu-strides", f"{array.name} is written but its elements overlap in memory")
        if array.role != "In" and not data.flags.writeable:
            raise mismatch("cpu-strides", f"{array.name} is written but the array is read-only")


def overlaps_itself(data: Array) -> bool:
    """Whether two elements share memory, by the usual sufficient order of strides."""
    reach = data.itemsize
    for stride, size in sorted(zip(data.strides, data.shape, strict=True)):
        if size > 1 and stride < reach:
            return True
        reach += stride * (size - 1)
    return False


def check_overlap(entry: ir.Kernel | ir.Program, arrays: Mapping[str, Array]) -> None:
    """Raises KernelError if a written array shares memory with another."""
    ranges = {a.name: np.lib.array_utils.byte_bounds(arrays[a.name]) for a in entry.arrays if a.name in arrays}
    written = [a.name for a in entry.arrays if a.role != "In" and a.name in arrays and arrays[a.name].size]
    for name in written:
        for other, (lo, hi) in ranges.items():
            if other != name and arrays[other].size and lo < ranges[name][1] and ranges[name][0] < hi:
                raise mismatch("cpu-alias", f"{name} is written and shares memory with {other}")


def mismatch(code: str, message: str, hint: str | None = None) -> KernelError:
    return KernelError([Diagnostic(code, message, hint=hint)])
