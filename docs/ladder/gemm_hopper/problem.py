"""The ladder's computation as a problem: c = a @ b.T in bf16, begun from a plain kernel that knows no GPU.

kernelagent optimize run docs/ladder/gemm_hopper/problem.py --target cuda --chip h100-sxm
"""

from kernelagent import Problem, Tensor, Workload


def reference(xp, a, b):
    return xp.matmul(a, xp.matrix_transpose(b))


PROBLEM = Problem(
    name="gemm_bf16",
    title="c = a @ b.T, bf16",
    inputs=(Tensor("a", "bf16", ("M", "K")), Tensor("b", "bf16", ("N", "K"))),
    outputs=(Tensor("c", "bf16", ("M", "N")),),
    workloads=(
        Workload("8192", {"M": 8192, "N": 8192, "K": 8192}),
        Workload("4096", {"M": 4096, "N": 4096, "K": 4096}),
        Workload("ragged", {"M": 253, "N": 131, "K": 197}, ragged=True),
        Workload("small", {"M": 64, "N": 64, "K": 64}),
    ),
    reference=reference,
    seed_kernel="""edition(1)

@kernel
def gemm(a: In[T, M, K], b: In[T, N, K], c: Out[T, M, N],
         BM=choices(32, 16, 64), BN=choices(32, 16, 64), BK=choices(32, 16, 64)):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), cast(acc, T))
""",
    tags=("matmul", "compute-bound"),
)
