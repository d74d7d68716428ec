"""Every problem: the best kernel of a search against its seed, numpy, torch eager and torch compiled, in one process.

    python benchmarks/suite.py [--trials 30] [PROBLEM ...]   # writes suite-cpu.json and .md to benchmarks/results

For each problem a search with an empty knowledge base finds a kernel for the headline workload (in sandboxed workers,
as any run does); then seed, winner and rivals are timed in turns in this process, outputs preallocated, caches cold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.targets import cpu
from kernelagent.harness.subjects import Binding
from kernelagent.harness.torch_subjects import compiled, eager
from kernelagent.problems.problem import Problem, Workload
from measure import RESULTS, Subject, aligned, emptied_caches, interleave, save, threads

import kernelagent
from kernelagent import dsl, problems

MINUTES = 1.0  # of each search; the budget that ends first counts


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("problems", nargs="*")
    arguments.add_argument("--trials", type=int, default=30)
    arguments.add_argument("--again", action="store_true", help="time the kernels of the last result once more")
    chosen = arguments.parse_args()
    torch.set_num_threads(threads())
    rows = timed_again() if chosen.again else searched(chosen.problems or problems.names(), chosen.trials)
    gain = math.exp(sum(math.log(r["times_ms"]["seed"] / r["times_ms"]["best"]) for r in rows) / len(rows))
    print(f"\n{table(rows)}\nseed / best, geometric mean: {gain:.2f}")
    if not chosen.problems:
        save("suite-cpu", {"trials": chosen.trials, "geometric_mean_gain": gain, "rows": rows})
        (RESULTS / "suite-cpu.md").write_text(table(rows) + f"\nseed / best, geometric mean: {gain:.2f}\n")


def searched(names: Sequence[str], trials: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as home:
        os.environ["KERNELAGENT_HOME"] = home
        return [row(problems.load(name), trials) for name in names]


def timed_again() -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / "suite-cpu.json").read_text(encoding="utf-8"))["rows"]
    for record in rows:
        problem = problems.load(record["problem"])
        record["times_ms"] = measure(problem, problem.workload(record["workload"]), record["kernel"])
        record["advice"] = advice(record["times_ms"])
        print(line(record), flush=True)
    return rows


def row(problem: Problem, trials: int) -> dict[str, Any]:
    start = time.perf_counter()
    result = kernelagent.optimize(problem.name, budget=kernelagent.Budget(trials, minutes=MINUTES), rivals=("numpy",))
    seconds = time.perf_counter() - start
    times = measure(problem, problem.workloads[0], result.text)
    best = result.record["best"]
    record = {
        "problem": problem.name,
        "workload": problem.workloads[0].name,
        "times_ms": times,
        "ceiling_ms": (result.record["ceiling"] or {}).get("time_ms"),
        "trials": result.record["trials"],
        "seconds": round(seconds, 1),
        "stop_reason": result.record["stop_reason"],
        "verdict": best["verdict"],
        "advice": advice(times),
        "kernel": result.text,
    }
    print(line(record), flush=True)
    return record


def measure(problem: Problem, workload: Workload, best: str) -> dict[str, float]:
    """Median ms of each subject, all on the same arrays: the pages that an array happens to get (huge ones or small)
    make up to a third of a difference, to a transposition."""
    inputs = {name: aligned(a) for name, a in problems.make_inputs(problem, workload, seed=1).items()}
    outputs = {name: aligned(a) for name, a in problems.make_outputs(problem, workload, 0.0).items()}
    binding = Binding(inputs, outputs, problems.scalars(problem, workload), threads())
    torch._dynamo.reset()  # else a limit on recompilations would quietly turn later problems into eager ones
    subjects: dict[str, Subject] = {
        "seed": kernel(problem.seed_kernel, binding),
        "best": kernel(best, binding),
        "numpy": numpy_form(problem, binding),
        "torch_eager": eager(problem)(binding),
        "torch_compile": compiled(problem)(binding),
    }
    return interleave(subjects, rounds=11, warmups=2, between=emptied_caches(), pause_s=0.15)


def kernel(text: str, binding: Binding) -> Subject:
    module = dsl.parse(text)
    arrays = {**binding.inputs, **binding.outputs}
    shapes = {name: (a.shape, from_numpy(a.dtype)) for name, a in arrays.items()}
    bound = dsl.bind(module.entry, shapes, binding.scalars)
    artifact = cpu.compile(module, bound.dtypes, {}, bound.consts, bound.dims)
    return cpu.load(artifact).bind(arrays, binding.scalars, binding.threads)


def numpy_form(problem: Problem, binding: Binding) -> Subject:
    assert problem.numpy_reference is not None
    outputs = tuple(binding.outputs.values())
    out = outputs if len(outputs) > 1 else outputs[0]
    reference = problem.numpy_reference
    return lambda: reference(np, out=out, **binding.inputs, **binding.scalars)


def advice(times: dict[str, float]) -> str:
    rival = min(("torch_eager", "torch_compile"), key=lambda name: times[name])
    return "use the kernel" if times["best"] <= times[rival] else f"keep torch ({rival})"


def line(r: dict[str, Any]) -> str:
    times = r["times_ms"]
    ratios = " | ".join(
        f"{times[name] / times['best']:.2f}x" for name in ("seed", "numpy", "torch_eager", "torch_compile")
    )
    share = f"{100 * r['ceiling_ms'] / times['best']:.0f}%" if r["ceiling_ms"] else "-"
    return f"| {r['problem']} | {r['workload']} | {times['best']:.2f} | {share} | {ratios} | {r['advice']} |"


def table(rows: list[dict[str, Any]]) -> str:
    head = (
        "| problem | workload | best ms | of ceiling | vs seed | vs numpy | vs torch eager | vs torch compiled "
        "| advice |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---|\n"
    )
    return head + "\n".join(map(line, rows)) + "\n"


if __name__ == "__main__":
    main()
