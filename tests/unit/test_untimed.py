"""Runs without a device: estimates rank, nothing is a time, and nothing that was measured is mixed with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernelagent.harness.records import Evaluation, WorkloadResult
from kernelagent.knowledge_base import KnowledgeBase
from kernelagent.knowledge_base.records import identified
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab, small_problem, valley

from kernelagent.agent.events import read_events
from kernelagent.agent.laboratory import CandidateFailed, Rivals
from kernelagent.agent.outcome import result_record
from kernelagent.agent.run import complete, resume, start
from kernelagent.agent.state import replay_state
from kernelagent.agent.texts import sha
from kernelagent.agent.untimed import chip_for
from kernelagent.errors import CallError
from kernelagent.proposers.search import SearchProposer
from kernelagent.reports.leaderboard import best_entries, collect, to_html, to_json, to_markdown
from kernelagent.views.plain import PlainView


class DevicelessLab(SyntheticLab):
    """Estimates from the same formula that `SyntheticLab` takes its times from."""

    chip = "h100-sxm"
    target = "cuda"
    refuted: frozenset[str] = frozenset()

    def bound(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return {**super().bound()[0], "arch": "sm_90a"}, {}

    def baselines(self) -> Rivals:
        return Rivals(())

    def evaluate(self, text: str) -> Evaluation:
        self.evaluated.append(sha(text))
        estimate = {"time_ms": self.time_of(text), "bound": "dram", "terms": {}, "model": 1}
        result = WorkloadResult("small", "UNTIMED", "proved", None, None, "an estimate, no time", estimate=estimate)
        return Evaluation("double", sha(text), "UNTIMED", (result,), proofs={"PROVED": 2}, verdict="PROVED")

    def confirm(self, text: str) -> Evaluation:
        found = self.evaluate(text)
        return replace(found, status="REFUTED") if found.text_sha in self.refuted else found

    def duel(self, text: str, other: str) -> Any:
        raise CandidateFailed("there is no device")

    compare = duel  # type: ignore[assignment]


def untimed_run(folder: Path, lab: Any = None, base: Any = None, trials: int = 6, **changes: Any) -> Any:
    """A finished run and its record."""
    tools = means(SearchProposer(cost=valley), lab or DevicelessLab(), base)
    with start(plan(trials=trials, untimed=True, **changes), tools, folder) as run:
        return run, complete(run)


def test_estimates_rank_and_nothing_is_a_time(tmp_path: Path) -> None:
    run, record = untimed_run(tmp_path)
    best = record["best"]
    assert record["untimed"] is True
    assert (best["status"], best["time_ms"], best["score"], best["sol_fraction"]) == ("UNTIMED", None, None, None)
    assert best["speedup"] == {}
    assert record["seed_ms"] is None
    assert record["baselines"] == []
    estimates = [run.state.rank_ms(t) for t in run.state.trials]
    assert best["estimate"]["time_ms"] == min(estimates) < estimates[0]
    assert all(t.time_ms is None and t.reward is None and t.parent_time_ms is None for t in run.state.trials)
    assert record["best"]["confirmed"]
    assert (run.folder / "best.tile").read_text() == run.state.best.text


def test_the_model_of_costs_leads_the_search(tmp_path: Path) -> None:
    """Where the estimate is known before a trial, each trial is the best text within reach."""
    run, _ = untimed_run(tmp_path, trials=4)
    estimates = [run.state.rank_ms(t) for t in run.state.trials]
    assert estimates[1] < 0.7 * estimates[0]
    valley_floor = SEED.replace("choices(2,", "choices(8,").replace("choices(64,", "choices(256,")
    assert min(estimates[:4]) == pytest.approx(valley(valley_floor))


def test_nothing_is_learned_about_gains(tmp_path: Path) -> None:
    """Trials are kept, as evidence of neither success nor failure; leads and suggestions stay what they were."""
    base = KnowledgeBase(tmp_path / "base.db")
    features = {"op:elementwise": "yes", "arch": "sm_90a"}
    before = base.retrieve(features, "memory", "h100-sxm", "cuda")
    run, _ = untimed_run(tmp_path / "runs", base=base)
    kept = base.trials()
    assert len(kept) == len(run.state.trials)
    assert {t.status for t in kept} == {"UNTIMED"}
    assert {t.time_ms for t in kept} == {t.reward for t in kept} == {None}
    assert all("no time" in t.detail for t in kept)
    assert base.gains() == []
    assert base.best_known("double", features, "h100-sxm", "cuda") == []
    after = base.retrieve(features, "memory", "h100-sxm", "cuda")
    assert [(s.technique.name, s.expected_log_gain) for s in after] == [
        (s.technique.name, s.expected_log_gain) for s in before
    ]
    assert base.stats()["failures"] == {}
    assert base.stats()["untimed"] == len(kept)


def test_failures_without_a_device_are_no_evidence_either(tmp_path: Path) -> None:
    """Successes have no gain there: counting failures alone would make every action look bad."""
    base = KnowledgeBase(tmp_path / "base.db")
    run, _ = untimed_run(tmp_path / "runs", base=base)
    moved = next(t for t in run.state.trials if t.move)
    failed = base.record(identified(replace(moved, run="other", status="COMPILE_ERROR")))
    assert base.gains() == []
    timed = replace(failed, run="timed", parent_time_ms=2.0)
    base.record(identified(timed))
    assert {(g.trials, g.failures) for g in base.gains()} == {(1, 1)}


def test_an_untimed_trial_takes_no_lead_away(tmp_path: Path) -> None:
    """A text that was timed elsewhere stays a lead when the same text is ranked without a device."""
    base = KnowledgeBase(tmp_path / "base.db")
    run, _ = untimed_run(tmp_path / "runs", base=base)
    seed, other = run.state.trials[0], run.state.trials[1]
    timed_seed = base.record(identified(replace(seed, run="timed", status="PASSED", time_ms=2.0)))
    base.record(identified(replace(other, run="timed", status="PASSED", time_ms=1.0, parent=timed_seed.id,
                                   parent_time_ms=2.0, reward=0.69)))  # fmt: skip
    (lead,) = base.best_known("double", other.features, "h100-sxm", "cuda")
    assert lead.text == other.text


def test_the_best_that_full_checks_refute_does_not_win(tmp_path: Path) -> None:
    _, first = untimed_run(tmp_path / "a")

    class Doubting(DevicelessLab):
        refuted = frozenset({first["best"]["sha"]})

    _, second = untimed_run(tmp_path / "b", Doubting())
    assert second["best"]["sha"] != first["best"]["sha"]
    assert second["best"]["estimate"]["time_ms"] >= first["best"]["estimate"]["time_ms"]


def test_a_resumed_run_stays_untimed(tmp_path: Path) -> None:
    run, _ = untimed_run(tmp_path, trials=2)
    tools = means(SearchProposer(cost=valley), DevicelessLab())
    with resume(run.folder, plan(trials=4, untimed=True), tools) as again:
        record = complete(again)
    assert record["untimed"]
    assert record["trials"] == 4
    assert sum(e["kind"] == "bound" for e in read_events(run.folder)) == 1
    state = replay_state(read_events(run.folder))
    assert [t.id for t in state.ranked] == [t.id for t in state.trials]


def test_the_leaderboard_keeps_them_apart(tmp_path: Path) -> None:
    """The same problem, workload and chip, once timed and once not."""
    untimed_run(tmp_path)

    class Timed(SyntheticLab):
        chip = "h100-sxm"
        target = "cuda"

    with start(plan(trials=2), means(SearchProposer(), Timed()), tmp_path) as run:
        complete(run)
    entries = collect(tmp_path)
    best = best_entries(entries)
    assert [e.untimed for e in best] == [False, True]
    assert best[1].time_ms is None
    assert best[1].estimate_ms is not None
    assert best[1].advice == "time it on the chip"
    table, below = to_markdown(entries).split("UNTIMED: ")
    assert table.count("| double |") == 1
    assert below.count("| double |") == 1
    assert "no device" in below
    assert ">UNTIMED<" in to_html(entries)
    assert {(e["untimed"], e["time_ms"] is None) for e in to_json(entries)["entries"]} == {(True, True), (False, False)}


def test_a_timed_run_says_nothing_of_estimates(tmp_path: Path) -> None:
    with start(plan(trials=2), means(SearchProposer()), tmp_path) as run:
        record = complete(run)
    assert record["untimed"] is False
    assert record["best"]["estimate"] is None
    assert "UNTIMED" not in to_markdown(collect(tmp_path))


def test_every_line_about_an_estimate_is_marked(tmp_path: Path) -> None:
    import io

    shown = io.StringIO()
    run, _ = untimed_run(tmp_path)
    view = PlainView(shown)
    for event in read_events(run.folder):
        view(event)
    lines = shown.getvalue().splitlines()
    assert "UNTIMED" in lines[0]
    trials = [line for line in lines if line.startswith("trial")]
    assert len(trials) == 7
    assert all("UNTIMED" in line and "est. " in line for line in trials)
    assert result_record(read_events(run.folder)) is not None


def test_what_a_proposer_is_told_is_marked_too(tmp_path: Path) -> None:
    from kernelagent.proposers.prompting import proposal_prompt

    run, _ = untimed_run(tmp_path)
    context = run.desk.context()
    assert not context.timed
    assert context.arch == "sm_90a"
    prompt = proposal_prompt(context)
    assert "estimates of a static model" in prompt
    assert small_problem().name in prompt


def test_a_chip_is_named_or_follows_from_the_architecture() -> None:
    assert chip_for(None, None).name == "h100-sxm"
    assert chip_for(None, "sm_80").name == "a100-sxm-80gb"
    assert chip_for("h200", "sm_90a").name == "h200-sxm"
    with pytest.raises(CallError, match="not of sm_80"):
        chip_for("h100", "sm_80")
    with pytest.raises(CallError, match="no target for b200"):
        chip_for("b200", None)
    with pytest.raises(CallError, match="is no GPU"):
        chip_for("this", None)
    with pytest.raises(CallError, match="no chip has the architecture 'sm_12'"):
        chip_for(None, "sm_12")
