"""One line per thing that happened, for logs, pipes and screens that cannot be redrawn."""

from __future__ import annotations

import sys
import textwrap
from contextlib import ExitStack
from typing import Any, TextIO

from .heartbeat import Heartbeat
from .summary import Board, Event, milliseconds, rank_ms, shown_ms

QUIET_SECONDS = 10.0
"""Between two lines about a step that takes long."""
WHY = 120
"""Longest reason behind a trial; `runs show RUN` has all of it."""


class PlainView:
    """An observer that prints to stderr (stdout belongs to results). As a context manager it also names steps that
    take long."""

    def __init__(self, stream: TextIO | None = None, quiet: float = QUIET_SECONDS) -> None:
        self._stream = stream or sys.stderr
        self.board = Board()
        self._heartbeat = Heartbeat(self._print, quiet=quiet, again=quiet)
        self._open = ExitStack()

    def __call__(self, event: Event) -> None:
        before = self.board.best_ms
        self.board.take(event)
        line = self._line(event, before)
        if line:
            self._print(line)
            self._heartbeat.heard()
        self._heartbeat.step(self.board.stage)

    def __enter__(self) -> PlainView:
        from kernelagent.dsl.verify.progress import listening

        self._open.enter_context(self._heartbeat)
        self._open.enter_context(listening(lambda line: self._heartbeat.step(f"{self.board.stage}: {line}")))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _print(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def _line(self, event: Event, before: float | None) -> str | None:
        match event["kind"]:
            case "run-started":
                where = f"{event['problem']} {event['workload']} on {event['chip']}"
                label = ", UNTIMED (ranked by a static model: no device)" if event.get("untimed") else ""
                return f"run {event['run']}: {where}, proposer {event['proposer']}{label}"
            case "bound":
                return f"bound: {_bounds(event, self.board.untimed)}"
            case "baseline":
                return _baselines(event, late=bool(self.board.trials))
            case "trial-finished":
                return self._trial(event, before)
            case "warning":
                return f"warning: {event['message']}"
            case "steering" if event["decision"]["stop"]:
                return f"stopped: {event['decision']['detail']}"
            case _:
                return None

    def _trial(self, event: Event, before: float | None) -> str:
        number, time_ms = event["number"], rank_ms(event)
        note = self.board.notes.get(number, "")
        better = time_ms is not None and (before is None or time_ms < before)
        gap = f"  {self.board.gap:.2f}x the bound" if better and self.board.gap else ""
        why = ("  as fast as the best" if time_ms == before else "") if time_ms is not None else _why(event)
        return f"trial {number:3}  {event['status']:13} {shown_ms(event):>13} {'*' if better else ' '} {note}{gap}{why}"


def _why(event: Event) -> str:
    """What is wrong with a trial that has no time, shortened to a line."""
    detail = " ".join(str((event.get("trial") or {}).get("detail") or "").split())
    return f"  ({textwrap.shorten(detail, WHY)})" if detail else ""


def _baselines(event: Event, late: bool) -> str | None:
    """The slow ones come behind the trials, if there are any."""
    rivals = ", ".join(f"{b['name']} {milliseconds(b['time_ms'])}" for b in event["baselines"])
    if late:
        return f"more baselines: {rivals}" if rivals else None
    return f"baselines: {rivals or 'none'}"


def _bounds(event: Event, untimed: bool) -> str:
    if untimed:
        return f"{_bound(event['sol'], 'sol')} by the chip's datasheet"
    return f"{_bound(event['sol'], 'sol')}; {_bound(event['ceiling'], 'ceiling of this machine')}"


def _bound(report: dict[str, Any], label: str) -> str:
    if not report:
        return f"{label} unknown"
    return f"{label} {milliseconds(report['time_ms'])} ({report['bound']})"
