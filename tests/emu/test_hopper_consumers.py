"""What consumers of a Hopper schedule do by turns or ahead of time changes no value, whenever things complete."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.emulator.execute import emulate
from kernelagent.dsl.targets.emulator.launch import Completion
from numpy.typing import NDArray
from support.gpu_texts import gemm_by_policy

Array = NDArray[Any]
BF16 = ml_dtypes.bfloat16
ATTENTION = """edition(1)

@kernel
def attention(q: In[bf16, H, M, D], k: In[bf16, G, N, D], v: In[bf16, G, N, D], o: Out[bf16, H, M, D],
              causal: const = True, BM=128, BN=64):
    on(sm_90a, {policy})
    assume(D in (64, 128), H % G == 0, N >= M)
    for h, i in tiles((H, M), (1, BM)):
        g = h // (H // G)
        qi = load(q[h], (i, 0), (BM, D))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        end = minimum(N, i + BM + N - M) if causal else N
        for j in pipeline(0, end, BN):
            s = mma(qi, load(k[g], (j, 0), (BN, D)).T) * 0.125
            if causal:
                s = where(coords(i + N - M, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, bf16), load(v[g], (j, 0), (BN, D)))
            m = m_new
        store(o[h], (i, 0), cast(acc / l[:, None], bf16))
"""
GEMM = gemm_by_policy("on(sm_90a, {policy})", tile=(64, 64, 64))


def drawn(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape).astype(BF16)


def softmax_product(q: Array, k: Array, v: Array, causal: bool) -> Array:
    share = q.shape[0] // k.shape[0]
    q, k, v = q.astype("f8"), np.repeat(k, share, 0).astype("f8"), np.repeat(v, share, 0).astype("f8")
    m, n = q.shape[1], k.shape[1]
    seen = (np.arange(m)[:, None] + n - m >= np.arange(n)) | (not causal)
    s = np.where(seen, q @ k.transpose(0, 2, 1) * 0.125, -np.inf)
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    result: Array = p @ v / p.sum(axis=-1, keepdims=True)
    return result


def attend(policy: str, heads: tuple[int, int], m: int, n: int, size: int, causal: bool, order: Completion) -> None:
    rng = np.random.default_rng(m + n)
    q, k, v = drawn(rng, heads[0], m, size), drawn(rng, heads[1], n, size), drawn(rng, heads[1], n, size)
    o = np.full(q.shape, np.nan, BF16)
    text = ATTENTION.replace("{policy}", policy)
    found = emulate(parse(text), {"q": q, "k": k, "v": v, "o": o}, {"causal": causal}, arch="sm_90a", completion=order)
    assert found.ok, [f.message for f in found.findings]
    assert found.classes == ("aligned",)
    np.testing.assert_allclose(o.astype("f8"), softmax_product(q, k, v, causal), rtol=0.03, atol=0.02)


WAYS = ["stages=2", "stages=3, roles=overlapped", "stages=2, roles=pingpong", "stages=2, roles=cooperative"]


@pytest.mark.parametrize("order", ["late", "early", "random"])
@pytest.mark.parametrize("policy", WAYS)
def test_attention_in_rings_that_go_round(policy: str, order: Completion) -> None:
    """Five steps through two or three stages, tiles of several lengths, an overhanging one."""
    attend(policy, (1, 1), 160, 312, 64, True, order)


@pytest.mark.parametrize("policy", ["stages=2", "stages=2, roles=pingpong"])
@pytest.mark.parametrize("causal", [True, False])
def test_blocks_that_walk_over_tiles(policy: str, causal: bool) -> None:
    """Phases and turns go on across the tiles of a persistent block; heads share their keys."""
    attend(f"{policy}, persistent=True", (4, 2), 136, 200, 64, causal, "random")


@pytest.mark.parametrize("policy", WAYS)
@pytest.mark.parametrize(("m", "n"), [(1, 3), (128, 128)])
def test_one_step(policy: str, m: int, n: int) -> None:
    attend(policy, (1, 1), m, n, 64, False, "late")


def test_no_step_at_all() -> None:
    """Nothing is waited for that never comes; 0 / 0 is what the text says."""
    q, k = drawn(np.random.default_rng(0), 1, 8, 64), np.zeros((1, 0, 64), BF16)
    o = np.zeros(q.shape, BF16)
    text = ATTENTION.replace("{policy}", "stages=2").replace(", N >= M", "")
    found = emulate(parse(text), {"q": q, "k": k, "v": k, "o": o}, {"causal": False}, arch="sm_90a")
    assert found.ok, [f.message for f in found.findings]
    assert np.isnan(o.astype("f4")).all()


def test_wide_heads() -> None:
    attend("stages=2, roles=pingpong", (1, 1), 72, 192, 128, True, "late")


@pytest.mark.parametrize("order", ["late", "early", "random"])
@pytest.mark.parametrize(
    ("m", "n", "k"), [(256, 192, 320), (136, 264, 72), (64, 64, 64), (128, 320, 128)],
    ids=["many tiles", "overhanging", "one tile", "odd count"],
)  # fmt: skip
def test_even_and_odd_tiles(m: int, n: int, k: int, order: Completion) -> None:
    multiply("stages=3, roles=pingpong", m, n, k, order)


@pytest.mark.parametrize("policy", ["stages=1, roles=pingpong", "stages=3, roles=pingpong, BM=128, BN=128, cluster=2"])
def test_turns_with_one_stage_and_in_clusters(policy: str) -> None:
    multiply(policy, 512, 256, 192, "random")


def multiply(policy: str, m: int, n: int, k: int, order: Completion) -> None:
    rng = np.random.default_rng(m + n + k)
    a, b = drawn(rng, m, k), drawn(rng, n, k)
    c = np.full((m, n), np.nan, BF16)
    found = emulate(parse(GEMM.replace("{policy}", policy)), {"a": a, "b": b, "c": c}, arch="sm_90a", completion=order)
    assert found.ok, [f.message for f in found.findings]
    np.testing.assert_allclose(c.astype("f8"), a.astype("f8") @ b.astype("f8").T, rtol=1e-2, atol=1e-2)
