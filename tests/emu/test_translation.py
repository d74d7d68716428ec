"""The emitted code of proved schedules does what they do, and a difference is told apart to the element."""

from __future__ import annotations

import pytest
from kernelagent.dsl.verify.records import DeviceCounterexample
from kernelagent.dsl.verify.translation import Budget, check_translation
from support.translation import faults, schedules

SHORT = Budget(runs=8, seconds=1.5)
"""The whole sweep is benchmarks/gpu/translation.py."""
AMPERE = ["gemm_tn_f16", "gemm_nn_tf32", "gemm_epilogue", "attention_full_d64_bf16", "layernorm", "rope", "gemm_int4",
          "gemm_moe", "column_sums_atomic", "cumsum", "cross_entropy"]  # fmt: skip
HOPPER = ["gemm_nn_bf16", "gemm_swiglu", "attention_causal_d64_bf16", "gemm_fp8", "gemm_int8_scaled", "transpose"]
CALLS = [(name, "sm_80") for name in AMPERE] + [(name, "sm_90a") for name in HOPPER]


@pytest.mark.parametrize(("name", "arch"), CALLS)
def test_emitted_code_does_what_its_schedule_does(name: str, arch: str) -> None:
    for case in schedules(name, arch):
        found = check_translation(case, arch, SHORT)
        (obligation,) = found.obligations
        assert obligation.verdict == "TESTED", obligation.detail
        assert not found.counterexamples
        assert f"code for {arch}" in obligation.detail


def test_counterexample_names_elements_thread_and_lines() -> None:
    fault = next(f for f in faults() if f.name == "neighbouring rows of ldmatrix swapped")
    found = check_translation(fault.schedule(), fault.arch, None, fault.body())
    first = found.counterexamples[0]
    assert isinstance(first, DeviceCounterexample)
    assert (first.element, first.expected, first.found) == ((0, 0), "a[0, 0]", "a[1, 0]")
    assert (first.block, first.warp, first.lane, first.line) == (0, 0, 0, 12)
    emitted = first.message.partition("; emitted line ")[2]
    number, _, text = emitted.partition(": ")
    assert fault.body().split("\n")[int(number) - 1].strip() == text
    assert "ka_stg" in text


def test_one_run_is_made_whatever_the_time() -> None:
    (case, *_) = schedules("transpose", "sm_80")
    (obligation,) = check_translation(case, "sm_80", Budget(seconds=0.0)).obligations
    assert obligation.verdict == "TESTED"
    assert "1 inputs" in obligation.detail
    assert "in the time there was" in obligation.detail
