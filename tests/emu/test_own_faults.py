"""Code that does not do what its schedule does is the compiler's fault, and the check says so."""

from __future__ import annotations

import re

import pytest
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
from kernelagent.dsl.level2 import print_schedule
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.cuda import emit, units
from kernelagent.dsl.verify.own_faults import own_faults
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.translation import Budget, check_translation
from support.translation import Fault, faults

BUDGET = Budget(runs=30, seconds=30.0)
SOME = faults()[::6]


@pytest.mark.parametrize("fault", SOME, ids=[f.name.replace(" ", "-") for f in SOME])
def test_a_refuted_translation_is_a_fault_of_the_compiler(fault: Fault) -> None:
    """Of whichever level the text is: the schedule was proved, and the code is not it."""
    case = fault.schedule()
    found = check_translation(case, fault.arch, BUDGET, fault.body())
    for text in (case.shapes.text, print_schedule(case.kernel)):
        (said,) = own_faults(read_module(text), found)
        assert (said.code, said.severity, said.facts["family"]) == ("compiler-fault", "error", "translation")
        assert case.kernel.shape_class.name in said.message
        assert said.hint


def test_nothing_is_said_of_what_holds() -> None:
    case = SOME[0].schedule()
    found = check_translation(case, SOME[0].arch, Budget(runs=1))
    assert own_faults(case.shapes, found) == own_faults(case.shapes, Findings()) == ()


DOUBLED = """
edition(1)

@kernel
def doubled(x: In[f32, M, N], y: Out[f32, M, N], BM=16, BN=32):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), load(x, (i, j), (BM, BN)) * 2.0)
"""


@pytest.mark.parametrize("quick", [True, False])
def test_a_check_in_the_emulator_says_whose_fault_it_is(monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    """An emitter that computes something else: the text, its proofs and its schedules are all right."""
    right = emit.emit

    def wrong(kernel: object) -> str:
        return re.sub(r"\* 2(\.0+)?f", "* 3.0f", right(kernel))  # type: ignore[arg-type]

    assert wrong is not right
    monkeypatch.setattr(emit, "emit", wrong)
    monkeypatch.setattr(units, "emit", wrong)
    report = check_gpu(DOUBLED, "emu", GpuCalls(proofs="fresh"), quick=quick)
    assert (report.ok, report.verdict) == (False, "REFUTED")
    assert [d.code for d in report.diagnostics] == ["compiler-fault"]
    assert "doubled" in report.diagnostics[0].message
    assert report.diagnostics[0].span is not None
