"""Sums of 8-bit floats on two levels: when, how, what the report says, and what policy may ask for."""

from __future__ import annotations

import re

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.level2_kernels import check_print

GEMM = """edition(1)

@kernel
def gemm(a: In[{dtype}, M, K], w: In[{dtype}, N, K], c: Out[f32, M, N], BM=128, BN={columns}, BK={step}):
    {policy}
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        store(c, (i, j), acc)
"""


def lowered(policy: str = "", *, dtype: str = "f8e4m3", step: int = 128, columns: int = 128) -> DeviceCode:
    text = GEMM.format(policy=policy, dtype=dtype, step=step, columns=columns)
    return device_units(parse(text), Choices({}, {}, {}, {}), "sm_90a")[0].classes[0]


def loop(code: DeviceCode) -> dev.For:
    """The consumers' loop over k."""
    body = code.schedule.roles[-1].grid.body
    return next(s for s in body if isinstance(s, dev.For))


def sums(code: DeviceCode) -> str:
    (line,) = [f"{c.chosen} ({c.reason})" for c in code.schedule.choices if c.subject.startswith("sums of")]
    return line


def refusal(policy: str, step: int = 128, columns: int = 128) -> Diagnostic:
    with pytest.raises(KernelError) as caught:
        lowered(policy, step=step, columns=columns)
    return caught.value.diagnostics[0]


def test_each_step_of_128_elements_begins_a_sum_that_is_added_in_f32() -> None:
    code = lowered()
    product = next(s for s in loop(code).body if isinstance(s, dev.Let) and isinstance(s.operation, dev.Mma))
    carried = {c.inside.number for c in loop(code).carried}
    assert isinstance(product.operation, dev.Mma)
    assert product.operation.acc.number not in carried
    assert "every 4 k-steps" in sums(code)
    assert "about 14 bits" in sums(code)
    check_print(code)


def test_the_first_instruction_of_such_a_sum_does_not_read_it() -> None:
    """Scale-d is a template argument: 0 begins, the default adds."""
    calls = re.findall(r"ka_wgmma_m64n128k32_e4m3(<0>)?\(", lowered().body)
    assert calls == ["<0>", "", "", ""]
    assert "<0>" not in "".join(re.findall(r"ka_wgmma_m64n128k32_e4m3\S*\(", lowered("on(sm_90a, promote=0)").body))


def test_shorter_steps_carry_both_sums() -> None:
    code = lowered(step=64)
    branch = next(s for s in loop(code).body if isinstance(s, dev.If))
    assert len(loop(code).carried) == len(branch.merged) == 2
    assert "every 4 k-steps" in sums(code)
    check_print(code)


def test_the_stage_goes_back_before_the_sums_are_added() -> None:
    words = [type(s.operation if isinstance(s, dev.Let) else s) for s in loop(lowered()).body]
    assert words.index(dev.Arrive) < words.index(dev.Pointwise)
    assert words.index(dev.WgmmaWait) < words.index(dev.Arrive)


def test_policy_chooses_the_number_of_steps_or_one_level() -> None:
    assert "every 8 k-steps" in sums(lowered("on(sm_90a, promote=8)"))
    one = lowered("on(sm_90a, promote=0)")
    assert sums(one).startswith("on one level (policy promote=0")
    assert any(isinstance(s, dev.WgmmaWait) and s.pending == 1 for s in loop(one).body)  # steps overlap again


def test_what_does_not_divide_is_dropped_or_refused_with_the_nearest() -> None:
    code = lowered("on(promote=3)")
    assert any(c.subject == "policy promote=3" and c.chosen == "dropped" for c in code.schedule.choices)
    found = refusal("require(promote=3)")
    assert found.code == "policy-refused"
    assert "promote=4" in (found.hint or "")


def test_tiles_too_large_for_both_sums_keep_one() -> None:
    assert sums(lowered(columns=256)).startswith("on one level (two levels take about 296 registers")
    assert "registers" in refusal("require(promote=4)", columns=256).message


def test_other_sums_are_left_alone() -> None:
    code = lowered(dtype="bf16", step=64)
    assert not [c for c in code.schedule.choices if c.subject.startswith("sums of")]
    with pytest.raises(KernelError, match="8-bit floats"):
        lowered("require(promote=4)", dtype="bf16", step=64)


@pytest.mark.parametrize("value", ["-1", "65", "True", "'all'"])
def test_values_that_mean_nothing_are_refused(value: str) -> None:
    assert refusal(f"on(sm_90a, promote={value})").code == "policy-value"
