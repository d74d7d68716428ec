"""Whose fault a counterexample is: where the text was accepted, what the compiler made of it must be right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.dsl.verify.records import Counterexample, DeviceCounterexample, Findings, ScheduleCounterexample

if TYPE_CHECKING:
    from kernelagent.dsl.ir import Module

CLAIMS = ("banks", "coalescing", "claims")
"""Families that refute what an author claims of a right schedule."""


def own_faults(module: Module, findings: Findings) -> tuple[Diagnostic, ...]:
    """At most one `compiler-fault`: of a level-one text for any counterexample of its schedules or of the code emitted
    for them; of a level-two text, whose schedule is the author's, for code that does not do what the schedule does."""
    return tuple(_faults(module, findings))[:1]


def _faults(module: Module, findings: Findings) -> Iterator[Diagnostic]:
    from kernelagent.dsl.level2.module import ScheduledModule

    by_hand = isinstance(module, ScheduledModule)
    for found in findings.counterexamples:
        match found:
            case ScheduleCounterexample() if not by_hand and found.family not in CLAIMS:
                yield _schedule(found)
            case DeviceCounterexample(family="translation"):
                yield _code(found, "does not do what its schedule does")
            case DeviceCounterexample(family="emulation") if not by_hand:
                yield _code(found, "goes wrong in the emulator, and the text was accepted")
            case _:
                pass


def _schedule(found: ScheduleCounterexample) -> Diagnostic:
    message = (
        f"the compiler's own schedule of `{found.kernel}` ({found.shape_class}) is refuted ({found.family}): this is a "
        "fault of kernelagent, not of the text"
    )
    hint = "please report it with this text; another tile size or `stages` may give a schedule that is proved"
    return Diagnostic("compiler-fault", message, None, "error", hint, {"family": found.family, "kind": found.kind})


def _code(found: DeviceCounterexample, what: str) -> Diagnostic:
    code = f"the code emitted for `{found.kernel}` ({found.shape_class}) {what}"
    message = f"{code} ({found.kind}: {found.message}): this is a fault of kernelagent, not of the text"
    hint = "please report it with this text; do not run this code"
    facts = {"family": found.family, "kind": found.kind, "line": found.line or 0}
    return Diagnostic("compiler-fault", message, _place(found), "error", hint, facts)


def _place(found: Counterexample) -> Span | None:
    """The line of the text that the code was emitted for."""
    line = found.line if isinstance(found, DeviceCounterexample) else None
    return None if not line else Span(line, 1, line, 2)


__all__ = ["own_faults"]
