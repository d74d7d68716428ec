"""Root-mean-square normalisation of each row, with a gain."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import rsqrt
from kernelagent.problems.problem import Problem, ScalarInput, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def rmsnorm(x: In[T, R, C], w: In[T, C], y: Out[T, R, C], eps: f32, BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i in tiles((R,), (BR,)):
        squares = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (BR, BC))
            squares += sum(v * v, axis=1)
        r = rsqrt(squares / C + eps)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (BR, BC)) * r[:, None]
            store(y, (i, j), cast(v * load(w, (j,), (BC,))[None, :], T))
"""


def reference(xp: Any, x: Any, w: Any, eps: float) -> Any:
    return x * rsqrt(xp, xp.mean(x * x, axis=1, keepdims=True) + eps) * w[None, :]


def numpy_reference(np: Any, out: Any, x: Any, w: Any, eps: float) -> None:
    np.multiply(x, x, out=out)
    scale = 1.0 / np.sqrt(np.mean(out, axis=1, keepdims=True) + np.float32(eps))
    np.multiply(x, scale, out=out)
    np.multiply(out, w, out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any, w: Any, eps: float) -> Any:
    if out is None:
        return torch.nn.functional.rms_norm(x, (x.shape[1],), w, eps)
    scale = torch.rsqrt(torch.mul(x, x, out=out).mean(dim=1, keepdim=True) + eps)
    return torch.mul(x, scale, out=out).mul_(w)


PROBLEM = Problem(
    name="rmsnorm",
    title="y = x / sqrt(mean(x^2) + eps) * w over each row",
    inputs=(Tensor("x", "f32", ("R", "C")), Tensor("w", "f32", ("C",))),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    scalars=(ScalarInput("eps", "f32", 1e-5),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("2048x1024", {"R": 2048, "C": 1024}),
        Workload("ragged", {"R": 131, "C": 1021}, ragged=True),
        Workload("small", {"R": 8, "C": 64}, {"eps": 1e-2}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("C",)),
    tags=("row-reduction", "memory-bound", "normalisation"),
    variants=("uniform", "positive", "large", "same_sign", "offset"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
