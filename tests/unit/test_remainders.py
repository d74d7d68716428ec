"""A loop over a part of a dim: its trip counts are found, and a launch cuts its last step behind a whole ring."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from kernelagent.dsl import parse
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from kernelagent.dsl.verify.schedule.remainders import uncut
from kernelagent.dsl.verify.schedule.sizes import by_trips, steps

KERNEL = """edition(1)

@kernel
def split(a: In[f16, M, K], w: In[f16, K, N], y: Acc[f32, M, N]):
    for s, i, j in tiles((4, M, N), (1, 16, 16)):
        acc = zeros((16, 16), f32)
        for k in pipeline(s * K // 4, (s + 1) * K // 4, 16):
            hi = (s + 1) * K // 4
            acc += mma(load(a[:, 0:hi], (i, k), (16, 16)), load(w[0:hi], (k, j), (16, 16)))
        atomic_add(y, (i, j), acc)
"""
END = "minimum((K * s + K) // 4, K)"
RUNS_ON = (f"view(a, (M, {END}), at=(axis(0), axis(1))), (i, k + 32)", "a, (i, k + 32)")
RUNS_ON_TOO = (f"view(w, ({END}, N), at=(axis(0), axis(1))), (k + 32, j)", "w, (k + 32, j)")


@cache
def split() -> Case:
    return next(cases(parse(KERNEL), Choices({}, {}, {}, {}), "sm_80"))


def edited(*edits: tuple[str, str]) -> Case:
    text = print_schedule(split().kernel)
    for old, new in edits:
        assert text.count(old) == 1, text
        text = text.replace(old, new)
    return replace(split(), kernel=parse_schedule(text))


def test_a_quarter_of_a_dim_grows_by_four_steps() -> None:
    assert steps(split().kernel) == {"K": 64}
    assert sorted(by_trips(split(), 12)) == list(range(13))


def test_whole_parts_are_told_from_cut_ones() -> None:
    case = split()
    whole = {"M": 16, "K": 64 * 6, "N": 16}
    (_, cut), *_ = uncut(case, [whole])
    assert cut["K"] > 64 * 3
    assert cut["K"] // 4 % 16
    assert not list(uncut(case, [whole, cut]))


def test_copies_that_run_on_are_refuted_and_one_operand_may() -> None:
    found = prove(edited(RUNS_ON, RUNS_ON_TOO))
    assert {c.family for c in found.counterexamples} == {"flow"}
    assert not prove(edited(RUNS_ON_TOO)).counterexamples


def test_the_order_of_parts_is_shown_for_all_trip_counts() -> None:
    found = prove(split())
    assert {o.verdict for o in found.obligations if o.family in ("races", "completion", "definedness")} == {"PROVED"}
