"""What a person reads of a run: figures, late rivals, why a trial failed."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from kernelagent.dsl.verify.progress import say

from kernelagent.views.plain import PlainView
from kernelagent.views.summary import describe, figure, milliseconds, share

STARTED = {
    "kind": "run-started", "run": "r", "problem": "p", "workload": "w", "target": "cpu", "proposer": "search",
    "chip": "c", "budget": {},
}  # fmt: skip


def printed(*events: dict[str, Any]) -> list[str]:
    stream = io.StringIO()
    view = PlainView(stream)
    for event in (STARTED, *events):
        view(event)
    return stream.getvalue().splitlines()[1:]


def finished(number: int, status: str, time_ms: float | None, detail: str = "") -> dict[str, Any]:
    return {
        "kind": "trial-finished", "number": number, "status": status, "time_ms": time_ms, "trial": {"detail": detail},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"), [(0.000101, "0.000101"), (0.01, "0.010"), (3.2981, "3.298"), (0.0, "0.000"), (123.456, "123.5")]
)
def test_small_times_are_not_zero(value: float, shown: str) -> None:
    assert figure(value) == shown
    assert milliseconds(value) == f"{shown} ms"
    assert milliseconds(None) == "-"


def test_no_late_rivals_is_no_line() -> None:
    rival = {"kind": "baseline", "baselines": [{"name": "numpy", "time_ms": 2.0}]}
    none = {"kind": "baseline", "baselines": []}
    assert printed(none) == ["baselines: none"]
    assert printed(rival, finished(0, "PASSED", 1.0), none)[0] == "baselines: numpy 2.000 ms"
    assert len(printed(rival, finished(0, "PASSED", 1.0), none)) == 2
    assert printed(finished(0, "PASSED", 1.0), rival)[1] == "more baselines: numpy 2.000 ms"


def test_a_failed_trial_says_why_in_one_line() -> None:
    line = printed(finished(0, "COMPILE_ERROR", None, "cuda-spills: 56 bytes\n" + "and more " * 100))[0]
    assert "(cuda-spills: 56 bytes and more" in line
    assert len(line) < 180
    assert "(" not in printed(finished(0, "PASSED", 1.0, "remarks"))[0]


def proposed(number: int, **proposal: Any) -> dict[str, Any]:
    return {"kind": "proposal", "number": number, "proposal": proposal}


def test_a_resumed_run_knows_its_best_and_what_was_proposed() -> None:
    stream = io.StringIO()
    view = PlainView(stream)
    view.board.past(
        [STARTED, proposed(0, note="the seed"), finished(0, "PASSED", 0.03), proposed(1, move="share_value")]
    )
    assert stream.getvalue() == ""
    view(finished(1, "PASSED", 0.04))
    assert "share_value()" in stream.getvalue()
    assert "*" not in stream.getvalue()


def test_no_clear_difference_is_told_as_that() -> None:
    same, slower = printed(finished(0, "PASSED", 1.0), finished(1, "PASSED", 1.0), finished(2, "PASSED", 1.2))[1:]
    assert same.endswith("as fast as the best")
    assert not slower.endswith("as fast as the best")


def test_sizes_are_told_not_what_was_expected_of_them() -> None:
    change = {"arguments": {"sizes": {"k.BM": 8, "k.BN": 64}}, "note": "expected x0.77 of the best"}
    assert describe(change) == "sizes(k.BM=8, k.BN=64)"
    assert describe({"move": "unroll", "arguments": {"factor": 4}}) == "unroll(factor=4)"


def test_a_long_trial_names_its_steps() -> None:
    stream = io.StringIO()
    with PlainView(stream, quiet=0.2) as view:
        view(STARTED)
        view(proposed(3, move="split_roles"))
        say("compiling gemm (aligned) for sm_90a")
        time.sleep(1.0)
    shown = stream.getvalue().splitlines()[1:]
    assert shown[0].startswith("trial 3: split_roles(): compiling gemm (aligned) for sm_90a ...")
    assert len(shown) <= 5


def test_late_rivals_belong_to_the_end() -> None:
    view = PlainView(io.StringIO())
    none = {"kind": "baseline", "baselines": []}
    view(none)
    assert view.board.stage == "seed kernel"
    view(finished(0, "PASSED", 1.0))
    view(none)
    assert view.board.stage == "final comparison"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.56, "56%"), (0.0033, "<1%"), (0.006, "1%"), (0.0, "0%"), (1.02, "102%")]
)
def test_a_small_share_is_not_nothing(value: float, shown: str) -> None:
    assert share(value) == shown
