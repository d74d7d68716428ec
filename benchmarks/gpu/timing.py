"""Timing in turns: the kernel and its rival on the same inputs, each run with cold second-level caches."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from cases import Case
from kernelagent.harness.statistics import median
from oracles import NUMPY

Record = dict[str, Any]
Call = Callable[[], object]
Clock = Callable[[Call], float]

ROUNDS = 31
WARMUPS = 3
OURS = "kernel"


def interleave(subjects: Mapping[str, Call], clock: Clock, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each subject in each round; every round runs all in a new random order."""
    order, shuffler = list(subjects), random.Random(0)
    samples: dict[str, list[float]] = {name: [] for name in order}
    for number in range(-WARMUPS, rounds):
        shuffler.shuffle(order)
        for name in order:
            took = clock(subjects[name])
            if number >= 0:
                samples[name].append(took)
    return samples


def compare(case: Case, subjects: Mapping[str, Call], clock: Clock, arch: str) -> Record:
    """One row: medians with 95% intervals, the ratio rival / kernel, what is wanted, and the rates reached."""
    found = {name: median(times) for name, times in interleave(subjects, clock, ROUNDS).items()}
    ours = found.pop(OURS)
    (rival, theirs), *_ = found.items()
    ratio, wanted = theirs.value / ours.value, goal(case, arch)
    return {
        "case": case.name,
        "dims": dict(case.large.dims),
        "ms": ours.value,
        "interval_ms": [ours.low, ours.high],
        "rival": rival,
        "rival_ms": theirs.value,
        "rival_interval_ms": [theirs.low, theirs.high],
        "ratio": ratio,
        "wanted": wanted,
        "reached": None if wanted is None else ratio >= wanted,
        "tflops": operations(case) / ours.value / 1e9,
        "gbytes_per_s": moved(case) / ours.value / 1e6,
    }


def goal(case: Case, arch: str) -> float | None:
    """The least ratio that these kernels promise; None where nothing is promised."""
    if case.kernel in ("gemm_nn", "gemm_nt", "gemm_tn", "gemm_tt") and case.dtypes["T"] == "bf16":
        return 0.55 if arch.startswith("sm_9") else 0.90
    return 0.85 if case.kernel in ("softmax", "rmsnorm_residual") else None


def moved(case: Case) -> int:
    """Bytes, every input read once and every output written once."""
    return sum(_bytes(case, name) for name in (*case.ins, *case.outs))


def _bytes(case: Case, name: str) -> int:
    count = 1
    for extent in case.shape(name, case.large.dims):
        count *= extent
    dtype = case.dtype(name)
    return count // 2 if dtype == "u4" else count * NUMPY[dtype](0).nbytes


def operations(case: Case) -> int:
    """Floating-point (or integer) operations of the matrix products, 0 for kernels without."""
    d = case.large.dims
    if case.kernel.startswith("attention"):
        pairs = d["M"] * d["N"]
        return 4 * d["B"] * d["H"] * d["D"] * (pairs // 2 if case.scalars["causal"] else pairs)
    if case.kernel.startswith("conv"):
        return 2 * d["B"] * d["P"] * d["Q"] * d["F"] * 9 * d["C"]
    if case.kernel.startswith("gemm"):
        return 2 * d.get("B", 1) * d["M"] * d["N"] * d["K"]
    return 0
