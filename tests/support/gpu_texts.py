"""Small kernel texts whose lines the tests of the GPU target name."""

from __future__ import annotations

GEMM = """edition(1)

@kernel
def gemm(a: In[T, M, K], b: In[T, N, K], c: Out[T, M, N], BM=128, BN=128, BK=32):
    on(cuda, stages=3)
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), cast(acc, T))
"""
_GEMM = """edition(1)

@kernel
def gemm(a: In[DTYPE, M, K], b: In[DTYPE, N, K], c: Out[OUT, M, N], BM=ROWS, BN=COLUMNS, BK=DEPTH):
    POLICY
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), STORED)
"""
TOTAL_BY_POLICY = """edition(1)

@kernel
def total(x: In[f32, M, N], y: Out[f32, M], BM=4, BN=256):
    {policy}
    for i in tiles((M,), (BM,)):
        s = zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            s += sum(load(x, (i, j), (BM, BN)), axis=1)
        store(y, (i,), s)
"""


def gemm_by_policy(
    policy: str = "{policy}", dtype: str = "bf16", out: str = "", tile: tuple[int, int, int] = (128, 128, 64)
) -> str:
    """c = a @ b.T with a line of policy, the fifth, whose `{policy}` a test fills in."""
    words = {"POLICY": policy, "DTYPE": dtype, "STORED": f"cast(acc, {out or dtype})" if out != "f32" else "acc"}
    words |= {"OUT": out or dtype, **dict(zip(("ROWS", "COLUMNS", "DEPTH"), map(str, tile), strict=True))}
    text = _GEMM
    for word, value in words.items():
        text = text.replace(word, value)
    return text


SMALL_GEMM = GEMM.replace("BM=128, BN=128", "BM=64, BN=64")
TOTAL = """edition(1)

@kernel
def total(x: In[f32, M, N], y: Out[f32, M], BM=2, BN=1024):
    for i in tiles((M,), (BM,)):
        s = zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            s += sum(load(x, (i, j), (BM, BN)), axis=1)
        store(y, (i,), s)
"""
TWICE = """edition(1)

@kernel
def twice(x: In[T, M, N], y: Out[T, M, N], BM=8, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), cast(load(x, (i, j), (BM, BN)) * 2.0, T))
"""
SCALED = """edition(1)

@kernel
def scaled(x: In[T, B, M, D], y: Out[T, B, M, D], BM=16):
    assume(D in (64, 128))
    for b, i in tiles((B, M), (1, BM)):
        v = load(x[b], (i, 0), (BM, D))
        store(y[b], (i, 0), cast(v / max(v, axis=1)[:, None], T))
"""
