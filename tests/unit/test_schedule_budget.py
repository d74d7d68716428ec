"""Texts made to exhaust the proofs end in UNKNOWN, in time and in memory; nothing that was not run is proved."""

from __future__ import annotations

import resource
import time

import pytest
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.schedule.budget import Exhausted, exhausted, spend, within
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove
from support.level2_texts import TEXTS

GENERAL = 'shape_class("general")'


def text(signature: str, body: str, shape_class: str = GENERAL) -> str:
    return f"""
edition(1)
level(2)

@kernel
def k({signature}):
    schedule(sm_80, threads=32)
    {shape_class}
    row = distribution((1, 32), lanes=((32, 1, 1),), values=())
    flat = distribution((32,), lanes=((32, 0, 1),), values=())
    tall = distribution((262144, 32), lanes=((32, 1, 1),), values=((262144, 0, 1),))

{body}"""


MATRIX = "x: In[f32, M, N], y: Out[f32, M, N]"
OUTER = "    for i, j in tiles((M, N), (1, 32)):\n"
DEEP = ", ".join(f"v{n}" for n in range(7))
MANY = ", ".join(f"D{n}" for n in range(7))

NASTY = {
    "a loop of a thousand million": text(
        MATRIX,
        OUTER
        + "        acc = full(row, 0.0, f32)\n"
        + "        for k in range(0, 1000000000, 1):\n            acc = acc + 1.0\n        store(y, (i, j), acc)\n",
    ),
    "loops in loops": text(
        MATRIX,
        OUTER
        + "        acc = full(row, 0.0, f32)\n"
        + f"        for {DEEP} in range((0, 0, 0, 0, 0, 0, 0), (90, 90, 90, 90, 90, 90, 90), (1, 1, 1, 1, 1, 1, 1)):\n"
        + "            acc = acc + load(x, (v0, v1), row, fill=0.0)\n        store(y, (i, j), acc)\n",
    ),
    "huge divisors": text(
        MATRIX,
        OUTER + "        store(y, (i, j), load(x, (i * 1000000007 // 1000000007, j), row, fill=0.0))\n",
        'shape_class("huge", divides(M, 536870912))',
    ),
    "huge arrays": text(
        "x: In[f32, 2000000000], y: Out[f32, 2000000000]",
        "    for j in tiles((2000000000,), (32,)):\n        store(y, (j,), load(x, (j,), flat, fill=0.0))\n",
    ),
    "huge tiles": text(
        MATRIX,
        "    for i, j in tiles((M, N), (262144, 32)):\n"
        "        store(y, (i, j), load(x, (i, j), tall, fill=0.0))\n",
    ),
    "positions of many products": text(
        "x: In[f32, M, N, K], y: Out[f32, M, N, K]",
        "    for i, j in tiles((M * N % 7919 * K, M // (N % 13 + 1)), (1, 32)):\n"
        "        v = load(x[i * i % M], (j * j % N, i * j % K), row, fill=0.0)\n"
        "        store(y[i * N % M], (j * K % N, i * j * M % K), v)\n",
    ),
    "many tiles": text(
        "x: In[f32, 100000, 100000], y: Out[f32, 1, 32]",
        "    for i, j in tiles((100000, 100000), (1, 32)):\n"
        "        store(y, (0, 0), load(x, (i, j), row, fill=0.0))\n",
    ),
    "a ring that never comes around": text(
        MATRIX,
        OUTER
        + "        acc = full(row, 0.0, f32)\n"
        + "        for a in range(0, M, 1):\n            for b in range(0, M, 1):\n"
        + "                for c in range(0, M, 1):\n"
        + "                    acc = acc + load(x, (a, j), row, fill=0.0)\n        store(y, (i, j), acc)\n",
    ),
}  # fmt: skip


def proved(source: str) -> Findings:
    module = read_module(source)
    return prove(next(cases(module, Choices({}, {}, {}, {}), module.schedule.target)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NASTY)
def test_what_cannot_be_run_is_unknown(name: str) -> None:
    begin = time.monotonic()
    with within(seconds=3):
        found = proved(NASTY[name])
    assert time.monotonic() - begin < 10  # the limit is 3 s; one statement that has begun ends
    assert not found.counterexamples
    assert "UNKNOWN" in {o.verdict for o in found.obligations}
    assert all(o.detail for o in found.obligations if o.verdict == "UNKNOWN")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20  # KiB


def test_many_symbols_are_no_obstacle() -> None:
    source = text(
        f"x: In[f32, {MANY}, N], y: Out[f32, {MANY}, N]",
        f"    for a, b, c, d, e, f, g, j in tiles(({MANY}, N), (1, 1, 1, 1, 1, 1, 1, 32)):\n"
        "        store(y[a, b, c, d, e, f], (g, j), load(x[a, b, c, d, e, f], (g, j), row, fill=0.0))\n",
    )
    found = proved(source)
    assert {o.verdict for o in found.obligations} == {"PROVED"}


def test_a_spent_budget_proves_nothing_that_needs_runs() -> None:
    with within(work=20):
        found = proved(TEXTS["gemm"])
    open_ = {o.family for o in found.obligations if o.verdict == "UNKNOWN"}
    assert {"races", "definedness", "completion", "flow"} <= open_
    assert not found.counterexamples


def test_work_is_counted_and_free_outside() -> None:
    spend(1 << 40)
    with within(work=10) as budget:
        spend(10)
        assert not exhausted()
        with pytest.raises(Exhausted, match="more work"):
            spend()
        assert exhausted()
        assert budget.reason
    assert not exhausted()
