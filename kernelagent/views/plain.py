"""One line per thing that happened, for logs, pipes and screens that cannot be redrawn."""

from __future__ import annotations

import sys
from typing import Any, TextIO

from .summary import Board, Event, milliseconds


class PlainView:
    """An observer that prints to stderr (stdout belongs to results)."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self.board = Board()

    def __call__(self, event: Event) -> None:
        before = self.board.best_ms
        self.board.take(event)
        line = self._line(event, before)
        if line:
            print(line, file=self._stream, flush=True)

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def _line(self, event: Event, before: float | None) -> str | None:
        match event["kind"]:
            case "run-started":
                where = f"{event['problem']} {event['workload']} on {event['chip']}"
                return f"run {event['run']}: {where}, proposer {event['proposer']}"
            case "bound":
                return f"bound: {_bound(event['sol'], 'sol')}; {_bound(event['ceiling'], 'ceiling of this machine')}"
            case "baseline":
                rivals = ", ".join(f"{b['name']} {milliseconds(b['time_ms'])}" for b in event["baselines"])
                return f"baselines: {rivals or 'none'}"
            case "trial-finished":
                return self._trial(event, before)
            case "warning":
                return f"warning: {event['message']}"
            case "steering" if event["decision"]["stop"]:
                return f"stopped: {event['decision']['detail']}"
            case _:
                return None

    def _trial(self, event: Event, before: float | None) -> str:
        number, time_ms = event["number"], event["time_ms"]
        note = self.board.notes.get(number, "")
        better = time_ms is not None and (before is None or time_ms < before)
        gap = f"  {self.board.gap:.2f}x the bound" if better and self.board.gap else ""
        return (
            f"trial {number:3}  {event['status']:10} {milliseconds(time_ms):>12} {'*' if better else ' '} {note}{gap}"
        )


def _bound(report: dict[str, Any], label: str) -> str:
    if not report:
        return f"{label} unknown"
    return f"{label} {milliseconds(report['time_ms'])} ({report['bound']})"
