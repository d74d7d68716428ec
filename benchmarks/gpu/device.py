"""All that touches a GPU in these benchmarks: arrays there and back, launches, the clock, what the chip says of itself.

Arrays are PyTorch's (they have bf16 and 8-bit floats, and its rivals take them); kernels are launched through CuPy.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from conformance import LANES, SHARED, WARPS, State, out_rows
from kernelagent.dsl.atoms import Atom
from kernelagent.dsl.targets.cuda import launch, loader
from kernelagent.dsl.targets.cuda.tensor_maps import encode
from kernelagent.dsl.targets.nibbles import pack
from oracles import Array
from probes import Probe

_RAW = {1: "uint8", 2: "int16", 4: "int32", 8: "int64"}
WHERE = "cuda"
_FLUSHED = 256 << 20
"""Bytes written between timed runs: several times the largest second-level cache."""


def to_device(array: Array) -> Any:
    """A tensor with the same values; u4 packed, two a byte."""
    import torch

    if array.dtype == ml_dtypes.uint4:
        array = pack("array", array)
    raw = np.ascontiguousarray(array).view(_RAW[array.itemsize])
    return torch.from_numpy(raw).to(WHERE).view(_torch_dtype(array.dtype)).reshape(array.shape)


def _torch_dtype(dtype: Any) -> Any:
    import torch

    return getattr(torch, dtype.name)


def from_device(tensor: Any, like: Any) -> Array:
    """A numpy array of dtype `like` with the tensor's values."""
    import torch

    raw = tensor.contiguous().view(getattr(torch, _RAW[tensor.element_size()]))
    return np.asarray(raw.cpu().numpy().view(like))


def poisoned(shape: tuple[int, ...], dtype: Any, odd_rows: bool = False) -> Any:
    """An output of all bits set (NaN in floats), in rows one element longer if asked for."""
    import torch

    size = (*shape[:-1], shape[-1] + 1) if odd_rows and len(shape) > 1 else shape
    count = int(np.prod(size)) * dtype.itemsize
    room = torch.full((count,), 0xFF, dtype=torch.uint8, device=WHERE).view(_torch_dtype(dtype)).reshape(size)
    return room[..., : shape[-1]] if shape else room


def with_odd_rows(tensor: Any) -> Any:
    """The same values in rows one element longer."""
    if tensor.ndim < 2:
        return tensor
    room = tensor.new_zeros((*tensor.shape[:-1], tensor.shape[-1] + 1))
    room[..., :-1] = tensor
    return room[..., :-1]


def rows_of(tensor: Any, axis: int, indices: Array) -> Any:
    import torch

    return tensor.index_select(axis, torch.from_numpy(indices).to(WHERE))


def any_nan(tensor: Any) -> bool:
    return bool(tensor.isnan().any()) if tensor.is_floating_point() else False


def same_bits(a: Any, b: Any) -> bool:
    import torch

    raw = getattr(torch, _RAW[a.element_size()])
    return torch.equal(a.view(raw), b.view(raw))


def synchronize() -> None:
    """Wait, and raise what a kernel did wrong."""
    import torch

    torch.cuda.synchronize()


def run_atom(cubin: Path, atom: Atom, given: State) -> State:
    """Run an atom's kernel of `conformance`."""
    import cupy

    rows = out_rows(atom)
    words, out = cupy.asarray(given.words), cupy.full((max(rows, 1), LANES), 0xCDCDCDCD, np.uint32)
    memory, shared = cupy.asarray(given.memory), cupy.asarray(given.shared)
    launch.load(cubin, f"test_{atom.name}")((WARPS, 1, 1), 32, (words, out, memory, shared), SHARED)
    cupy.cuda.Device().synchronize()
    return State(out.get()[:rows], memory.get(), shared.get())


def run_probe(cubin: Path, probe: Probe) -> dict[str, Array]:
    """Run a probe's kernel; every array as it is afterwards."""
    import cupy

    held = {name: cupy.asarray(np.frombuffer(data.tobytes(), np.uint8)) for name, (data, _) in probe.arrays.items()}
    given: list[Any] = []
    for name, (data, _) in probe.arrays.items():
        given.append(launch.array_argument(held[name].data.ptr, [s // data.itemsize for s in data.strides]))
    for spec in probe.maps:
        data, _ = probe.arrays[spec.array]
        strides = [s // data.itemsize for s in data.strides]
        given.append(encode(spec.bind(held[spec.array].data.ptr, data.shape, strides)))
    kernel = launch.load(cubin, probe.name)
    kernel((probe.cluster, 1, 1), probe.threads, tuple(given), probe.shared_bytes)
    cupy.cuda.Device().synchronize()
    return {n: held[n].get().view(data.dtype).reshape(data.shape) for n, (data, _) in probe.arrays.items()}


class Clock:
    """Milliseconds that the device takes for what a call enqueues, with cold second-level caches.

    The flush is enqueued first, so the device is busy while the host enqueues the call: launch latency is not counted.
    """

    def __init__(self) -> None:
        import torch

        self.flushed = torch.zeros(_FLUSHED, dtype=torch.uint8, device=WHERE)
        self.begin, self.end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def __call__(self, call: Callable[[], object]) -> float:
        self.flushed.zero_()
        self.begin.record()
        call()
        self.end.record()
        self.end.synchronize()
        return float(self.begin.elapsed_time(self.end))


def machine(there: loader.Device) -> dict[str, Any]:
    """Chip, driver and libraries."""
    import cupy
    import torch

    return {
        "chip": there.name,
        "arch": there.arch,
        "multiprocessors": there.multiprocessors,
        "driver": _driver(),
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "torch": torch.__version__,
        "cupy": cupy.__version__,
    }


def _driver() -> str:
    import pynvml

    pynvml.nvmlInit()
    try:
        version = pynvml.nvmlSystemGetDriverVersion()
    finally:
        pynvml.nvmlShutdown()
    return version if isinstance(version, str) else version.decode()
