"""Rings that may be turned, and those that may not: stages and parities must be counted alike everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import index
from kernelagent.dsl.verify.schedule.explore import Explorer, folding
from kernelagent.dsl.verify.schedule.protocol_turning import Turning
from kernelagent.dsl.verify.schedule.skeleton import skeleton
from support.protocol_faults import FAULTS, N, kernel
from support.schedule_edits import with_fields


def turned(schedule: dev.DeviceKernel) -> list[str]:
    """The counters whose rings are turned."""
    return [ring.counter for ring in folding(skeleton(schedule)).turning.rings]


def test_a_ring_counted_by_one_counter_is_turned() -> None:
    (ring,) = folding(skeleton(kernel("hopper"))).turning.rings
    assert ring.counter == "n"
    assert ring.stages == {"filled": 4, "free": 4, "a_s": 4, "w_s": 4}


@pytest.mark.parametrize("parity", [index(0), N % 2, (N // 4 + 1) // 2 % 2])
def test_parities_that_are_not_those_of_the_ring_forbid_it(parity: object) -> None:
    assert turned(with_fields(kernel("hopper"), dev.WaitPhase, "consumer", {"parity": parity}, barrier="filled")) == []


def test_a_stage_by_itself_forbids_it() -> None:
    assert turned(with_fields(kernel("hopper"), dev.Arrive, "consumer", {"stage": index(0)})) == []


def test_what_compares_the_counter_forbids_it() -> None:
    made = skeleton(kernel("hopper"))
    assert Turning(made, 8, [N - 3]).rings == []


def test_states_turned_back_lie_where_the_counter_is_zero() -> None:
    found = folding(skeleton(kernel("hopper"))).turning
    state = Explorer(skeleton(kernel("hopper"))).start()
    for count in range(8):
        for warp in state.warps:
            warp.env["n"] = count
        back = found.of(state)
        for number, (block, name, stage) in enumerate(found.places):
            to = found.places[back.rings[number]]
            assert to == (block, name, (stage - count) % 4)
            assert back.order[back.rings[number]] == number
            assert back.wraps[number] == (stage - count) // 4 % 2
        assert back.place((0, "a_s", 1)) == (0, "a_s", (1 - count) % 4)


@pytest.mark.parametrize("name", [n for n in FAULTS if not n.startswith("turns")])  # those have no period
def test_the_same_fault_is_found_first_without_turning(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = skeleton(FAULTS[name].broken)
    found = Explorer(made).search()
    monkeypatch.setattr("kernelagent.dsl.verify.schedule.protocol_turning._rings", lambda *_: iter(()))
    plain = Explorer(made).search()
    assert found.refuted is not None
    assert plain.refuted is not None
    assert replace(found.refuted, steps=()) == replace(plain.refuted, steps=())
    assert found.states <= plain.states
