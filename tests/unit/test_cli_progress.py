"""Progress is one line on a terminal, gone at the end; in a pipe steps that take seconds have a line each."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import pytest
from kernelagent.dsl.verify.progress import listening, say

from kernelagent.cli import output
from kernelagent.views.heartbeat import Heartbeat


def test_a_terminal_shows_the_step(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    with output.shown_progress():
        say("proving the schedule of gemm (aligned)")
        say("compiling " + "long " * 200)
    say("afterwards")
    shown = capsys.readouterr()
    assert shown.out == ""
    steps = shown.err.split("\r\x1b[K")
    assert steps[1] == "proving the schedule of gemm (aligned)"
    assert len(steps[2]) < 200
    assert steps[-1] == ""
    assert "afterwards" not in shown.err
    assert "\n" not in shown.err


def _failing() -> None:
    say("compiling")
    raise ValueError("wrong")


def test_the_line_goes_when_a_check_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: True)
    with pytest.raises(ValueError, match="wrong"), output.shown_progress():
        _failing()
    assert capsys.readouterr().err.endswith("\r\x1b[K")


def test_quick_checks_say_nothing_in_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: False)
    with output.shown_progress():
        say("compiling")
    assert capsys.readouterr().err == ""


def _lines_of(quiet: float, again: float, steps: Sequence[tuple[str, float]]) -> list[str]:
    """What a heartbeat says of steps that take so many seconds each."""
    said: list[str] = []
    with Heartbeat(said.append, quiet=quiet, again=again) as heartbeat:
        for name, seconds in steps:
            heartbeat.step(name)
            time.sleep(seconds)
    return said


def test_a_long_step_is_named_and_named_again() -> None:
    said = _lines_of(0.2, 0.4, [("compiling gemm", 1.6)])
    assert 2 <= len(said) <= 4
    assert all(re.fullmatch(r"compiling gemm \.\.\.( \d+ s)?", line) for line in said)
    assert re.search(r" [1-9] s$", said[-1])


def test_short_steps_are_never_named_but_their_sum_is() -> None:
    assert _lines_of(5.0, 5.0, [("a", 0.05)] * 4) == []
    said = _lines_of(0.3, 5.0, [("parsing", 0.05), ("proving", 0.05), ("compiling", 0.6)])
    assert [line.partition(" ")[0] for line in said] == ["compiling"]


def test_nothing_is_said_where_others_speak() -> None:
    said: list[str] = []
    with Heartbeat(said.append, "timing", quiet=0.3, again=0.3) as heartbeat:
        for _ in range(20):
            time.sleep(0.05)
            heartbeat.heard()
    assert said == []


def test_the_inner_listener_hears() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with listening(outer.append):
        with listening(inner.append):
            say("a")
        say("b")
    say("c")
    assert (outer, inner) == (["b"], ["a"])
