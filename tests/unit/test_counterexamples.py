"""Counterexamples of schedules: replayed, at the right lines, short, in three forms; fixes that were proved; traces."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kernelagent.dsl.check_schedule import check_schedule
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.proofs import traced
from kernelagent.dsl.verify.records import Findings, ScheduleCounterexample, findings_from
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.confirm import confirmed
from kernelagent.dsl.verify.schedule.edits import Lines
from kernelagent.dsl.verify.summary import last_line, summary
from kernelagent.dsl.verify.telling import MOST_LINES, MOST_TOKENS, counterexample_text, groups, prompt, tokens, where
from support.faults import FOLDER, Program, programs

FILES = sorted(p.stem for p in FOLDER.glob("*.toml") if "[[program]]" in p.read_text() and "correct" not in p.stem)
NOTHING = Choices({}, {}, {}, {})


def texts() -> list[Program]:
    """Faults that are edits of the schedule's text and that the rules of level two let through."""
    return [p for name in FILES for p in programs(name) if not any(e.body for e in p.edits) and _parses(p)]


def _parses(program: Program) -> bool:
    try:
        parse_schedule(program.text())
    except KernelError:
        return False
    return True


FAULTS = texts()


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))


def fault(name: str) -> Program:
    return next(p for p in FAULTS if p.name == name)


def refuted(text: str, quick: bool = True) -> list[ScheduleCounterexample]:
    return [c for c in check_schedule(text, quick).counterexamples if isinstance(c, ScheduleCounterexample)]


@pytest.mark.parametrize("program", FAULTS, ids=[p.name.replace(" ", "-") for p in FAULTS])
def test_reports_are_short_and_show_both_lines(program: Program) -> None:
    text = program.text()
    report = check_schedule(text, quick=True)
    if not report.counterexamples:
        assert not report.semantics  # what it computes is wrong: that takes a kernel to compare with
        return
    assert not report.diagnostics
    shown = "\n".join([*summary(report, text, "kernel.tile"), last_line(report, "kernel.tile")])
    assert shown.count("\n") + 1 <= MOST_LINES == 40
    assert tokens(shown) <= MOST_TOKENS == 800
    assert "z3" not in shown
    assert "\nPROVED" not in shown
    for group in groups(report.counterexamples)[:3]:
        block = counterexample_text(group, text, "kernel.tile")
        assert block.count("\n") + 1 <= 12
        for line in group.first.lines[:2]:
            assert f"--> kernel.tile:{line}:" in block
        assert block.count("^") >= len(set(group.first.lines[:2]))
        assert "where: " in block


def test_sizes_are_the_smallest_that_show_it() -> None:
    first = refuted(fault("commit in front of the copies").text())[0]
    assert dict(first.sizes) == {"M": 1, "K": 96, "N": 8}  # three steps of 32: the ring's third stage


def test_reasons_and_scopes_have_the_numbers() -> None:
    first = refuted(fault("wait count one too high").text())[0]
    assert first.why == (
        "the copy is in group 1: wait_group(2) on line 26 ran with 2 committed and leaves 2 in flight; 1 would cover it"
    )
    behind = refuted(fault("copies in front of the barrier").text())[0]
    assert "every k >= 32" in behind.scope
    assert "all 128 threads" in behind.scope
    assert (behind.warp, behind.lane) == (0, 0)
    assert "no barrier runs between" in behind.why


def test_protocols_say_how_many_launches_go_wrong() -> None:
    first = refuted(fault("producer's first parity").text(), quick=False)[0]
    assert (first.kind, first.family) == ("deadlock", "protocol")
    assert "launches tried" in first.scope


@pytest.mark.parametrize("name", ["wait count one too high", "tile read before it is whole", "producer's first parity"])
def test_what_does_not_happen_again_is_withdrawn(name: str) -> None:
    """The counterexamples of a faulty schedule, replayed on the right one."""
    program = fault(name)
    report = check_schedule(program.text())
    right = (FOLDER / f"{program.base}.tile").read_text()
    module = scheduled(right)
    (case,) = cases(module, NOTHING, module.schedule.target)
    found = confirmed(case, Findings(report.obligations, report.counterexamples))
    assert found.counterexamples == ()
    assert {o.verdict for o in found.obligations if o.family == report.counterexamples[0].family} == {"UNKNOWN"}


def test_records_come_back_from_json() -> None:
    report = check_schedule(fault("wait count one too high").text())
    findings = Findings(report.obligations, report.counterexamples)
    assert findings_from(json.loads(json.dumps(findings.to_dict()))).to_dict() == findings.to_dict()
    record = json.loads(json.dumps(report.to_dict()))["counterexamples"][0]
    assert {"obligation", "lines", "sizes", "block", "warp", "lane", "place", "scope", "why", "fixes"} <= record.keys()


def test_prompts_quote_the_lines() -> None:
    text = fault("wait count one too high").text()
    said = prompt(check_schedule(text).counterexamples, text)
    assert "REFUTED completion: the product comes to a_s[stage 0]" in said
    assert "line 18: copy_async(a_s[0]" in said
    assert "^" not in said


# Fixes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("wait count one too high", "line 26: wait_group(2) -> wait_group(1)"),
        ("barrier in front of the wait", "move wait_group(1) of line 27 in front of line 26"),
        ("tile read before it is whole", "insert barrier() in front of line 13"),
    ],
)
def test_fixes_are_proved(name: str, fix: str) -> None:
    first = refuted(fault(name).text(), quick=False)[0]
    assert first.fixes
    assert first.fixes[0] == f"{fix} (verified: every family PROVED)"


def test_fixes_are_whole_statements() -> None:
    text = "        copy_async(a_s[(k // 32 + 1) % 3], a, (i, k + 64), d64x32, vector=8)  # line 9"
    said = Lines.of(text).replace(1, text.replace("+ 1", "+ 2")).said
    assert said == "line 1: write copy_async(a_s[(k // 32 + 2) % 3], a, (i, k + 64), d64x32, vector=8)"


def test_quick_checks_try_no_fixes() -> None:
    assert not any(c.fixes for c in refuted(fault("wait count one too high").text()))


# Traces -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["wait count one too high", "copies in front of the barrier", "wait for the stage missing"]
)
def test_traces_end_at_the_fault(name: str) -> None:
    text = fault(name).text()
    module = scheduled(text)
    found = refuted(text)[0]
    steps = traced(module, [NOTHING], module.schedule.target, found)
    assert len(steps) <= 40
    assert any(f" {found.line} | " in step for step in steps[-5:])
    assert any(f"=> {found.message}" in step for step in steps)


def test_what_holds_at_all_sizes_names_its_schedule() -> None:
    shown = ScheduleCounterexample("coalescing", "8x", (3,), {}, {}, kernel="k", shape_class="general", line=3)
    assert where(shown) == "all sizes, in the schedule of the general class"
