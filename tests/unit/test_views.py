"""What a person reads of a run: figures, late rivals, why a trial failed."""

from __future__ import annotations

import io
from typing import Any

import pytest

from kernelagent.views.plain import PlainView
from kernelagent.views.summary import figure, milliseconds

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
