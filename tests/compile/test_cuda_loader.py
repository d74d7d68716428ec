"""Loading a compiled text as far as it goes without a device: descriptions, classes, blocks, argument bytes."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.binding import bind
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.targets.cuda import loader, tools
from kernelagent.dsl.targets.cuda.artifact import CudaArtifact
from kernelagent.dsl.targets.cuda.build import compile as compile_text
from kernelagent.dsl.targets.cuda.loader import Held, Launch, Program, held
from kernelagent.dsl.targets.cuda.tensor_maps import BYTES
from kernelagent.dsl.targets.nibbles import pack
from support.cuda import needs_binary_tools, needs_compiler
from support.gpu_cases import CASES, Case

from kernelagent import dsl

Arrays = dict[str, Any]
pytestmark = needs_compiler
MULTIPROCESSORS = 10
BY_NAME = {case.name: case for case in CASES}


def arrays_of(case: Case, kind: str) -> Arrays:
    dims = next(s.dims for s in case.shapes if s.kind == kind)
    return {**case.inputs(dims), **case.outputs(dims)}


@cache
def compiled(name: str, arch: str = "sm_80") -> CudaArtifact:
    case = BY_NAME[name]
    module, arrays = dsl.parse(case.text), arrays_of(case, "full")
    binding = bind(module.entry, {n: (a.shape, from_numpy(a.dtype)) for n, a in arrays.items()}, case.scalars)
    return compile_text(module, binding.dtypes, {}, binding.consts, binding.dims, arch)


@cache
def program(name: str, arch: str = "sm_80") -> Program:
    return Program.of(compiled(name, arch))


def temporary(shape: tuple[int, ...], dtype: str) -> Held:
    strides = tuple(int(np.prod(shape[k + 1 :])) for k in range(len(shape)))
    return Held(1 << 40, shape, strides, dtype)


def launches(name: str, arrays: Mapping[str, Any], arch: str = "sm_80") -> tuple[Launch, ...]:
    placed = {n: at_device(a, 4096 * (k + 1) << 16) for k, (n, a) in enumerate(arrays.items())}
    return program(name, arch).launches(placed, BY_NAME[name].scalars, MULTIPROCESSORS, temporary)


def at_device(array: Any, pointer: int) -> Held:
    """A numpy array as if it lay at an address of a device."""
    dtype = from_numpy(array.dtype)
    return Held(pointer, array.shape, tuple(s // array.itemsize for s in array.strides), dtype)


# Descriptions of arrays ---------------------------------------------------------------------------------


def test_numpy_and_torch_arrays_are_described_alike() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros((6, 8), dtype=torch.float32)[1:, ::2].T
    found = held("x", tensor, "f32")
    assert found == held("x", tensor.numpy(), "f32")
    assert (found.shape, found.strides, found.dtype) == ((4, 5), (2, 8), "f32")
    assert held("x", torch.zeros(3, dtype=torch.bfloat16), "bf16").dtype == "bf16"
    assert held("x", torch.zeros(3).to(torch.float8_e4m3fn), "f8e4m3").dtype == "f8e4m3"


def test_bytes_of_a_u4_array_count_twice() -> None:
    packed = pack("w", np.zeros((6, 10), ml_dtypes.uint4))
    found = held("w", packed[::2], "u4")
    assert (found.shape, found.strides, found.dtype) == ((3, 10), (20, 1), "u4")
    assert held("w", packed, "u8").shape == (6, 5)
    with pytest.raises(KernelError, match="contiguous"):
        held("w", packed[:, ::2], "u4")


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (0.1, "f32", struct.pack("<f", 0.1)),
        (0.1, "f64", struct.pack("<d", 0.1)),
        (-3, "i32", struct.pack("<i", -3)),
        (2**40, "i64", struct.pack("<q", 2**40)),
        (1.0, "bf16", b"\x80\x3f"),
        (1.0, "f16", b"\x00\x3c"),
        (True, "bool", b"\x01"),
    ],
)
def test_a_scalar_is_its_bits(value: float | int | bool, dtype: str, expected: bytes) -> None:
    assert loader.scalar_argument(value, dtype).tobytes() == expected


# Classes and blocks ------------------------------------------------------------------------------------------


def test_the_class_follows_addresses_strides_and_sizes() -> None:
    arrays = arrays_of(BY_NAME["gemm_nn_bf16"], "full")
    base = {n: at_device(a, 1 << 20) for n, a in arrays.items()}
    classes = [c.schedule.shape_class.name for c in program("gemm_nn_bf16").units[0].classes]

    def chosen(**changed: Held) -> str:
        found = {n: Held((k + 1) << 24, h.shape, h.strides, h.dtype) for k, (n, h) in enumerate(base.items())}
        (launch,) = program("gemm_nn_bf16").launches(found | changed, {}, MULTIPROCESSORS, temporary)
        return classes[launch.shape_class]

    m, k = base["a"].shape
    assert chosen() == "aligned"
    assert chosen(a=Held((9 << 24) + 2, (m, k), (k, 1), "bf16")) == "general"
    assert chosen(a=Held(9 << 24, (m, k), (k + 1, 1), "bf16")) == "general"
    assert chosen(a=Held(9 << 24, (m, k), (1, m), "bf16")) == "general"
    assert chosen(a=Held(9 << 24, (m, k), (k + 8, 1), "bf16")) == "aligned"


def test_one_block_a_tile_and_none_for_empty_arrays() -> None:
    (launch,) = launches("gemm_nn_bf16", arrays_of(BY_NAME["gemm_nn_bf16"], "full"))
    assert launch.blocks == 2 * 2
    empty = {"a": np.zeros((0, 8), ml_dtypes.bfloat16), "b": np.zeros((8, 5), ml_dtypes.bfloat16)}
    (launch,) = launches("gemm_nn_bf16", empty | {"c": np.zeros((0, 5), ml_dtypes.bfloat16)})
    assert launch.blocks == 0


def test_blocks_that_walk_over_tiles_fill_the_device() -> None:
    name = "gemm_moe"
    (launch,) = launches(name, arrays_of(BY_NAME[name], "full"))
    resident = program(name).binaries[0][launch.shape_class].resources.blocks
    assert launch.blocks == MULTIPROCESSORS * resident


def test_a_program_launches_each_kernel_with_its_temporaries() -> None:
    found = launches("gemm_splitk", arrays_of(BY_NAME["gemm_splitk"], "ragged"))
    assert [launch.unit for launch in found] == [0, 1]
    pointers = [{int(a["data"]) for a in launch.arguments if a.dtype.names} for launch in found]
    assert 1 << 40 in pointers[0] & pointers[1]


# Argument bytes ------------------------------------------------------------------------------------------------


@needs_binary_tools
@pytest.mark.parametrize("name", ["gemm_nn_bf16", "rope", "gemm_int4", "attention_causal_d64_bf16", "gemm_splitk"])
def test_arguments_have_the_sizes_that_the_cubin_declares(name: str) -> None:
    for launch in launches(name, arrays_of(BY_NAME[name], "ragged")):
        path = Path(program(name).binaries[launch.unit][launch.shape_class].cubin_path)
        assert [a.nbytes for a in launch.arguments] == declared_sizes(path)


@needs_binary_tools
def test_tensor_maps_follow_the_arguments_and_name_the_arrays() -> None:
    arrays = arrays_of(BY_NAME["gemm_nn_bf16"], "full")
    (launch,) = launches("gemm_nn_bf16", arrays, "sm_90a")
    path = Path(program("gemm_nn_bf16", "sm_90a").binaries[0][launch.shape_class].cubin_path)
    sizes = [a.nbytes for a in launch.arguments] + [BYTES for _ in launch.maps]
    assert sizes == declared_sizes(path)
    assert {m.address for m in launch.maps} == {4096 * (k + 1) << 16 for k in range(len(arrays))}
    empty = {n: a[:0] if n != "b" else a for n, a in arrays.items()}
    assert launches("gemm_nn_bf16", empty, "sm_90a")[0].maps == ()


def declared_sizes(cubin: Path) -> list[int]:
    """Bytes of each kernel parameter, by ordinal, as the cubin's attributes say."""
    program_path = tools.find_program("cuobjdump")
    assert program_path
    text = subprocess.run([program_path, "-elf", str(cubin)], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"Ordinal\s*:\s*(0x[0-9a-f]+)\s+Offset\s*:\s*0x[0-9a-f]+\s+Size\s*:\s*(0x[0-9a-f]+)", text)
    assert found
    return [size for _, size in sorted((int(o, 16), int(s, 16)) for o, s in found)]


def test_arrays_come_first_then_dims_then_scalars() -> None:
    (launch,) = launches("rmsnorm_residual", arrays_of(BY_NAME["rmsnorm_residual"], "ragged"))
    kernel = program("rmsnorm_residual").units[0].classes[launch.shape_class].schedule
    count = len(kernel.arrays)
    strides = [tuple(a["stride"].tolist()) for a in launch.arguments[:count]]
    assert strides == [(5001, 1) if len(a.dims) == 2 else (1,) for a in kernel.arrays]
    assert [int(a) for a in launch.arguments[count:-1]] == [{"M": 5, "N": 5001}[d] for d in kernel.dims]
    assert launch.arguments[-1].tobytes() == struct.pack("<f", 1e-6)


# Refusals ------------------------------------------------------------------------------------------------------


def _refused(arrays: Mapping[str, Any], match: str) -> None:
    with pytest.raises(KernelError, match=match):
        program("softmax_f32").launches(arrays, {}, MULTIPROCESSORS, temporary)


def test_what_does_not_fit_is_refused() -> None:
    x, y = Held(1 << 20, (4, 8), (8, 1), "f32"), Held(1 << 24, (4, 8), (8, 1), "f32")
    _refused({"x": Held(1 << 20, (4, 8), (8, 1), "bf16"), "y": Held(1 << 24, (4, 8), (8, 1), "bf16")}, "compiled for")
    _refused({"x": x, "y": Held((1 << 20) + 124, (4, 8), (8, 1), "f32")}, "shares memory")
    _refused({"x": x, "y": Held(1 << 24, (4, 8), (4, 1), "f32")}, "overlap")
    _refused({"x": Held(1 << 20, (4, 8), (-8, 1), "f32"), "y": y}, "negative")
    _refused({"x": x, "y": Held(1 << 24, (4, 9), (9, 1), "f32")}, "N")


def test_an_artifact_of_another_compiler_version_is_refused() -> None:
    from dataclasses import replace

    artifact = compiled("softmax_f32")
    changed = tuple(tuple(replace(b, body=b.body + " ") for b in unit) for unit in artifact.units)
    with pytest.raises(KernelError, match="another version"):
        Program.of(replace(artifact, units=changed))


def test_an_artifact_survives_being_written_down() -> None:
    artifact = compiled("gemm_splitk")
    again = Program.of(CudaArtifact.from_dict(artifact.to_dict()))
    assert [len(u) for u in again.binaries] == [len(u) for u in artifact.units]


def test_without_cupy_the_lack_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(tools.MissingTool, match="CuPy"):
        loader.device()
