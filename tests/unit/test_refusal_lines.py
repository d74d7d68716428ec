"""Refusals and deadlocks name both parties by line, not only the declaration or who is stuck first."""

from __future__ import annotations

import pytest
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove
from support import heldout2

TEXTS = {case.key: case.text for case in heldout2.cases() if case.level == 2}


def line(text: str, part: str) -> int:
    return next(n for n, said in enumerate(text.splitlines(), 1) if part in said)


def refusal(text: str) -> str:
    with pytest.raises(KernelError) as refused:
        read_module(text)
    return str(refused.value.diagnostics[0].hint)


def test_overlapping_buffers_name_the_two_uses() -> None:
    text = TEXTS["level2/bmm_sm80/no-barrier-before-epilogue"]
    first, second = line(text, "acc = mma("), line(text, "store_shared(value_turn_s")
    assert f"between lines {first} and {second}" in refusal(text)


def test_barriers_that_are_not_visible_name_the_last_init() -> None:
    text = TEXTS["level2/bmm_sm90a/init-not-fenced"]
    last = max(n for n, said in enumerate(text.splitlines(), 1) if "barrier_init(" in said)
    assert f"line {last}" in refusal(text)


def test_a_deadlock_names_a_wait_of_each_role() -> None:
    text = TEXTS["level2/attention_sm90a/phase-of-last-values"]
    found = prove(next(cases(read_module(text), Choices({}, {}, {}, {}), "sm_90a")))
    stuck = next(c for c in found.counterexamples if c.kind == "deadlock")
    assert set(stuck.lines) == {
        line(text, "wait(v_s_empty"),
        line(text, "wait(v_s_full[(j_count + 1) % 2], (j_count // 2)"),
    }
