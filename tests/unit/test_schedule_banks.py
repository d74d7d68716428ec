"""Bank conflicts, sectors and resources of schedules: counted, and counted again another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.swizzle import Swizzle
from kernelagent.dsl.swizzle import bank_conflicts as by_rank
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.banks import Requests, bank_conflicts, conflicts, prove_banks
from kernelagent.dsl.verify.schedule.cases import Case, cases
from kernelagent.dsl.verify.schedule.coalescing import large, prove_coalescing, touched
from kernelagent.dsl.verify.schedule.limits import prove_resources
from support.level2_texts import TEXTS
from support.mutants import bases, schedule


def case(text: str) -> Case:
    module = read_module(text)
    return next(cases(module, Choices({}, {}, {}, {}), module.schedule.target))  # type: ignore[attr-defined]


def without_swizzle(kernel: dev.DeviceKernel) -> dev.DeviceKernel:
    return replace(kernel, buffers=tuple(replace(b, swizzle=None) for b in kernel.buffers))


@settings(max_examples=200)
@given(
    st.sampled_from([4, 8, 16]),
    st.lists(st.integers(0, 11), min_size=5, max_size=5),
    st.sampled_from([Swizzle(0, 0, 0), Swizzle(3, 4, 3), Swizzle(2, 4, 3), Swizzle(3, 4, 4), Swizzle(1, 4, 3)]),
)
def test_counting_agrees_with_rank(width: int, steps: list[int], swizzle: Swizzle) -> None:
    """Lane bits go to any bits of the address: `swizzle.bank_conflicts` decides by the rank over GF(2)."""

    def address(lane: int) -> int:
        found = 0
        for bit, step in enumerate(steps):
            found ^= (width << step) * (lane >> bit & 1)
        return int(swizzle(found))

    made = Requests(np.array([[address(lane) for lane in range(32)]]), width)
    assert conflicts(made)[0] == by_rank(address, width)


def test_a_tile_of_64_bf16_conflicts_eight_times_without_its_swizzle() -> None:
    """8 rows 128 bytes apart begin in the same bank."""
    kernel = case(TEXTS["attention"]).kernel
    assert {s.degree for s in bank_conflicts(kernel)} == {1}
    bare = {(s.buffer, s.what): s for s in bank_conflicts(without_swizzle(kernel))}
    fetched = bare["q_s", "fetches of operand a"]
    assert (fetched.degree, fetched.lanes) == (8, tuple(range(8)))
    assert bare["q_s", "copies"].degree == 1


def test_padding_by_a_bank_mends_columns() -> None:
    kernel = without_swizzle(case(TEXTS["transpose"]).kernel)
    padded = replace(kernel, buffers=tuple(replace(b, pad=4) for b in kernel.buffers))
    loads = [max(s.degree for s in bank_conflicts(k) if s.what == "loads") for k in (kernel, padded)]
    assert loads[0] > loads[1]


@pytest.mark.parametrize("name", bases())
def test_every_schedule_is_counted(name: str) -> None:
    made = case(schedule(name).text)
    found = [*prove_banks(made.kernel, name), *prove_coalescing(made, name), *prove_resources(made.kernel, name)]
    assert {o.verdict for o in found} == {"PROVED"}
    for served in bank_conflicts(made.kernel):
        assert 1 <= served.degree <= 32
        assert (served.degree == 1) or len(served.lanes) > 1


def test_only_a_claim_refutes() -> None:
    made = case(TEXTS["transpose"])
    assert {o.verdict for o in prove_banks(made.kernel, "")} == {"PROVED"}
    refuted = [o for o in prove_banks(made.kernel, "", most=2) if o.verdict == "REFUTED"]
    assert [o.line for o in refuted] == [16]
    assert "4 turns" in refuted[0].detail
    assert {o.verdict for o in prove_banks(made.kernel, "", most=4)} == {"PROVED"}


def test_sectors_of_strided_rows() -> None:
    """Rows of 8 bytes a thread group in 32-byte sectors waste three quarters."""
    made = case(TEXTS["gemm"])
    sizes = large(made)
    assert sizes is not None
    stores = [t for t in touched(made.kernel, sizes) if t.word == "stores"]
    assert [t.ratio for t in stores] == [2.0]  # 16 bytes of each row: half a sector
    assert [o.verdict for o in prove_coalescing(made, "", most=1.0) if o.line == stores[0].line] == ["REFUTED"]


def test_resources_have_numbers_and_limits() -> None:
    kernel = case(TEXTS["hopper"]).kernel
    (shown,) = prove_resources(kernel, "")
    assert "163904 of 232448 bytes of shared memory" in shown.detail
    assert "64512 of 65536 registers" in shown.detail
    larger = replace(kernel, buffers=tuple(replace(b, offset=b.offset + 100_000) for b in kernel.buffers))
    assert prove_resources(larger, "")[0].verdict == "REFUTED"
