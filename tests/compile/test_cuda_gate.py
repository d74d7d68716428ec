"""The static gate on real machine code: spills, and products of warpgroups that wait for each other, at their lines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.targets.cuda import gate, tools
from kernelagent.dsl.targets.cuda.artifact import CudaArtifact, CudaOptions
from kernelagent.dsl.targets.cuda.build import compile
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.problems import load
from support.cuda import needs_binary_tools, needs_compiler
from support.gpu_cases import CASES

from kernelagent.checking import check_gpu_for
from kernelagent.inspection import inspect_text

pytestmark = [needs_compiler, needs_binary_tools]

GEMM = next(c for c in CASES if c.name == "gemm_nt_bf16").text
POLICY = next(line.strip() for line in GEMM.splitlines() if "on(sm_90a" in line)
FULL = GEMM.replace(POLICY, "on(sm_90a, BM=256, BN=256, BK=32, stages=2)")
"""256 sums a thread: more than a warpgroup has registers for, so it spills and its products wait for each other."""
SPILLING = GEMM.replace("on(cuda, stages=3)", "on(cuda, BM=256, BN=128, warps=4)")
CALLS = GpuCalls("sm_90a", {"T": "bf16"})


def line_of(text: str, part: str) -> int:
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def built(text: str, folder: Path, arch: str = "sm_90a", **options: bool) -> CudaArtifact:
    return compile(parse(text), {"T": "bf16"}, arch=arch, options=CudaOptions(cache_dir=folder, **options))


def lines(found: tuple[Diagnostic, ...]) -> set[int]:
    return {d.span.line for d in found if d.span}


# Spills ------------------------------------------------------------------------------------------------


def test_spills_fail_a_kernel_at_the_line_behind_them(tmp_path: Path) -> None:
    with pytest.raises(KernelError) as caught:
        built(SPILLING, tmp_path, "sm_80")
    found = caught.value.diagnostics
    assert {(d.code, d.severity) for d in found} == {("cuda-spills", "error")}
    assert lines(tuple(found)) <= {line_of(SPILLING, w) for w in ("acc +=", "for k in", "acc = ", "store(")}
    assert found[0].span is not None
    assert SPILLING.splitlines()[found[0].span.line - 1][found[0].span.column - 1] != " "  # at the statement
    assert found[0].facts["spill_store_bytes"] > 0
    assert "smaller tiles" in str(found[0].hint)
    with pytest.raises(KernelError):  # what the cache remembers is refused as well
        built(SPILLING, tmp_path, "sm_80")


def test_without_tools_the_kernel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "find_program", lambda _: None)
    made = built(SPILLING, tmp_path, "sm_80", gate=False)
    assert lines(made.diagnostics) == {line_of(SPILLING, "def gemm")}


# Products ----------------------------------------------------------------------------------------------


def test_too_few_registers_serialise_products(tmp_path: Path) -> None:
    made = built(FULL, tmp_path, gate=False)
    found = [d for d in made.diagnostics if d.code == "wgmma-serialised"]
    assert [d.span.line for d in found if d.span] == [line_of(FULL, "acc +=")]
    assert "insufficient register" in found[0].message
    assert "smaller tiles" in str(found[0].hint)
    assert any(d.code == "cuda-spills" for d in made.diagnostics)


def edited(folder: Path, before: str, extra: str) -> tuple[Diagnostic, ...]:
    """What the gate says once `extra` stands in front of a line of the emitted body, as line 77 of the text."""
    made = built(GEMM, folder)
    aligned = next(made.binaries())
    assert before in aligned.body
    body = aligned.body.replace(before, f'#line 77 "kernel"\n{extra}\n#line 10 "kernel"\n{before}', 1)
    entry = cached_cubin(prelude("sm_90a", body) + body, "sm_90a", cache_dir=folder)
    changed = replace(aligned, body=body, cubin_path=str(entry.path), notes=entry.compiled.notes)
    return tuple(gate.faults(replace(made, units=((changed,),)), parse(GEMM)))


@pytest.mark.parametrize(
    ("before", "says"),
    [("ka_wgmma_commit();", "warpgroup.wait is injected"), ("if ((v_k > 0)) {", "reading accumulator registers")],
    ids=["before the group is closed", "while it is in flight"],
)
def test_sums_that_are_touched_in_flight(tmp_path: Path, before: str, says: str) -> None:
    found = edited(tmp_path, before, "acc_2[0] *= 2.0f;")
    assert [(d.code, d.span.line) for d in found if d.span] == [("wgmma-serialised", 77)]
    assert says in found[0].message
    assert "leave a product's sums" in str(found[0].hint)


def test_sums_that_are_left_alone(tmp_path: Path) -> None:
    assert edited(tmp_path, "ka_wgmma_commit();", "__nanosleep(1);") == ()


# What commands make of it ------------------------------------------------------------------------------


def test_check_refuses_and_shows_what_was_taken() -> None:
    report = check_gpu(FULL, "cuda", CALLS)
    assert not report.ok
    assert {d.code for d in report.diagnostics} >= {"cuda-spills", "wgmma-serialised"}
    kernels = report.resources["kernels"]
    assert kernels[0]["spill_store_bytes"] > 0
    assert kernels[0]["notes"]


def test_inspect_shows_everything_with_the_faults() -> None:
    found = inspect_text(FULL, CALLS)
    assert {d.code for d in found.faults} == {"cuda-spills", "wgmma-serialised"}
    text = str(found.parts[0])
    assert "HGMMA" in text
    assert "serialized due to insufficient register" in text
    assert {d["code"] for d in found.to_dict()["diagnostics"]} == {"cuda-spills", "wgmma-serialised"}


# The compiler's own choices ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [64, 128])
def test_attention_without_policy_does_not_serialise(rows: int) -> None:
    """One consumer warpgroup, then two: overlapping products are serialised by ptxas in the first case only."""
    text = next(c for c in CASES if c.name.startswith("attention_causal")).text
    plain = "\n".join(line for line in text.splitlines() if not line.strip().startswith("on("))
    calls = GpuCalls("sm_90a", {"T": "bf16"}, dims={"D": 64})
    report = check_gpu(plain.replace("BM=64", f"BM={rows}"), "cuda", calls, quick=True)
    assert report.ok, report.diagnostics
    products = [n for k in report.resources["kernels"] for n in k["report"] if "products:" in n]
    assert any("one after the other" in n for n in products) == (rows == 64)


# Classes that calls do not take --------------------------------------------------------------------------

UNALIGNED_SPILLS = """edition(1)

@kernel
def gemm_nt(a: In[T, M, K], b: In[T, N, K], c: Out[T, M, N], BM=128, BN=128, BK=64):
    on(cuda, stages=2)
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), cast(acc, T))
"""
"""Aligned arrays are copied past the registers; all others go through them, and those spill."""


@pytest.mark.parametrize(("workload", "severity"), [(None, "warning"), ("512", "warning"), ("ragged", "error")])
def test_spills_of_code_that_no_call_takes_are_a_warning(workload: str | None, severity: str) -> None:
    problem = load("gemm_nt")
    wanted = next((w for w in problem.workloads if w.name == workload), None)
    report = check_gpu_for(UNALIGNED_SPILLS, problem, "cuda", "sm_80", True, wanted)
    found = [d for d in report.diagnostics if d.code == "cuda-spills"]
    assert {(d.facts["class"], d.severity) for d in found} == {("general", severity)}
    assert report.ok == (severity == "warning")
    assert report.resources["kernels"]
