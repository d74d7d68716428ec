"""Deliberately degenerate problems, each with the finding it must raise; good ones raise none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.problems import Problem, ScalarInput, Tensor, Tolerance, Workload

from kernelagent import problems

SEED = """\
edition(1)

@kernel
def scale(x: In[T, R, C], w: In[T, C], y: Out[T, R, C], k: f32, BR=4, BC=64):
    for i, j in tiles((R, C), (BR, BC)):
        store(y, (i, j), cast(load(x, (i, j), (BR, BC)) * load(w, (j,), (BC,))[None, :] * k, T))
"""
WORKLOADS = (
    Workload("big", {"R": 64, "C": 64}),
    Workload("ragged", {"R": 13, "C": 7}, ragged=True),
    Workload("small", {"R": 4, "C": 8}),
)
CHANGES = iter(range(10**6))


def reference(xp: Any, x: Any, w: Any, k: Any) -> Any:
    return x * w[None, :] * k


GOOD = Problem(
    name="scale",
    inputs=(Tensor("x", "f32", ("R", "C")), Tensor("w", "f32", ("C",))),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    scalars=(ScalarInput("k", "f32", 1.5),),
    workloads=WORKLOADS,
    reference=reference,
    seed_kernel=SEED,
)


def codes(problem: Problem, **options: Any) -> set[str]:
    return {f.code for f in problems.validate(problem, **options)}


def returning(body: Callable[[Any, Any, Any, Any], Any]) -> Problem:
    return replace(GOOD, reference=lambda xp, x, w, k: body(xp, x, w, k))


def mutate(_xp: Any, x: Any, w: Any, k: Any) -> Any:
    y = x * w[None, :] * k
    x[0, 0] = 5.0
    return y


def fail(*_: Any) -> Any:
    raise IndexError("beyond the end")


DEGENERATE: dict[str, Problem] = {
    "output-constant": returning(lambda xp, x, w, k: xp.ones(x.shape) * xp.arange(x.shape[1]) * k),
    "output-uniform": returning(lambda xp, x, w, k: 0 * x + xp.sum(x * w[None, :]) * k),
    "zeros-pass": returning(lambda xp, x, w, k: 0.0 * (x * w[None, :] * k)),
    "copy-passes": returning(lambda xp, x, w, k: x + 1e-9 * w[None, :] * k),
    "input-ignored": returning(lambda xp, x, w, k: x * x * k),
    "scalar-ignored": returning(lambda xp, x, w, k: x * w[None, :]),
    "reference-nonfinite": returning(lambda xp, x, w, k: xp.log(x * w[None, :]) * k),
    "reference-nondeterministic": returning(lambda xp, x, w, k: x * w[None, :] * k + next(CHANGES)),
    "reference-mutates": returning(mutate),
    "reference-shape": returning(lambda xp, x, w, k: xp.sum(x * w[None, :], axis=1) * k),
    "reference-dtype": returning(lambda xp, x, w, k: (x * w[None, :] > 0).astype(np.int32)),
    "reference-fails": returning(fail),
    "few-workloads": replace(GOOD, workloads=WORKLOADS[:2]),
    "no-ragged": replace(GOOD, workloads=(*WORKLOADS[::2], Workload("other", {"R": 8, "C": 8}))),
    "ragged-aligned": replace(GOOD, workloads=(*WORKLOADS, Workload("even", {"R": 16, "C": 8}, ragged=True))),
    "workload-twice": replace(GOOD, workloads=(*WORKLOADS, WORKLOADS[0])),
    "workload-large": replace(GOOD, workloads=(*WORKLOADS, Workload("huge", {"R": 1 << 20, "C": 1 << 12}))),
    "dim-undefined": replace(GOOD, workloads=(*WORKLOADS, Workload("half", {"R": 8}))),
    "dim-unused": replace(GOOD, workloads=(*WORKLOADS, Workload("more", {"R": 8, "C": 8, "Z": 3}))),
    "dim-not-positive": replace(GOOD, workloads=(*WORKLOADS, Workload("none", {"R": 0, "C": 8}))),
    "dim-malformed": replace(GOOD, inputs=(Tensor("x", "f32", ("R", "C ** 2")), GOOD.inputs[1])),
    "dtype-unknown": replace(GOOD, inputs=(Tensor("x", "float", ("R", "C")), GOOD.inputs[1])),
    "distribution-unknown": replace(GOOD, inputs=(Tensor("x", "f32", ("R", "C"), "cauchy"), GOOD.inputs[1])),
    "variant-unknown": replace(GOOD, variants=("loud",)),
    "name-invalid": replace(GOOD, name="my scale"),
    "name-twice": replace(GOOD, inputs=(GOOD.inputs[0], Tensor("x", "f32", ("C",)))),
    "no-inputs": replace(GOOD, inputs=()),
    "no-outputs": replace(GOOD, outputs=()),
    "scalar-unknown": replace(GOOD, workloads=(*WORKLOADS, Workload("k2", {"R": 8, "C": 8}, {"q": 2.0}))),
    "no-small-workload": replace(
        GOOD, workloads=tuple(Workload(n, {"R": 4097, "C": 4099}, ragged=True) for n in ("a", "b", "c"))
    ),
    "tolerance-loose": replace(GOOD, tolerance=Tolerance(relative=1e-2, absolute=1e-2)),
    "tolerance-tight": replace(
        returning(lambda xp, x, w, k: (x * w[None, :] + 1000.0 - 1000.0) * k), tolerance=Tolerance(0.0, 0.0)
    ),
    "seed-missing": replace(GOOD, seed_kernel=""),
    "seed-syntax": replace(GOOD, seed_kernel="edition(1)\ndef (:\n"),
    "seed-no-entry": replace(GOOD, seed_kernel="edition(1)\n"),
    "seed-parameters": replace(GOOD, seed_kernel=SEED.replace("w: In[T, C]", "v: In[T, C]")),
    "seed-scalars": replace(GOOD, seed_kernel=SEED.replace("k: f32, ", "")),
    "seed-role": replace(GOOD, seed_kernel=SEED.replace("y: Out", "y: In")),
    "seed-name": replace(GOOD, seed_kernel=SEED.replace("def scale", "def other")),
    "baseline-wrong": replace(GOOD, numpy_reference=lambda np, out, x, w, k: np.multiply(x, w, out=out)),
    "baseline-fails": replace(GOOD, numpy_reference=lambda np, x, w, k: x * w),
}


def test_a_good_problem_has_no_findings() -> None:
    assert problems.validate(GOOD) == []


@pytest.mark.parametrize("name", problems.names())
def test_built_in_problems_have_no_findings(name: str) -> None:
    assert problems.validate(problems.load(name)) == []


@pytest.mark.parametrize("code", DEGENERATE)
def test_degenerate(code: str) -> None:
    found = {f.code: f for f in problems.validate(DEGENERATE[code])}
    assert code in found
    assert found[code].message
    assert found[code].hint
    assert found[code].to_dict()["severity"] in ("error", "warning")


def test_values_are_in_the_message() -> None:
    shape = {f.code: f for f in problems.validate(DEGENERATE["reference-shape"])}["reference-shape"]
    assert "y has shape (4,) on small, declared (4, 8)" in shape.message
    finding = {f.code: f for f in problems.validate(DEGENERATE["reference-fails"])}["reference-fails"]
    assert "IndexError: beyond the end" in finding.message
    assert "small" in finding.message


def test_errors_come_first() -> None:
    broken = replace(DEGENERATE["scalar-ignored"], seed_kernel="")
    severities = [f.severity for f in problems.validate(broken)]
    assert severities == sorted(severities)
    assert severities[0] == "error"


def test_the_front_end_is_handed_in() -> None:
    texts: list[str] = []

    def refuse(text: str) -> list[str]:
        texts.append(text)
        return ["line 5: unknown word"]

    assert codes(GOOD, check_kernel=refuse) == {"seed-rejected"}
    assert texts == [SEED]


def test_template(tmp_path: Path) -> None:
    path = problems.write_template(tmp_path, "my_scale")
    problem = problems.load(path)
    assert path.name == "my_scale.py"
    assert problem.name == "my_scale"
    assert problems.validate(problem) == []
    with pytest.raises(FileExistsError):
        problems.write_template(path, "my_scale")
    with pytest.raises(ValueError, match="not a name"):
        problems.write_template(tmp_path, "my-scale")
