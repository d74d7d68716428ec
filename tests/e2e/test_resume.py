"""Runs that are killed, interrupted and resumed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kernelagent.knowledge_base import KnowledgeBase
from support.resumable import TRIALS, texts
from support.runs import means, plan
from support.synthetic_lab import SyntheticLab

from kernelagent.agent.budget import Budget
from kernelagent.agent.events import RunError, read_events
from kernelagent.agent.run import Interrupted, complete, resume, start
from kernelagent.agent.state import replay_state
from kernelagent.proposers.base import Proposal
from kernelagent.proposers.replay import ReplayProposer

TESTS = Path(__file__).parent.parent


def launch(home: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    return subprocess.Popen([sys.executable, "-m", "support.resumable", str(home)], env=environment,
                            stderr=subprocess.PIPE)  # fmt: skip


def log_of(home: Path) -> Path | None:
    return next(iter((home / "runs").glob("*/events.jsonl")), None)


def lines(home: Path) -> int:
    path = log_of(home)
    return path.read_bytes().count(b"\n") if path else 0


def wait_for(home: Path, count: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while lines(home) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def finished_numbers(events: list[dict[str, Any]]) -> list[int]:
    return [e["number"] for e in events if e["kind"] == "trial-finished"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_is_finished_without_repeating_a_trial(tmp_path: Path, seed: int) -> None:
    """Killed three times, at random points after it has made some progress."""
    dice = random.Random(seed)
    for _ in range(3):
        process = launch(tmp_path)
        wait_for(tmp_path, lines(tmp_path) + dice.randint(1, 14), process)
        time.sleep(dice.random() * 0.03)
        process.kill()
        process.communicate()
    process = launch(tmp_path)
    assert process.communicate()[1] == b""
    assert process.returncode == 0
    log = log_of(tmp_path)
    assert log is not None
    events = read_events(log)
    assert finished_numbers(events) == list(range(TRIALS + 1))
    assert events[-1]["kind"] == "run-finished"
    done: set[int] = set()
    for event in events:
        if event["kind"] == "trial-finished":
            done.add(event["number"])
        if event["kind"] == "proposal":
            assert event["number"] not in done
    assert json.loads((log.parent / "result.json").read_text())["trials"] == TRIALS
    assert (log.parent / "best.tile").read_text() == texts()[4]
    recorded = Counter(t.number for t in KnowledgeBase(tmp_path / "kb.db").trials())
    assert recorded == Counter(range(TRIALS + 1))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_run_that_can_be_resumed(tmp_path: Path, number: signal.Signals) -> None:
    process = launch(tmp_path)
    wait_for(tmp_path, 9, process)
    process.send_signal(number)
    said = process.communicate(timeout=30)[1].decode()
    assert "Interrupted" in said
    assert "optimize resume" in said
    log = log_of(tmp_path)
    assert log is not None
    events = read_events(log)
    assert events[-1]["kind"] == "interrupted"
    before = finished_numbers(events)
    again = launch(tmp_path)
    assert again.communicate(timeout=60)[1] == b""
    events = read_events(log)
    assert finished_numbers(events) == list(range(TRIALS + 1))
    assert finished_numbers(events)[: len(before)] == before


def test_two_processes_do_not_work_on_one_run(tmp_path: Path) -> None:
    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    with start(plan(trials=2), means(proposer), tmp_path) as run:
        with pytest.raises(RunError, match="another process"):
            resume(run.folder, plan(trials=2), means(proposer))
        assert complete(run)["trials"] == 2


class Stopping(SyntheticLab):
    """Interrupts its own run in the middle of an evaluation."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def evaluate(self, text: str) -> Any:
        if len(self.evaluated) == self.at:
            self.at = -1
            raise KeyboardInterrupt
        return super().evaluate(text)


class Counting(ReplayProposer):
    asked = 0

    def propose(self, context: Any) -> Proposal:
        self.asked += 1
        return super().propose(context)


def test_a_proposal_that_was_paid_for_is_not_asked_for_again(tmp_path: Path) -> None:
    proposer = Counting([[Proposal(t, tokens=50)] for t in texts()])
    with start(plan(trials=4), means(proposer, Stopping(2)), tmp_path) as run, pytest.raises(Interrupted) as stopped:
        complete(run)
    assert stopped.value.folder == run.folder
    assert replay_state(read_events(run.folder)).pending is not None
    with resume(run.folder, plan(trials=4), means(proposer)) as again:
        record = complete(again)
    assert proposer.asked == 4
    assert record["tokens"] == 200
    assert finished_numbers(read_events(run.folder)) == [0, 1, 2, 3, 4]


def test_time_between_sessions_is_not_spent(tmp_path: Path) -> None:
    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    with start(plan(trials=3), means(proposer, Stopping(1)), tmp_path) as run, pytest.raises(Interrupted):
        complete(run)
    time.sleep(1.2)
    with resume(run.folder, plan(trials=3), means(proposer)) as again:
        assert complete(again)["seconds"] < 1.2 + 0.9


def test_a_finished_run_goes_on_with_a_larger_budget(tmp_path: Path) -> None:
    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    with start(plan(trials=2), means(proposer), tmp_path) as run:
        assert complete(run)["trials"] == 2
    with resume(run.folder, plan(budget=Budget(5)), means(proposer)) as again:
        record = complete(again)
    assert record["trials"] == 5
    assert record["stop_reason"] == "budget-trials"
    assert finished_numbers(read_events(run.folder)) == [0, 1, 2, 3, 4, 5]


def test_checkpoints_and_kernels_are_rebuilt_from_the_log(tmp_path: Path) -> None:
    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    with start(plan(trials=4), means(proposer, Stopping(2)), tmp_path) as run, pytest.raises(Interrupted):
        complete(run)
    (run.folder / "checkpoints.sqlite").write_bytes(b"torn")
    for kernel in (run.folder / "kernels").iterdir():
        kernel.unlink()
    with resume(run.folder, plan(trials=4), means(proposer)) as again:
        complete(again)
    assert len(list((run.folder / "kernels").iterdir())) == 5


def test_a_fault_of_ours_leaves_a_run_that_can_be_resumed(tmp_path: Path) -> None:
    class Faulty(SyntheticLab):
        def evaluate(self, text: str) -> Any:
            if len(self.evaluated) == 2:
                raise ZeroDivisionError("a fault")
            return super().evaluate(text)

    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    with start(plan(trials=3), means(proposer, Faulty()), tmp_path) as run, pytest.raises(ZeroDivisionError):
        complete(run)
    assert read_events(run.folder)[-1]["reason"] == "error"
    with resume(run.folder, plan(trials=3), means(proposer)) as again:
        assert complete(again)["trials"] == 3
