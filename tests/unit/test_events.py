"""The event log: what is written can be read, whatever was cut off; what is damaged is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.moves import apply
from support.runs import means, plan
from support.synthetic_lab import SEED

from kernelagent.agent.events import EventLog, RunError, being_worked_on, locked, parse_log, read_events
from kernelagent.agent.outcome import result_record
from kernelagent.agent.run import complete, start
from kernelagent.agent.state import RunState, replay_state
from kernelagent.proposers.base import Proposal
from kernelagent.proposers.replay import ReplayProposer
from kernelagent.redact import Redactor


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run: three trials, one of them wrong."""
    texts = [
        apply("set_tunable", SEED, name="BR", value=8),
        "nonsense(",
        apply("set_tunable", SEED, name="BC", value=256),
    ]
    proposer = ReplayProposer([[Proposal(t)] for t in texts])
    with start(plan(trials=3), means(proposer), tmp_path_factory.mktemp("runs")) as run:
        complete(run)
        return run.folder


def log(folder: Path) -> bytes:
    return (folder / "events.jsonl").read_bytes()


def test_kinds_come_in_order(finished: Path) -> None:
    events = read_events(finished)
    assert [e["kind"] for e in events[:6]] == [
        "run-started", "bound", "baseline", "proposal", "evaluation", "trial-finished",
    ]  # fmt: skip
    assert events[-1]["kind"] == "run-finished"
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert all(e["v"] == 1 for e in events)


def test_a_log_cut_at_any_byte_loads(finished: Path) -> None:
    data = log(finished)
    whole = read_events(finished)
    sizes = set()
    for length in range(len(data) + 1):
        events, taken = parse_log(data[:length], finished)
        assert taken <= length
        assert events == whole[: len(events)]
        if len(events) not in sizes:
            sizes.add(len(events))
            state = replay_state(events)
            assert len(state.trials) == sum(e["kind"] == "trial-finished" for e in events)
            record = result_record(events)
            assert (record is None) == (not state.trials)
    assert sizes == set(range(len(whole) + 1))


@settings(max_examples=30)
@given(share=st.floats(0, 1))
def test_an_appended_event_replaces_a_half_written_line(
    finished: Path, tmp_path_factory: pytest.TempPathFactory, share: float
) -> None:
    data = log(finished)
    cut = data[: int(share * len(data))]
    path = tmp_path_factory.mktemp("log") / "events.jsonl"
    path.write_bytes(cut)
    opened = EventLog(path, Redactor())
    opened.append("warning", message="after the crash")
    opened.close()
    events = read_events(path)
    assert events[-1]["message"] == "after the crash"
    assert events[-1]["seq"] == cut.count(b"\n")


def test_state_is_a_fold(finished: Path) -> None:
    """Replaying in two parts is replaying at once: the state holds nothing that is not in the log."""
    events = read_events(finished)
    state = replay_state(events)
    assert [t.status for t in state.trials] == ["PASSED", "PASSED", "REJECTED", "PASSED"]
    assert state.spent.trials == 3
    assert state.pending is None
    assert state.best is not None
    assert json.loads((finished / "result.json").read_text()) == result_record(events)


def test_a_damaged_line_in_the_middle_is_refused(finished: Path, tmp_path: Path) -> None:
    lines = log(finished).splitlines(keepends=True)
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines[0] + lines[1][:40] + b"\n" + lines[2])
    with pytest.raises(RunError, match=r"events\.jsonl:2"):
        read_events(path)


def test_a_missing_line_is_noticed(finished: Path, tmp_path: Path) -> None:
    lines = log(finished).splitlines(keepends=True)
    path = tmp_path / "events.jsonl"
    path.write_bytes(lines[0] + lines[2])
    with pytest.raises(RunError, match="event 1 is missing"):
        read_events(path)


def test_a_newer_log_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"v": 99, "seq": 0, "at": "2026-01-01T00:00:00+00:00", "kind": "run-started"}\n')
    with pytest.raises(RunError, match="newer version"):
        read_events(path)


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run"):
        read_events(tmp_path / "nowhere")


def test_each_event_is_on_the_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd))[1])
    path = tmp_path / "events.jsonl"
    told: list[int] = []
    opened = EventLog(path, Redactor(), lambda event: told.append(len(read_events(path)) * 100 + len(synced)))
    opened.append("warning", message="one")
    opened.append("warning", message="two")
    opened.close()
    assert told == [101, 202]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    opened = EventLog(tmp_path / "events.jsonl", Redactor())
    opened.append("warning", message="x", values=[float("nan"), float("inf"), 1.5])
    opened.close()
    assert read_events(tmp_path / "events.jsonl")[0]["values"] == [None, None, 1.5]


def test_secrets_are_not_written(tmp_path: Path) -> None:
    opened = EventLog(tmp_path / "events.jsonl", Redactor(("hunter2hunter2",)))
    opened.append("warning", message="the word is hunter2hunter2", nested={"hunter2hunter2": ["Bearer abcdefghijkl"]})
    opened.close()
    text = (tmp_path / "events.jsonl").read_text()
    assert "hunter2" not in text
    assert "abcdefghijkl" not in text


def test_one_process_works_on_a_run(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_others_see_that_a_run_is_being_worked_on(tmp_path: Path) -> None:
    assert not being_worked_on(tmp_path / "run")
    with locked(tmp_path / "run"):
        assert being_worked_on(tmp_path / "run")
    assert not being_worked_on(tmp_path / "run")


def test_an_empty_log_is_an_empty_state() -> None:
    assert replay_state([]) == RunState()
