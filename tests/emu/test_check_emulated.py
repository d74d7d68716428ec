"""`check` on the emulator: right kernels pass in every shape class, faults in the emitted code are counterexamples."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu, finding_diagnostics
from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.diagnostics import render_all
from kernelagent.dsl.ir import Module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import DeviceUnit, device_units
from kernelagent.dsl.targets.emulator import execute
from kernelagent.dsl.verify.emulated import Runs, emulated, small_trials
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import DeviceCounterexample
from kernelagent.problems import load

from kernelagent.checking import check_gpu_for
from tests.support.gpu_texts import SMALL_GEMM, TOTAL, TWICE

BF16 = GpuCalls(dtypes={"T": "bf16"})


def faulty(monkeypatch: pytest.MonkeyPatch, change: Callable[[str], str]) -> None:
    """Emit bodies with a change from here on."""

    def units(module: Module, choices: Choices, arch: str) -> tuple[DeviceUnit, ...]:
        made = device_units(module, choices, arch)
        return tuple(replace(u, classes=tuple(replace(c, body=change(c.body)) for c in u.classes)) for u in made)

    monkeypatch.setattr(execute, "device_units", units)


def finding(report: CheckReport) -> DeviceCounterexample:
    assert not report.ok
    assert report.verdict == "REFUTED"
    found = report.counterexamples[0]
    assert isinstance(found, DeviceCounterexample)
    return found


def test_a_right_kernel_is_tested_in_both_classes() -> None:
    report = check_gpu(SMALL_GEMM, "emu", BF16, quick=False)
    assert report.ok, report.counterexamples
    (obligation,) = [o for o in report.obligations if o.family == "emulation"]
    assert obligation.verdict == "TESTED"
    assert "late and random" in obligation.detail
    assert "(M=65, K=161, N=65)" in obligation.detail  # ragged, and the ring comes around
    assert "(M=65, K=176, N=80)" in obligation.detail  # whole 16-byte rows
    assert "(M=3, K=3, N=3)" in obligation.detail


def test_the_trials_take_both_classes() -> None:
    module, choice = parse(SMALL_GEMM), Choice({"T": "bf16"}, {}, {}, "sm_80")
    taken = set()
    for trial in small_trials(module, choice):
        arrays = {name: a.copy() for name, a in trial.arrays.items()}
        taken |= set(execute.emulate(module, arrays, trial.scalars).classes)
    assert taken == {"aligned", "general"}


def test_sums_and_dims_of_one_member() -> None:
    assert check_gpu(TOTAL, "emu").ok
    text = TOTAL.replace("BM=2, BN=1024):", "BM=2, BN=1024):\n    assume(N in (512, 1024))")
    report = check_gpu(text, "emu", GpuCalls(dims={"N": 1024}))
    assert report.ok
    assert "N=512" not in report.obligations[-1].detail


# Faults ----------------------------------------------------------------------------------------------


def test_a_dropped_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda body: body.replace("ka_wait_group<1>();", ""))
    found = finding(check_gpu(SMALL_GEMM, "emu", BF16))
    assert found.line == 9
    assert found.other_line in (None, 9)
    assert found.completion == "late"
    assert None not in (found.block, found.warp, found.lane)
    assert found.shape_class == "aligned"  # the general class copies without waiting


def test_a_dropped_barrier(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda body: body.replace("ka_barrier();", "", 1))
    found = finding(check_gpu(SMALL_GEMM, "emu", BF16))
    assert "race" in found.kind
    assert found.line == 9
    record = found.to_dict()
    assert {"kind", "block", "warp", "lane", "element", "line", "other_line", "completion"} <= record.keys()
    assert record["obligation"] == "emulation"


def test_a_store_past_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda body: re.sub(r"(ka_stg<\d>\([^;]*), [^;,]*\);", r"\1, true);", body))
    found = finding(check_gpu(TWICE, "emu"))
    assert found.kind == "global-out-of-bounds"
    assert (found.line, found.array) == (6, "y")
    assert found.element is not None
    assert found.element[0] >= found.sizes["M"] or found.element[1] >= found.sizes["N"]


def test_a_wrong_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that the emulator watches is wrong: the comparison with the interpreter finds it, and its line."""
    faulty(monkeypatch, lambda body: body.replace("2.0f", "3.0f"))
    found = finding(check_gpu(TWICE, "emu"))
    assert (found.kind, found.array, found.line) == ("value", "y", 6)
    assert found.found == pytest.approx(1.5 * float(found.expected or 0))
    assert "elements of y" in found.scope


def test_random_completion_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    original = execute.emulate

    def spy(*arguments: object) -> execute.Emulation:
        seen.append(str(arguments[4]))
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(execute, "emulate", spy)
    module, choice = parse(TOTAL), Choice({}, {}, {}, "sm_80")
    trials = small_trials(module, choice)[:1]
    assert not emulated(module, trials, choice, Runs("sm_80", ("late", "random"), lambda: False)).counterexamples
    assert seen == ["late", "random"]


def test_no_run_begins_after_the_time_is_up() -> None:
    module, choice = parse(TOTAL), Choice({}, {}, {}, "sm_80")
    findings = emulated(module, small_trials(module, choice), choice, Runs("sm_80", ("late",), lambda: True))
    assert findings.obligations[0].verdict == "TESTED"
    assert findings.obligations[0].detail.count("M=") == 1


def test_on_screen_carets_mark_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty(monkeypatch, lambda body: body.replace("ka_wait_group<1>();", ""))
    report = check_gpu(SMALL_GEMM, "emu", BF16)
    shown = render_all(finding_diagnostics(report, SMALL_GEMM), SMALL_GEMM, "gemm.tile")
    assert "error[emulator-finding]" in shown
    assert "gemm.tile:9:13" in shown
    assert "            acc += mma(" in shown
    assert "^^^^^^^^" in shown
    assert "warp" in shown


# Against a problem -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["softmax", "gemm_nt", "rmsnorm"])
def test_seeds_of_problems(name: str) -> None:
    problem = load(name)
    report = check_gpu_for(problem.seed_kernel, problem, "emu", "sm_89", quick=True)
    assert report.ok, report.counterexamples
    assert report.obligations[-1].family == "emulation"
    assert "code for sm_89" in report.obligations[-1].detail


def test_a_text_that_does_not_fit_the_problem_is_not_run() -> None:
    report = check_gpu_for(SMALL_GEMM, load("softmax"), "emu", "sm_80", quick=True)
    assert not report.ok
    assert report.diagnostics
    assert not report.obligations


def test_a_wrong_text_is_refuted_by_its_reference_before_it_is_emulated() -> None:
    problem = load("softmax")
    text = problem.seed_kernel.replace("exp(", "exp(0.5 * ", 1)
    assert text != problem.seed_kernel
    report = check_gpu_for(text, problem, "emu", "sm_80", quick=True)
    assert not report.ok
    assert all(o.family != "emulation" for o in report.obligations)
