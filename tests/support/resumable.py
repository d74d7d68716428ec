"""A run in a process of its own, to be killed: `python -m support.resumable HOME` starts it, or goes on with it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from kernelagent.dsl.moves import apply
from kernelagent.harness.records import Evaluation
from kernelagent.knowledge_base import KnowledgeBase
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab

from kernelagent.agent.run import Run, complete, resume, run_folder, start
from kernelagent.proposers.base import Proposal
from kernelagent.proposers.replay import ReplayProposer

TRIALS = 10


class SlowLab(SyntheticLab):
    """Slow enough to be interrupted in the middle of an evaluation."""

    def evaluate(self, text: str) -> Evaluation:
        time.sleep(0.03)
        return super().evaluate(text)


def texts() -> list[str]:
    sizes = [(r, c) for r in (4, 8, 16, 32) for c in (128, 256, 512)][:TRIALS]
    return [apply("set_tunable", apply("set_tunable", SEED, name="BR", value=r), name="BC", value=c) for r, c in sizes]


def main() -> None:
    home = Path(sys.argv[1])
    proposer = ReplayProposer([[Proposal(t)] for t in texts()])
    tools = means(proposer, SlowLab(), KnowledgeBase(home / "kb.db"))
    known = list((home / "runs").glob("*/events.jsonl"))
    opened: Run = (
        resume(run_folder(home / "runs", "last"), plan(trials=TRIALS), tools)
        if known
        else start(plan(trials=TRIALS), tools, home / "runs")
    )
    with opened as run:
        complete(run)


if __name__ == "__main__":
    main()
