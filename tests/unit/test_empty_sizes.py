"""Dims of 0 are legal: what calls there are, and what they show of texts and schedules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl import check, parse
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.emulated import small_trials
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.schedule.cases import Case, call, cases
from kernelagent.dsl.verify.schedule.confirm import confirmed
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.sizes import empty_calls
from kernelagent.dsl.verify.schedule.whole import launch, run_launch
from kernelagent.dsl.verify.shapes import completed, emptied

KERNELS = Path(__file__).parents[2] / "benchmarks" / "gpu" / "kernels"
MUTANTS = Path(__file__).parents[1] / "fixtures" / "mutants"


def text(name: str) -> str:
    return (KERNELS / f"{name}.tile").read_text(encoding="utf-8")


def schedules(name: str, arch: str) -> list[Case]:
    return list(cases(parse(text(name)), Choices({"T": "bf16"}, {}, {}, {}), arch))


def test_each_dim_is_0_alone_and_all_together() -> None:
    found = list(emptied(parse(text("gemm_nn")), {"M": 5, "N": 6, "K": 7}))
    assert [sorted(d for d, n in s.items() if n == 0) for s in found] == [["M"], ["N"], ["K"], ["K", "M", "N"]]


def test_data_that_cannot_be_is_no_call() -> None:
    """A label lies below N, and offsets of no group cannot cover rows."""
    labels = [s for s in emptied(parse(text("cross_entropy")), {"M": 3, "N": 4})]
    assert all(s["N"] > 0 or s["M"] == 0 for s in labels)
    groups = [s for s in emptied(parse(text("gemm_grouped")), {"M": 3, "K": 4, "E": 2, "N": 5})]
    assert all(s["E"] > 0 or s["M"] == 0 for s in groups)
    assert any(s["M"] == 0 and s["E"] > 0 for s in groups)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize("name", ["gemm_nn", "gemm_grouped", "conv3x3_s2"])
def test_schedules_do_what_the_kernel_does(name: str, arch: str) -> None:
    compared = 0
    for case in schedules(name, arch):
        whole = completed(case.shapes, dict.fromkeys(case.kernel.dims, 16))
        assert whole is not None
        for sizes in empty_calls(case, [whole]):
            made = launch(case, sizes)
            assert not made.events, (sizes, made.events)
            compared += made.compared
    assert compared


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_a_product_over_nothing_stores_zeros(arch: str) -> None:
    for case in schedules("gemm_nn", arch):
        made = call(case, {"M": 16, "N": 16, "K": 0})
        machine, events = run_launch(case, made, Real(made.arrays, made.scalars))
        assert not events
        assert (machine.memory.stored["c"].values == 0).all()


def test_an_index_divided_by_0_is_refuted_at_its_line() -> None:
    """A guard that always holds: without channels there are no tiles along them, and one is asked for."""
    schedule = (MUTANTS / "conv.schedule.tile").read_text(encoding="utf-8")
    module = parse((MUTANTS / "conv.tile").read_text(encoding="utf-8"))
    case = next(cases(module, Choices({}, {}, {}, {}), "sm_80"))
    wrong = schedule.replace("if 1 < 9 * cdiv(C, 16):", "if 1 < 9 * cdiv(C, 16) + 8:")
    findings = confirmed(replace(case, kernel=(k := parse_schedule(wrong))), prove(replace(case, kernel=k)))
    assert {(o.family, o.line) for o in findings.obligations if o.verdict == "REFUTED"} == {("bounds", 23)}
    assert findings.counterexamples[0].sizes["C"] == 0
    assert "divided by 0" in findings.counterexamples[0].message


def test_a_kernel_that_fails_at_0_only_is_refuted() -> None:
    """A ratio of sizes has no value there."""
    wrong = """edition(1)

@kernel
def ratio(x: In[f32, M], z: In[f32, N], y: Out[f32, M], BM=8):
    for i in tiles((M,), (BM,)):
        store(y, (i,), load(x, (i,), (BM,)) if M // N > 2 else load(x, (i,), (BM,)) + 1.0)
"""
    report = check(wrong)
    assert not report.ok
    shown = next(c for c in report.counterexamples if c.family == "bounds")
    assert shown.sizes["N"] == 0 < shown.sizes["M"]


def test_the_emulator_runs_them_too() -> None:
    module = parse(text("gemm_int4"))
    trials = small_trials(module, Choice({}, {}, {}, "sm_80"))
    assert any(t.sizes["K"] == 0 < t.sizes["M"] for t in trials)
    from kernelagent.dsl.targets.emulator.arguments import ArrayArgument

    assert ArrayArgument("wq", np.zeros((3, 0), np.uint8), "in", packed=True).strides[-1] == 1
