"""Level-two texts where modules are taken: reports without a run, calls that do not go together, compiled binaries."""

from __future__ import annotations

import pytest
from kernelagent.dsl.level2 import ScheduledModule, read_module, target_of
from kernelagent.dsl.level2.module import outline
from kernelagent.dsl.verify.emulated import small_trials
from kernelagent.dsl.verify.families import Choice
from support.gpu_texts import GEMM
from support.level2_texts import TEXTS

import kernelagent
from kernelagent.errors import CallError


def test_a_schedule_is_proved_but_for_what_it_should_compute() -> None:
    report = kernelagent.check(TEXTS["hopper"])
    assert (report.ok, report.verdict, report.semantics) == (True, "PROVED", "")
    assert {o.family for o in report.obligations if o.verdict != "PROVED"} == {"semantics"}
    proved = {o.family for o in report.obligations if o.verdict == "PROVED"}
    assert proved >= {"schedule", "protocol", "races", "definedness", "completion", "coverage", "bounds", "flow"}
    used = dict(report.resources)
    proofs = used.pop("proofs")
    assert used == {"arch": "sm_90a", "threads": 384, "shared_bytes": 163904}
    assert kernelagent.check(TEXTS["hopper"]).resources["proofs"] == {**proofs, "cached": True}


def test_mistakes_are_diagnostics() -> None:
    report = kernelagent.check(TEXTS["hopper"].replace("arrivals=8", "arrivals=2"))
    assert not report.ok
    assert [d.code for d in report.diagnostics] == ["arrivals"]


def test_positions_from_data_are_not_guessed() -> None:
    """What an integer input may hold stands in a level-one text."""
    report = kernelagent.check(TEXTS["ragged"], target="emu")
    assert report.ok
    assert report.obligations[-1].verdict == "UNKNOWN"


def test_trials_fit_the_guards() -> None:
    module = read_module(TEXTS["gemm"])
    assert isinstance(module, ScheduledModule)
    trials = small_trials(module, Choice({}, {}, {}, "sm_80", {}))
    assert trials
    assert all(t.sizes["K"] % 8 == 0 for t in trials)
    assert any(t.sizes["K"] > 4 * 32 for t in trials)  # the ring comes around
    assert any(t.sizes["M"] % 128 for t in trials)
    assert outline(module).entry.arrays == module.entry.arrays


def test_the_text_says_its_target() -> None:
    assert target_of(TEXTS["hopper"]) == "sm_90a"
    assert target_of(TEXTS["gemm"]) == "sm_80"
    assert target_of("edition(1)\n") is None
    assert target_of("def (") is None


@pytest.mark.parametrize(
    ("text", "options"),
    [(TEXTS["gemm"], {"problem": "softmax"}), (GEMM, {"against": GEMM}), (GEMM, {"target": "emu", "against": GEMM})],
)
def test_calls_that_do_not_go_together(text: str, options: dict[str, str]) -> None:
    with pytest.raises(CallError) as caught:
        kernelagent.check(text, **options)  # type: ignore[arg-type]
    assert caught.value.hint
