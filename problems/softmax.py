"""Softmax over the last axis of a matrix."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def softmax(x: In[T, R, C], y: Out[T, R, C], BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i in tiles((R,), (BR,)):
        m = full((BR,), -inf, f32)
        for j in pipeline(0, C, BC):
            m = maximum(m, max(load(x, (i, j), (BR, BC)), axis=1))
        l = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            l += sum(exp(load(x, (i, j), (BR, BC)) - m[:, None]), axis=1)
        for j in pipeline(0, C, BC):
            p = exp(load(x, (i, j), (BR, BC)) - m[:, None])
            store(y, (i, j), cast(p / l[:, None], T))
"""


def reference(xp: Any, x: Any) -> Any:
    p = xp.exp(x - xp.max(x, axis=1, keepdims=True))
    return p / xp.sum(p, axis=1, keepdims=True)


def numpy_reference(np: Any, out: Any, x: Any) -> None:
    np.subtract(x, np.max(x, axis=1, keepdims=True), out=out)
    np.exp(out, out=out)
    np.divide(out, np.sum(out, axis=1, keepdims=True), out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any) -> Any:
    return torch.softmax(x, 1, out=out)


PROBLEM = Problem(
    name="softmax",
    title="y = exp(x - max x) / sum exp(x - max x) over each row",
    inputs=(Tensor("x", "f32", ("R", "C")),),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("1024x1024", {"R": 1024, "C": 1024}),
        Workload("wide", {"R": 64, "C": 100_000}),
        Workload("ragged", {"R": 131, "C": 1021}, ragged=True),
        Workload("small", {"R": 8, "C": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-7, reduction=("C",)),
    tags=("row-reduction", "memory-bound", "exp", "normalisation"),
    variants=("uniform", "positive", "large", "same_sign", "offset"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
