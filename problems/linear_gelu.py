"""A linear layer with bias and exact GELU."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import gelu
from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def linear_gelu(x: In[T, M, K], w: In[T, N, K], b: In[T, N], y: Out[T, M, N],
                BM=choices(32, 16, 64), BN=choices(32, 16, 64), BK=choices(32, 16, 64)):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(x, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        h = acc + load(b, (j,), (BN,))[None, :]
        store(y, (i, j), cast(0.5 * h * (1.0 + erf(h * 0.7071067811865476)), T))
"""


def reference(xp: Any, x: Any, w: Any, b: Any) -> Any:
    return gelu(xp, xp.matmul(x, xp.matrix_transpose(w)) + b[None, :])


def numpy_reference(np: Any, out: Any, x: Any, w: Any, b: Any) -> None:
    np.matmul(x, w.T, out=out)
    np.add(out, b, out=out)
    np.copyto(out, gelu(np, out))


def torch_reference(torch: Any, out: Any = None, *, x: Any, w: Any, b: Any) -> Any:
    if out is None:
        return torch.nn.functional.gelu(torch.nn.functional.linear(x, w, b))
    return torch.ops.aten.gelu.out(torch.addmm(b, x, w.t(), out=out), out=out)


PROBLEM = Problem(
    name="linear_gelu",
    title="y = gelu(x @ w.T + b)",
    inputs=(Tensor("x", "f32", ("M", "K")), Tensor("w", "f32", ("N", "K")), Tensor("b", "f32", ("N",))),
    outputs=(Tensor("y", "f32", ("M", "N")),),
    workloads=(
        Workload("1024x1024x4096", {"M": 1024, "N": 4096, "K": 1024}),
        Workload("256x512x1024", {"M": 256, "N": 1024, "K": 512}),
        Workload("ragged", {"M": 129, "N": 203, "K": 149}, ragged=True),
        Workload("small", {"M": 32, "N": 64, "K": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("K",)),
    tags=("matmul", "compute-bound", "epilogue", "erf", "activation"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
