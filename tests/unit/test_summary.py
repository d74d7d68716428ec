"""What `check` prints: problems first, a line for each family that holds, costs and lost policy apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.dsl.verify.progress import listening
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation
from kernelagent.dsl.verify.summary import WIDTH, last_line, level_text, summary
from kernelagent.dsl.verify.telling import MOST_LINES, MOST_TOKENS, tokens
from support.gpu_texts import GEMM
from support.level2_texts import TEXTS

import kernelagent
from kernelagent import problems

ORDER = ("REFUTED", "UNKNOWN", "TESTED", "PROVED_BOUNDED", "PROVED")


def report_of(found: Sequence[Obligation], failures: Sequence[Counterexample] = (), **others: object) -> CheckReport:
    empty = CheckReport(True, "UNKNOWN", (), (), (), seconds=0.512, **others)  # type: ignore[arg-type]
    return empty.with_findings(Findings(tuple(found), tuple(failures)))


MANY = [
    Obligation("bounds", "PROVED", 8, "in range", "gemm: a axis 0"),
    Obligation("bounds", "PROVED", 8, "in range", "gemm: a axis 1"),
    Obligation("races", "PROVED", None, "shown at 0 to 9 iterations", "gemm (aligned)"),
    Obligation("races", "UNKNOWN", None, "no budget " * 20, "gemm (general)"),
    Obligation("semantics", "PROVED", 3, "EQUAL_OVER_REALS: always", "y", "EQUAL_OVER_REALS"),
    Obligation("coalescing", "PROVED", 9, "stores touch too much; a hint, no fault", "gemm (aligned): c"),
    Obligation("coalescing", "PROVED", None, "no sector more", "gemm (aligned)"),
    Obligation("flow", "PROVED_BOUNDED", None, "at M=3", "gemm (aligned)"),
    Obligation("numeric", "TESTED", None, "agrees at M=3", level="NUMERICALLY_TESTED(1)"),
]


def test_problems_come_first_and_families_are_one_line() -> None:
    lines = summary(report_of(MANY), "")
    verdicts = [line.split()[0] for line in lines if line.split()[0] in ORDER]
    assert verdicts == sorted(verdicts, key=ORDER.index)
    assert set(verdicts) == {"UNKNOWN", "TESTED", "PROVED_BOUNDED", "PROVED"}
    assert [line for line in lines if " bounds " in line] == [
        "PROVED          bounds       2 accesses stay inside their arrays, for all sizes"
    ]
    assert (
        "PROVED          races        accesses to the same bytes are ordered, stages reused in time (aligned)" in lines
    )
    assert all(len(line) <= WIDTH for line in lines)


def test_one_access_is_singular() -> None:
    one = [Obligation("bounds", "PROVED", 8, "in range", "f: a"), Obligation("alignment", "PROVED", 8, "16", "f: a")]
    lines = summary(report_of(one), "")
    assert lines == [
        "PROVED  bounds       1 access stays inside its array, for all sizes",
        "PROVED  alignment    1 access of several elements begins at a multiple of its width, for all sizes",
    ]


def test_what_a_warning_says_of_a_claim_is_said_once() -> None:
    why = "this claim cannot fail: nothing comes from an array"
    found = [Obligation("claims", "UNKNOWN", 5, why), Obligation("claims", "UNKNOWN", 5, "no budget")]
    said = Diagnostic("claim-vacuous", f"`expect`: {why}", Span(5, 1, 5, 9), "warning", "claim less")
    report = replace(report_of(found), diagnostics=(said,))
    assert summary(report, "") == ["UNKNOWN  claims       line 5: no budget"]
    assert len(summary(report, "", verbose=True)) == 2


def test_costs_are_notes_and_no_praise() -> None:
    lines = summary(report_of(MANY, notes=("policy cluster=2: dropped (no box)",)), "")
    assert not any(line.startswith("PROVED") and "coalescing" in line for line in lines)
    at = lines.index("performance notes (no faults):")
    assert lines[at + 1] == "  line 9: stores touch too much (aligned)"
    assert lines[-2:] == ["compiler notes:", "  policy cluster=2: dropped (no box)"]


def test_verbose_has_every_obligation() -> None:
    said = "\n".join(summary(report_of(MANY), "", verbose=True))
    for one in MANY:
        assert one.detail.removesuffix("; a hint, no fault").split()[0] in said
    assert "PROVED          coalescing   no sector more (aligned)" in said


def test_the_last_line_counts() -> None:
    assert last_line(report_of(MANY), "a.tile") == (
        "a.tile: ok, UNKNOWN (6 PROVED, 1 PROVED_BOUNDED in flow, 1 TESTED in numeric, 1 UNKNOWN in races), "
        "equal over the reals, 0.5 s"
    )
    assert last_line(CheckReport(False, "UNKNOWN", (), (), ()), "a.tile") == "a.tile: refused, 0.0 s"


def test_an_element_that_two_comparisons_found_is_told_once() -> None:
    """With the line that one of them knows."""
    text = problems.load("softmax").seed_kernel
    wrong = text.replace("p / l[:, None]", "p / (l[:, None] + 1.0)")
    assert wrong != text
    report = kernelagent.check(wrong, "softmax")
    assert [c.family for c in report.counterexamples] == ["numeric", "semantics"]
    said = "\n".join(summary(report, wrong, "softmax.tile"))
    assert said.count("REFUTED") == 1
    assert "--> softmax.tile:" in said
    assert "expected:" not in said  # the message has it


def test_families_are_listed() -> None:
    found = [Obligation(f, "PROVED_BOUNDED", None, "") for f in ("races", "flow", "flow", "bounds")]
    assert "(4 PROVED_BOUNDED in races, flow and bounds)" in last_line(report_of(found), "a.tile")


def test_levels_in_words() -> None:
    assert level_text("FIELD_TESTED(6)") == "equal in 6 runs over finite fields"
    assert level_text("NUMERICALLY_TESTED(2)") == "agrees with the reference in 2 runs"
    assert level_text("") == ""


def test_a_refuted_report_stays_short() -> None:
    """However much else was found."""
    failures = [
        Counterexample("bounds", f"x[{n}] " + "lies outside " * 40, (n,), {"M": n}, {}, "x", (n,), scope="every " * 90)
        for n in range(1, 30)
    ]
    found = [Obligation("races", "UNKNOWN", n, f"number {n} " + "of many words " * 40) for n in range(9)]
    report = report_of([*MANY, *found, Obligation("bounds", "REFUTED", 1, "")], failures)
    text = "\n".join(f"    store(y, (i, j), {'value + ' * 30}{n})" for n in range(40))
    lines = [*summary(report, text, "kernel.tile"), last_line(report, "kernel.tile")]
    said = "\n".join(lines)
    assert said.count("\n") < MOST_LINES
    assert tokens(said) <= MOST_TOKENS
    assert not any(line.startswith("PROVED") for line in lines)


def test_tokens_are_counted_by_words_digits_and_signs() -> None:
    assert tokens("wait_group(1)") == 5 + 0 + 1  # wait _ group ( 1 )
    assert tokens("^^^^^^^^") == 1
    assert tokens("12345\n    x") == 2 + 1 + 1 + 1
    assert tokens("synchronisation") == 3
    assert tokens("") == 0


PLAIN = ("softmax", "gemm_nn", "attention", "rope")


@pytest.mark.parametrize("name", PLAIN)
def test_texts_speak_of_rows_and_columns(name: str) -> None:
    """No name that only the checker knows."""
    report = kernelagent.check(problems.load(name).seed_kernel, quick=True)
    said = "\n".join(summary(report, "", verbose=True))
    assert "index" in said
    assert not re.search(r"@\d", said)
    assert not re.search(r"@\d", str(report.to_dict()["obligations"]))


def test_a_schedule_has_its_notes() -> None:
    """Single threads multiply, and nobody asked for it."""
    text = GEMM.replace("BM=128", "BM=100")
    notes = [check_gpu(text, "emu", GpuCalls("sm_80", {"T": "bf16"}, trials=())).notes for _ in range(2)]
    assert notes[0] == notes[1]  # the second is from kept proofs
    (note,) = [n for n in notes[0] if "multiply-adds of single threads" in n]
    assert "no split of 4 warps divides 100x128" in note


def test_policy_that_one_class_drops_is_told() -> None:
    text = GEMM.replace("on(cuda, stages=3)", "on(sm_90a, cluster=2)")
    notes = check_gpu(text, "emu", GpuCalls("sm_90a", {"T": "bf16"}, trials=())).notes
    assert [n for n in notes if n.startswith("policy cluster=2: dropped") and n.endswith("general class")]


def test_steps_are_told_to_whoever_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))  # nothing is proved already
    heard: list[str] = []
    with listening(heard.append):
        kernelagent.check(GEMM.replace("BM=128", "BM=64"), target="emu", dtypes={"T": "bf16"}, quick=True)
    assert heard[0] == "proving the text"
    assert any("schedule of gemm (aligned)" in line for line in heard)
    assert any("emulator" in line for line in heard)
    before = len(heard)
    kernelagent.check(TEXTS["gemm"], quick=True)
    assert len(heard) == before


def test_what_was_compared_with_no_reference_says_so() -> None:
    report = CheckReport(True, "PROVED", (Obligation("bounds", "PROVED", None, ""),), (), ())
    assert last_line(report, "a.tile") == "a.tile: ok, PROVED (1 PROVED), compared with no reference, 0.0 s"
