"""Check a level-two text: its rules, and emulated runs against the interpreter of a level-one text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kernelagent.dsl import ir
from kernelagent.dsl.check import CheckReport
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.level2.module import ScheduledModule, scheduled
from kernelagent.dsl.verify.records import Obligation

if TYPE_CHECKING:
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.trials import Trial

RULES = "types, distributions, widths, shared memory, and the order of asynchronous work in each role follow the rules"
NOT_RUN = "nothing ran: --target emu runs it in the emulator, --against FILE compares values"
_POSITIONS = ("i32", "i64")


def check_schedule(text: str) -> CheckReport:
    """The rules of level two. Never raises for a mistake of the text."""
    begin = time.perf_counter()
    try:
        module = scheduled(text)
    except KernelError as error:
        return CheckReport(False, "UNKNOWN", (), (), error.diagnostics, {}, time.perf_counter() - begin)
    rules = Obligation("schedule", "PROVED", None, RULES, module.schedule.name)
    values = Obligation("emulation", "UNKNOWN", None, NOT_RUN, module.schedule.name)
    schedule = module.schedule
    used = {"arch": schedule.target, "threads": schedule.threads, "shared_bytes": schedule.shared_bytes}
    return CheckReport(True, "UNKNOWN", (rules, values), (), (), used, time.perf_counter() - begin)


def without_runs(report: CheckReport) -> CheckReport:
    """The report without the line that nothing ran."""
    kept = tuple(o for o in report.obligations if o.family != "emulation")
    return replace(report, obligations=kept)


# Trials --------------------------------------------------------------------------------------------------


def positions_unknown(module: ScheduledModule) -> bool:
    """Whether integer inputs may be positions: a level-two text does not say what they hold."""
    return any(a.role == "In" and a.dtype in _POSITIONS for a in module.schedule.arrays)


def trials_against(module: ScheduledModule, oracle: ir.Module, trials: Sequence[Trial], choice: Choice) -> list[Trial]:
    """The trials' sizes with arrays that the level-one text accepts. Raises KernelError where parameters differ."""
    from kernelagent.dsl.verify.draw import draw

    _check_parameters(module, oracle)
    dtypes = {a.dtype: b.dtype for a, b in _pairs(module, oracle) if a.dtype in oracle.entry.dtype_variables}
    found: list[Trial] = []
    for seed, trial in enumerate(trials):
        sizes = dict(_sizes(module, oracle, trial))
        if all(d in sizes for d in oracle.entry.dims):
            found.append(draw(oracle.entry, sizes, dtypes, choice.scalars, choice.tunables, seed))
    return found


def _pairs(module: ScheduledModule, oracle: ir.Module) -> Iterator[tuple[ir.Array, ir.Array]]:
    own = {a.name: a for a in module.schedule.arrays}
    for array in oracle.entry.arrays:
        yield array, own[array.name]


def _check_parameters(module: ScheduledModule, oracle: ir.Module) -> None:
    """The same arrays, of the same roles, ranks and dtypes."""
    own, other = module.schedule.arrays, oracle.entry.arrays
    if {a.name for a in own} != {a.name for a in other}:
        raise _unlike(f"has arrays {_names(own)}, the other text {_names(other)}", module)
    for theirs, mine in _pairs(module, oracle):
        dtype = mine.dtype if theirs.dtype in oracle.entry.dtype_variables else theirs.dtype
        if (theirs.role, len(theirs.dims), dtype) != (mine.role, len(mine.dims), mine.dtype):
            raise _unlike(f"has `{mine.name}` of another role, rank or dtype than the other text", module)


def _names(arrays: Sequence[ir.Array]) -> str:
    return ", ".join(a.name for a in arrays)


def _unlike(message: str, module: ScheduledModule) -> KernelError:
    schedule = module.schedule
    hint = "compare with the level-one text from which the schedule was printed"
    return KernelError([Diagnostic("against", f"`{schedule.name}` {message}", schedule.grid.origin.span, hint=hint)])


def _sizes(module: ScheduledModule, oracle: ir.Module, trial: Trial) -> Iterator[tuple[str, int]]:
    """Dims of the level-one text, read off the shapes; some are constants in the schedule."""
    for theirs, mine in _pairs(module, oracle):
        for dim, own in zip(theirs.dims, mine.dims, strict=True):
            match dim:
                case Index(terms=(((Symbol(name, "dim"),), 1),)):
                    yield name, own.evaluate(trial.sizes)
                case _:
                    pass


__all__ = ["check_schedule", "positions_unknown", "trials_against", "without_runs"]
