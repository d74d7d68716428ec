"""Trials of other runs as a search sees them: relative to their seeds, fitted to other sizes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl import moves
from kernelagent.dsl.moves.refit import trimmed
from kernelagent.knowledge_base import KnowledgeBase, Trial, identified
from kernelagent.problems import load

from kernelagent.agent.features import features
from kernelagent.proposers.actions import sizes
from kernelagent.proposers.past import FAILURE_LOG_TIME, Past, fitted, runs
from kernelagent.proposers.surrogate import TRANSFER, Point, Surrogate

PROBLEM = load("softmax")
SEED, KNOWN, HERE = PROBLEM.seed_kernel, PROBLEM.workload("1024x1024"), PROBLEM.headline
ROW = moves.apply("whole_row", SEED, size=1024)


def trial(run: str, number: int, time_ms: float | None, text: str = SEED, **changes: Any) -> Trial:
    values: dict[str, Any] = {
        "id": "", "run": run, "number": number, "problem": "softmax", "workload": KNOWN.name, "chip": "this",
        "target": "cpu", "parent": None, "text": text, "text_sha": f"sha {text}",
        "status": "PASSED" if time_ms else "RUNTIME_ERROR", "time_ms": time_ms, "parent_time_ms": None, "reward": None,
        "technique": None, "move": None, "move_arguments": {}, "bottleneck": "memory",
        "features": features(PROBLEM, KNOWN, {}), "proposer": "search",
    }  # fmt: skip
    return identified(Trial(**{**values, **changes}))


def test_times_count_relative_to_the_seed_and_failures_to_their_parent() -> None:
    seed = trial("a", 0, 8.0)
    row = trial("a", 1, 2.0, ROW, parent=seed.id, move="whole_row", move_arguments={"size": 1024}, technique="rows")
    broken = trial("a", 2, None, "broken", parent=row.id, move="divide_once")
    past = Past([seed, row, broken], lambda technique: 0.3 if technique else 0.0)
    assert [past.value(t) for t in past.trials] == [0.0, math.log(0.25), math.log(0.25) + FAILURE_LOG_TIME]
    assert past.moves_of(broken) == {'whole_row{"size": 1024}': 0.3, "divide_once{}": 0.0}


def test_runs_come_apart_and_one_without_its_seed_is_left_out() -> None:
    log = [trial("b", 1, 3.0, ROW), trial("a", 0, 1.0), trial("b", 0, 4.0), trial("cut", 5, 1.0)]
    found = runs(log, lambda technique: 0.0)
    assert [[(t.run, t.number) for t in past.trials] for past in found] == [[("a", 0)], [("b", 0), ("b", 1)]]


def test_a_row_tile_is_fitted_no_wider_than_the_row() -> None:
    loose = moves.apply("set_tunable", ROW, name="BC", value=4096)
    new = fitted(loose, features(PROBLEM, KNOWN, {}), HERE.dims)
    assert sizes(new) == {"softmax.BR": 8, "softmax.BC": 4096}
    assert sizes(trimmed(loose, {"C": 600})) == {"softmax.BR": 32, "softmax.BC": 1024}
    assert trimmed(loose, HERE.dims) == loose
    assert fitted("def (", {}, HERE.dims) == "def ("


def test_the_base_names_the_relatives_of_a_run(tmp_path: Path) -> None:
    base = KnowledgeBase(tmp_path / "base")
    foreign = [trial("gemm", 0, 1.0, problem="gemm"), trial("gpu", 0, 1.0, target="cuda"), trial("d", 0, 1.0, chip="x")]
    base.record_all([trial("mine", 0, 1.0), trial("old", 0, 1.0), trial("old", 1, 0.5, ROW), *foreign])
    assert [(t.run, t.number) for t in base.relatives("mine", "softmax", "this")] == [("old", 0), ("old", 1)]
    assert [t.number for t in base.relatives("mine", "softmax", "this", limit=1)] == [1]


def test_what_was_seen_elsewhere_moves_the_prediction_by_less_than_what_was_seen_here() -> None:
    seed, slow = Point({}, {"BC": 5.0}), Point({}, {"BC": 9.0})
    means = {}
    for elsewhere in (False, True):
        seen = Point(slow.moves, slow.sizes, elsewhere=elsewhere)
        (mean,), (deviation,) = Surrogate([seed, seen], [0.0, 0.6]).predict([slow])
        means[elsewhere] = (float(mean), float(deviation))
    assert 0.3 < means[True][0] < means[False][0]
    assert means[True][1] > means[False][1]
    assert means[True][0] == pytest.approx(TRANSFER * means[False][0], rel=0.15)
