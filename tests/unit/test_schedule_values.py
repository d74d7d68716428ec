"""Values that finite fields carry through a schedule besides sums: integers made of floats, positions, what stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove

ROUNDED = """edition(1)

@kernel
def f(x: In[f32, M, N], y: Out[i32, M, N], BM=4, BN=32):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), cast({value}, i32))
"""
LARGEST = """edition(1)

@kernel
def f(x: In[f32, M, N], at: Out[i32, M], BM=4):
    assume(N <= 64)
    for i in tiles((M,), (BM,)):
        store(at, (i,), {word}(load(x, (i, 0), (BM, 64)), axis=1))
"""
SCATTERED = """edition(1)

@kernel
def f(x: In[f32, M, N], rows: In[i32, M], y: InOut[f32, P, N], BM=4, BN=32):
    assume(0 <= rows < P, distinct(rows))
    for i, j in tiles((M, N), (BM, BN)):
        at = load(rows, (i,), (BM,))
        scatter(y, (at, j), load(x, (i, j), (BM, BN)){change})
"""
ENDED = """edition(1)

@kernel
def f(n: i32, x: In[f32, M, K], y: Out[f32, M], BM=4, BK=32):
    for i in tiles((M,), (BM,)):
        total = zeros((BM,), f32)
        for k in pipeline(0, minimum({end}, K), BK):
            total += sum(load(x, (i, k), (BM, BK)), axis=1)
        store(y, (i,), total)
"""
PAIRS = [
    (ROUNDED.format(value="load(x, (i, j), (BM, BN))"), ROUNDED.format(value="-load(x, (i, j), (BM, BN))")),
    (LARGEST.format(word="argmax"), LARGEST.format(word="argmin")),
    (SCATTERED.format(change=""), SCATTERED.format(change=" * 2.0")),
    (ENDED.format(end="n"), ENDED.format(end="n + 32")),
]


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("text", "other"), PAIRS, ids=["cast", "argmax", "scatter", "integer"])
def test_a_schedule_is_its_own_kernel_and_no_other(text: str, other: str, arch: str) -> None:
    """No schedule is refuted against its kernel, every one against a kernel that is another by a little."""
    for case in cases(parse(text), Choices({}, {}, {}, {}), arch):
        found = prove(case, quick=True)
        assert not found.counterexamples
        assert {o.verdict for o in found.obligations if o.family == "flow"} <= {"PROVED", "PROVED_BOUNDED"}
        wrong = prove(replace(case, oracle=parse(other)), quick=True)
        assert {o.family for o in wrong.obligations if o.verdict == "REFUTED"} == {"flow"}


def test_a_place_made_of_floats_is_tested_with_floats() -> None:
    """Integers made of field numbers are no places."""
    text = SCATTERED.format(change="").replace(
        "load(rows, (i,), (BM,))", "cast(cast(load(rows, (i,), (BM,)), f32), i32)"
    )
    for case in cases(parse(text), Choices({}, {}, {}, {}), "sm_80"):
        found = prove(case, quick=True)
        assert not found.counterexamples
        assert [o.verdict for o in found.obligations if o.family == "flow"] == ["TESTED"]
