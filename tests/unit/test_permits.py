"""What each verdict permits, and where the table is obeyed: sessions, runs without a device, the leaderboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from kernelagent.dsl.verify.records import Findings, Obligation, Verdict, covers, findings_from
from kernelagent.harness.permits import permit

from kernelagent.reports.leaderboard import Entry, to_html, to_markdown

ENTRY = Entry(
    run="r", problem="softmax", workload="small", chip="this", target="cpu", proposer="search", status="PASSED",
    time_ms=1.0, seed_ms=2.0, sol_ms=0.5, ceiling_ms=0.6, score=0.7, suspect=None, verdict="3 PROVED", baselines={},
    trials=3, failures={}, progress=(), kernel=None, text="",
)  # fmt: skip


def test_every_verdict_has_a_row() -> None:
    rows = {v: permit(v) for v in get_args(Verdict)}
    assert {v for v, row in rows.items() if not row.timed} == {"REFUTED"}
    assert {v for v, row in rows.items() if row.wins == "yes"} == {"PROVED"}
    assert {v for v, row in rows.items() if row.label == ""} == {"PROVED"}


def test_what_is_proved_for_some_sizes_wins_where_these_are_the_workloads() -> None:
    own, others = permit("PROVED_BOUNDED", covered=True), permit("PROVED_BOUNDED", covered=False)
    assert (own.wins, others.wins) == ("yes", "on request")
    assert own.timed
    assert others.timed
    assert own.label != others.label
    assert all(permit(v, True) == permit(v, False) for v in get_args(Verdict) if v != "PROVED_BOUNDED")


def test_sizes_are_covered_where_every_bounded_obligation_holds_at_them() -> None:
    square, long = {"M": 64, "N": 64, "K": 64}, {"M": 64, "N": 64, "K": 4096}
    shown = [
        Obligation("bounds", "PROVED", None, ""),
        Obligation("races", "PROVED_BOUNDED", None, "", sizes=(square, long)),
        Obligation("flow", "PROVED_BOUNDED", None, "", sizes=(square,)),
        Obligation("banks", "PROVED_BOUNDED", None, ""),  # told beside the verdict
    ]
    assert covers(shown, square)
    assert covers(shown, {**square, "BM": 128})  # a name that no schedule has
    assert not covers(shown, long)
    assert not covers(shown, {"B": 1})
    assert covers(shown[:2], long)
    assert not covers([Obligation("races", "PROVED_BOUNDED", None, "")], square)  # nothing is known of its sizes
    again = findings_from(Findings(tuple(shown)).to_dict())
    assert again.obligations == tuple(shown)


def test_a_word_that_is_no_verdict_permits_nothing() -> None:
    with pytest.raises(KeyError):
        permit("PASSED")


def test_times_of_unproved_kernels_are_labelled() -> None:
    shown = to_markdown([replace(ENTRY, label=permit("TESTED").label)])
    assert "PASSED, tested only" in shown
    assert "tested only: 3 PROVED" in to_html([replace(ENTRY, label=permit("TESTED").label)])
    assert "PASSED |" in to_markdown([ENTRY])


def test_a_refuted_kernel_is_never_advised() -> None:
    assert replace(ENTRY, status="REFUTED").advice == "no kernel: refuted"


def test_only_the_table_decides_what_is_timed() -> None:
    """No other list of verdicts stands in harness or agent; `explain` has their meaning in words."""
    root = Path(__file__).parents[2]
    others = [
        f for folder in ("harness", "kernelagent") for f in (root / folder).rglob("*.py")
        if '"PROVED_BOUNDED"' in f.read_text(encoding="utf-8") and f.name not in ("permits.py", "explain.py")
    ]  # fmt: skip
    assert others == []
