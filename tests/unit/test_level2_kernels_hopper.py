"""Every kernel on Hopper, and every rung of its ladder: the schedule is well formed, and its print is the schedule."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.level2 import print_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units
from support.gpu_cases import CASES
from support.level2_kernels import check_print, codes

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_schedules_are_well_formed_and_their_print_compiles_to_the_same_text(name: str) -> None:
    for code in codes(name, "sm_90a"):
        check_print(code)


@pytest.mark.parametrize("path", sorted(LADDER.glob("*.tile")), ids=lambda p: p.stem)
def test_every_rung_of_the_ladder_is_a_schedule_that_can_be_edited(path: Path) -> None:
    module = parse(path.read_text(encoding="utf-8"))
    choices = Choices(dict.fromkeys(module.entry.dtype_variables, "bf16"), {}, {}, {})
    for code in device_units(module, choices, "sm_90a")[0].classes:
        check_print(code)


def test_the_print_of_roles_is_short_and_shows_both_rings() -> None:
    printed = print_schedule(codes("gemm_nt_bf16", "sm_90a")[0].schedule)
    body = printed[printed.index("    barrier_init(") :].splitlines()
    assert len(body) <= 45
    assert 'with role("producer", warps=(0, 4), registers=40):' in printed
    assert any(line.lstrip().startswith("copy_bulk(a_s[k_count % ") for line in body)
    assert all(word in printed for word in ("mbarrier(", "expect(k_full[", "arrive(k_empty[", "store_bulk(c, (i, j)"))
