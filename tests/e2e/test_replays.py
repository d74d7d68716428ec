"""Recorded answers of a model, replayed: each file ends with a text that is accepted and passes."""

import json
from pathlib import Path
from typing import Any

import pytest

import kernelagent

REPLAYS = Path(__file__).parent.parent / "fixtures" / "replays"
FILES = sorted(REPLAYS.glob("*.jsonl"))
AGAIN = sorted((REPLAYS / "again").glob("*.jsonl"))
QUICK = ("layernorm", "rope", "gemm_nt", "swiglu")


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_replays_are_there() -> None:
    assert len(FILES) == 14
    assert len(AGAIN) == 5
    assert set(QUICK) <= {path.stem for path in FILES}


@pytest.mark.parametrize("name", QUICK)
def test_a_replayed_run_passes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))
    path = REPLAYS / f"{name}.jsonl"
    written = texts(path)
    events: list[dict[str, Any]] = []
    result = kernelagent.optimize(
        name,
        proposer="replay",
        replay=path,
        workload="small",
        budget=kernelagent.Budget(trials=len(written)),
        rivals=("numpy",),
        remember=False,
        observer=events.append,
    )
    finished = {event["number"]: event["status"] for event in events if event["kind"] == "trial-finished"}
    assert sorted(finished) == list(range(len(written) + 1))  # trial 0 is the seed
    assert finished[len(written)] == "PASSED", [event for event in events if event["kind"] == "evaluation"]
    assert all(finished[number] != "PASSED" for number in range(1, len(written)))  # each repair had a cause
    assert result.best is not None
    assert result.best["status"] == "PASSED"


@pytest.mark.parametrize("path", [*FILES, *AGAIN], ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_last_text_is_accepted(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_HOME", str(tmp_path))
    report = kernelagent.check(texts(path)[-1], path.stem, quick=True)
    assert report.ok, report
