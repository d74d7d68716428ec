"""Does a base learned on one workload shorten the search on another, unseen workload of the same problem?

    python benchmarks/transfer.py [--trials 30] [--problems softmax,rmsnorm] [--seeds 1] [--fresh]

For each problem: `empty` searches the unseen workload with an empty base, `learned` searches it with a base that only
knows a search of the other workload. The kernels that each search took for its best so far are then timed side by side
in one process, because times of different minutes do not compare. The count is the number of the first trial whose
kernel reaches 95% of the speed of the fastest of all (the seed is trial 0). Prints a table and ratios; writes
`results/transfer.json`, where problems and seeds that are not measured now keep their rows (`--fresh` drops them).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kernelagent.knowledge_base import KnowledgeBase, Trial
from kernelagent.problems import load
from measure import RESULTS, save

from kernelagent.agent.budget import Budget
from kernelagent.agent.duels import lower_quartile
from kernelagent.agent.workbench import Workbench
from kernelagent.api import optimize
from kernelagent.proposers.emitted import emitted_code
from kernelagent.settings import Settings, load_settings

REACHED = 0.95
ROUNDS = 16
"""Comparisons of the kernels in question, one after the other: a busy moment of the machine passes."""


@dataclass(frozen=True)
class Row:
    """One problem and seed. `empty` and `learned` count trials to 95% of the best; times in ms."""

    problem: str
    learned_on: str
    unseen: str
    seed: int
    empty: int
    learned: int
    seed_ms: float
    best_ms: float
    best_by: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--problems", default="softmax,rmsnorm,layernorm,transpose,gemm_nt")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="keep no rows of earlier runs")
    options = parser.parse_args()
    rows = {} if options.fresh else kept(options.trials)
    for problem in options.problems.split(","):
        for seed in range(options.seeds):
            rows[problem, seed] = measured(problem, seed, options.trials)
            print(line(rows[problem, seed]), flush=True)
    found = list(rows.values())
    record = {"trials": options.trials, "reached": REACHED, "rows": [asdict(r) for r in found], **summary(found)}
    print(f"problems: {', '.join(sorted({r.problem for r in found}))}")
    print(f"median ratio learned / empty: {record['median_ratio']:.2f} (promised: at most 0.50)")
    print(f"written to {save('transfer', record)}")


def kept(trials: int) -> dict[tuple[str, int], Row]:
    """Rows of earlier runs with as many trials, by problem and seed."""
    path = RESULTS / "transfer.json"
    record = json.loads(path.read_text()) if path.is_file() else {}
    rows = [Row(**row) for row in record.get("rows", ())] if record.get("trials") == trials else []
    return {(row.problem, row.seed): row for row in rows}


def measured(name: str, seed: int, trials: int) -> Row:
    """The three searches and the final comparison for one problem."""
    known, unseen = workloads(name)
    with tempfile.TemporaryDirectory() as folder:
        learned_home, empty_home = Path(folder) / "learned", Path(folder) / "empty"
        search(name, known, settings(learned_home, seed), trials)
        with_base = search(name, unseen, settings(learned_home, seed), trials)
        without = search(name, unseen, settings(empty_home, seed), trials)
    times = side_by_side(name, unseen, [*records(without), *records(with_base)])
    best_sha = min(times, key=lambda sha: times[sha])
    return Row(
        name, known, unseen, seed,
        empty=reached(without, times), learned=reached(with_base, times),
        seed_ms=times[without[0].text_sha], best_ms=times[best_sha],
        best_by="learned" if best_sha in {t.text_sha for t in with_base} else "empty",
    )  # fmt: skip


def workloads(name: str) -> tuple[str, str]:
    """The workload to learn on, and the unseen one: the problem's second, and its headline."""
    problem = load(name)
    others = [w.name for w in problem.workloads if w.name != problem.headline.name]
    return others[0], problem.headline.name


def settings(home: Path, seed: int) -> Settings:
    """No early stop: every search has all its trials."""
    return load_settings({"home": home, "seed": seed, "stop_within": 0.0, "patience": 10_000}, environment={})


def search(name: str, workload: str, chosen: Settings, trials: int) -> list[Trial]:
    """The trials of one search, the seed first."""
    budget = Budget(trials=trials)
    result = optimize(name, "cpu", budget, "search", workload=workload, settings=chosen, rivals=())
    return KnowledgeBase(chosen.knowledge_base).trials(run=result.run)


def records(trials: Sequence[Trial]) -> list[Trial]:
    """The seed and every trial that was faster than all before it."""
    best, found = math.inf, []
    for trial in trials:
        if trial.time_ms is not None and trial.time_ms < best:
            best = trial.time_ms
            found.append(trial)
    return found


def side_by_side(name: str, workload: str, trials: Sequence[Trial]) -> dict[str, float]:
    """Time by text digest: lower quartiles, interleaved in one process. Texts that become the same code share one."""
    problem = load(name)
    work = problem.workload(workload)
    code = emitted_code(problem, work)
    codes = {t.text_sha: code(t.text) or t.text_sha for t in trials}
    texts = {codes[t.text_sha]: t.text for t in trials}
    samples: dict[str, list[float]] = {key: [] for key in texts}
    bench = Workbench(problem, work, "cpu", rivals=())
    try:
        for _ in range(ROUNDS):
            for key, timing in zip(texts, bench.compare(list(texts.values()), ()), strict=True):
                samples[key] += timing.samples_ms
    finally:
        bench.close()
    return {sha: lower_quartile(samples[key]) for sha, key in codes.items()}


def reached(trials: Sequence[Trial], times: dict[str, float]) -> int:
    """Number of the first trial at 95% of the best; one more than all trials if none is."""
    wanted = min(times.values()) / REACHED
    numbers = (t.number for t in trials if times.get(t.text_sha, math.inf) <= wanted)
    return next(numbers, len(trials))


def summary(rows: Sequence[Row]) -> dict[str, float]:
    """A search that began at 95% says nothing about transfer, so it counts as one trial on both sides."""
    ratios = [max(1, r.learned) / max(1, r.empty) for r in rows]
    return {
        "median_ratio": statistics.median(ratios),
        "geometric_mean_ratio": math.exp(statistics.fmean(map(math.log, ratios))),
    }


def line(row: Row) -> str:
    speed = row.seed_ms / row.best_ms
    return (
        f"{row.problem:20} {row.learned_on:>12} -> {row.unseen:12} empty {row.empty:3}  learned {row.learned:3}  "
        f"seed {row.seed_ms:8.3f} ms  best {row.best_ms:8.3f} ms (x{speed:.2f}, {row.best_by})"
    )


if __name__ == "__main__":
    main()
