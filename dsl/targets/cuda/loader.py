"""A compiled text as a callable on device arrays: binds, picks shape classes, packs arguments, launches.

Arrays are CuPy's or PyTorch's, on the current device. A u4 array is passed as u8 with two elements a byte, the first in
the low half. Everything up to the launch itself is pure and works on descriptions of arrays (`Held`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.binding import Binding, bind
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits, from_numpy, numpy_dtype
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices, PlacedCall, Scalars, placed_calls
from kernelagent.dsl.targets.cuda import launch
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.artifact import Binary, CudaArtifact
from kernelagent.dsl.targets.cuda.emit import launch_blocks
from kernelagent.dsl.targets.cuda.emit_hopper import maps
from kernelagent.dsl.targets.cuda.tensor_maps import encode
from kernelagent.dsl.targets.cuda.tools import MissingTool
from kernelagent.dsl.targets.cuda.units import DeviceCode, DeviceUnit, Placed, chosen, device_units
from kernelagent.dsl.targets.nibbles import odd_rows
from kernelagent.dsl.tensor_map import TensorMap, TensorMapSpec

# Arrays ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Held:
    """Where an array lies in device memory. Strides in elements of `dtype` (our name), shape too: a u4 array has twice
    the last extent of its bytes."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    @property
    def placed(self) -> Placed:
        """Rank 0 counts as one element: `ka_array` has a stride at least."""
        return Placed(self.pointer, self.shape or (1,), self.strides or (1,))


def held(name: str, array: Any, dtype: str) -> Held:
    """Describe a PyTorch, CuPy or numpy array that is passed where `dtype` is declared."""
    if isinstance(array, Held):
        return array
    shape, given = tuple(int(n) for n in array.shape), from_numpy(array.dtype)
    if hasattr(array, "data_ptr"):
        pointer, strides = array.data_ptr(), tuple(array.stride())
    else:
        pointer = array.data.ptr if hasattr(array.data, "ptr") else array.ctypes.data
        strides = tuple(s // array.itemsize for s in array.strides)
    if dtype == "u4" and given == "u8":
        return _of_pairs(name, pointer, shape, strides)
    return Held(pointer, shape, strides, given)


def _of_pairs(name: str, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Held:
    if not shape:
        raise odd_rows(name, shape)
    if shape[-1] > 1 and strides[-1] != 1:
        raise _mismatch(f"`{name}` is u4: its bytes must be contiguous along the last axis")
    return Held(pointer, (*shape[:-1], 2 * shape[-1]), (*(2 * s for s in strides[:-1]), 1), "u4")


def _mismatch(message: str, hint: str | None = None) -> KernelError:
    return KernelError([Diagnostic("cuda-arrays", message, hint=hint)])


# Launches -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Launch:
    """One kernel launch with everything it takes; `blocks` 0: there is nothing to do. `maps` follow the arguments."""

    unit: int
    shape_class: int
    blocks: int
    arguments: tuple[Any, ...]
    maps: tuple[TensorMap, ...] = ()


@dataclass(frozen=True)
class Program:
    """A text with its choices for one architecture, and the binary of each kernel and class."""

    module: ir.Module
    choices: Choices
    units: tuple[DeviceUnit, ...]
    binaries: tuple[tuple[Binary, ...], ...]

    @classmethod
    def of(cls, artifact: CudaArtifact) -> Program:
        """Raises KernelError for an artifact of another version of this compiler."""
        module = read_module(artifact.text, frozenset(artifact.absent))
        choices = Choices(artifact.dtypes, artifact.tunables, artifact.consts, artifact.dims)
        units = device_units(module, choices, artifact.arch)
        bodies = [[code.body for code in unit.classes] for unit in units]
        if bodies != [[b.body for b in unit] for unit in artifact.units]:
            raise _mismatch(f"`{artifact.entry}` was compiled by another version of the compiler", "compile it again")
        return cls(module, choices, units, artifact.units)

    def launches(
        self,
        arrays: Mapping[str, Any],
        scalars: Scalars | None,
        multiprocessors: int,
        allocate: Callable[[tuple[int, ...], str], Any],
    ) -> tuple[Launch, ...]:
        """What to launch for these arrays, in order. `allocate` gives uninitialised temporaries of our dtypes.

        Raises KernelError where the arrays do not fit.
        """
        entry = self.module.entry
        found: dict[str, Any] = {n: held(n, a, _declared(entry, n)) for n, a in arrays.items()}
        binding = bind(entry, {n: (a.shape, a.dtype) for n, a in found.items()}, scalars or {})
        self._check(binding)
        check_overlap(entry, found)
        calls = placed_calls(
            entry, tuple(u.item for u in self.units), found, binding, self.choices.tunables, allocate
        )  # fmt: skip
        return tuple(self._launch(number, call, multiprocessors) for number, call in enumerate(calls))

    def _check(self, binding: Binding) -> None:
        """The binaries were built for these dtypes, constants and fixed sizes."""
        built = {**self.choices.dtypes, **self.choices.consts, **self.choices.dims}
        given: dict[str, Any] = {**binding.dtypes, **binding.consts, **binding.dims}
        for name, value in built.items():
            if given.get(name, value) != value:
                raise _mismatch(f"compiled for {name}={value}, called with {given[name]}", "compile it for this call")

    def _launch(self, number: int, call: PlacedCall, multiprocessors: int) -> Launch:
        unit = self.units[number]
        own = {a.name: held(a.name, call.arrays[a.name], a.dtype) for a in unit.item.kernel.arrays}
        code = chosen(unit.classes, {n: a.placed for n, a in own.items()}, call.dims)
        which = unit.classes.index(code)
        resident = multiprocessors * self.binaries[number][which].resources.blocks
        sizes = {**call.dims, **{n: v for n, v in call.scalars.items() if isinstance(v, int)}}
        blocks = launch_blocks(code.schedule, sizes, resident)
        unit.limits[which].refuse(sizes, blocks)
        bound = [_bound(own[m.array], m) for m in maps(code.schedule)] if blocks else []
        return Launch(number, which, blocks, arguments(code, own, call.dims, call.scalars), tuple(bound))


def _bound(array: Held, spec: TensorMapSpec) -> TensorMap:
    return spec.bind(array.pointer, array.shape, array.strides)


def _declared(entry: ir.Kernel | ir.Program, name: str) -> str:
    return next((a.dtype for a in entry.arrays if a.name == name), "")


def arguments(
    code: DeviceCode, arrays: Mapping[str, Held], dims: Mapping[str, int], scalars: Scalars
) -> tuple[Any, ...]:
    """The parameters of a body in order, as numpy values of their C types."""
    schedule = code.schedule
    placed = [arrays[a.name].placed for a in schedule.arrays]
    return (
        *(launch.array_argument(p.address, p.strides) for p in placed),
        *(np.int32(dims[name]) for name in schedule.dims),
        *(scalar_argument(scalars[s.name], s.dtype) for s in schedule.scalars if s.dtype != "const"),
    )


def scalar_argument(value: float | int | bool, dtype: str) -> Any:
    """The bits of a scalar of our dtype, rounded once, as an unsigned numpy integer of its size."""
    return np.asarray(value).astype(numpy_dtype(dtype)).view(f"u{bits(dtype) // 8}")[()]


def check_overlap(entry: ir.Kernel | ir.Program, arrays: Mapping[str, Held]) -> None:
    """Raises KernelError for negative strides, and where a written array shares memory with itself or another."""
    ranges = {name: _bytes(name, a) for name, a in arrays.items() if 0 not in a.shape}
    for array in entry.arrays:
        if array.role == "In" or array.name not in ranges:
            continue
        first, last = ranges[array.name]
        if _overlaps_itself(arrays[array.name]):
            raise _mismatch(f"`{array.name}` is written, but its elements overlap in memory")
        for other, (begin, end) in ranges.items():
            if other != array.name and begin < last and first < end:
                raise _mismatch(f"`{array.name}` is written and shares memory with `{other}`")


def _bytes(name: str, array: Held) -> tuple[int, int]:
    if any(s < 0 for s in array.strides):
        raise _mismatch(f"`{name}` has strides {array.strides}; none may be negative")
    reach = sum((n - 1) * s for n, s in zip(array.shape, array.strides, strict=True)) + 1
    return array.pointer, array.pointer + -(-reach * bits(array.dtype) // 8)


def _overlaps_itself(array: Held) -> bool:
    """By the usual sufficient order of strides."""
    reach = 1
    for stride, size in sorted(zip(array.strides, array.shape, strict=True)):
        if size > 1 and stride < reach:
            return True
        reach += stride * (size - 1)
    return False


# Devices: the only part that needs one ----------------------------------------------------------------


@dataclass(frozen=True)
class Device:
    """The current device: its name and architecture, and how many multiprocessors it has."""

    name: str
    arch: str
    multiprocessors: int


def device() -> Device:
    """Raises MissingTool without CuPy, a device, or one whose architecture is in the table."""
    cupy = _cupy()
    if not cupy.is_available():
        raise MissingTool("an NVIDIA GPU", "to run kernels on", "run on a machine with a driver and a device")
    current = cupy.cuda.Device()
    digits = current.compute_capability
    capability = (int(digits[:-1]), int(digits[-1]))
    arch = next((name for name, row in archs().items() if row.capability == capability), None)
    name = cupy.cuda.runtime.getDeviceProperties(current.id)["name"].decode()
    if arch is None:
        raise MissingTool(f"{name} ({capability[0]}.{capability[1]})", "as an architecture", f"known: {list(archs())}")
    return Device(name, arch, current.attributes["MultiProcessorCount"])


def _cupy() -> Any:
    try:
        import cupy
    except ImportError:
        raise MissingTool("CuPy", "to run kernels on a GPU", 'pip install "kernelagent[gpu]"') from None
    return cupy


def load(artifact: CudaArtifact) -> LoadedProgram:
    """Load every cubin of an artifact onto the current device. Raises MissingTool, KernelError."""
    program = Program.of(artifact)
    there = device()
    if there.arch != artifact.arch:
        raise _mismatch(f"`{artifact.entry}` was compiled for {artifact.arch}, the device is {there.arch}")
    kernels = [[launch.load(Path(b.cubin_path), b.function) for b in unit] for unit in program.binaries]
    return LoadedProgram(program, there, kernels)


class LoadedProgram:
    """A text on the current device: `loaded(arrays, scalars)` runs it on the arrays' stream."""

    def __init__(self, program: Program, there: Device, kernels: Sequence[Sequence[launch.LoadedKernel]]) -> None:
        self.program = program
        self.device = there
        self.kernels = kernels

    def __call__(self, arrays: Mapping[str, Any], scalars: Scalars | None = None) -> None:
        """Bind and run once; outputs are written in place when the stream gets there."""
        self.bind(arrays, scalars)()

    def bind(self, arrays: Mapping[str, Any], scalars: Scalars | None = None) -> BoundProgram:
        """Check and place everything once; the result runs on these arrays, which stay referenced.

        Raises KernelError where they do not fit.
        """
        kept: list[Any] = list(arrays.values())

        def allocate(shape: tuple[int, ...], dtype: str) -> Any:
            room = _cupy().empty(int(np.prod(shape, dtype=np.int64)) * bits(dtype) // 8, np.uint8)
            kept.append(room)
            strides = tuple(int(np.prod(shape[k + 1 :], dtype=np.int64)) for k in range(len(shape)))
            return Held(room.data.ptr, shape, strides, dtype)

        launches = self.program.launches(arrays, scalars, self.device.multiprocessors, allocate)
        sums = [arrays[a.name] for a in self.program.module.entry.arrays if a.role == "Acc" and a.name in arrays]
        return BoundProgram(self, launches, sums, kept)


class BoundProgram:
    """A run on fixed arrays. `launches` says which class each kernel takes, on how many blocks."""

    def __init__(
        self, loaded: LoadedProgram, launches: Sequence[Launch], sums: Sequence[Any], kept: Sequence[Any]
    ) -> None:
        self.launches = launches
        self.sums = sums
        self.kept = kept
        self.stream = _stream(kept)
        self.calls = [self._call(loaded, item) for item in launches if item.blocks]

    @staticmethod
    def _call(loaded: LoadedProgram, item: Launch) -> Callable[[], None]:
        kernel = loaded.kernels[item.unit][item.shape_class]
        binary = loaded.program.binaries[item.unit][item.shape_class]
        shared = binary.resources.dynamic_shared_bytes
        values = (*item.arguments, *map(encode, item.maps))
        return lambda: kernel((item.blocks, 1, 1), binary.threads, values, shared)

    def __call__(self) -> None:
        """Enqueue; arrays that kernels add to are zeroed first."""
        with self.stream():
            for array in self.sums:
                array[...] = 0
            for call in self.calls:
                call()


def _stream(arrays: Sequence[Any]) -> Callable[[], Any]:
    """What makes CuPy launch on the current stream of the arrays' library."""
    if any(hasattr(a, "data_ptr") for a in arrays):
        import torch

        cupy = _cupy()
        return lambda: cupy.cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)
    return nullcontext
