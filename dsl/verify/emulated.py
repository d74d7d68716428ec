"""The emitted GPU code in the emulator: what it does wrong, and whether its outputs are those of the interpreter.

Copies complete as late as they may, then at random; both runs must be free of findings and give the same values as
numpy, up to what another order of sums can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.dtypes import STEPS, from_numpy
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute
from kernelagent.dsl.ir import Let, Mma, Module
from kernelagent.dsl.level2.module import ScheduledModule, outline
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import DeviceCounterexample, Findings, Obligation
from kernelagent.dsl.verify.shapes import completed, deepened, emptied, sizes, whole_rows
from kernelagent.dsl.verify.trials import Trial

if TYPE_CHECKING:
    from kernelagent.dsl.targets.emulator.execute import Emulation
    from kernelagent.dsl.targets.emulator.launch import Completion
    from kernelagent.dsl.targets.emulator.report import Finding

ALIGNED = 16
"""A multiple that every guard of an aligned class divides: 16 bytes of the narrowest dtype."""
WORK_LIMIT = 50_000_000
"""Of the interpreter, in element operations: a run of some seconds."""
MOST_ELEMENTS = 400_000
"""Of all arrays of a drawn trial."""
ITERATIONS = 5
"""Of a sequential loop: more than a ring usually has stages, so that each is used again."""
_SEARCHED = 400


def small_trials(module: Module, choice: Choice) -> list[Trial]:
    """Calls that take every shape class: one past each tile, the same in whole 16-byte pieces, and tiny; the tiny one
    also with each dim 0, but for a level-two text whose tensor maps are of arrays with elements."""
    from kernelagent.dsl.instantiation import resolve_tunables
    from kernelagent.dsl.targets.cuda.emit_hopper import maps

    mapped = isinstance(module, ScheduledModule) and bool(maps(module.schedule))
    if isinstance(module, ScheduledModule):
        module = outline(module)
    tunables = resolve_tunables(module.entry, choice.tunables, choice.target)
    wanted = {d: choice.dims[d] for d in module.entry.dims if d in choice.dims}
    first = next((s for s in islice(sizes(module, tunables), _SEARCHED) if wanted.items() <= s.items()), None)
    if first is None:
        return []
    deep = deepened(module, first, tunables, ITERATIONS) or first
    tiny = completed(module, {d: wanted.get(d, 3) for d in first})
    picked = [deep, whole_rows(module, deep, ALIGNED), tiny or first]
    picked += () if mapped else emptied(module, tiny or first)
    different = {tuple(s.items()): s for s in picked if s is not None}.values()
    drawn = [
        draw(module.entry, s, choice.dtypes, choice.scalars, choice.tunables, seed=k) for k, s in enumerate(different)
    ]
    return [t for t in drawn if sum(a.size for a in t.arrays.values()) <= MOST_ELEMENTS]


@dataclass(frozen=True)
class Runs:
    """How trials are emulated. `expired` stops before the next run; the first always happens."""

    arch: str
    completions: Sequence[Completion]
    expired: Callable[[], bool]


def emulated(
    module: Module, trials: Sequence[Trial], choice: Choice, runs: Runs, oracle: Module | None = None
) -> Findings:
    """Emulate the trials, stopping at the first that fails. Values are those of the interpreter for `oracle`, by
    default the module itself; those of a level-two text without one are compared with nothing.

    Raises KernelError for what the architecture refuses, NoCompiler without a C++ compiler.
    """
    done: list[str] = []
    for trial in trials:
        if done and runs.expired():
            break
        failures = _failures(module, trial, choice, runs, oracle)
        if failures is None:
            continue
        if failures:
            worst = failures[0]
            refuted = Obligation("emulation", "REFUTED", worst.line, worst.message, worst.array or worst.kernel)
            return Findings((refuted,), tuple(failures))
        done.append(trial.text())
    return Findings((_tested(done, runs, oracle is not None or not isinstance(module, ScheduledModule)),))


def _tested(done: Sequence[str], runs: Runs, compared: bool) -> Obligation:
    if not done:
        return Obligation("emulation", "UNKNOWN", None, "no sizes were small enough to emulate")
    how = " and ".join(runs.completions)
    values = ", and the interpreter's values" if compared else "; values compared with nothing"
    detail = f"code for {runs.arch}, copies {how}: nothing found{values}, at ({'), ('.join(done)})"
    return Obligation("emulation", "TESTED", None, detail)


def _failures(
    module: Module, trial: Trial, choice: Choice, runs: Runs, oracle: Module | None
) -> list[DeviceCounterexample] | None:
    """What the first failing completion shows; None for a call that says nothing."""
    unknown = oracle is None and isinstance(module, ScheduledModule)
    expected = {} if unknown else _expected(oracle or module, trial, choice)
    if expected is None:
        return None
    for seed, completion in enumerate(runs.completions):
        failures = _run(module, oracle or module, trial, choice, runs.arch, completion, expected, seed)
        if failures:
            return failures
    return []


def _expected(module: Module, trial: Trial, choice: Choice) -> Mapping[str, Any] | None:
    """The interpreter's outputs; None for a call that it refuses or cannot finish: that says nothing of GPU code."""
    options = Options(work_limit=WORK_LIMIT, target=choice.target)
    tunables = {**choice.tunables, **trial.tunables}
    try:
        return execute(module, trial.arrays, trial.scalars, tunables, options, choice.instances).outputs
    except (WorkLimit, KernelError, RunError):
        return None


def _run(
    module: Module,
    oracle: Module,
    trial: Trial,
    choice: Choice,
    arch: str,
    completion: Completion,
    expected: Mapping[str, Any],
    seed: int,
) -> list[DeviceCounterexample]:
    from kernelagent.dsl.targets.emulator.execute import emulate

    arrays = {name: np.array(a) for name, a in trial.arrays.items()}
    tunables = {**choice.tunables, **trial.tunables}
    taken = {s.name for s in module.entry.scalars}
    scalars = {name: value for name, value in trial.scalars.items() if name in taken}  # an oracle may have more
    made = emulate(module, arrays, scalars, arch, completion, seed, tunables)
    found = [_fault(f, made, k, trial, completion) for k, r in enumerate(made.reports) for f in r.findings]
    return found or list(differences(oracle, trial, made, arrays, expected, completion))


def _fault(finding: Finding, made: Emulation, call: int, trial: Trial, completion: str) -> DeviceCounterexample:
    lines = tuple(line for line in (finding.line, finding.other_line) if line)
    return DeviceCounterexample(
        family="emulation",
        message=f"{finding.message} ({trial.text()}; {completion})",
        lines=lines,
        sizes=dict(trial.sizes),
        tunables=dict(trial.tunables),
        array=finding.array,
        element=finding.coordinates or None,
        scope=f"{finding.occurrences} times in this run",
        replay={**trial.replay(), "completion": completion},
        kind=finding.kind,
        kernel=made.kernels[call],
        shape_class=made.classes[call],
        block=finding.block,
        warp=finding.warp,
        lane=finding.lane,
        place=finding.place,
        line=finding.line or None,
        other_line=finding.other_line,
        completion=completion,
        occurrences=finding.occurrences,
    )


# Values ------------------------------------------------------------------------------------------


def differences(
    module: Module,
    trial: Trial,
    made: Emulation,
    arrays: Mapping[str, Any],
    expected: Mapping[str, Any],
    completion: str,
) -> Iterator[DeviceCounterexample]:
    unit = _coarsest(module, arrays)
    for name, right in expected.items():
        wrong = np.argwhere(~_close(arrays[name], right, unit))
        if not len(wrong):
            continue
        element = tuple(int(i) for i in wrong[0])
        found, wanted = (float(np.asarray(a)[element]) for a in (arrays[name], right))
        place = f"{name}[{', '.join(map(str, element))}]"
        line = _stored_at(made, name, element)
        yield DeviceCounterexample(
            family="emulation",
            message=f"{place} is {found:.6g}, the interpreter says {wanted:.6g} ({trial.text()}; {completion})",
            lines=(line,) if line else (),
            sizes=dict(trial.sizes),
            tunables=dict(trial.tunables),
            array=name,
            element=element,
            expected=wanted,
            found=found,
            scope=f"{len(wrong)} of {right.size} elements of {name} at these sizes",
            replay={**trial.replay(), "completion": completion},
            kernel=made.kernels[-1],
            shape_class=made.classes[-1],
            place=place,
            line=line,
            completion=completion,
            occurrences=len(wrong),
        )


def _stored_at(made: Emulation, array: str, element: tuple[int, ...]) -> int | None:
    """The line that stored an element last, None for an array that only an inner call knows by that name."""
    for report in reversed(made.reports):
        lines = report.store_lines.get(array)
        if lines is not None and lines.ndim == len(element) and np.all(np.less(element, lines.shape)):
            return int(lines[element]) or None
    return None


def _coarsest(module: Module, arrays: Mapping[str, Any]) -> float:
    """The largest relative rounding step of any float that the text computes with; 0 for integers only."""
    dtypes = {from_numpy(a.dtype) for a in arrays.values()}
    for kernel in module.kernels:
        for let in (s for s in walk_statements(kernel.body) if isinstance(s, Let)):
            dtypes.add(let.value.type.dtype)
            if isinstance(let.operation, Mma) and let.operation.precision == "tf32":
                dtypes.add("tf32")
    return max((_UNITS[d] for d in dtypes if d in _UNITS), default=0.0)


_UNITS = {**{dtype: step / 2 for dtype, step in STEPS.items()}, "f64": STEPS["f32"] / 2, "tf32": 2.0**-10}
"""Half a unit in the last place, relative. f64 is compared as f32 (elementary functions differ); tf32 may be cut."""


def _close(found: Any, right: Any, unit: float) -> Any:
    """Within eight roundings of an element and one of the largest, which sums in another order can differ by; integers
    by one where they were rounded from floats."""
    y, z = np.asarray(found).astype(np.float64), np.asarray(right).astype(np.float64)
    if np.asarray(right).dtype.kind in "iub":
        return np.abs(y - z) <= (1 if unit else 0)
    with np.errstate(all="ignore"):
        finite = np.isfinite(z)
        scale = float(np.abs(z[finite]).max(initial=0.0))
        close = np.abs(y - z) <= max(8 * unit, 1e-4) * np.abs(z) + max(unit, 1e-5) * scale
    return np.where(finite, close, (y == z) | (np.isnan(y) & np.isnan(z)))
