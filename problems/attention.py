"""Scaled dot-product attention; query heads may share key heads in groups."""

from __future__ import annotations

from typing import Any

from kernelagent.problems.problem import Problem, ScalarInput, Tensor, Tolerance, Workload

SEED = """\
edition(1)

@kernel
def attention(q: In[T, B, H, M, D], k: In[T, B, G, N, D], v: In[T, B, G, N, D], o: Out[T, B, H, M, D], scale: f32,
              BM=choices(32, 16, 64), BN=choices(32, 16, 64)):
    assume(D in (16, 32, 64, 128), H % G == 0)
    for b, h, i in tiles((B, H, M), (1, 1, BM)):
        g = h // (H // G)
        qi = load(q[b, h], (i, 0), (BM, D))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        for j in pipeline(0, N, BN):
            s = mma(qi, load(k[b, g], (j, 0), (BN, D)).T) * scale
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, T), load(v[b, g], (j, 0), (BN, D)))
            m = m_new
        store(o[b, h], (i, 0), cast(acc / l[:, None], T))
"""


def tensors() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Inputs q, k, v and output o; B batches, H query heads, G key heads, M queries, N keys of D elements."""
    keys = ("B", "G", "N", "D")
    inputs = (Tensor("q", "f32", ("B", "H", "M", "D")), Tensor("k", "f32", keys), Tensor("v", "f32", keys))
    return inputs, (Tensor("o", "f32", ("B", "H", "M", "D")),)


def scores(xp: Any, q: Any, k: Any, scale: float) -> Any:
    """(B, G, H // G, M, N): every query head against the key head of its group."""
    b, h, m, d = q.shape
    g = k.shape[1]
    grouped = xp.reshape(q, (b, g, h // g, m, d))
    return xp.matmul(grouped, xp.matrix_transpose(k)[:, :, None, :, :]) * scale


def weigh(xp: Any, s: Any, v: Any, shape: tuple[int, ...]) -> Any:
    """softmax(s) @ v, back in the shape of the queries."""
    p = xp.exp(s - xp.max(s, axis=-1, keepdims=True))
    p = p / xp.sum(p, axis=-1, keepdims=True)
    return xp.reshape(xp.matmul(p, v[:, :, None, :, :]), shape)


def reference(xp: Any, q: Any, k: Any, v: Any, scale: float) -> Any:
    return weigh(xp, scores(xp, q, k, scale), v, q.shape)


def numpy_weigh(np: Any, out: Any, s: Any, v: Any) -> None:
    """As `weigh`, in place on `s`, into `out`."""
    np.subtract(s, np.max(s, axis=-1, keepdims=True), out=s)
    np.exp(s, out=s)
    np.divide(s, np.sum(s, axis=-1, keepdims=True), out=s)
    np.matmul(s, v[:, :, None], out=out.reshape(*s.shape[:-1], v.shape[-1]))


def numpy_reference(np: Any, out: Any, q: Any, k: Any, v: Any, scale: float) -> None:
    numpy_weigh(np, out, scores(np, q, k, np.float32(scale)), v)


def torch_reference(torch: Any, out: Any = None, *, q: Any, k: Any, v: Any, scale: float) -> Any:
    grouped = q.shape[1] != k.shape[1]
    o = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=scale, enable_gqa=grouped)
    return o if out is None else out.copy_(o)


PROBLEM = Problem(
    name="attention",
    title="o = softmax(q @ k.T * scale) @ v",
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
    tags=("matmul", "attention", "compute-bound", "exp", "online-softmax"),
    torch_reference=torch_reference,
    numpy_reference=numpy_reference,
)
