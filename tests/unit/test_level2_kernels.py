"""Every kernel that must compile to good GPU code: its schedule is well formed, and its print is the schedule."""

from __future__ import annotations

from functools import cache

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import normal_form, parse_schedule, print_schedule, verify, without_origins
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.units import device_units
from support.gpu_cases import CASES, Case

NAMES = [(case.name, "sm_89" if "fp8" in case.name else "sm_80") for case in CASES]


@cache
def schedules(name: str, target: str) -> tuple[dev.DeviceKernel, ...]:
    """The case's kernels, aligned and general."""
    case: Case = next(c for c in CASES if c.name == name)
    choices = Choices(dict(case.dtypes), {}, {}, dict(case.shapes[0].dims))
    units = device_units(parse(case.text), choices, target)
    return tuple(code.schedule for unit in units for code in unit.classes)


def code(kernel: dev.DeviceKernel) -> list[str]:
    """Emitted lines without line marks and the report."""
    return [line for line in emit(kernel).splitlines() if not line.lstrip().startswith(("#line", "//"))]


@pytest.mark.parametrize(("name", "target"), NAMES, ids=[n for n, _ in NAMES])
def test_schedules_are_well_formed_and_print(name: str, target: str) -> None:
    for kernel in schedules(name, target):
        assert verify(kernel) == []
        normal = normal_form(kernel)
        assert verify(normal) == []
        parsed = parse_schedule(print_schedule(kernel))
        assert without_origins(parsed) == without_origins(normal)
        assert code(parsed) == code(normal)


def test_the_print_is_short_and_shows_the_ring() -> None:
    aligned, _ = schedules("gemm_nt_bf16", "sm_80")
    printed = print_schedule(aligned)
    body = printed[printed.index("    for ") :].splitlines()
    assert len(body) <= 30
    assert any("a_s[(k // 32) % 3]" in line and line.lstrip().startswith("acc = mma(") for line in body)
    assert all(word in printed for word in ("copy_async(", "commit()", "wait_group(", "barrier()", "# line "))


def test_a_schedule_with_roles_is_refused_by_name() -> None:
    aligned, general = schedules("gemm_nt_bf16", "sm_90a")
    with pytest.raises(KernelError) as caught:
        print_schedule(aligned)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "level-two-records"
    assert "roles" in diagnostic.message
    assert without_origins(parse_schedule(print_schedule(general))) == without_origins(normal_form(general))
