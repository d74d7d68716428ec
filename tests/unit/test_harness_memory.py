"""Arenas: guards, poison, fingerprints; and the messages that travel beside them."""

from __future__ import annotations

import os
import socket
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.harness import protocol
from kernelagent.harness.caches import available_cpus, flush, flush_bytes, last_level_cache_bytes
from kernelagent.harness.inputs import InputKey
from kernelagent.harness.memory import GUARD, PAGE, Arena, plan, slots_from
from kernelagent.harness.options import Options
from kernelagent.harness.oracle import elements
from kernelagent.harness.plan import VARIANT_ELEMENTS, make_plan

from kernelagent import problems

SHAPES = st.lists(st.integers(0, 9), min_size=0, max_size=3)
ARRAYS = st.lists(st.tuples(st.sampled_from(["f32", "bf16", "i8", "f64", "bool"]), SHAPES, st.booleans()), max_size=4)


@given(ARRAYS)
def test_arrays_do_not_overlap_and_have_guards(arrays: list[tuple[str, list[int], bool]]) -> None:
    slots = plan((f"a{i}", *a) for i, a in enumerate(arrays))
    end = 0
    for slot in slots:
        assert slot.offset - GUARD >= end
        assert slot.offset % PAGE == 0
        assert slot.guard_end - (slot.offset + slot.nbytes) >= GUARD
        end = slot.guard_end


@given(ARRAYS)
def test_a_fresh_arena_is_intact_and_its_layout_travels(arrays: list[tuple[str, list[int], bool]]) -> None:
    arena = Arena.create(plan((f"a{i}", *a) for i, a in enumerate(arrays)))
    twin = Arena(os.dup(arena.descriptor), slots_from(arena.layout()))
    for name, slot in arena.slots.items():
        arena.raw(name)[...] = 7
        assert twin.array(name).shape == slot.shape
        assert np.all(twin.raw(name) == 7)
    assert twin.broken_guard() is None
    arena.close()
    twin.close()


@given(st.integers(0, 4 * PAGE - 1))
def test_any_changed_byte_of_data_changes_the_fingerprint(place: int) -> None:
    arena = Arena.create(plan([("x", "u8", (4 * PAGE,), False)]))
    before = arena.fingerprint("x")
    arena.raw("x")[place] ^= 64
    assert np.flatnonzero(arena.fingerprint("x") != before).tolist() == [place // PAGE]
    arena.close()


@pytest.mark.parametrize("offset", [-GUARD, -1, 0, GUARD - 1])
def test_a_changed_guard_byte_is_found(offset: int) -> None:
    arena = Arena.create(plan([("y", "f32", (3, 5), True)]))
    slot = arena.slots["y"]
    place = slot.offset + offset + (slot.nbytes if offset >= 0 else 0)
    arena._bytes[place] ^= 1
    found = arena.broken_guard()
    assert found is not None
    assert "wrote outside y[3, 5]" in found
    assert ("past its end" if offset >= 0 else "before its start") in found
    arena.poison(0xFF)
    assert arena.broken_guard() is None
    arena.close()


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16", "f8e4m3", "f8e5m2"])
def test_the_first_poison_and_the_guards_of_inputs_are_nan(dtype: str) -> None:
    arena = Arena.create(plan([("y", dtype, (4,), True)]))
    arena.poison(0xFF)
    assert np.isnan(arena.array("y").astype(np.float64)).all()
    arena.close()


def test_messages_and_descriptors_arrive() -> None:
    here, there = socket.socketpair()
    with here, there:
        read, write = os.pipe()
        payload = {"op": "x", "text": "ü" * 100_000}
        sender = threading.Thread(target=protocol.send, args=(here, payload, [write]))
        sender.start()
        message, descriptors = protocol.receive(there)
        sender.join()
        assert message == payload
        os.write(descriptors[0], b"hello")
        assert os.read(read, 5) == b"hello"
        for descriptor in (read, write, *descriptors):
            os.close(descriptor)


def test_a_closed_or_broken_channel_is_an_error() -> None:
    here, there = socket.socketpair()
    with there:
        here.sendall(b"\x05\x00\x00")
        here.close()
        with pytest.raises(protocol.ProtocolError, match="closed in the middle"):
            protocol.receive(there)


def test_absurd_lengths_are_refused() -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(b"\xff" * 12)
        with pytest.raises(protocol.ProtocolError, match="bytes with 0"):
            protocol.receive(there)


def test_the_flush_reads_twice_the_cache_on_every_cpu() -> None:
    assert flush_bytes() == 2 * last_level_cache_bytes() >= 2 << 20
    before = os.sched_getaffinity(0)
    flush(np.zeros(1 << 16, np.int32), available_cpus())
    assert os.sched_getaffinity(0) == before


def test_a_plan_checks_small_first_and_variants_where_cheap() -> None:
    problem = problems.load("softmax")
    plan_ = make_plan(problem, Options(seed=5))
    sizes = [elements(problem, problem.workload(k.workload)) for k in plan_.checked]
    assert sizes == sorted(sizes)
    assert {k.workload for k in plan_.checked} == {w.name for w in problem.workloads}
    assert all(
        k.variant == "default" or elements(problem, problem.workload(k.workload)) <= VARIANT_ELEMENTS
        for k in plan_.checked
    )
    assert {k.variant for k in plan_.checked if k.workload == "small"} == set(problems.variants(problem))
    assert plan_.timed == {"4096x4096": (InputKey("4096x4096", 5), InputKey("4096x4096", 6))}


def test_seeds_are_fresh_unless_given() -> None:
    problem = problems.load("softmax")
    assert make_plan(problem, Options()).seed != make_plan(problem, Options()).seed


def test_an_unknown_workload_is_named() -> None:
    with pytest.raises(KeyError, match="nope"):
        make_plan(problems.load("softmax"), Options(workloads=("nope",)))
