"""A laboratory whose times are a formula of the text: the loop and the search run without compiler and clock."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Sequence
from typing import Any

from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.dsl.moves.source import functions, read
from kernelagent.dsl.moves.tunables import declared
from kernelagent.harness.records import Evaluation, Timing, WorkloadResult
from kernelagent.problems.problem import Problem, Tensor, Workload

from kernelagent.agent.laboratory import Rivals
from kernelagent.agent.texts import sha

SEED = """\
edition(1)

@kernel
def double(x: In[f32, R, C], y: Out[f32, R, C], BR=choices(2, 4, 8, 16), BC=choices(64, 128, 256, 512)):
    for i, j in tiles((R, C), (BR, BC)):
        store(y, (i, j), load(x, (i, j), (BR, BC)) * 2.0)
"""


def small_problem(seed: str = SEED) -> Problem:
    return Problem(
        name="double",
        inputs=(Tensor("x", "f32", ("R", "C")),),
        outputs=(Tensor("y", "f32", ("R", "C")),),
        workloads=(Workload("small", {"R": 32, "C": 512}),),
        reference=lambda xp, x: x * 2,
        seed_kernel=seed,
        tags=("elementwise",),
    )


def tunables(text: str) -> dict[str, int]:
    return {d.name: int(d.values[0]) for f in functions(read(text), "kernel", "program") for d in declared(f)}


def valley(text: str) -> float:
    """10 ms at worst; best (1 ms) at BR=8, BC=256, and less with streamed stores."""
    sizes = tunables(text)
    steps = abs(math.log2(sizes["BR"] / 8)) + abs(math.log2(sizes["BC"] / 256))
    return (1.0 + 0.8 * steps) * (0.8 if '"stream"' in text else 1.0)


class SyntheticLab:
    """`time_of(text)` gives ms, or raises ValueError for a text that is to fail as INCORRECT_NUMERICAL."""

    chip = "synthetic"
    target = "cpu"
    verdict = "PROVED"

    def __init__(self, time_of: Callable[[str], float] = valley, ceiling_ms: float = 0.1) -> None:
        self.time_of = time_of
        self.ceiling_ms = ceiling_ms
        self.evaluated: list[str] = []

    def environment(self) -> dict[str, Any]:
        return {"laboratory": "synthetic"}

    def bound(self) -> tuple[dict[str, Any], dict[str, Any]]:
        work = {"macs": 0, "min_bytes": 131072, "terms": {"dram": self.ceiling_ms}, "bound": "dram"}
        return {**work, "time_ms": self.ceiling_ms * 0.8}, {**work, "time_ms": self.ceiling_ms}

    def late_baselines(self) -> Rivals:
        return Rivals(())

    def baselines(self) -> Rivals:
        return Rivals((_timing("numpy", 4.0),), {"torch_eager": "torch is not installed"})

    def check(self, text: str) -> tuple[Diagnostic, ...]:
        try:
            ast.parse(text)
        except (SyntaxError, ValueError) as error:
            return (Diagnostic("syntax", str(error)),)
        return ()

    def evaluate(self, text: str) -> Evaluation:
        self.evaluated.append(sha(text))
        try:
            timing = _timing("candidate", self.time_of(text))
        except ValueError as error:
            failed = WorkloadResult("small", "INCORRECT_NUMERICAL", "relative", 1.0, 9.0, detail=str(error))
            return Evaluation("double", sha(text), "INCORRECT_NUMERICAL", (failed,))
        result = WorkloadResult("small", "PASSED", "relative", 0.0, 0.0, timing=timing, score=0.5)
        return Evaluation("double", sha(text), "PASSED", (result,), proofs={"PROVED": 2}, verdict=self.verdict)

    def confirm(self, text: str) -> Evaluation:
        return self.evaluate(text)

    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        return _timing("0", self.time_of(text)), _timing("1", self.time_of(other))

    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        own = (_timing(str(i), self.time_of(t)) for i, t in enumerate(texts))
        return (*own, *(_timing(name, 4.0) for name in rivals))

    def close(self) -> None:
        pass


def _timing(name: str, ms: float) -> Timing:
    return Timing(name, ms, (ms * 0.99, ms * 1.01), (ms, ms, ms))
