"""Where the lanes of a warp must meet before one of them arrives for all."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.targets.cuda.arrivals import unordered_arrivals
from kernelagent.dsl.targets.cuda.emit import emit
from support.handed_over import HANDED_OVER


def emitted(meeting: str) -> str:
    return emit(parse_schedule(HANDED_OVER.replace("MEET", meeting)))


def test_lanes_meet_before_one_arrives_for_what_all_stored() -> None:
    text = emitted("fence_async()")
    assert text.count("ka_warp_barrier();") == 1
    code = [line.strip() for line in text.splitlines() if not line.startswith("#line")]
    assert code[code.index("ka_warp_barrier();") + 1] == "if ((tid & 31) == 0) ka_mbar_arrive(16384);"


def test_a_barrier_of_the_role_is_a_meeting() -> None:
    assert "ka_warp_barrier" not in emitted("role_barrier(1)")


def test_a_loop_comes_round() -> None:
    kernel = parse_schedule(HANDED_OVER.replace("MEET", "fence_async()"))
    body = kernel.roles[0].grid.body
    arrival = body[-1]
    assert isinstance(arrival, dev.Arrive)
    turned = (arrival, *body[:-1])
    assert unordered_arrivals(turned) == set()
    assert unordered_arrivals(turned, again=True) == {id(arrival)}
    assert unordered_arrivals(turned, apart=True) == {id(arrival)}
