"""The kernels of the benchmarks as schedules, and the law of level two: their print compiles to the same text."""

from __future__ import annotations

from functools import cache

from kernelagent.dsl import parse
from kernelagent.dsl.level2 import normal_form, parse_schedule, print_schedule, verify, without_origins
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.gpu_cases import CASES, Case


@cache
def codes(name: str, target: str) -> tuple[DeviceCode, ...]:
    """The case's kernels, aligned and general."""
    case: Case = next(c for c in CASES if c.name == name)
    choices = Choices(dict(case.dtypes), {}, {}, dict(case.shapes[0].dims))
    units = device_units(parse(case.text), choices, target)
    return tuple(code for unit in units for code in unit.classes)


def check_print(code: DeviceCode) -> None:
    """Well formed, normal, and printed as what it is."""
    schedule = code.schedule
    assert verify(schedule) == []
    assert normal_form(schedule) == schedule
    parsed = parse_schedule(print_schedule(schedule))
    assert without_origins(parsed) == without_origins(schedule)
    assert lines(emit(parsed)) == lines(code.body)


def lines(body: str) -> list[str]:
    """Emitted lines without line marks and the report."""
    return [line for line in body.splitlines() if not line.lstrip().startswith(("#line", "//"))]
