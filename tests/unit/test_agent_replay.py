"""Recorded answers and recorded measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.moves import apply
from support.runs import means, plan
from support.synthetic_lab import SEED

from kernelagent.agent.events import RunError, read_events
from kernelagent.agent.laboratory import Recording
from kernelagent.agent.run import complete, start
from kernelagent.proposers.replay import replay_events, replay_file
from kernelagent.proposers.search import SearchProposer

BETTER = apply("set_tunable", SEED, name="BR", value=8)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    with start(plan(trials=8), means(SearchProposer()), tmp_path_factory.mktemp("runs")) as run:
        return run.folder, complete(run)


def test_a_run_is_replayed_without_model_and_clock(recorded: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, record = recorded
    events = read_events(folder)
    tools = means(replay_events(events), Recording(events))
    with start(plan(trials=8), tools, tmp_path) as run:
        again = complete(run)
        texts = [t.text for t in run.state.trials]
    assert texts == [e["trial"]["text"] for e in events if e["kind"] == "trial-finished"]
    for key in ("best", "baselines", "ceiling", "trials", "stop_reason"):
        assert again[key] == record[key]


def test_a_recording_does_not_invent_measurements(recorded: tuple[Path, dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="holds no measurement"):
        Recording(read_events(recorded[0])).evaluate(SEED + "# never measured\n")


def test_the_end_of_the_recording_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(BETTER) + "\n\n" + json.dumps({"text": "nonsense("}) + "\n")
    with start(plan(trials=8), means(replay_file(path)), tmp_path / "runs") as run:
        record = complete(run)
    assert record["stop_reason"] == "proposer-exhausted"
    assert record["trials"] == 2
    assert record["best"]["trial"] == 1


@pytest.mark.parametrize("line", ["{", "3", '{"text": 4}'])
def test_a_wrong_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(json.dumps(BETTER) + "\n" + line + "\n")
    with pytest.raises(RunError, match=r"answers\.jsonl:2"):
        replay_file(path)


def test_a_missing_recording(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot read the recording"):
        replay_file(tmp_path / "none.jsonl")
