"""What a verdict lets win: proved kernels always, others on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.moves import apply
from kernelagent.harness.records import Evaluation
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab

from kernelagent.agent.run import complete, start
from kernelagent.cli.optimize import closing_lines
from kernelagent.proposers.base import Proposal
from kernelagent.proposers.replay import ReplayProposer

FASTER = apply("set_tunable", SEED, name="BR", value=4)
FASTEST = apply("set_tunable", SEED, name="BR", value=8)


class Judged(SyntheticLab):
    """`verdicts` by text; the others are proved."""

    def __init__(self, verdicts: dict[str, str], covered: bool = False) -> None:
        super().__init__()
        self.verdicts, self.covered = verdicts, covered

    def evaluate(self, text: str) -> Evaluation:
        return replace(super().evaluate(text), verdict=self.verdicts.get(text, "PROVED"), covered=self.covered)


def outcome(folder: Path, laboratory: SyntheticLab, unproved: bool = False) -> dict[str, Any]:
    proposer = ReplayProposer([[Proposal(FASTER)], [Proposal(FASTEST)]])
    wanted = replace(plan(trials=2), settings={"unproved": unproved})
    with start(wanted, means(proposer, laboratory), folder) as run:
        record = complete(run)
    assert (folder / record["run"] / "best.tile").exists() == (record["best"] is not None)
    return record


@pytest.mark.parametrize("verdict", ["TESTED", "UNKNOWN", "PROVED_BOUNDED"])
def test_the_fastest_wins_only_if_it_is_proved(tmp_path: Path, verdict: str) -> None:
    assert outcome(tmp_path, Judged({FASTEST: verdict}))["best"]["trial"] == 1
    asked = outcome(tmp_path, Judged({FASTEST: verdict}), unproved=True)
    assert (asked["best"]["trial"], asked["best"]["verdict"]) == (2, verdict)


def test_what_is_proved_for_the_workloads_sizes_wins(tmp_path: Path) -> None:
    assert outcome(tmp_path, Judged({FASTEST: "PROVED_BOUNDED"}, covered=True))["best"]["trial"] == 2


def test_nothing_wins_where_nothing_is_proved(tmp_path: Path) -> None:
    record = outcome(tmp_path, Judged(dict.fromkeys((SEED, FASTER, FASTEST), "TESTED")))
    assert record["best"] is None
    assert (record["withheld"]["trial"], record["withheld"]["verdict"]) == (2, "TESTED")
    assert "--unproved" in "\n".join(closing_lines(record))
