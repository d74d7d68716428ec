"""States that differ in which stage comes next are one, where everything about stages is counted alike."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.counts import several_lengths
from kernelagent.dsl.verify.schedule.order import examine
from kernelagent.dsl.verify.schedule.turning import Turning
from support.faults import FOLDER

TEXT = (FOLDER / "hopper_gemm.tile").read_text(encoding="utf-8")


def read(text: str) -> Case:
    module = read_module(text)
    return next(cases(module, Choices({}, {}, {}, {}), module.schedule.target))


def turning(text: str) -> Turning:
    return read(text).merged.turning


def test_barriers_and_buffers_of_one_counter_are_a_ring() -> None:
    (ring,) = turning(TEXT).rings
    kernel = read(TEXT).kernel
    deep = [b.stages for b in kernel.buffers if b.stages > 1]
    assert deep
    assert {ring.stages[b.name] for b in kernel.buffers if b.stages > 1} == set(deep)
    assert turning(TEXT).span == 2 * deep[0]  # parities come back after two rounds


def test_turns_permute_places_and_come_back() -> None:
    made = turning(TEXT)
    (ring,) = made.rings
    for n in range(made.span):
        turned = made.of({ring.counter: n})
        assert sorted(turned.order.tolist()) == list(range(len(turned.order)))
    whole = made.of({ring.counter: made.span})
    assert (whole.order == np.arange(len(whole.order))).all()


def test_a_turned_stage_is_the_one_that_the_counter_would_name() -> None:
    """At n the stage `(n + d) % S` with its phase is what `d % S` is at 0."""
    made = turning(TEXT)
    (ring,) = made.rings
    name, stages = next((n, s) for n, s in ring.stages.items() if s > 1)
    for n, d in itertools.product(range(made.span), range(stages)):
        to, wrap = made.of({ring.counter: n}).stage(name, (n + d) % stages)
        assert to == d % stages
        phase = (n + d) // stages
        assert (phase + wrap) % 2 == d // stages % 2


def changed(old: str, new: str) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, 1)


def counter() -> str:
    return turning(TEXT).rings[0].counter


def test_nothing_is_turned_where_a_branch_asks_for_the_counter() -> None:
    head = next(line for line in TEXT.splitlines() if "wait(" in line and counter() in line)
    indent = head[: len(head) - len(head.lstrip())]
    branch = f"{indent}if {counter()} > 0:\n{indent}    {head.strip()}\n{indent}else:\n{indent}    {head.strip()}"
    assert turning(changed(head, branch)).rings == ()


def test_nothing_is_turned_where_a_stage_is_skipped() -> None:
    (ring,) = turning(TEXT).rings
    name, stages = next((n, s) for n, s in ring.stages.items() if f"{n}[{ring.counter} % {s}]" in TEXT)
    assert turning(changed(f"{name}[{ring.counter} % {stages}]", f"{name}[2 * {ring.counter} % {stages}]")).rings == ()


@pytest.mark.parametrize("name", ["gemm_persistent", "gemm_nt"])
def test_kernels_without_counters_stay_as_they_are(name: str) -> None:
    case = read((FOLDER / f"{name}.tile").read_text(encoding="utf-8"))
    assert case.merged.turning.rings == ()
    assert examine(case).reason == ""


TWO_LOOPS = """edition(1)
level(2)

@kernel
def sums(a: In[f32, K, M], b: In[f32, {second}, M], c: Out[f32, M]):
    schedule(sm_80, threads=128)
    d = distribution((128,), lanes=((128, 0, 1),), values=())
    s = shared(f32, (128,), offset=0)
    for i in tiles((M,), (128,)):
        acc = full(d, 0.0, f32)
        for k in range(0, K, 1):
            store_shared(s, load(a[k], (i,), d, fill=0.0))
            barrier()
            acc = acc + load_shared(s, d)
            barrier()
        for l in range(0, {second}, 1):
            store_shared(s, load(b[l], (i,), d, fill=0.0))
            barrier()
            acc = acc + load_shared(s, d)
            barrier()
        store(c, (i,), acc)
"""


def test_one_count_does_not_stand_for_loops_over_two_dims() -> None:
    assert several_lengths(read(TWO_LOOPS.format(second="K")).kernel) == ""
    other = read(TWO_LOOPS.format(second="L"))
    assert "lengths of their own" in several_lengths(other.kernel)
    assert "lengths of their own" in examine(other).reason
