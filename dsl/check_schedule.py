"""Check a level-two text: its rules, the proofs of its schedule, and trials against a level-one text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kernelagent.dsl import ir
from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.level2.module import ScheduledModule, read_module, scheduled
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.verify.claims import empty
from kernelagent.dsl.verify.proofs import Proofs, Use, prove_schedules
from kernelagent.dsl.verify.records import Findings, Obligation

if TYPE_CHECKING:
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.trials import Trial

RULES = "types, distributions, widths, shared memory, and the order of asynchronous work in each role follow the rules"
NO_VALUES = "what the schedule should compute stands in a level-one text: --against FILE compares with it"
_POSITIONS = ("i32", "i64")


def check_schedule(text: str, quick: bool = True, against: str | None = None, use: Use = "cached") -> CheckReport:
    """The rules of level two, and the proofs of what runs when the schedule does. Never raises for a mistake of the
    text. `against`: the level-one text that says what it computes."""
    begin = time.perf_counter()
    from kernelagent.dsl.verify.schedule.expected import empty_expectations

    try:
        module = scheduled(text)
        schedule = module.schedule
        oracle = None if against is None else read_module(against)
        choices = Choices({}, {}, {}, {})
        proofs = prove_schedules(module, [choices], schedule.target, quick, oracle, use)
    except KernelError as error:
        return CheckReport(False, "UNKNOWN", (), (), error.diagnostics, {}, time.perf_counter() - begin)
    rules = Obligation("schedule", "PROVED", None, RULES, schedule.name)
    values = () if oracle or proofs.findings.counterexamples else (_unknown(schedule.name),)
    obligations = (rules, *proofs.findings.obligations, *values)
    used = {"arch": schedule.target, "threads": schedule.threads, "shared_bytes": schedule.shared_bytes}
    resources = {**used, "proofs": proofs.to_dict()}
    said = (*recheck_diagnostics(proofs), *empty(module, obligations), *empty_expectations(module.claimed, obligations))
    report = CheckReport(True, "UNKNOWN", (), (), said, resources)
    found = Findings(obligations, proofs.findings.counterexamples)
    return replace(report.with_findings(found), seconds=time.perf_counter() - begin)


def _unknown(name: str) -> Obligation:
    """Safety and flow can be shown of a schedule alone, not that it computes what somebody meant."""
    return Obligation("semantics", "UNKNOWN", None, NO_VALUES, name)


def recheck_diagnostics(proofs: Proofs) -> tuple[Diagnostic, ...]:
    """What a recheck found to be different from the kept report."""
    hint = "the verifier's own sources are part of the key: please report this, with the text"
    return tuple(Diagnostic("proof-differs", line, None, "error", hint) for line in proofs.stale)


# Trials --------------------------------------------------------------------------------------------------


def positions_unknown(module: ScheduledModule) -> bool:
    """Whether integer inputs may be positions: a level-two text does not say what they hold."""
    return any(a.role == "In" and a.dtype in _POSITIONS for a in module.schedule.arrays)


def trials_against(module: ScheduledModule, oracle: ir.Module, trials: Sequence[Trial], choice: Choice) -> list[Trial]:
    """The trials' sizes with arrays that the level-one text accepts. Raises KernelError where parameters differ."""
    from kernelagent.dsl.verify.draw import draw

    check_parameters(module, oracle)
    dtypes = {a.dtype: b.dtype for a, b in pairs(module, oracle) if a.dtype in oracle.entry.dtype_variables}
    found: list[Trial] = []
    for seed, trial in enumerate(trials):
        sizes = dict(_sizes(module, oracle, trial))
        if all(d in sizes for d in oracle.entry.dims):
            found.append(draw(oracle.entry, sizes, dtypes, choice.scalars, choice.tunables, seed))
    return found


def pairs(module: ScheduledModule, oracle: ir.Module) -> Iterator[tuple[ir.Array, ir.Array]]:
    own = {a.name: a for a in module.schedule.arrays}
    for array in oracle.entry.arrays:
        yield array, own[array.name]


def check_parameters(module: ScheduledModule, oracle: ir.Module) -> None:
    """The same arrays, of the same roles, ranks and dtypes."""
    own, other = module.schedule.arrays, oracle.entry.arrays
    if {a.name for a in own} != {a.name for a in other}:
        raise _unlike(f"has arrays {_names(own)}, the other text {_names(other)}", module)
    for theirs, mine in pairs(module, oracle):
        dtype = mine.dtype if theirs.dtype in oracle.entry.dtype_variables else theirs.dtype
        if (theirs.role, len(theirs.dims), dtype) != (mine.role, len(mine.dims), mine.dtype):
            raise _unlike(f"has `{mine.name}` of another role, rank or dtype than the other text", module)


def _names(arrays: Sequence[ir.Array]) -> str:
    return ", ".join(a.name for a in arrays)


def _unlike(message: str, module: ScheduledModule) -> KernelError:
    schedule = module.schedule
    hint = "compare with the level-one text from which the schedule was printed"
    return KernelError([Diagnostic("against", f"`{schedule.name}` {message}", schedule.grid.origin.span, hint=hint)])


def fixed_dims(module: ScheduledModule, oracle: ir.Module) -> dict[str, int]:
    """Dims of the level-one text that are constants in the schedule."""
    found: dict[str, int] = {}
    for theirs, mine in pairs(module, oracle):
        for dim, own in zip(theirs.dims, mine.dims, strict=True):
            match dim:
                case Index(terms=(((Symbol(name, "dim"),), 1),)) if own.constant is not None:
                    found[name] = own.constant
                case _:
                    pass
    return found


def _sizes(module: ScheduledModule, oracle: ir.Module, trial: Trial) -> Iterator[tuple[str, int]]:
    """Dims of the level-one text, read off the shapes; some are constants in the schedule."""
    for theirs, mine in pairs(module, oracle):
        for dim, own in zip(theirs.dims, mine.dims, strict=True):
            match dim:
                case Index(terms=(((Symbol(name, "dim"),), 1),)):
                    yield name, own.evaluate(trial.sizes)
                case _:
                    pass


__all__ = ["check_parameters", "check_schedule", "fixed_dims", "pairs", "positions_unknown", "trials_against"]
