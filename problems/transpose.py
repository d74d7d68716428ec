"""Transposition of a matrix, made contiguous."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def transpose(x: In[T, R, C], y: Out[T, C, R], BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i, j in tiles((R, C), (BR, BC)):
        store(y, (j, i), load(x, (i, j), (BR, BC)).T)
"""


def reference(xp: Any, x: Any) -> Any:
    return xp.permute_dims(x, (1, 0))


def numpy_reference(np: Any, out: Any, x: Any) -> None:
    np.copyto(out, x.T)


def torch_reference(torch: Any, out: Any = None, *, x: Any) -> Any:
    return x.t().contiguous() if out is None else out.copy_(x.t())


PROBLEM = Problem(
    name="transpose",
    title="y = x transposed",
    inputs=(Tensor("x", "f32", ("R", "C")),),
    outputs=(Tensor("y", "f32", ("C", "R")),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("2048x512", {"R": 2048, "C": 512}),
        Workload("ragged", {"R": 517, "C": 1021}, ragged=True),
        Workload("small", {"R": 16, "C": 32}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=0.0, absolute=0.0),
    tags=("layout", "memory-bound"),
    variants=("uniform",),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
