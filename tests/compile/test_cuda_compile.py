"""CUDA C++ to cubins with the compilers of this machine, and what is found in the cubins. No GPU."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.cuda import cache, compiler, tools
from kernelagent.dsl.targets.cuda.compiler import CompileOptions, CudaCompilerFailed, Toolchain, compile_cubin
from kernelagent.dsl.targets.cuda.inspect import inspect
from kernelagent.dsl.targets.cuda.sass import read_all, read_sass
from support.cuda import TOOLCHAINS, each_toolchain, needs_binary_tools, needs_compiler, source

pytestmark = [pytest.mark.compile, needs_compiler]


@each_toolchain
@pytest.mark.parametrize("arch", ["sm_80", "sm_86", "sm_89", "sm_90a"])
def test_resources_of_a_tile(toolchain: Toolchain, arch: str) -> None:
    compiled = compile_cubin(source("tile.cu"), arch, toolchain=toolchain)
    found = compiled.kernel("tile")
    assert compiled.cubin.startswith(b"\x7fELF")
    assert (found.arch, found.shared_bytes, found.barriers) == (arch, 2048, 1)
    assert 16 < found.registers < 40
    assert not found.spills
    assert compiled.notes == ()


@needs_binary_tools
@each_toolchain
@pytest.mark.parametrize("arch", ["sm_80", "sm_89"])
def test_the_asked_instructions_are_there(toolchain: Toolchain, arch: str) -> None:
    compiled = compile_cubin(source("tile.cu"), arch, toolchain=toolchain)
    sass = read_sass(compiled.cubin)
    assert sass.arch == arch
    assert sass.usage.registers == compiled.kernel().registers
    assert sass.usage.shared_bytes == 2048
    assert sass.count("HMMA.16816.F32.BF16") == 1
    assert sass.count("IMMA.16832.S8.S8") == 1
    assert sass.count("QMMA.16832.F32.E4M3.E4M3") == (arch == "sm_89")
    assert sass.widths["LDSM"] == {64: 1, 128: 1}
    assert sass.widths["LDGSTS"] == sass.widths["LDG"] == sass.widths["STG"] == sass.widths["STS"] == {128: 1}
    assert sass.count("BAR.SYNC") == sass.count("SHFL.BFLY") == sass.families["RED"] == 1
    assert (sass.spill_loads, sass.spill_stores) == (0, 0)
    assert "HMMA" in {i.family for i in sass.at_line(11)}
    assert "LDGSTS" in {i.family for i in sass.at_line(7)}


@needs_binary_tools
@each_toolchain
def test_a_spill_is_seen(toolchain: Toolchain) -> None:
    compiled = compile_cubin(source("spill.cu"), "sm_80", toolchain=toolchain)
    assert compiled.kernel().spill_store_bytes > 0
    found = inspect(compiled, "sm_80", 1024)
    assert found.spills
    assert found.sass.spill_stores > 0
    assert found.sass.spill_loads > 0
    assert "spills         none" not in str(found)
    assert f"({found.spill_store_bytes} and {found.spill_load_bytes} bytes a thread)" in str(found)


@needs_binary_tools
def test_inspection_of_source_and_of_a_bare_cubin() -> None:
    found = inspect(source("tile.cu"), "sm_90a", 32, dynamic_shared_bytes=110 * 1024)
    assert (found.static_shared_bytes, found.occupancy.blocks, found.occupancy.limiter) == (2048, 2, "shared memory")
    assert "HMMA.16816.F32.BF16: 1" in str(found)
    assert found.to_dict()["sass"]["widths"]["LDGSTS"] == {"128": 1}
    bare = inspect(compile_cubin(source("tile.cu"), "sm_90a").cubin, "sm_90a", 32)
    assert bare.registers == found.registers
    assert bare.spill_store_bytes is None
    with pytest.raises(ValueError, match="for sm_90a, not sm_80"):
        inspect(compile_cubin(source("tile.cu"), "sm_90a").cubin, "sm_80", 32)


@needs_binary_tools
def test_functions_are_told_apart() -> None:
    both = compile_cubin(source("tile.cu") + source("spill.cu"), "sm_80")
    assert set(read_all(both.cubin)) == {"tile", "spill"}
    assert read_sass(both.cubin, "spill").families["LDSM"] == 0
    with pytest.raises(KeyError, match="other"):
        read_sass(both.cubin, "other")
    with pytest.raises(ValueError, match="cannot read this"):
        read_all(b"no cubin")


@each_toolchain
def test_options_reach_the_compiler(toolchain: Toolchain, tmp_path: Path) -> None:
    (tmp_path / "extra.h").write_text("#define FACTOR 3\n")
    text = """#include "extra.h"
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <cuda_fp8.h>
extern "C" __global__ void k(__nv_bfloat16* x, int n) { x[threadIdx.x] = __float2bfloat16((float)(n * FACTOR)); }
"""
    options = CompileOptions(includes=(str(tmp_path),), max_registers=64, flags=("-DUNUSED=1",), line_info=False)
    assert compile_cubin(text, "sm_89", options, toolchain).kernel("k").registers <= 64


@each_toolchain
def test_a_wrong_source_is_a_diagnostic(toolchain: Toolchain) -> None:
    text = 'extern "C" __global__ void k(float* x) {\n#line 5 "kernel"\n    y = 1;\n}\n'
    with pytest.raises(CudaCompilerFailed) as failure:
        compile_cubin(text, "sm_80", toolchain=toolchain)
    (found,) = failure.value.diagnostics
    assert found.code == "cuda-compiler"
    assert found.span is not None
    assert found.span.line == 5
    assert 'identifier "y" is undefined' in found.message
    assert found.facts["compiler"] == toolchain.identity
    with pytest.raises(CudaCompilerFailed, match=r"Unknown modifier '\.nonsense'"):
        compile_cubin('__global__ void k() { asm volatile("mma.nonsense;"); }', "sm_80", toolchain=toolchain)


def test_what_the_chip_lacks_is_refused_by_the_assembler() -> None:
    with pytest.raises(CudaCompilerFailed, match=r"for sm_80: .*FP8"):
        compile_cubin(source("tile.cu").replace("__CUDA_ARCH__ >= 890", "1"), "sm_80")


def test_an_unknown_architecture_comes_before_the_compiler() -> None:
    with pytest.raises(KernelError, match="unknown-arch"):
        compile_cubin("not even C", "sm_90", toolchain=Toolchain("nvcc", "none", "/does/not/exist"))


def test_a_second_compilation_is_found(tmp_path: Path) -> None:
    first = cache.cached_cubin(source("tile.cu"), "sm_80", cache_dir=tmp_path)
    begin = time.perf_counter()
    second = cache.cached_cubin(source("tile.cu"), "sm_80", cache_dir=tmp_path)
    seconds = time.perf_counter() - begin
    assert not first.compiled.cached
    assert second.compiled.cached
    assert second.compiled == replace(first.compiled, seconds=0.0, cached=True)
    assert second.path.read_bytes() == first.compiled.cubin
    assert seconds < 0.02


def test_what_changes_the_key(tmp_path: Path) -> None:
    header = tmp_path / "include" / "a.h"
    header.parent.mkdir()
    header.write_text("")

    def key(text: str = "__global__ void k() {}", arch: str = "sm_80", **given: object) -> str:
        return cache.cached_cubin(text, arch, cache_dir=tmp_path / "cache", **given).key  # type: ignore[arg-type]

    including = CompileOptions(includes=(str(header.parent),))
    keys = [
        key(),
        key(text="__global__ void k() { }"),
        key(arch="sm_89"),
        key(versions={"prelude": 2}),
        key(options=CompileOptions(line_info=False)),
        key(options=including),
    ]
    header.write_text("#define A 1\n")
    keys.append(key(options=including))
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


def test_another_compilers_cubin_is_never_loaded(tmp_path: Path) -> None:
    toolchain = TOOLCHAINS[0]
    mine = cache.cached_cubin(source("tile.cu"), "sm_80", toolchain=toolchain, cache_dir=tmp_path)
    newer = replace(toolchain, identity=toolchain.identity + " patched")
    theirs = cache.cached_cubin(source("tile.cu"), "sm_80", toolchain=newer, cache_dir=tmp_path)
    assert theirs.key != mine.key
    assert not theirs.compiled.cached


def test_a_failed_compilation_leaves_no_entry(tmp_path: Path) -> None:
    with pytest.raises(CudaCompilerFailed):
        cache.cached_cubin("syntax error", "sm_80", cache_dir=tmp_path)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_without_any_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tools, "wheel_version", lambda name: None)
    monkeypatch.setattr(tools, "find_program", lambda name: None)
    with pytest.raises(tools.MissingTool, match="a CUDA compiler was not found") as lack:
        compiler.find_toolchain()
    assert "nvidia-cuda-nvrtc" in lack.value.hint
    assert "the targets cpu and emu work without it" in lack.value.hint
    with pytest.raises(tools.MissingTool, match="nvrtc was not found"):
        compiler.find_toolchain("nvrtc")
    with pytest.raises(tools.MissingTool, match=r"/no/nvcc was not found"):
        compiler.find_toolchain("/no/nvcc")


def test_a_missing_compiler_ends_in_exit_code_3() -> None:
    from kernelagent.cli.failures import exit_code

    assert exit_code(tools.MissingTool("nvcc", "to compile", "install it")) == 3
    assert exit_code(CudaCompilerFailed("log", "sm_80", "nvrtc")) == 1


def test_a_warm_nvrtc_is_fast() -> None:
    if TOOLCHAINS[0].kind != "nvrtc":
        pytest.skip("NVRTC's wheels are not installed")
    times = [compile_cubin(source("tile.cu"), "sm_80", toolchain=TOOLCHAINS[0]).seconds for _ in range(5)]
    assert min(times) < 0.5  # 0.03 s on a quiet machine


def test_importing_the_target_loads_no_cuda_package() -> None:
    import subprocess

    names = "compiler, cache, sass, occupancy, inspect, launch"
    heavy = "{'cuda', 'cupy', 'numpy'} & set(sys.modules)"
    code = f"import sys; from kernelagent.dsl.targets.cuda import {names}; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
