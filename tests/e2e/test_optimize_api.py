"""The Python API on real kernels: small sizes, few trials, everything real."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.problems.catalogue import UnknownProblem

import kernelagent
from kernelagent.agent.events import read_events
from kernelagent.agent.state import replay_state
from kernelagent.errors import CallError, EnvironmentLack

PROMISED = {
    "run", "problem", "workload", "target", "sol", "ceiling", "baselines", "best", "trials", "tokens", "cost_usd",
    "seconds", "stop_reason",
}  # fmt: skip
BEST = {
    "sha", "text_path", "status", "time_ms", "speedup", "sol_fraction", "score", "suspect", "proofs",
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def result(home: Path) -> kernelagent.Result:
    seen: list[dict[str, Any]] = []
    found = kernelagent.optimize(
        "softmax", budget=kernelagent.Budget(trials=3), workload="ragged", proposer="search", home=home,
        observer=seen.append, rivals=("numpy",),
    )  # fmt: skip
    assert seen == read_events(found.folder)
    return found


def test_the_promised_keys(result: kernelagent.Result) -> None:
    record = result.to_dict()
    assert record.keys() >= PROMISED
    assert record["best"].keys() >= BEST
    assert record["best"].pop("text_path") == str(result.folder / "best.tile")
    written = json.loads((result.folder / "result.json").read_text())
    assert written["best"].pop("text_path") == "best.tile", "a run folder can be moved"
    assert written == record
    assert record["trials"] == 3
    assert record["stop_reason"] == "budget-trials"
    assert [b["name"] for b in record["baselines"]] == ["numpy"]
    assert record["ceiling"]["time_ms"] > 0


def test_the_winner_is_not_slower_than_the_seed(result: kernelagent.Result) -> None:
    assert result.speedup["seed"] >= 1.0
    assert result.best is not None
    assert result.best["status"] == "PASSED"


def test_the_winner_can_be_called(result: kernelagent.Result) -> None:
    x = np.random.default_rng(0).standard_normal((37, 501), dtype=np.float32)
    expected = np.exp(x - x.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(result.kernel(x), expected, rtol=1e-5, atol=1e-7)
    out = np.empty_like(x)
    assert result.kernel(x, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-7)


def test_a_wrong_call_of_the_winner(result: kernelagent.Result) -> None:
    x = np.zeros((4, 4), np.float32)
    with pytest.raises(CallError, match="takes 1 arrays"):
        result.kernel(x, x)
    with pytest.raises(CallError, match="has 1 axes"):
        result.kernel(x[0])
    with pytest.raises(kernelagent.dsl.KernelError):
        result.kernel(x, out=np.zeros((3, 4), np.float32))


def test_the_base_has_every_trial(result: kernelagent.Result, home: Path) -> None:
    from kernelagent.knowledge_base import KnowledgeBase

    state = replay_state(read_events(result.folder))
    assert {t.id for t in KnowledgeBase(home / "knowledge.db").trials(run=result.run)} == {t.id for t in state.trials}


def test_a_finished_run_is_resumed_to_the_same_result(result: kernelagent.Result, home: Path) -> None:
    assert kernelagent.resume(result.run, home=home).to_dict() == result.to_dict()
    assert kernelagent.resume("last", home=home).run == result.run


def test_a_run_is_replayed_from_its_events(result: kernelagent.Result, home: Path, tmp_path: Path) -> None:
    again = kernelagent.optimize(
        "softmax", workload="ragged", budget=kernelagent.Budget(trials=3), proposer="replay", replay=result.folder,
        measure=False, home=tmp_path,
    )  # fmt: skip
    assert again.text == result.text
    assert again.time_ms == result.time_ms
    assert not (tmp_path / "knowledge.db").exists()
    more = kernelagent.resume(again.run, budget=kernelagent.Budget(trials=9), home=tmp_path)
    assert more.stop_reason == "proposer-exhausted", "the recording is found again, and at its end"


def test_several_problems_share_a_budget(tmp_path: Path) -> None:
    found = kernelagent.optimize(
        ["row_sum", "transpose"], workload="small", budget=kernelagent.Budget(trials=3), home=tmp_path, rivals=(),
    )  # fmt: skip
    assert [r.record["problem"] for r in found] == ["row_sum", "transpose"]
    assert sum(r.record["trials"] for r in found) <= 3
    assert all(r.best is not None for r in found)


def test_a_problem_in_memory(tmp_path: Path) -> None:
    seed = """\
edition(1)

@kernel
def triple(x: In[f32, N], y: Out[f32, N], BN=choices(64, 256)):
    for i in tiles((N,), (BN,)):
        store(y, (i,), load(x, (i,), (BN,)) * 3.0)
"""
    problem = kernelagent.Problem(
        name="triple",
        inputs=(kernelagent.Tensor("x", "f32", ("N",)),),
        outputs=(kernelagent.Tensor("y", "f32", ("N",)),),
        workloads=(kernelagent.Workload("only", {"N": 1000}),),
        reference=lambda xp, x: x * 3,
        seed_kernel=seed,
    )
    result = kernelagent.optimize(problem, budget=kernelagent.Budget(trials=1), home=tmp_path, rivals=())
    np.testing.assert_array_equal(result.kernel(np.ones(5, np.float32)), np.full(5, 3, np.float32))
    with pytest.raises(CallError, match="built in memory"):
        kernelagent.resume(result.run, budget=kernelagent.Budget(trials=2), home=tmp_path)
    more = kernelagent.resume(
        result.run, problem=problem, budget=kernelagent.Budget(trials=2), home=tmp_path, rivals=()
    )
    assert more.record["trials"] == 2


def test_a_wrong_seed_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    from dataclasses import replace

    from kernelagent.errors import UserError

    wrong = replace(kernelagent.problems.load("row_sum"), seed_kernel="edition(1)\n\n@kernel\ndef f(:\n")
    with pytest.raises(UserError, match="the seed kernel ended as REJECTED"):
        kernelagent.optimize(wrong, workload="small", home=tmp_path, rivals=())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"problem": "softmaxx"}, UnknownProblem, "softmax"),
        ({"problem": "softmax", "workload": "raged"}, CallError, "no workload 'raged'"),
        ({"problem": "softmax", "proposer": "serch"}, CallError, "unknown proposer"),
        ({"problem": "softmax", "proposer": "llm"}, CallError, "needs a model"),
        ({"problem": "softmax", "proposer": "llm", "model": "m"}, EnvironmentLack, "no key"),
        ({"problem": "softmax", "proposer": "replay"}, CallError, "needs a recording"),
        ({"problem": "softmax", "replay": "nowhere.jsonl"}, CallError, "no recording"),
        ({"problem": "softmax", "target": "tpu"}, CallError, "unknown target"),
        ({"problem": "softmax", "trails": 3}, CallError, "unknown setting 'trails'"),
    ],
)
def test_wrong_calls(
    arguments: dict[str, Any], error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "KERNELAGENT_API_KEY", "KERNELAGENT_MODEL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(error, match=words):
        kernelagent.optimize(**arguments, home=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_check_and_bench() -> None:
    seed = kernelagent.problems.load("row_sum").seed_kernel
    assert kernelagent.check(seed).ok
    assert kernelagent.check("edition(1)").diagnostics
    evaluation = kernelagent.bench(seed, "row_sum", workloads=("small",))
    assert evaluation.status == "PASSED"


def test_importing_loads_nothing_heavy() -> None:
    heavy = ("openai", "langgraph", "z3", "cupy", "torch", "numpy", "jinja2", "sqlite_utils")
    program = (
        "import sys, kernelagent; kernelagent.Problem; kernelagent.Budget; kernelagent.optimize\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
