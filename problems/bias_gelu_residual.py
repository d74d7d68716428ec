"""A feed-forward epilogue on its own: bias, exact GELU, residual."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import gelu
from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def bias_gelu_residual(x: In[T, R, C], b: In[T, C], r: In[T, R, C], y: Out[T, R, C],
                       BR=choices(32, 16, 64), BC=choices(32, 16, 64)):
    for i, j in tiles((R, C), (BR, BC)):
        h = load(x, (i, j), (BR, BC)) + load(b, (j,), (BC,))[None, :]
        g = 0.5 * h * (1.0 + erf(h * 0.7071067811865476))
        store(y, (i, j), cast(g + load(r, (i, j), (BR, BC)), T))
"""


def reference(xp: Any, x: Any, b: Any, r: Any) -> Any:
    return gelu(xp, x + b[None, :]) + r


def numpy_reference(np: Any, out: Any, x: Any, b: Any, r: Any) -> None:
    np.add(x, b, out=out)
    np.add(gelu(np, out), r, out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any, b: Any, r: Any) -> Any:
    if out is None:
        return torch.nn.functional.gelu(x + b) + r
    return torch.ops.aten.gelu.out(torch.add(x, b, out=out), out=out).add_(r)


PROBLEM = Problem(
    name="bias_gelu_residual",
    title="y = gelu(x + b) + r",
    inputs=(Tensor("x", "f32", ("R", "C")), Tensor("b", "f32", ("C",)), Tensor("r", "f32", ("R", "C"))),
    outputs=(Tensor("y", "f32", ("R", "C")),),
    workloads=(
        Workload("4096x4096", {"R": 4096, "C": 4096}),
        Workload("1024x3072", {"R": 1024, "C": 3072}),
        Workload("ragged", {"R": 127, "C": 1019}, ragged=True),
        Workload("small", {"R": 16, "C": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6),
    tags=("pointwise", "memory-bound", "erf", "activation"),
    variants=("uniform", "positive", "same_sign", "large"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
