"""The compiler's own schedules under every word of policy for Hopper, in a sample: none is refuted, none left open."""

from __future__ import annotations

import itertools
import random

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove

GEMM = """edition(1)

@kernel
def gemm(a: In[bf16, M, K], b: In[bf16, N, K], c: Out[bf16, M, N], BM=64, BN=64, BK={step}):
    on(sm_90a, {policy})
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), cast(acc, bf16))
"""
ATTENTION = """edition(1)

@kernel
def attention(q: In[bf16, H, M, D], k: In[bf16, H, N, D], v: In[bf16, H, N, D], o: Out[bf16, H, M, D],
              scale: f32, BM=128, BN=64):
    on(sm_90a, {policy})
    assume(D in (64, 128))
    for h, i in tiles((H, M), (1, BM)):
        qi = load(q[h], (i, 0), (BM, D))
        m, l, acc = full((BM,), -1e30, f32), zeros((BM,), f32), zeros((BM, D), f32)
        for j in pipeline(0, N, BN):
            s = mma(qi, load(k[h], (j, 0), (BN, D)).T) * scale
            m_new = maximum(m, max(s, axis=1))
            p, r = exp(s - m_new[:, None]), exp(m - m_new)
            l = l * r + sum(p, axis=1)
            acc = acc * r[:, None] + mma(cast(p, bf16), load(v[h], (j, 0), (BN, D)))
            m = m_new
        store(o[h], (i, 0), cast(acc / l[:, None], bf16))
"""
ROLES = ("cooperative", "overlapped", "pingpong")
SAMPLED = 9


def policies() -> list[tuple[str, int]]:
    """Roles, depth of the rings, walk and cluster, with the step of the sum."""
    walks = ("", ", persistent=True")
    clusters = ("", ", cluster=(2, 1)", ", cluster=(1, 2)")
    found = itertools.product(ROLES, range(2, 7), walks, clusters, (32, 64, 128))
    return [(f"roles={r}, stages={n}{walk}{cluster}", step) for r, n, walk, cluster, step in found]


def open_obligations(text: str, dims: dict[str, int]) -> list[str]:
    aligned = (c for c in cases(parse(text), Choices({}, {}, {}, dims), "sm_90a") if c.kernel.roles)
    found = [o for case in aligned for o in prove(case).obligations]
    assert found
    return [f"{o.family} {o.verdict} {o.line}: {o.detail}" for o in found if o.verdict in ("REFUTED", "UNKNOWN")]


def left_open(text: str, dims: dict[str, int]) -> list[str]:
    """What is shown for some sizes, or not at all, of the schedules with roles."""
    aligned = [c for c in cases(parse(text), Choices({}, {}, {}, dims), "sm_90a") if c.kernel.roles]
    assert aligned
    found = [o for case in aligned for o in prove(case).obligations if o.family != "stability"]
    return [f"{o.family} {o.verdict} {o.line}: {o.detail}" for o in found if o.verdict != "PROVED"]


@pytest.mark.parametrize("policy", ["stages=2, persistent=True", "stages=3, cluster=(2, 1)"])
def test_pingpong_is_proved_for_all_sizes(policy: str) -> None:
    """Each consumer counts the steps of the tiles that it leaves to the other, and stores every second one."""
    assert left_open(GEMM.format(policy=f"roles=pingpong, {policy}", step=64), {}) == []


@pytest.mark.parametrize("roles", ["cooperative", "overlapped"])
def test_windows_are_proved_for_all_sizes(roles: str) -> None:
    """No state comes back within a few iterations: all counts of them are run."""
    window = "pipeline(maximum(0, i - 128), minimum(N, i + 128), BN)"
    text = ATTENTION.format(policy=f"roles={roles}, stages=2").replace("pipeline(0, N, BN)", window)
    assert left_open(text, {"D": 64}) == []


def test_persistent_attention_is_proved_for_all_sizes() -> None:
    """Its consumer has an iteration more in each tile than its producer."""
    assert left_open(ATTENTION.format(policy="roles=overlapped, stages=2, persistent=True"), {"D": 64}) == []


@pytest.mark.parametrize(("policy", "step"), random.Random(2).sample(policies(), SAMPLED))
def test_products(policy: str, step: int) -> None:
    assert open_obligations(GEMM.format(policy=policy, step=step), {}) == []


@pytest.mark.parametrize("roles", ROLES)
def test_attention(roles: str) -> None:
    assert open_obligations(ATTENTION.format(policy=f"roles={roles}, stages=2"), {"D": 64}) == []
