"""Barriers with phases: a phase completes once, when its arrivals and its bytes are in, in whatever order they come."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.atoms.mbarrier import Mbarrier, arrive, complete, expect, init, passes


def test_a_phase_by_hand() -> None:
    """One producer that expects 96 bytes, which land in two parts."""
    barrier = init(1)
    assert passes(barrier, 1)
    assert not passes(barrier, 0)
    barrier = expect(barrier, 96)
    assert barrier == Mbarrier(1, 0, 96, 0)
    barrier = complete(barrier, 32)
    assert not passes(barrier, 0)
    barrier = complete(barrier, 64)
    assert passes(barrier, 0)
    assert not passes(barrier, 1)
    assert barrier == Mbarrier(1, 1, 0, 1)


@given(st.integers(1, 6), st.lists(st.integers(1, 1000), max_size=6), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(arrivals: int, parts: list[int], shuffled: random.Random) -> None:
    """Bytes may land before they are expected, as long as the expecting arrival is still missing."""
    barrier = init(arrivals)
    events = [("arrive", 0)] * (arrivals - 1) + [("expect", sum(parts))] + [("complete", part) for part in parts]
    shuffled.shuffle(events)
    for number, (kind, count) in enumerate(events):
        assert not passes(barrier, 0), events[:number]
        barrier = {"arrive": lambda b, _: arrive(b), "expect": expect, "complete": complete}[kind](barrier, count)
    assert barrier == Mbarrier(arrivals, arrivals, 0, 1)
    assert passes(barrier, 0)


def test_parities_of_a_ring() -> None:
    """Round r of a stage: the consumer waits for parity r % 2 of full, the producer for the other one of empty."""
    full, empty = init(1), init(2)
    for turn in range(5):
        parity = turn % 2
        assert passes(empty, parity ^ 1)
        full = complete(expect(full, 128), 128)
        assert passes(full, parity)
        empty = arrive(empty)
        assert not passes(empty, parity)
        empty = arrive(empty)


def test_atoms_have_these_meanings() -> None:
    wait, remote = atom("mbar_wait"), atom("mbar_arrive_at")
    assert wait.reference is not None
    assert remote.reference is not None
    assert wait.reference(init(3), 1)
    assert remote.reference(init(3), 1) == arrive(init(3))
