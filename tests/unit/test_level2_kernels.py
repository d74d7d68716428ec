"""Every kernel that must compile to good GPU code: its schedule is well formed, and its print is the schedule."""

from __future__ import annotations

import pytest
from kernelagent.dsl.level2 import print_schedule
from support.gpu_cases import CASES
from support.level2_kernels import check_print, codes

NAMES = [(case.name, "sm_89" if "fp8" in case.name else "sm_80") for case in CASES]


@pytest.mark.parametrize(("name", "target"), NAMES, ids=[n for n, _ in NAMES])
def test_schedules_are_well_formed_and_their_print_compiles_to_the_same_text(name: str, target: str) -> None:
    for code in codes(name, target):
        check_print(code)


def test_the_print_is_short_and_shows_the_ring() -> None:
    printed = print_schedule(codes("gemm_nt_bf16", "sm_80")[0].schedule)
    body = printed[printed.index("    for ") :].splitlines()
    assert len(body) <= 30
    assert any("a_s[(k // 32) % 3]" in line and line.lstrip().startswith("acc = mma(") for line in body)
    assert all(word in printed for word in ("copy_async(", "commit()", "wait_group(", "barrier()", "# line "))
