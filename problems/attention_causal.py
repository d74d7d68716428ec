"""Causal attention: query i sees keys 0 .. i + N - M; query heads may share key heads in groups."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.attention import numpy_weigh, scores, tensors, weigh
from kernelagent.problems.extra import arange
from kernelagent.problems.problem import Problem, ScalarInput, Tolerance, Workload

SEED = """\
edition(1)

@inline
def causal_end(i, BM, M, N):
    return minimum(N, i + BM + N - M)

@kernel
def attention_causal(q: In[T, B, H, M, D], k: In[T, B, G, N, D], v: In[T, B, G, N, D], o: Out[T, B, H, M, D],
                     scale: f32, BM=choices(32, 16, 64), BN=choices(32, 16, 64)):
    assume(D in (16, 32, 64, 128), H % G == 0, N >= M)
    for b, h, i in tiles((B, H, M), (1, 1, BM)):
        g = h // (H // G)
        qi = load(q[b, h], (i, 0), (BM, D))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        for j in pipeline(0, causal_end(i, BM, M, N), BN):
            s = mma(qi, load(k[b, g], (j, 0), (BN, D)).T) * scale
            s = where(coords(i + N - M, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, T), load(v[b, g], (j, 0), (BN, D)))
            m = m_new
        store(o[b, h], (i, 0), cast(acc / l[:, None], T))
"""


def visible(xp: Any, q: Any, k: Any) -> Any:
    """(M, N) booleans: key j is visible to query i."""
    m, n = q.shape[2], k.shape[2]
    return arange(xp, n, q)[None, :] <= arange(xp, m, q)[:, None] + (n - m)


def reference(xp: Any, q: Any, k: Any, v: Any, scale: float) -> Any:
    s = xp.where(visible(xp, q, k), scores(xp, q, k, scale), -xp.inf)
    return weigh(xp, s, v, q.shape)


def numpy_reference(np: Any, out: Any, q: Any, k: Any, v: Any, scale: float) -> None:
    s = scores(np, q, k, np.float32(scale))
    np.copyto(s, -np.inf, where=~visible(np, q, k))
    numpy_weigh(np, out, s, v)


def torch_reference(torch: Any, out: Any = None, *, q: Any, k: Any, v: Any, scale: float) -> Any:
    grouped, square = q.shape[1] != k.shape[1], q.shape[2] == k.shape[2]
    # is_causal aligns the mask at the upper left, which is ours only for square scores
    mask = None if square else visible(torch, q, k)
    attend = torch.nn.functional.scaled_dot_product_attention
    o = attend(q, k, v, attn_mask=mask, is_causal=square, scale=scale, enable_gqa=grouped)
    return o if out is None else out.copy_(o)


PROBLEM = Problem(
    name="attention_causal",
    title="o = softmax(q @ k.T * scale, keys up to the query's own) @ v",
    inputs=tensors()[0],
    outputs=tensors()[1],
    scalars=(ScalarInput("scale", "f32", 0.125),),
    workloads=(
        Workload("8x1024x64", {"B": 1, "H": 8, "G": 8, "M": 1024, "N": 1024, "D": 64}),
        Workload("grouped", {"B": 2, "H": 8, "G": 2, "M": 256, "N": 256, "D": 64}),
        Workload("ragged", {"B": 1, "H": 6, "G": 3, "M": 77, "N": 101, "D": 64}, ragged=True),
        Workload("small", {"B": 1, "H": 2, "G": 1, "M": 32, "N": 32, "D": 32}, {"scale": 0.25}),
    ),
    reference=reference,
    seed_kernel=SEED,
    tolerance=Tolerance(relative=1e-5, absolute=5e-6, reduction=("N",)),
    tags=("matmul", "attention", "causal", "compute-bound", "exp", "online-softmax"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
