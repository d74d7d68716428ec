"""`aligned(x, 16)` takes arrays with padded rows: without a `divides` a wide access is cut by the end of a row."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import Placed, holds
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.pitches import pitch, strides
from kernelagent.dsl.verify.schedule.prove import prove

KERNEL = """edition(1)

@kernel
def gemm(a: In[f16, M, K], b: In[f16, K, N], c: Out[f16, M, N]):
    for i, j in tiles((M, N), (16, 16)):
        acc = zeros((16, 16), f32)
        for k in pipeline(0, K, 16):
            acc += mma(load(a, (i, k), (16, 16)), load(b, (k, j), (16, 16)))
        store(c, (i, j), cast(acc, f16))
"""
CHOICES = Choices({}, {}, {}, {})
MADE = next(cases(parse(KERNEL), CHOICES, "sm_80"))
GUARDS = {"K": "divides(K, 8), ", "N": ", divides(N, 8)"}


def without(dim: str) -> str:
    text = print_schedule(MADE.kernel)
    assert text.count(GUARDS[dim]) == 1
    return text.replace(GUARDS[dim], "")


def case_of(text: str) -> Case:
    return next(cases(read_module(text), CHOICES, "sm_80"))


@pytest.mark.parametrize("dim", GUARDS)
@pytest.mark.parametrize("compared", [True, False])
def test_rows_that_no_guard_makes_whole(dim: str, compared: bool) -> None:
    text = without(dim)
    alone = case_of(text)
    found = prove(replace(MADE, kernel=alone.kernel) if compared else alone)
    assert {c.family for c in found.counterexamples} == {"alignment"}
    for shown in found.counterexamples:
        assert shown.kind == "cut-vector"
        assert shown.sizes[dim] % 8
        assert "vector=8" in text.splitlines()[(shown.line or 0) - 1]


def test_with_the_guards_it_is_proved() -> None:
    found = prove(case_of(print_schedule(MADE.kernel)))
    assert {o.verdict for o in found.obligations if o.family == "alignment"} == {"PROVED"}


def test_a_pitch_is_what_the_class_takes() -> None:
    kernel = case_of(without("K")).kernel
    array = kernel.arrays[0]
    assert [pitch(kernel, array.name, n) for n in (1, 8, 44, 48)] == [8, 8, 48, 48]
    assert strides(kernel, array.name, (3, 5, 44)) == (240, 48, 1)
    assert strides(kernel, array.name, (44,)) == (1,)
    guard = next(g for g in kernel.shape_class.guards if (g.kind, g.subject) == ("aligned", array.name))
    padded = {array.name: Placed(0, (5, 44), strides(kernel, array.name, (5, 44)))}
    assert holds(guard, kernel.arrays, padded, {})
    assert not holds(guard, kernel.arrays, {array.name: Placed(0, (5, 44), (44, 1))}, {})
