"""Faults of emission, and the schedules whose bodies they are made in."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kernelagent.dsl.level2.module import read_module
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.verify.schedule.cases import Case, cases
from support.gpu_cases import CASES

FILE = Path(__file__).parents[1] / "fixtures" / "faults" / "translation.toml"


@dataclass(frozen=True)
class Fault:
    """An edit of one emitted body; see the file."""

    name: str
    case: str
    arch: str
    old: str
    new: str
    shape_class: str = "aligned"
    unit: str = ""
    decoded: bool = False

    def schedule(self) -> Case:
        units = [c for c in schedules(self.case, self.arch) if c.kernel.shape_class.name == self.shape_class]
        return next(c for c in units if self.unit in ("", c.kernel.name))

    def body(self) -> str:
        """The edited body: exactly one place differs."""
        before = emit(self.schedule().kernel)
        assert len(re.findall(self.old, before)) == 1, f"{self.name}: not exactly once in the body"
        return re.sub(self.old, self.new, before)


@cache
def schedules(name: str, arch: str) -> tuple[Case, ...]:
    """All schedules of a kernel of the benchmarks."""
    made = next(c for c in CASES if c.name == name)
    module = read_module(made.text)
    constants = {s.name: made.scalars[s.name] for s in module.entry.scalars if s.dtype == "const"}
    choices = Choices(made.dtypes, {}, {n: int(v) for n, v in constants.items()}, made.shapes[0].dims)
    return tuple(cases(module, choices, arch))


def faults() -> list[Fault]:
    records = tomllib.loads(FILE.read_text(encoding="utf-8"))["fault"]
    return [Fault(**{"shape_class" if k == "class" else k: v for k, v in record.items()}) for record in records]
