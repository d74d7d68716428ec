"""Schedules that are wrong where no short run comes: none is proved. Each was, once."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.level2 import parse_schedule
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.families import Choice, argue
from kernelagent.dsl.verify.records import Findings, verdict_of
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.prove import prove
from support import heldout, mutants

STORE = "        store(c, (i, j), cast(acc, f16))"
MMA = "acc = mma(a_s[(k // 16) % 3]"
HALVES = "    d32 = distribution((32,), lanes=((4, -1, 0), (8, 0, 1), (2, -1, 0), (2, 0, 16)), values=((2, 0, 8),))\n"
BRANCH = "        if {}:\n            acc = acc * 1.0\n        else:\n            acc = acc * 2.0\n"

GEMM = {
    "a branch compares the place of the tile with a loop's end": ("if k + 32 < K:", "if i + 32 < K:", "races"),
    "a copy's stage follows the place": ("(k // 16 + 2) % 3], a,", "(k // 16 + 2 + i // 3200) % 3], a,", "races"),
    "a product's stage follows the place": (MMA, "acc = mma(a_s[(k // 16 + i // 3200) % 3]", "races"),
    "a stage repeats slowly": (MMA, "acc = mma(a_s[(k // 16 + k // 3200) % 3]", "races"),
    "a branch on a size": (STORE, BRANCH.format("M < 5000") + STORE, "flow"),
    "a branch on a loop's size": (STORE, BRANCH.format("K < 5000") + STORE, "flow"),
    "an exact last iteration": (STORE, BRANCH.format("K != 32") + STORE, "flow"),
    "a number of the place": (STORE, f"        acc = acc + cast(number(i // 5000, i32), f32)\n{STORE}", "flow"),
    "a narrower dtype": (STORE, f"        acc = cast(cast(acc, f8e4m3), f32)\n{STORE}", "accumulator"),
}  # fmt: skip


@cache
def gemm() -> tuple[str, Case]:
    return mutants.schedule("gemm_nn").text, mutants.base_case("gemm_nn")


def proved(case: Case, text: str, old: str, new: str) -> Findings:
    assert old in text
    return prove(replace(case, kernel=parse_schedule(text.replace(old, new))))


def not_proved(found: Findings, family: str) -> None:
    assert verdict_of(found.obligations) != "PROVED"
    assert any(o.family == family and o.verdict != "PROVED" for o in found.obligations), found.obligations


@pytest.mark.parametrize("name", GEMM)
def test_short_runs_do_not_stand_for_all(name: str) -> None:
    text, case = gemm()
    old, new, family = GEMM[name]
    not_proved(proved(case, text, old, new), family)


def test_an_integer_beyond_all_positions() -> None:
    text, case = gemm()
    masked = "where(stretch((coords(i, d32) < stretch(scalar(5000, i32), d32))[:, None], d32x32), acc, 0)"
    changed = text.replace("    d32x16 =", f"{HALVES}    d32x16 =")
    not_proved(proved(case, changed, STORE, f"        acc = {masked}\n{STORE}"), "flow")


def test_a_loop_in_a_loop_is_not_shown_by_one_trip_count() -> None:
    old = "            t_3 = sum(reshape(t_2, d4x4x64), axis=1)\n            barrier()\n"
    again = "acc = acc + sum(load_shared(value_parts_s, d4x64), axis=0) * stretch(scalar(0.0, f32), d64)"
    body = "".join(f"                {s}\n" for s in ("store_shared(value_parts_s, t_3)", "barrier()", again))
    new = f"{old}            for n in range(0, N, 4096):\n{body}            barrier()\n"
    not_proved(proved(mutants.base_case("column_sums"), mutants.schedule("column_sums").text, old, new), "races")


def test_elements_behind_a_threshold_are_missed() -> None:
    case, text = heldout.base_case("add_parts"), heldout.schedule("add_parts")
    line = next(x for x in text.split("\n") if x.strip().startswith("acc = acc + "))
    not_proved(proved(case, text, line, f"            if s < 40:\n    {line}"), "flow")


# Texts whose launches show little -------------------------------------------------------------------------


def made(text: str) -> tuple[str, Case]:
    case = list(cases(parse(text), Choices({}, {}, {}, {}), "sm_80"))[-1]
    return print_schedule(case.kernel), case


CLAMPED = """edition(1)

@kernel
def f(a: In[f32, M, K], b: In[f32, K, N], o: Out[f32, M, N]):
    for i, j in tiles((M, N), (32, 16)):
        acc = zeros((32, 16), f32)
        for k in range(0, K, 16):
            acc += mma(load(a, (i, k), (32, 16)), load(b, (k, j), (16, 16)))
        store(o, (i, j), minimum(maximum(acc, 0.0), 6.0))
"""
HALO = """edition(1)

@kernel
def f(a: In[f32, M], o: Out[f32, M]):
    for i in tiles((M,), (1,)):
        store(o, (i,), load(a, (i + 16,), (1,), fill=1))
"""
LARGEST = """edition(1)

@kernel
def f(a: In[f32, M, N], o: Out[f32, M]):
    for i in tiles((M,), (8,)):
        m = full((8,), -inf, f32)
        for j in range(0, N, 64):
            m = maximum(m, max(minimum(load(a, (i, j), (8, 64)), 1.0), axis=1))
        store(o, (i,), m)
"""


def test_clamped_values_are_not_forgotten() -> None:
    text, case = made(CLAMPED)
    assert verdict_of(prove(case).obligations) == "PROVED"
    not_proved(proved(case, text, "(i, k + 32)", "(i, k + 16)"), "flow")


def test_positions_outside_of_the_array_say_nothing() -> None:
    text, case = made(HALO)
    assert verdict_of(prove(case).obligations) == "PROVED"
    not_proved(proved(case, text, "i + 16", "i + 15"), "flow")


def test_one_element_too_many_for_a_largest() -> None:
    text, case = made(LARGEST)
    assert verdict_of(prove(case).obligations) == "PROVED"
    line = next(x for x in text.split("\n") if "coords(0" in x)
    not_proved(proved(case, text, line, line.replace(" < ", " <= ")), "flow")


# Kernels of tiles -----------------------------------------------------------------------------------------


def test_a_loop_that_may_have_no_step_does_not_cover() -> None:
    """Inside of a loop one knows that it has a step, and there M is at least 1."""
    text = """edition(1)

@kernel
def f(x: In[f32, M], o: Out[f32, 1]):
    for i in tiles((M,), (8,)):
        store(o, (i,), load(x, (0,), (8,), fill=0))
"""
    found = argue(parse(text), Choice({}, {}, {}), solver=True)
    assert [o.verdict for o in found if o.family == "coverage"] == ["UNKNOWN"]
