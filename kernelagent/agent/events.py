"""The event log of a run: append-only JSON lines, each on the disk before the run goes on.

The log is the truth. State, checkpoints, entries of the knowledge base and reports are functions of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernelagent.errors import CallError
from kernelagent.redact import Redactor

from .signals import uninterrupted

VERSION = 1
LOG_NAME = "events.jsonl"
KINDS = frozenset({
    "run-started", "bound", "baseline", "proposal", "diagnostics", "evaluation", "trial-finished", "steering", "retry",
    "warning", "selection", "comparison", "interrupted", "resumed", "run-finished",
})  # fmt: skip

Event = dict[str, Any]
"""`v` (version), `seq` (from 0, without gaps), `at` (ISO 8601, UTC), `kind`, and what the kind carries."""
Observer = Callable[[Event], None]


class RunError(CallError):
    """A run folder cannot be used: it does not exist, is damaged, is newer than this program, or is in use."""


class EventLog:
    """The open end of a log. A half-written last line, left by a crash, is cut off when the log is opened."""

    def __init__(self, path: Path, redactor: Redactor, observer: Observer | None = None) -> None:
        self.path = path
        self._redactor = redactor
        self._observer = observer
        path.parent.mkdir(parents=True, exist_ok=True)
        events, length = parse_log(path.read_bytes() if path.exists() else b"", path)
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self._file.truncate(length)
        self.events: list[Event] = events

    def append(self, kind: str, **fields: Any) -> Event:
        """Write an event, wait until it is on the disk, then tell the observer."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind of event {kind!r}")
        head = {"v": VERSION, "seq": len(self.events), "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        event: Event = _json_safe(self._redactor.record({**head, "kind": kind, **fields}))
        with uninterrupted():
            self._file.write(json.dumps(event, allow_nan=False).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
            self.events.append(event)
        if self._observer is not None:
            self._observer(event)
        return event

    def close(self) -> None:
        self._file.close()


def read_events(path: str | os.PathLike[str]) -> list[Event]:
    """The events of a run folder or of its log, oldest first; a half-written last line is left out.

    Raises RunError when there is no log, a line in the middle is damaged, or the log is newer than this program.
    """
    file = Path(path)
    file = file / LOG_NAME if file.is_dir() else file
    try:
        data = file.read_bytes()
    except OSError as error:
        raise RunError(f"there is no run at {file.parent}: {error.strerror}") from None
    return parse_log(data, file)[0]


def parse_log(data: bytes, path: Path) -> tuple[list[Event], int]:
    """Events and the number of bytes they take."""
    events: list[Event] = []
    length = 0
    for number, line in enumerate(data.splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break  # the write was cut short; whatever it was, it did not happen
        events.append(_event(line, len(events), f"{path}:{number}"))
        length += len(line)
    return events, length


def _event(line: bytes, seq: int, place: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        raise RunError(f"{place}: this line of the log is damaged") from None
    if not isinstance(event, dict) or not {"v", "seq", "at", "kind"} <= event.keys():
        raise RunError(f"{place}: this line of the log is not an event")
    if event["v"] > VERSION:
        raise RunError(f"{place}: written by a newer version of kernelagent", "update kernelagent to read this run")
    if event["seq"] != seq:
        raise RunError(f"{place}: event {seq} is missing from the log")
    return event


def _json_safe(value: Any) -> Any:
    """NaN and infinities become null: the log is strict JSON."""
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict):
        return {k: _json_safe(v) for k, v in value.items()}
    return [_json_safe(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run for this process. Raises RunError when another process (or this one, twice) is working on it.

    The lock belongs to the open file, so the system drops it with the process, however that ends.
    """
    import fcntl

    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(f"run {folder.name} is being worked on by another process") from None
        yield


def being_worked_on(folder: Path) -> bool:
    """Whether a process holds the run at the moment."""
    import fcntl

    try:
        with open(folder / "lock") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
