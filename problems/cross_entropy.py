"""Cross entropy of each row of logits against its label."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import take_along_last
from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def cross_entropy(x: In[T, R, C], labels: In[i32, R], loss: Out[T, R], BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i in tiles((R,), (BR,)):
        wanted = load(labels, (i,), (BR,))
        m = full((BR,), -inf, f32)
        for j in pipeline(0, C, BC):
            m = maximum(m, max(load(x, (i, j), (BR, BC)), axis=1))
        l = zeros((BR,), f32)
        picked = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (BR, BC))
            hit = coords(j, BC)[None, :] == wanted[:, None]
            l += sum(exp(v - m[:, None]), axis=1)
            picked += sum(where(hit, v, 0.0), axis=1)
        store(loss, (i,), cast(log(l) + (m - picked), T))
"""


def reference(xp: Any, x: Any, labels: Any) -> Any:
    m = xp.max(x, axis=1, keepdims=True)
    log_sum = xp.log(xp.sum(xp.exp(x - m), axis=1))
    return log_sum + (m[:, 0] - take_along_last(xp, x, labels[:, None])[:, 0])


def numpy_reference(np: Any, out: Any, x: Any, labels: Any) -> None:
    m = np.max(x, axis=1, keepdims=True)
    shifted = np.subtract(x, m)
    picked = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    np.subtract(np.log(np.sum(np.exp(shifted, out=shifted), axis=1)), picked, out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any, labels: Any) -> Any:
    loss = torch.nn.functional.cross_entropy(x, labels.long(), reduction="none")
    return loss if out is None else out.copy_(loss)


PROBLEM = Problem(
    name="cross_entropy",
    title="loss = log(sum exp x) - x[label] over each row",
    inputs=(
        Tensor("x", "f32", ("R", "C")),
        Tensor("labels", "i32", ("R",), "labels", {"classes": "C"}),
    ),
    outputs=(Tensor("loss", "f32", ("R",)),),
    workloads=(
        Workload("512x32000", {"R": 512, "C": 32_000}),
        Workload("4096x1000", {"R": 4096, "C": 1000}),
        Workload("ragged", {"R": 67, "C": 1021}, ragged=True),
        Workload("small", {"R": 8, "C": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("C",)),
    tags=("row-reduction", "memory-bound", "exp", "labels", "loss"),
    variants=("uniform", "positive", "large", "same_sign"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
