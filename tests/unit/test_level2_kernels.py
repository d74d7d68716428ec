"""Every kernel that must compile to good GPU code: its schedule is well formed, and its print is the schedule."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.level2 import normal_form, parse_schedule, print_schedule, verify, without_origins
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.gpu_cases import CASES, Case

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"
ONCE = {"gemm_nt_f16", "gemm_nn_bf16", "gemm_tt_f16"}
"""Cases whose like is there; the rest runs on both kinds of chip."""
NAMES = [(case.name, "sm_89" if "fp8" in case.name else "sm_80") for case in CASES]
NAMES += [(case.name, "sm_90a") for case in CASES if case.name not in ONCE]


@cache
def codes(name: str, target: str) -> tuple[DeviceCode, ...]:
    """The case's kernels, aligned and general."""
    case: Case = next(c for c in CASES if c.name == name)
    choices = Choices(dict(case.dtypes), {}, {}, dict(case.shapes[0].dims))
    units = device_units(parse(case.text), choices, target)
    return tuple(code for unit in units for code in unit.classes)


def lines(body: str) -> list[str]:
    """Emitted lines without line marks and the report."""
    return [line for line in body.splitlines() if not line.lstrip().startswith(("#line", "//"))]


@pytest.mark.parametrize(("name", "target"), NAMES, ids=[f"{n}-{t}" for n, t in NAMES])
def test_schedules_are_well_formed_and_their_print_compiles_to_the_same_text(name: str, target: str) -> None:
    for code in codes(name, target):
        schedule = code.schedule
        assert verify(schedule) == []
        assert normal_form(schedule) == schedule
        parsed = parse_schedule(print_schedule(schedule))
        assert without_origins(parsed) == without_origins(schedule)
        assert lines(emit(parsed)) == lines(code.body)


@pytest.mark.parametrize("path", sorted(LADDER.glob("*.tile")), ids=lambda p: p.stem)
def test_every_rung_of_the_ladder_is_a_schedule_that_can_be_edited(path: Path) -> None:
    module = parse(path.read_text(encoding="utf-8"))
    choices = Choices(dict.fromkeys(module.entry.dtype_variables, "bf16"), {}, {}, {})
    for code in device_units(module, choices, "sm_90a")[0].classes:
        assert verify(code.schedule) == []
        parsed = parse_schedule(print_schedule(code.schedule))
        assert without_origins(parsed) == without_origins(code.schedule)
        assert lines(emit(parsed)) == lines(code.body)


def test_the_print_is_short_and_shows_the_ring() -> None:
    printed = print_schedule(codes("gemm_nt_bf16", "sm_80")[0].schedule)
    body = printed[printed.index("    for ") :].splitlines()
    assert len(body) <= 30
    assert any("a_s[(k // 32) % 3]" in line and line.lstrip().startswith("acc = mma(") for line in body)
    assert all(word in printed for word in ("copy_async(", "commit()", "wait_group(", "barrier()", "# line "))


def test_the_print_of_roles_is_short_and_shows_both_rings() -> None:
    printed = print_schedule(codes("gemm_nt_bf16", "sm_90a")[0].schedule)
    body = printed[printed.index("    barrier_init(") :].splitlines()
    assert len(body) <= 45
    assert 'with role("producer", warps=(0, 4), registers=40):' in printed
    assert any(line.lstrip().startswith("copy_bulk(a_s[k_count % ") for line in body)
    assert all(word in printed for word in ("mbarrier(", "expect(k_full[", "arrive(k_empty[", "store_bulk(c, (i, j)"))
