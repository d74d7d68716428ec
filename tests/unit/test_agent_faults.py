"""Texts that break after they had passed, and what a run makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.moves import apply
from kernelagent.harness.records import Evaluation, Timing
from kernelagent.knowledge_base import KnowledgeBase
from kernelagent.knowledge_base.errors import BaseCorrupt
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab

from kernelagent.agent.events import read_events
from kernelagent.agent.laboratory import CandidateFailed, Recording
from kernelagent.agent.run import complete, start
from kernelagent.proposers.base import Proposal
from kernelagent.proposers.replay import ReplayProposer, replay_events

GOOD = apply("set_tunable", SEED, name="BR", value=4)
FRAGILE = apply("set_tunable", SEED, name="BR", value=8)


def proposer() -> ReplayProposer:
    return ReplayProposer([[Proposal(GOOD)], [Proposal(FRAGILE)]])


class BreaksInDuels(SyntheticLab):
    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        if FRAGILE in (text, other):
            raise CandidateFailed("TIMEOUT: no answer")
        return super().duel(text, other)


class BreaksAtTheEnd(SyntheticLab):
    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        if FRAGILE in texts:
            raise CandidateFailed("SIGSEGV")
        return super().compare(texts, rivals)


class WrongAtTheEnd(SyntheticLab):
    def confirm(self, text: str) -> Evaluation:
        found = super().confirm(text)
        return Evaluation("double", found.text_sha, "INCORRECT_NUMERICAL", ()) if text == FRAGILE else found


def test_a_crash_in_a_duel_is_a_failed_trial(tmp_path: Path) -> None:
    with start(plan(trials=2), means(proposer(), BreaksInDuels()), tmp_path) as run:
        record = complete(run)
        last = run.state.trials[2]
    assert (last.status, last.time_ms) == ("RUNTIME_ERROR", None)
    assert "no answer" in last.detail
    assert record["best"]["trial"] == 1


def test_such_a_run_can_be_replayed(tmp_path: Path) -> None:
    with start(plan(trials=2), means(proposer(), BreaksInDuels()), tmp_path) as run:
        record = complete(run)
    events = read_events(run.folder)
    with start(plan(trials=2), means(replay_events(events), Recording(events)), tmp_path / "again") as run:
        assert complete(run)["best"] == record["best"]


def test_a_crash_in_the_final_comparison_never_makes_a_winner(tmp_path: Path) -> None:
    with start(plan(trials=2), means(proposer(), BreaksAtTheEnd()), tmp_path) as run:
        record = complete(run)
    assert record["best"]["trial"] == 0, "the fastest breaks, so the seed alone was timed at last"
    assert [e["kind"] for e in read_events(run.folder)].count("warning") == 2


def test_a_kernel_that_is_wrong_on_other_inputs_does_not_win(tmp_path: Path) -> None:
    with start(plan(trials=2), means(proposer(), WrongAtTheEnd()), tmp_path) as run:
        record = complete(run)
    assert record["best"]["trial"] == 1
    assert record["best"]["confirmed"]


def test_a_base_that_cannot_be_used_is_named_before_the_run_begins(tmp_path: Path) -> None:
    (tmp_path / "kb.db").write_bytes(b"not a database at all, but long enough to look at")
    with pytest.raises(BaseCorrupt):
        start(plan(), means(proposer(), base=KnowledgeBase(tmp_path / "kb.db")), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_base_that_breaks_later_costs_a_warning(tmp_path: Path) -> None:
    base = KnowledgeBase(tmp_path / "kb.db")

    class Breaking(SyntheticLab):
        def evaluate(self, text: str) -> Any:
            (tmp_path / "kb.db").write_bytes(b"broken in the middle of the run, by whatever it was")
            return super().evaluate(text)

    tools = means(ReplayProposer([[Proposal(GOOD)]]), Breaking(), base)
    with start(plan(trials=1), tools, tmp_path / "runs") as run:
        record = complete(run)
    assert record["trials"] == 1
    warnings = [e for e in read_events(run.folder) if e["kind"] == "warning"]
    assert warnings
    assert "kb.db" in warnings[0]["message"]
