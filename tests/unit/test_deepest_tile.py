"""Blocks that stand for others where the first tile has few iterations whatever the sizes: causal attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.level2.traverse import with_blocks
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.confirm import Replays
from kernelagent.dsl.verify.schedule.order import examine
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.sizes import by_trips, shown_block, trips

ATTENTION = """
edition(1)

@kernel
def attention(q: In[bf16, S, D], k: In[bf16, S, D], o: Out[f32, S, D], BM=32, BN=16):
    assume(D in (32, 64))
    for i in tiles((S,), (BM,)):
        qi = load(q, (i, 0), (BM, D))
        acc = zeros((BM, D), f32)
        for j in pipeline(LO, END, BN):
            kj = load(k, (j, 0), (BN, D))
            s = mma(qi, kj.T)
            s = where(coords(i, BM)[:, None] >= coords(j, BN)[None, :], s, 0.0)
            acc += mma(cast(s, bf16), kj)
        store(o, (i, 0), acc)
"""


def case(lo: str = "0", end: str = "minimum(S, i + BM)") -> Case:
    module = parse(ATTENTION.replace("LO", lo).replace("END", end))
    return next(cases(module, Choices({}, {}, {}, {"D": 32}), "sm_80"))


def test_the_tile_with_the_most_iterations_counts() -> None:
    kernel = case().kernel
    assert trips(kernel, {"S": 160, "D": 32}) == 10
    assert shown_block(kernel, {"S": 160, "D": 32}) == 4
    assert set(by_trips(case(), 9)) == set(range(1, 10))


def test_the_first_tile_counts_where_it_has_as_many() -> None:
    kernel = case("i", "S").kernel
    assert (trips(kernel, {"S": 160, "D": 32}), shown_block(kernel, {"S": 160, "D": 32})) == (10, 0)


@pytest.mark.parametrize("end", ["minimum(S, i + BM)", "minimum(i + BM, S)", "i"])
def test_causal_attention_is_proved(end: str) -> None:
    found = prove(case(end=end))
    assert {o.family for o in found.obligations if o.verdict != "PROVED"} <= {"stability"}
    assert not found.counterexamples


def test_a_missing_barrier_is_seen_in_a_later_tile() -> None:
    good = case()
    bad = replace(good, kernel=with_blocks(good.kernel, _without_barriers))
    events = examine(bad).events
    assert {e.family for e in events} & {"races", "definedness", "completion"}
    found = prove(bad)
    assert found.counterexamples
    assert all(Replays(bad).replayed(c) is not None for c in found.counterexamples)


def _without_barriers(body: tuple[dev.Statement, ...]) -> tuple[dev.Statement, ...]:
    loops = [replace(s, body=tuple(x for x in s.body if not isinstance(x, dev.BlockBarrier)))
             if isinstance(s, dev.For) else s for s in body]  # fmt: skip
    return tuple(loops)


def test_a_window_is_run_at_every_length_that_it_has() -> None:
    """No state comes back in so few iterations, and nobody says that it did."""
    ordered = examine(case("maximum(0, i - 32)"))
    assert ordered.runs == "1 to 4 iterations, all that there are"
    assert not ordered.reason
