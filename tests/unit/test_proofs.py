"""Proofs of schedules in reports: kept, proved again, beside compiled kernels, and faults of the compiler's own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu, keep_beside
from kernelagent.dsl.check_schedule import check_schedule
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.targets import cache
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify import proofs
from kernelagent.dsl.verify.proofs import REPORT, prove_schedules
from kernelagent.dsl.verify.records import Findings, Obligation, ScheduleCounterexample
from support.gpu_texts import GEMM, TWICE
from support.level2_texts import TEXTS

F32 = Choices({"T": "f32"}, {}, {}, {})


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))
    return tmp_path


def test_proofs_are_kept_until_something_differs() -> None:
    module = read_module(TWICE)
    first = prove_schedules(module, [F32], "sm_80", quick=True)
    again = prove_schedules(module, [F32], "sm_80", quick=True)
    assert (first.cached, again.cached) == (False, True)
    assert again.findings.to_dict() == first.findings.to_dict()
    assert {o.subject for o in first.findings.obligations} >= {"twice (aligned)", "twice (general)"}
    others = [
        prove_schedules(read_module(TWICE.replace("BM=8", "BM=16")), [F32], "sm_80", quick=True),
        prove_schedules(module, [Choices({"T": "f16"}, {}, {}, {})], "sm_80", quick=True),
        prove_schedules(module, [F32], "sm_90a", quick=True),
    ]
    assert not any(o.cached for o in others)


def test_a_whole_proof_serves_a_quick_question() -> None:
    module = read_module(TWICE)
    whole = prove_schedules(module, [F32], "sm_80")
    quick = prove_schedules(module, [F32], "sm_80", quick=True)
    assert quick.cached
    assert quick.findings == whole.findings


def test_another_verifier_proves_again(monkeypatch: pytest.MonkeyPatch) -> None:
    module = read_module(TWICE)
    prove_schedules(module, [F32], "sm_80", quick=True)
    monkeypatch.setattr(proofs, "VERIFIER_VERSION", proofs.VERIFIER_VERSION + 1)
    assert not prove_schedules(module, [F32], "sm_80", quick=True).cached


def test_a_recheck_finds_an_edited_report(own_home: Path) -> None:
    text = TEXTS["softmax"]
    assert check_schedule(text, use="recheck").diagnostics == ()
    (kept,) = (own_home / "cache" / "proofs").rglob(REPORT)
    kept.write_text(kept.read_text().replace('"races", "verdict": "PROVED"', '"races", "verdict": "TESTED"'))
    assert [o.verdict for o in check_schedule(text).obligations if o.family == "races"] == ["TESTED"]
    report = check_schedule(text, use="recheck")
    assert [d.code for d in report.diagnostics] == ["proof-differs"]
    assert "now PROVED" in report.diagnostics[0].message
    assert check_schedule(text).diagnostics == ()
    assert [o.verdict for o in check_schedule(text).obligations if o.family == "races"] == ["PROVED"]


def test_reports_lie_beside_compiled_kernels(own_home: Path) -> None:
    report = check_schedule(TEXTS["softmax"])
    folder = cache.place(cache.cache_root("cuda"), "abcdef")
    keep_beside("abcdef", report)
    assert not folder.exists()  # nothing was compiled
    folder.mkdir(parents=True)
    keep_beside("abcdef", report)
    record = json.loads((folder / REPORT).read_text())
    assert record["verdict"] == report.verdict
    assert record["key"] == report.resources["proofs"]["key"]
    assert len(record["obligations"]) == len(report.obligations)
    assert [p.name for p in folder.iterdir()] == [REPORT]


def test_a_wrong_schedule_of_the_compiler_is_said_to_be_its_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the lowering may do one day: the text's author is not blamed, and nothing is compiled."""
    found = ScheduleCounterexample(
        "races", "the copies meet", (5,), {"M": 8}, {}, kind="race", kernel="twice", shape_class="aligned", line=5
    )
    refuted = Findings((Obligation("races", "REFUTED", 5, "the copies meet", "twice (aligned)"),), (found,))
    monkeypatch.setattr(proofs, "_proved", lambda *_: refuted)
    report = check_gpu(TWICE, "cuda", GpuCalls("sm_80"))
    assert (report.ok, report.verdict) == (False, "REFUTED")
    assert [d.code for d in report.diagnostics] == ["compiler-fault"]
    assert "fault of kernelagent, not of the text" in report.diagnostics[0].message
    assert "report it" in str(report.diagnostics[0].hint)
    assert "kernels" not in report.resources


def test_a_schedule_is_held_against_its_kernel() -> None:
    from kernelagent.dsl.level2 import print_schedule
    from kernelagent.dsl.targets.cuda.units import device_units

    kernel = read_module(GEMM)
    (unit,) = device_units(kernel, Choices({"T": "bf16"}, {}, {}, {}), "sm_80")
    text = print_schedule(unit.classes[0].schedule)
    right = check_schedule(text, against=GEMM)
    assert (right.ok, right.verdict) == (True, "PROVED")
    assert not any(o.family == "semantics" for o in right.obligations)
    wrong = check_schedule(text.replace(", 0.0, f32)", ", 1.0, f32)", 1), against=GEMM)
    assert wrong.verdict == "REFUTED"
    assert {c.family for c in wrong.counterexamples} == {"flow"}
