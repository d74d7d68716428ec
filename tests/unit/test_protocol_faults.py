"""One fault of a barrier protocol at a time: refuted, of the right kind, at the right line, with a short history."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.records import ScheduleCounterexample
from kernelagent.dsl.verify.schedule.protocol import prove_protocol
from support.protocol_faults import FAULTS, Fault, kernel, lines
from support.schedule_edits import edited, with_fields


def refuted(schedule: dev.DeviceKernel, family: str) -> ScheduleCounterexample:
    found = prove_protocol(schedule)
    assert {o.verdict for o in found.obligations if o.family == family} == {"REFUTED"}, found.obligations
    first = next(c for c in found.counterexamples if c.family == family)
    assert isinstance(first, ScheduleCounterexample)
    assert first == next(c for c in prove_protocol(schedule).counterexamples if c.family == family)
    return first


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_refuted_at_its_line(name: str) -> None:
    fault: Fault = FAULTS[name]
    found = refuted(fault.broken, "protocol")
    assert found.kind in fault.kinds
    assert found.line in fault.numbers
    assert len(found.trace) <= 8
    assert found.why
    assert found.sizes


def test_a_deadlock_says_who_waits_for_what() -> None:
    found = refuted(FAULTS["producer's first parity"].broken, "protocol")
    assert "`producer` waits (line 26) for phase 0 of free[0]: 0 of 8 arrivals" in found.why
    assert "`consumer` waits (line 35) for phase 0 of filled[0]: 0 of 1 arrivals" in found.why
    assert (found.role, found.barrier, found.stage, found.phase, found.iteration) == ("producer", "free", 0, 0, 0)
    assert found.sizes == {"M": 128, "N": 128, "K": 64}


def test_missing_bytes_are_counted() -> None:
    found = refuted(FAULTS["a copy on the next stage's barrier"].broken, "protocol")
    assert "filled[0]: 1 of 1 arrivals, 16384 of 32768 bytes are missing" in found.why


def test_an_overwrite_shows_the_copy_and_the_read() -> None:
    found = refuted(FAULTS["released before the products"].broken, "protocol")
    assert found.lines == (min(lines("hopper", "copy_bulk(a_s")), min(lines("hopper", "acc = mma")))
    assert found.sizes["K"] == 320
    assert found.trace[-1].startswith("producer: ")


def test_the_smallest_launch_is_shown() -> None:
    """Four stages: the fifth iteration is the first that can overwrite."""
    assert refuted(FAULTS["products never waited for"].broken, "protocol").sizes["K"] == 5 * 64


# Uniformity -------------------------------------------------------------------------------------------


def roles(schedule: dev.DeviceKernel, name: str, **new: object) -> dev.DeviceKernel:
    return replace(schedule, roles=tuple(replace(r, **new) if r.name == name else r for r in schedule.roles))  # type: ignore[arg-type]


def test_a_block_barrier_in_one_role() -> None:
    broken = edited(
        kernel("hopper"), lambda s: (dev.BlockBarrier(s.origin),) if isinstance(s, dev.RoleBarrier) else None
    )
    found = refuted(broken, "uniformity")
    assert found.kind == "divergence"
    assert found.line in lines("hopper", "role_barrier(1)")
    assert "384 threads" in found.why


def test_two_roles_with_one_barrier_number() -> None:
    """Both consumers of the ping pong meet under the same number."""
    both = edited(
        kernel("ping pong"),
        lambda s: (
            (s, dev.RoleBarrier(1, s.origin)) if isinstance(s, dev.Arrive) and s.barrier.endswith("done") else None
        ),
    )
    assert refuted(both, "uniformity").kind == "role-barrier"
    assert "REFUTED" not in {o.verdict for o in prove_protocol(kernel("ping pong")).obligations}


def test_a_barrier_number_that_is_not_there() -> None:
    broken = with_fields(kernel("hopper"), dev.RoleBarrier, None, {"number": 16})
    assert refuted(broken, "uniformity").line in lines("hopper", "role_barrier(1)")


def test_roles_whose_warps_overlap() -> None:
    assert refuted(roles(kernel("hopper"), "consumer", first_warp=3), "uniformity").kind == "role-warps"


def test_products_by_part_of_a_warpgroup() -> None:
    found = refuted(roles(kernel("hopper"), "consumer", first_warp=5, warps=7), "uniformity")
    assert found.kind == "divergence"
    assert "warpgroup" in found.why


def test_a_barrier_under_a_condition_of_each_thread() -> None:
    fragment = next(
        s.fragment for r in kernel("hopper").roles for s in dev.walk(r.grid.body)
        if isinstance(s, dev.Let) and s.fragment.layout is not None
    )  # fmt: skip
    broken = edited(
        kernel("hopper"),
        lambda s: (dev.If(fragment, (s,), (), (), s.origin),) if isinstance(s, dev.WgmmaCommit) else None,
    )
    assert refuted(broken, "uniformity").line in lines("hopper", "wgmma_commit()")


def test_a_barrier_under_loaded_data_is_unknown_where_roles_meet() -> None:
    """What another role cannot know decides whether it is met: not proved, not refuted."""
    fragment = next(s.fragment for r in kernel("hopper").roles for s in dev.walk(r.grid.body) if isinstance(s, dev.Let))
    one = replace(fragment, shape=(), layout=None, dtype="bool")
    broken = edited(
        kernel("hopper"), lambda s: (dev.If(one, (s,), (), (), s.origin),) if isinstance(s, dev.Arrive) else None
    )
    (obligation,) = [o for o in prove_protocol(broken).obligations if o.family == "protocol"]
    assert obligation.verdict == "UNKNOWN"
    assert "loaded data" in obligation.detail
