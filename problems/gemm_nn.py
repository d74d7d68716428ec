"""Matrix product of two row-major matrices."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def gemm_nn(a: In[T, M, K], b: In[T, K, N], c: Out[T, M, N],
            BM=choices(32, 16, 64), BN=choices(32, 16, 64), BK=choices(32, 16, 64)):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (k, j), (BK, BN)))
        store(c, (i, j), cast(acc, T))
"""


def reference(xp: Any, a: Any, b: Any) -> Any:
    return xp.matmul(a, b)


def numpy_reference(np: Any, out: Any, a: Any, b: Any) -> None:
    np.matmul(a, b, out=out)


def torch_reference(torch: Any, out: Any = None, *, a: Any, b: Any) -> Any:
    return torch.mm(a, b, out=out)


PROBLEM = Problem(
    name="gemm_nn",
    title="c = a @ b",
    inputs=(Tensor("a", "f32", ("M", "K")), Tensor("b", "f32", ("K", "N"))),
    outputs=(Tensor("c", "f32", ("M", "N")),),
    workloads=(
        Workload("1024", {"M": 1024, "N": 1024, "K": 1024}),
        Workload("512", {"M": 512, "N": 512, "K": 512}),
        Workload("tall", {"M": 4096, "N": 256, "K": 512}),
        Workload("ragged", {"M": 253, "N": 131, "K": 197}, ragged=True),
        Workload("small", {"M": 64, "N": 64, "K": 64}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=1e-6, reduction=("K",)),
    tags=("matmul", "compute-bound"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
