"""Layer normalisation of each row, with gain and shift."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import rsqrt
from kernelagent.problems.problem import Problem, ScalarInput, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def layernorm(x: In[T, R, C], w: In[T, C], b: In[T, C], y: Out[T, R, C], eps: f32,
              BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i in tiles((R,), (BR,)):
        total = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            total += sum(load(x, (i, j), (BR, BC)), axis=1)
        mean = total / C
        squares = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            d = load(x, (i, j), (BR, BC)) - mean[:, None]
            squares += sum(d * d, axis=1)
        r = rsqrt(squares / C + eps)
        for j in pipeline(0, C, BC):
            d = (load(x, (i, j), (BR, BC)) - mean[:, None]) * r[:, None]
            store(y, (i, j), cast(d * load(w, (j,), (BC,))[None, :] + load(b, (j,), (BC,))[None, :], T))
"""


def reference(xp: Any, x: Any, w: Any, b: Any, eps: float) -> Any:
    d = x - xp.mean(x, axis=1, keepdims=True)
    return d * rsqrt(xp, xp.mean(d * d, axis=1, keepdims=True) + eps) * w[None, :] + b[None, :]


def numpy_reference(np: Any, out: Any, x: Any, w: Any, b: Any, eps: float) -> None:
    np.subtract(x, np.mean(x, axis=1, keepdims=True), out=out)
    variance = np.einsum("rc,rc->r", out, out)[:, None] / np.float32(x.shape[1])
    np.multiply(out, 1.0 / np.sqrt(variance + np.float32(eps)), out=out)
    np.multiply(out, w, out=out)
    np.add(out, b, out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any, w: Any, b: Any, eps: float) -> Any:
    y = torch.nn.functional.layer_norm(x, (x.shape[1],), w, b, eps)
    return y if out is None else out.copy_(y)  # with the copy still several times faster than steps with out=


PROBLEM = Problem(
    name="layernorm",
    title="y = (x - mean) / sqrt(var + eps) * w + b over each row",
    inputs=(Tensor("x", "f32", ("R", "C")), Tensor("w", "f32", ("C",)), Tensor("b", "f32", ("C",))),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    scalars=(ScalarInput("eps", "f32", 1e-5),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("2048x768", {"R": 2048, "C": 768}),
        Workload("ragged", {"R": 131, "C": 1021}, ragged=True),
        Workload("small", {"R": 8, "C": 64}, {"eps": 1e-2}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("C",)),
    tags=("row-reduction", "memory-bound", "normalisation"),
    variants=("uniform", "positive", "large", "same_sign"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
