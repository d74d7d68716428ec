"""Jobs in a process that may die or hang: it is started again with the jobs that are left.

A kernel that reads where it must not leaves its process without a usable device, and one that waits for itself never
ends. Each costs its own job only. The worker gets a JSON list of jobs as its last argument; it prints `{"begin": job}`
and `{"end": job, "result": ...}` a line each.
"""

from __future__ import annotations

import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any

Crashed = Callable[[str, str], None]
"""Told a job and what its process said last."""


def relay(
    command: Sequence[str], jobs: Sequence[str], done: Callable[[str, Any], None], crashed: Crashed, seconds: float
) -> None:
    """Run the jobs in order. A worker that says nothing for `seconds` is killed."""
    left = list(jobs)
    while left:
        finished, reason = _work(command, left, done, seconds)
        left = left[finished:]
        if left:
            crashed(left.pop(0), reason)


def _work(command: Sequence[str], jobs: list[str], done: Callable[[str, Any], None], seconds: float) -> tuple[int, str]:
    """How many jobs one worker finished, and why it stopped."""
    finished = 0
    with tempfile.TemporaryFile("w+") as errors:
        worker = subprocess.Popen([*command, json.dumps(jobs)], stdout=subprocess.PIPE, stderr=errors, text=True)
        assert worker.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read, args=(worker.stdout, lines), daemon=True).start()
        reason = ""
        try:
            while (line := lines.get(timeout=seconds)) is not None:
                if line.startswith('{"end"'):
                    record = json.loads(line)
                    done(record["end"], record["result"])
                    finished += 1
        except queue.Empty:
            reason = f"no answer for {seconds:g} s"
        finally:
            worker.kill()
            status = worker.wait()
        return finished, reason or f"status {status}: {_tail(errors)}"


def _read(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _tail(errors: IO[str]) -> str:
    errors.seek(0)
    return (errors.read().strip().splitlines() or ["no output"])[-1]
