"""Logs of NVRTC and nvcc: resources, remarks, complaints. The texts in tests/fixtures/cuda came from CUDA 13.0."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda import ptxas
from kernelagent.dsl.targets.cuda.compiler import Compiled, CudaCompilerFailed

FIXTURES = Path(__file__).parents[1] / "fixtures" / "cuda"


@pytest.mark.parametrize(("log", "registers"), [("nvrtc_log.txt", 28), ("nvcc_log.txt", 26)])
def test_both_compilers_report_each_kernel(log: str, registers: int) -> None:
    spill, tile = ptxas.resources((FIXTURES / log).read_text())
    assert spill == ptxas.Resources("spill", "sm_90a", 32, 40, 44, 44, 0, 1)
    assert tile == ptxas.Resources("tile", "sm_90a", registers, 0, 0, 0, 2048, 1)
    assert spill.spills
    assert not tile.spills


def test_remarks_are_kept_and_routine_lines_are_not() -> None:
    notes = ptxas.notes((FIXTURES / "nvrtc_wgmma_log.txt").read_text())
    assert [note[:7] for note in notes] == ["(C7519)", "(C7517)"]
    assert ptxas.notes((FIXTURES / "nvrtc_log.txt").read_text()) == ()


def test_stacks_of_called_functions_count() -> None:
    log = """ptxas info    : Compiling entry function 'k' for 'sm_80'
ptxas info    : Function properties for k
    16 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 384 bytes cmem[0]
ptxas info    : Function properties for _Z6helperf
    8 bytes stack frame, 1 bytes spill stores, 2 bytes spill loads
"""
    (found,) = ptxas.resources(log)
    assert (found.stack_bytes, found.spill_store_bytes, found.spill_load_bytes) == (24, 9, 6)


def test_a_kernel_is_found_by_name_or_alone() -> None:
    compiled = Compiled(b"", (FIXTURES / "nvrtc_log.txt").read_text(), 0.0, "", "sm_90a")
    assert compiled.kernel("tile").shared_bytes == 2048
    with pytest.raises(KeyError, match="kernels are spill, tile"):
        compiled.kernel()
    with pytest.raises(KeyError, match="other"):
        compiled.kernel("other")


def test_errors_keep_the_place_of_the_line_mark() -> None:
    log = """kernel(5): error: identifier "y" is undefined
   y = 1;
   ^

kernel.cu(12): error #29: expected an expression
1 error detected in the compilation of "kernel.cu".
"""
    first, second = CudaCompilerFailed(log, "sm_80", "nvrtc").diagnostics
    assert first.span is not None
    assert first.span.line == 5
    assert 'identifier "y" is undefined' in first.message
    assert "   ^" in (first.hint or "")
    assert second.span is None  # a place in the prelude is no place in the kernel's text
    assert second.facts["line"] == 12


def test_errors_of_the_assembler_have_no_place_in_the_text() -> None:
    log = "ptxas application ptx input, line 29; error   : Unknown modifier '.nonsense'\nptxas fatal   : aborted"
    (found,) = CudaCompilerFailed(log, "sm_80", "nvrtc").diagnostics
    assert found.message.endswith("Unknown modifier '.nonsense'")
    assert found.span is None


def test_an_unusual_log_is_shown_by_its_first_line() -> None:
    (found,) = CudaCompilerFailed("nvcc fatal   : cannot find the host compiler", "sm_80", "nvcc").diagnostics
    assert found.message.endswith("nvcc fatal   : cannot find the host compiler")
    assert "no output" in CudaCompilerFailed("", "sm_80", "nvcc").diagnostics[0].message


def test_too_many_threads_for_a_product() -> None:
    log = """kernel(60): warning #177-D: variable "v_i" was declared but never referenced
ptxas fatal   : (C7602) Insufficient registers (128) to compile instruction at line 801 in function k_gemm. Try to \
compile with register target of 154 or higher.
ptxas fatal   : Ptx assembly aborted due to errors
"""
    (found,) = CudaCompilerFailed(log, "sm_90a", "nvrtc").diagnostics
    assert found.code == "cuda-registers"
    assert "a thread of gemm begins with 128 registers on sm_90a, but one of its products takes 154" in found.message
    assert "fewer threads" in (found.hint or "")
