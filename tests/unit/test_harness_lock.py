"""Two processes never time at the same moment."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kernelagent.harness.lock import timing_lock

TIMER = """
import sys, time
from kernelagent.harness.lock import timing_lock
for _ in range(6):
    with timing_lock("cpu"):
        start = time.monotonic_ns()
        time.sleep(0.01)
        print(start, time.monotonic_ns(), flush=True)
"""

HOLDER = """
import time
from kernelagent.harness.lock import timing_lock
with timing_lock("cpu"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_LOCKS", str(tmp_path / "locks"))


def start(program: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)


def test_intervals_of_three_processes_do_not_overlap() -> None:
    timers = [start(TIMER) for _ in range(3)]
    lines = [line for t in timers for line in t.communicate(timeout=60)[0].splitlines()]
    held = sorted(tuple(map(int, line.split())) for line in lines)
    assert len(held) == 18
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(held))


def test_a_killed_holder_releases_the_lock() -> None:
    holder = start(HOLDER)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    holder.stdout.close()
    began = time.monotonic()
    with timing_lock("cpu"):
        assert time.monotonic() - began < 5


def test_whoever_waits_is_told_for_whom() -> None:
    holder = start(HOLDER)
    assert holder.stdout is not None
    holder.stdout.readline()
    messages: list[str] = []

    def notify(message: str) -> None:
        messages.append(message)
        holder.kill()  # so that the wait ends

    with timing_lock("cpu", notify):
        pass
    holder.wait()
    holder.stdout.close()
    assert messages == [f"process {holder.pid} is timing on cpu; waiting for it"]


def test_devices_have_locks_of_their_own() -> None:
    with timing_lock("cpu"), timing_lock("gpu0"):
        pass
