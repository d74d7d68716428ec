"""Faults of emission that no proof of the schedule can see: the translation check finds them."""

from __future__ import annotations

import pytest
from kernelagent.dsl.verify.records import DeviceCounterexample
from kernelagent.dsl.verify.translation import Budget, check_translation
from support.translation import Fault, faults

FAULTS = faults()
BUDGET = Budget(runs=60, seconds=60.0)


@pytest.mark.parametrize("fault", FAULTS, ids=[f.name.replace(" ", "-") for f in FAULTS])
def test_fault_of_emission_is_found(fault: Fault) -> None:
    found = check_translation(fault.schedule(), fault.arch, BUDGET, fault.body())
    (obligation,) = found.obligations
    assert (obligation.family, obligation.verdict) == ("translation", "REFUTED"), obligation.detail
    first = found.counterexamples[0]
    assert isinstance(first, DeviceCounterexample)
    assert first.line in {n for n, _ in enumerate(fault.schedule().shapes.text.splitlines(), 1)}
    assert first.element or first.place, "says where"
    if fault.decoded:
        assert " comes from " in first.message
        assert isinstance(first.expected, str)


def test_list_covers_the_kinds_of_code() -> None:
    assert len(FAULTS) >= 45
    assert {f.case.partition("_")[0] for f in FAULTS} >= {"gemm", "attention", "softmax", "transpose", "column"}
    assert {f.arch for f in FAULTS} == {"sm_80", "sm_89", "sm_90a"}
