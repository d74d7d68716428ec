"""The worked kernels of the language's definition against plain numpy, in small, with NaN planted."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.verify.trials import same_bits

F32, BF16 = np.float32, ml_dtypes.bfloat16

ATTENTION = """edition(1)

@inline
def causal_end(i, BM, M, N):
    return minimum(N, i + BM + N - M)

@kernel
def attention(q: In[T, B, H, M, D], k: In[T, B, G, N, D], v: In[T, B, G, N, D], o: Out[T, B, H, M, D],
              scale: f32, BM=64, BN=64):
    on(sm_90a, BM=128, BN=128, stages=2, persistent=True)
    assume(D in (64, 128), H % G == 0, N >= M)
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

MOE_GEMM = """edition(1)

@kernel
def moe_gemm(x: In[bf16, M, K], w: In[bf16, E, N, K], offsets: In[i32, E + 1], y: Out[bf16, M, N],
             BM=128, BN=128, BK=64):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i, j in tiles((hi - lo, N), (BM, BN)):
            acc = zeros((BM, BN), f32)
            for k in pipeline(0, K, BK):
                acc += mma(load(x[lo:hi], (i, k), (BM, BK)), load(w[e], (j, k), (BN, BK)).T)
            store(y[lo:hi], (i, j), cast(acc, bf16))
"""

CONV3X3_S2 = """edition(1)

@kernel
def conv3x3_s2(x: In[bf16, B, H, W, C], w: In[bf16, F, 3, 3, C], y: Out[bf16, B, P, Q, F],
               BP=8, BQ=16, BF=128, BC=64):
    assume(P == (H + 1) // 2, Q == (W + 1) // 2)
    for b, p, q, f in tiles((B, P, Q, F), (1, BP, BQ, BF)):
        acc = zeros((BP * BQ, BF), f32)
        for r, s, c in pipeline((0, 0, 0), (3, 3, C), (1, 1, BC)):
            xw = window(x[b], offset=(r - 1, s - 1, 0), stride=(2, 2, 1), shape=(P, Q, C))
            xt = reshape(load(xw, (p, q, c), (BP, BQ, BC), fill=0), (BP * BQ, BC))
            acc += mma(xt, reshape(load(w, (f, r, s, c), (BF, 1, 1, BC), fill=0), (BF, BC)).T)
        store(y[b], (p, q, f), cast(reshape(acc, (BP, BQ, BF)), bf16))
"""

GEMM_INT4 = """edition(1)

@kernel
def gemm_int4(a: In[bf16, M, K], wq: In[u4, N, K], scales: In[bf16, N, K // 128], zp: In[u8, N, K // 128],
              y: Out[bf16, M, N],
              BM=64, BN=128, BK=choices(64, 128)):
    assume(K % 128 == 0)
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            z, s = load(zp, (j, k // 128), (BN, 1)), load(scales, (j, k // 128), (BN, 1))
            wk = cast((cast(load(wq, (j, k), (BN, BK)), f32) - cast(z, f32)) * s, bf16)
            acc += mma(load(a, (i, k), (BM, BK)), wk.T)
        store(y, (i, j), cast(acc, bf16))
"""

SPLITK_GEMM = """edition(1)

@kernel
def splitk_partial(a: In[bf16, M, K], w: In[bf16, N, K], part: Out[f32, S, M, N], BM=128, BN=128, BK=64):
    for s, i, j in tiles((S, M, N), (1, BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(s * K // S, (s + 1) * K // S, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        store(part[s], (i, j), acc)

@kernel
def splitk_sum(part: In[f32, S, M, N], y: Out[bf16, M, N], BM=32, BN=128):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for s in range(S):
            acc += load(part[s], (i, j), (BM, BN))
        store(y, (i, j), cast(acc, bf16))

@program
def splitk_gemm(a: In[bf16, M, K], w: In[bf16, N, K], y: Out[bf16, M, N], S=8):
    part = temp(f32, (S, M, N))
    splitk_partial(a, w, part)
    splitk_sum(part, y)
"""

CUMSUM_ROWS = """edition(1)

@kernel
def cumsum_rows(x: In[T, R, C], y: Out[T, R, C], BC=4096):
    for i in tiles((R,), (1,)):
        carry = zeros((1,), f32)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (1, BC), fill=0)
            store(y, (i, j), cast(scan(v, axis=1, op=sum) + carry[:, None], T))
            carry += sum(v, axis=1)
"""

PAGED_DECODE = """edition(1)

@kernel
def paged_decode(q: In[T, B, G, R, D], kc: In[T, NP, PS, G, D], vc: In[T, NP, PS, G, D],
                 table: In[i32, B, MP], lens: In[i32, B],
                 o: Out[T, B, G, R, D], scale: f32):
    assume(PS in (16, 64), R in (8, 16), D in (64, 128), 0 <= table < NP, 0 <= lens <= MP * PS)
    for b, g in tiles((B, G), (1, 1)):
        qi = load(q[b, g], (0, 0), (R, D))
        m, l, acc = full((R,), -1e30, f32), zeros((R,), f32), zeros((R, D), f32)
        for t in pipeline(0, lens[b], PS):
            page = table[b, t // PS]
            n = minimum(PS, lens[b] - t)
            kt = reshape(load(kc[page][0:n], (0, g, 0), (PS, 1, D)), (PS, D))
            vt = reshape(load(vc[page][0:n], (0, g, 0), (PS, 1, D)), (PS, D))
            s = mma(qi, kt.T) * scale
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, T), vt)
            m = m_new
        store(o[b, g], (0, 0), cast(where(l[:, None] > 0.0, acc / l[:, None], 0.0), T))
"""


def run(text: str, arrays: dict[str, Any], scalars: dict[str, float] | None = None, **tunables: int) -> dict[str, Any]:
    """Outputs in the kernel's dtypes and in f64; planting NaN and reversing the order must not change a bit."""
    module = parse(text)
    plain = execute(module, arrays, scalars or {}, tunables, Options()).outputs
    options = Options(plant_nan=True, order="reverse", check_types=True, log=True)
    planted = execute(module, arrays, scalars or {}, tunables, options)
    assert all(same_bits(plain[name], planted.outputs[name]) for name in plain)
    for call in planted.calls:
        assert all(c.log is None or (c.log.count == 1).all() for c in call.cells.values() if c.role == "Out")
    return execute(module, arrays, scalars or {}, tunables, Options(widen=True)).outputs


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def softmax(s: Any) -> Any:
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize(("m", "n"), [(5, 5), (7, 19), (1, 16)])
@pytest.mark.parametrize("dtype", [F32, BF16])
def test_attention(m: int, n: int, dtype: Any) -> None:
    b, h, g, d = 1, 4, 2, 64
    q, k, v = normal(b, h, m, d, dtype=dtype), normal(b, g, n, d, dtype=dtype, seed=1), normal(b, g, n, d, dtype=dtype)
    arrays = {"q": q, "k": k, "v": v, "o": np.zeros_like(q)}
    out = run(ATTENTION, arrays, {"scale": 0.125}, BM=4, BN=8)["o"]
    q64, k64, v64 = (x.astype(np.float64) for x in (q, k, v))
    scores = np.einsum("bhmd,bhnd->bhmn", q64, k64.repeat(h // g, 1)) * 0.125
    seen = np.arange(m)[:, None] + n - m >= np.arange(n)[None, :]
    right = np.einsum("bhmn,bhnd->bhmd", softmax(np.where(seen, scores, -np.inf)), v64.repeat(h // g, 1))
    np.testing.assert_allclose(out, right, rtol=1e-9, atol=1e-9)


def test_grouped_experts() -> None:
    offsets = np.array([0, 3, 3, 10], np.int32)
    x, w = normal(10, 9, dtype=BF16), normal(3, 6, 9, dtype=BF16, seed=1)
    arrays = {"x": x, "w": w, "offsets": offsets, "y": np.zeros((10, 6), BF16)}
    out = run(MOE_GEMM, arrays, BM=4, BN=4, BK=4)["y"]
    x64, w64 = x.astype(np.float64), w.astype(np.float64)
    groups = [x64[offsets[e] : offsets[e + 1]] @ w64[e].T for e in range(3)]
    np.testing.assert_allclose(out, np.concatenate(groups), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("h", "w"), [(6, 6), (7, 4)])
def test_strided_convolution(h: int, w: int) -> None:
    b, c, f, p, q = 2, 3, 4, (h + 1) // 2, (w + 1) // 2
    x, weights = normal(b, h, w, c, dtype=BF16), normal(f, 3, 3, c, dtype=BF16, seed=1)
    arrays = {"x": x, "w": weights, "y": np.zeros((b, p, q, f), BF16)}
    out = run(CONV3X3_S2, arrays, BP=2, BQ=4, BF=8, BC=2)["y"]
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 2), (1, 2), (0, 0)))
    right = np.zeros((b, p, q, f))
    for r in range(3):
        for s in range(3):
            patch = padded[:, r : r + 2 * p : 2, s : s + 2 * q : 2]
            right += np.einsum("bpqc,fc->bpqf", patch, weights[:, r, s].astype(np.float64))
    np.testing.assert_allclose(out, right, rtol=1e-12, atol=1e-12)


def test_gemm_with_4_bit_weights() -> None:
    m, n, k = 5, 6, 256
    rng = np.random.default_rng(0)
    a, scales = normal(m, k, dtype=BF16), normal(n, k // 128, dtype=BF16, seed=1)
    wq, zp = rng.integers(0, 16, (n, k)).astype(ml_dtypes.uint4), rng.integers(0, 16, (n, k // 128)).astype(np.uint8)
    arrays = {"a": a, "wq": wq, "scales": scales, "zp": zp, "y": np.zeros((m, n), BF16)}
    out = run(GEMM_INT4, arrays, BM=4, BN=4)["y"]
    centred = wq.astype(np.float64) - zp.astype(np.float64).repeat(128, 1)
    right = a.astype(np.float64) @ (centred * scales.astype(np.float64).repeat(128, 1)).T
    np.testing.assert_allclose(out, right, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("s", [1, 3, 8])
def test_split_k_program(s: int) -> None:
    a, w = normal(5, 64 * s, dtype=BF16), normal(6, 64 * s, dtype=BF16, seed=1)
    out = run(SPLITK_GEMM, {"a": a, "w": w, "y": np.zeros((5, 6), BF16)}, S=s)["y"]
    np.testing.assert_allclose(out, a.astype(np.float64) @ w.astype(np.float64).T, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [1, 8, 21])
def test_prefix_sums_of_rows(n: int) -> None:
    x = normal(3, n)
    out = run(CUMSUM_ROWS, {"x": x, "y": np.zeros_like(x)}, BC=8)["y"]
    np.testing.assert_allclose(out, np.cumsum(x.astype(np.float64), 1), rtol=1e-12, atol=1e-12)


def test_paged_decode() -> None:
    b, g, r, d, pages, size, most = 3, 2, 8, 64, 5, 16, 3
    rng = np.random.default_rng(0)
    q = normal(b, g, r, d)
    kc, vc = normal(pages, size, g, d, seed=1), normal(pages, size, g, d, seed=2)
    table, lens = rng.integers(0, pages, (b, most)).astype(np.int32), np.array([0, 17, 48], np.int32)
    arrays = {"q": q, "kc": kc, "vc": vc, "table": table, "lens": lens, "o": np.zeros_like(q)}
    out = run(PAGED_DECODE, arrays, {"scale": 0.125})["o"]
    for i in range(b):
        k, v = (c[table[i]].reshape(-1, g, d)[: lens[i]].astype(np.float64) for c in (kc, vc))
        if not lens[i]:
            assert (out[i] == 0).all()
            continue
        p = softmax(np.einsum("grd,ngd->grn", q[i].astype(np.float64), k) * 0.125)
        np.testing.assert_allclose(out[i], np.einsum("grn,ngd->grd", p, v), rtol=1e-9, atol=1e-9)
