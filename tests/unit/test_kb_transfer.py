"""A base learned on one workload shortens the search on another: the built-in search against a formula for time."""

from __future__ import annotations

import hashlib
import math
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from kernelagent.dsl.moves.source import functions, read
from kernelagent.dsl.moves.tunables import declared
from kernelagent.knowledge_base import KnowledgeBase, Trial
from kernelagent.problems import load

from kernelagent.agent.features import features, op_classes
from kernelagent.proposers.base import Context, Proposal, ProposerExhausted
from kernelagent.proposers.search import SearchProposer

TRIALS = 30


def softmax_time(text: str, columns: int) -> float:
    """ms: reads and writes, exponentials, loop overhead, tiles that leave the first-level cache; 2% of noise."""
    size = {d.name: int(d.values[0]) for f in functions(read(text), "kernel") for d in declared(f)}
    whole = "if C <= BC" in text and columns <= size["BC"]
    reads = 1 if whole else text.count("pipeline(")
    used = text.split("else:")[0] if whole else text.split("else:")[-1]
    compute = 0.25 * used.count("exp(") + (0.3 if "/ l[:, None]" in used else 0.05)
    write = 1.2 if '"stream"' in text else 2.0
    overhead = 0.1 * columns / min(size["BC"], columns) / math.sqrt(size["BR"])
    width = min(size["BC"], columns) if not whole else size["BC"]
    spill = 1.0 + 0.4 * max(0.0, math.log2(size["BR"] * width * 4 / 32768))
    noise = int(hashlib.sha256(f"{text}{columns}".encode()).hexdigest(), 16) % 1000 / 1000
    return columns / 1000 * (reads + write + compute + overhead) * spill * (0.98 + 0.04 * noise)


def trial_of(proposal: Proposal, run: str, workload: str, history: list[Trial], time: Callable[[str], float]) -> Trial:
    problem = load("softmax")
    parent = next((t for t in history if t.id == proposal.parent), history[0] if history else None)
    assert proposal.text is not None
    ms = time(proposal.text)
    return Trial(
        id="", run=run, number=len(history), problem="softmax", workload=workload, chip="formula", target="cpu",
        parent=parent.id if parent else None, text=proposal.text,
        text_sha=hashlib.sha256(proposal.text.encode()).hexdigest(), status="PASSED", time_ms=ms,
        parent_time_ms=parent.time_ms if parent else None,
        reward=math.log(parent.time_ms / ms) if parent and parent.time_ms else None,
        technique=proposal.technique, move=proposal.move, move_arguments=dict(proposal.arguments),
        bottleneck="memory", features=features(problem, problem.workload(workload), {}), proposer="search",
    )  # fmt: skip


def search(base: KnowledgeBase, workload: str, run: str, seed: int, related: bool = True) -> list[Trial]:
    """The trials of one search, all recorded in the base; `related`: it is told of the trials of other workloads."""
    problem = load("softmax")
    work = problem.workload(workload)
    here = features(problem, work, {})
    proposer = SearchProposer()
    history = [base.record(trial_of(Proposal(problem.seed_kernel), run, workload, [], timer(work.dims["C"])))]
    while len(history) <= TRIALS:
        context = Context(
            problem=problem, workload=work, target="cpu", chip="formula", seed=seed, number=len(history),
            history=tuple(history), facts={}, bound={}, ceiling={}, bottleneck="memory", regime="between",
            suggestions=base.retrieve(here, "memory", "formula", tags=op_classes(problem), limit=24),
            leads=base.best_known("softmax", here, "formula"),
            relatives=base.relatives(run, "softmax", "formula") if related else (),
        )  # fmt: skip
        try:
            proposal = proposer.propose(context)
        except ProposerExhausted:
            break
        history.append(base.record(trial_of(proposal, run, workload, history, timer(work.dims["C"]))))
    return history


def timer(columns: int) -> Callable[[str], float]:
    return lambda text: softmax_time(text, columns)


def reached(trials: list[Trial], best: float) -> int:
    return next((t.number for t in trials if (t.time_ms or math.inf) <= best / 0.95), len(trials))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], tuple[Path, list[Trial]]]:
    """The search that starts with an empty base, and the base that it leaves: once a workload and seed."""
    done: dict[tuple[str, int], tuple[Path, list[Trial]]] = {}

    def run(workload: str, seed: int) -> tuple[Path, list[Trial]]:
        if (workload, seed) not in done:
            folder = tmp_path_factory.mktemp("first") / "base"
            done[workload, seed] = folder, search(KnowledgeBase(folder), workload, "first", seed)
        return done[workload, seed]

    return run


@pytest.mark.parametrize(("known", "unseen"), [("1024x1024", "4096x4096"), ("4096x4096", "1024x1024")])
def test_a_learned_base_needs_at_most_half_the_trials(
    tmp_path: Path, first: Callable[[str, int], tuple[Path, list[Trial]]], known: str, unseen: str
) -> None:
    ratios = []
    for seed in range(3):
        learned = shutil.copy(first(known, seed)[0], tmp_path / f"learned{seed}")
        without = first(unseen, seed)[1]
        with_base = search(KnowledgeBase(learned), unseen, "second", seed)
        best = min(t.time_ms or math.inf for t in [*with_base, *without])
        ratios.append(max(1, reached(with_base, best)) / max(1, reached(without, best)))
    assert statistics.median(ratios) <= 0.5, ratios


def test_what_was_slow_on_one_workload_is_seldom_tried_on_another(
    tmp_path: Path, first: Callable[[str, int], tuple[Path, list[Trial]]]
) -> None:
    slow = dict.fromkeys((True, False), 0)
    for known, unseen in (("1024x1024", "4096x4096"), ("4096x4096", "1024x1024")):
        for related in slow:
            base = KnowledgeBase(shutil.copy(first(known, 0)[0], tmp_path / f"{known} {related}"))
            times = [t.time_ms or math.inf for t in search(base, unseen, "second", 0, related)][1:12]
            slow[related] += sum(ms > 1.5 * min(times) for ms in times)
    assert slow[True] <= slow[False] / 2, slow
