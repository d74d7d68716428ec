"""The faults and the tricky but correct programs of the emulator's tests, given to the verifier."""

from __future__ import annotations

from dataclasses import dataclass

from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.schedule.cases import cases
from kernelagent.dsl.verify.schedule.prove import prove
from support.faults import Program, programs

FAULTS = ("asynchronous", "barriers", "memory", "values", "hopper", "hopper_blocks", "hopper_bodies", "hopper_products")
CORRECT = ("correct", "hopper_correct")


@dataclass(frozen=True)
class Said:
    """The refuted obligations, "schedule" for a refusal of the text: family, line, and what is said."""

    refuted: tuple[tuple[str, int, str], ...]

    @property
    def lines(self) -> frozenset[int]:
        return frozenset(line for _, line, _ in self.refuted)


def written(*files: str) -> list[Program]:
    """Programs whose edits are of the schedule: what is edited in emitted code no proof of a schedule can see."""
    return [p for p in programs(*files) if not any(e.body for e in p.edits)]


def said(program: Program) -> Said:
    try:
        module = scheduled(program.text())
    except KernelError as refusal:
        return Said(tuple(("schedule", d.span.line if d.span else 0, d.message) for d in refusal.diagnostics))
    found: list[tuple[str, int, str]] = []
    for case in cases(module, Choices({}, {}, {}, {}), module.schedule.target):
        obligations = prove(case).obligations
        found += [(o.family, o.line or 0, o.detail) for o in obligations if o.verdict == "REFUTED"]
    return Said(tuple(found))


def named(program: Program, report: Said) -> bool:
    """Whether a line of the fault is named, or one that has to do with it."""
    return bool(report.lines & program.numbers((*program.lines, *program.others)))
