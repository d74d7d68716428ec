"""Two linear projections, one of them a gate: the first half of a gated feed-forward layer."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.extra import sigmoid, silu
from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def swiglu(x: In[T, M, K], w: In[T, N, K], v: In[T, N, K], y: Out[T, M, N],
           BM=choices(32, 16, 64), BN=choices(32, 16, 64), BK=choices(32, 16, 64)):
    for i, j in tiles((M, N), (BM, BN)):
        gate = zeros((BM, BN), f32)
        up = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            xk = load(x, (i, k), (BM, BK))
            gate += mma(xk, load(w, (j, k), (BN, BK)).T)
            up += mma(xk, load(v, (j, k), (BN, BK)).T)
        store(y, (i, j), cast(gate * sigmoid(gate) * up, T))
"""


def reference(xp: Any, x: Any, w: Any, v: Any) -> Any:
    return silu(xp, xp.matmul(x, xp.matrix_transpose(w))) * xp.matmul(x, xp.matrix_transpose(v))


def numpy_reference(np: Any, out: Any, x: Any, w: Any, v: Any) -> None:
    gate = np.matmul(x, w.T)
    np.matmul(x, v.T, out=out)
    np.multiply(out, gate, out=out)
    np.multiply(out, sigmoid(np, gate), out=out)


def torch_reference(torch: Any, out: Any = None, *, x: Any, w: Any, v: Any) -> Any:
    gate = torch.nn.functional.silu(torch.mm(x, w.t()))
    return torch.mul(gate, torch.mm(x, v.t(), out=out), out=out)


PROBLEM = Problem(
    name="swiglu",
    title="y = silu(x @ w.T) * (x @ v.T)",
    inputs=(
        Tensor("x", "f32", ("M", "K")),
        Tensor("w", "f32", ("N", "K"), options={"std": 0.1}),
        Tensor("v", "f32", ("N", "K"), options={"std": 0.1}),
    ),
    outputs=(Tensor("y", "f32", ("M", "N")),),
    workloads=(
        Workload("512x1024x2816", {"M": 512, "N": 2816, "K": 1024}),
        Workload("256x256x512", {"M": 256, "N": 512, "K": 256}),
        Workload("ragged", {"M": 65, "N": 203, "K": 149}, ragged=True),
        Workload("small", {"M": 32, "N": 32, "K": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("K",)),
    tags=("matmul", "compute-bound", "epilogue", "exp", "activation"),
    variants=("uniform",),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
