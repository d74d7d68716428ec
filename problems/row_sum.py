"""Sum of each row of a matrix."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def row_sum(x: In[T, R, C], y: Out[T, R], BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i in tiles((R,), (BR,)):
        total = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            total += sum(load(x, (i, j), (BR, BC)), axis=1)
        store(y, (i,), cast(total, T))
"""


def reference(xp: Any, x: Any) -> Any:
    return xp.sum(x, axis=1)


def numpy_reference(np: Any, out: Any, x: Any) -> None:
    np.sum(x, axis=1, out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any) -> Any:
    return torch.sum(x, 1, out=out) if out is not None else torch.sum(x, 1)


PROBLEM = Problem(
    name="row_sum",
    title="y = sum of each row of x",
    inputs=(Tensor("x", "f32", ("R", "C")),),
    outputs=(Tensor("y", "f32", ("R",)),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("65536x128", {"R": 65_536, "C": 128}),
        Workload("wide", {"R": 16, "C": 500_000}),
        Workload("ragged", {"R": 131, "C": 1021}, ragged=True),
        Workload("small", {"R": 8, "C": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("C",)),
    tags=("row-reduction", "memory-bound"),
    variants=("uniform", "positive", "large", "same_sign", "offset"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
