"""Data flow of schedules that no kernel stands beside: elements carry their coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.records import Findings, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.domains.tags import MIXED, NONE, consumed, joined
from kernelagent.dsl.verify.schedule.prove import prove
from support.level2_texts import TEXTS

COORDINATES = st.sampled_from([NONE, MIXED, 0, 1, 7])


def case(text: str) -> Case:
    module = read_module(text)
    return next(cases(module, Choices({}, {}, {}, {}), module.schedule.target))  # type: ignore[attr-defined]


def flow(text: str) -> Findings:
    found = prove(case(text), quick=True)
    return Findings(tuple(o for o in found.obligations if o.family == "flow"), found.counterexamples)


def replaced(name: str, *pairs: tuple[str, str]) -> str:
    text = TEXTS[name]
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


@given(COORDINATES, COORDINATES, COORDINATES)
def test_elements_meet_in_any_order(a: int, b: int, c: int) -> None:
    x, y, z = (np.array([n]) for n in (a, b, c))
    assert joined(x, y) == joined(y, x)
    assert joined(joined(x, y), z) == joined(x, joined(y, z))
    assert joined(x, np.array([NONE])) == x


def test_a_reduction_uses_up_what_differs() -> None:
    tags = np.array([[[0, 1, 2], [3, 3, 3]]])
    assert consumed(tags, 1).tolist() == [[NONE, 3]]


@pytest.mark.parametrize("name", ["gemm", "softmax", "transpose", "attention", "cluster"])
def test_schedules_are_proved_without_a_kernel(name: str) -> None:
    found = flow(TEXTS[name])
    assert found.obligations
    assert {o.verdict for o in found.obligations} == {"PROVED"}
    assert not found.counterexamples


def counterexample(text: str, kind: str) -> ScheduleCounterexample:
    found = [c for c in flow(text).counterexamples if isinstance(c, ScheduleCounterexample)]
    assert {c.family for c in found} == {"flow"}
    return next(c for c in found if c.kind == kind)


def test_operands_of_different_k() -> None:
    """The ring of w is filled one tile late behind the prologue."""
    text = TEXTS["gemm"]
    lines = text.splitlines()
    at = max(n for n, line in enumerate(lines) if "copy_async(w_ring" in line)
    lines[at] = lines[at].replace("(j, k", "(j, k + 32")
    assert lines[at] != text.splitlines()[at]
    shown = counterexample("\n".join(lines) + "\n", "other-k")
    assert shown.expected is not None
    assert shown.expected != shown.found
    assert "mma(" in lines[(shown.line or 0) - 1]
    assert shown.lane is not None


def test_rows_that_change_places() -> None:
    text = replaced("transpose", ("load_shared(turn.T, columns)", "load_shared(turn, columns)"))
    shown = counterexample(text, "misplaced")
    assert (shown.array, shown.expected != shown.found) == ("y", True)


def test_a_whole_shift_may_be_meant() -> None:
    """Token shift is a kernel too: that every element comes from its neighbour is told, not refuted."""
    text = """
edition(1)
level(2)

@kernel
def shifted(x: In[f32, M, N], y: Out[f32, M, N]):
    schedule(sm_80, threads=32)
    shape_class("general")
    row = distribution((1, 32), lanes=((32, 1, 1),), values=())

    for i, j in tiles((M, N), (1, 32)):
        store(y, (i, j), load(x, (i, j + 1), row, fill=0.0))
"""
    found = flow(text)
    assert not found.counterexamples
    assert [o.verdict for o in found.obligations] == ["UNKNOWN", "PROVED"]
    assert "+1 from its place along N" in found.obligations[0].detail


def test_sums_that_leave_k_out_are_not_proved() -> None:
    text = TEXTS["attention"]
    found = flow(text.replace("range(0, N, 64)", "range(0, minimum(N, 64), 64)"))
    assert not found.counterexamples
    open_ = [o for o in found.obligations if o.verdict == "UNKNOWN"]
    assert open_
    assert "leave parts" in open_[0].detail


SUMS = """
edition(1)
level(2)

@kernel
def sums(x: In[f32, M, N], y: Out[f32, M]):
    schedule(sm_80, threads=32)
    shape_class("general")
    row = distribution((1, 64), lanes=((32, 1, 1),), values=((2, 1, 32),))
    one = distribution((1,), lanes=((32, -1, 0),), values=())

    for i in tiles((M,), (1,)):
        acc = full(one, 0.0, f32)
        for j in range(0, N, 64):
            acc = acc + sum(load(x, (i, j), row, fill=0.0), axis=1)
        store(y, (i,), acc)
"""


@pytest.mark.parametrize(
    ("place", "verdict", "said"),
    [
        ("j", "PROVED", "every element along N is taken exactly once"),
        ("j // 128 * 64", "UNKNOWN", "some elements along N are taken twice"),
        ("j // 2", "UNKNOWN", "some elements along N are taken twice"),
        ("2 * j", "PROVED", "none takes an element along N twice"),
    ],
)
def test_reductions_take_each_element_once(place: str, verdict: str, said: str) -> None:
    text = SUMS.replace("(i, j), row", f"(i, {place}), row")
    found = flow(text)
    assert not found.counterexamples  # a sum of some elements is a kernel too
    (shown,) = [o for o in found.obligations if o.line == SUMS.splitlines().index(SUM) + 1]
    assert shown.verdict in (verdict, "PROVED_BOUNDED" if verdict == "PROVED" else verdict)
    assert said in shown.detail


SUM = "            acc = acc + sum(load(x, (i, j), row, fill=0.0), axis=1)"


def test_results_that_meet_again_are_no_second_taking() -> None:
    """The same sum twice in one formula: a mean in a variance."""
    text = SUMS.replace("        store(y, (i,), acc)", "        store(y, (i,), acc * acc + acc)")
    assert all(o.verdict != "UNKNOWN" for o in flow(text).obligations if o.line)


@pytest.mark.parametrize("name", ["ragged", "scatter"])
def test_nothing_is_guessed_of_index_data(name: str) -> None:
    """Which positions an array may hold stands in a level-one text."""
    found = prove(case(TEXTS[name]))
    assert not found.counterexamples
    assert "REFUTED" not in {o.verdict for o in found.obligations}
    assert "PROVED" not in {o.verdict for o in found.obligations if o.family == "flow"}
