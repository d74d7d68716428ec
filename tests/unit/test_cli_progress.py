"""Progress is one line on a terminal, gone at the end, and nothing anywhere else."""

from __future__ import annotations

import pytest
from kernelagent.dsl.verify.progress import listening, say

from kernelagent.cli import output


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


def test_pipes_stay_silent(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(output, "is_terminal", lambda: False)
    with output.shown_progress():
        say("compiling")
    assert capsys.readouterr().err == ""


def test_the_inner_listener_hears() -> None:
    outer: list[str] = []
    inner: list[str] = []
    with listening(outer.append):
        with listening(inner.append):
            say("a")
        say("b")
    say("c")
    assert (outer, inner) == (["b"], ["a"])
