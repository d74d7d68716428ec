"""All families of one text: arguments first, runs for what the arguments leave open."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kernelagent.dsl.instantiation import fixed_dims, resolve_tunables
from kernelagent.dsl.interpreter.instances import Instances
from kernelagent.dsl.ir import Kernel, Module, Program, Scalar
from kernelagent.dsl.verify import accumulators, aliasing, bounds, coverage, definedness, overflow, skipping
from kernelagent.dsl.verify.bounds import Question
from kernelagent.dsl.verify.draw import draw
from kernelagent.dsl.verify.ranges import Ranges
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation, worst
from kernelagent.dsl.verify.shapes import emptied, orders, sizes
from kernelagent.dsl.verify.trials import run_trial


@dataclass(frozen=True)
class Effort:
    """How much is tried. `seconds` bounds the runs (the one that has begun is finished)."""

    trials: int
    seconds: float
    work_limit: int
    solver: bool

    @classmethod
    def quick(cls) -> Effort:
        return cls(trials=4, seconds=0.08, work_limit=4_000_000, solver=False)

    @classmethod
    def full(cls) -> Effort:
        return cls(trials=16, seconds=10.0, work_limit=50_000_000, solver=True)


@dataclass(frozen=True)
class Choice:
    """The class of calls that is examined: dtypes of variables, scalars, tunables, target of the policies,
    and values of dims that are extents (else all that the kernel assumes). `instances` are its concrete kernels."""

    dtypes: Mapping[str, str]
    scalars: Mapping[str, float | int | bool]
    tunables: Mapping[str, int | bool]
    target: str = "cpu"
    dims: Mapping[str, int] = field(default_factory=dict)
    instances: Instances = field(default_factory=Instances, compare=False)


def argue(module: Module, choice: Choice, solver: bool) -> list[Obligation]:
    """What holds for all sizes, by argument; UNKNOWN marks what the arguments leave open."""
    found: dict[tuple[str, int | None, str], Obligation] = {}
    for kernel in concrete_kernels(module, choice):
        for obligation in _argue(kernel, solver):
            key = (obligation.family, obligation.line, obligation.subject)
            known = found.get(key, obligation)
            found[key] = known if known.verdict == worst((known.verdict, obligation.verdict)) else obligation
    shown = list(found.values())
    return [*shown, *aliasing.prove_program(module.entry, shown)] if isinstance(module.entry, Program) else shown


def _argue(kernel: Kernel, solver: bool) -> Iterator[Obligation]:
    yield from coverage.prove(kernel)
    yield from prove_bounds(kernel, solver)
    yield from definedness.prove(kernel)
    yield from aliasing.prove(kernel)
    yield from accumulators.prove(kernel)
    yield from overflow.prove(kernel)
    if solver:
        yield from skipping.prove(kernel)


def run_trials(module: Module, choice: Choice, effort: Effort) -> tuple[list[str], list[Counterexample]]:
    """Sizes that were run without failure, and the first failure if there is one. Runs with a dim of 0 can only fail:
    they show too little to be listed."""
    end = time.thread_time() + effort.seconds
    done: list[str] = []
    tunables = _all_tunables(module.entry, choice)
    tried = itertools.islice(_ordered(module, tunables), 3 * effort.trials)
    for dims in _with_empty(module, tried, lambda: len(done) >= effort.trials or time.thread_time() > end):
        trial = draw(module.entry, dims, choice.dtypes, choice.scalars, choice.tunables, seed=len(done))
        outcome = run_trial(module, trial, effort.work_limit, choice.instances, choice.target)
        if outcome.counterexamples:
            return done, list(outcome.counterexamples)
        if not outcome.skipped and 0 not in dims.values():
            done.append(trial.text())
    return done, []


def _ordered(module: Module, tunables: Mapping[str, int | bool]) -> Iterator[dict[str, int]]:
    """The most telling sizes, those of which each dim is the largest, and the rest."""
    telling = sizes(module, tunables)
    yield from itertools.islice(telling, 1)
    yield from orders(module, tunables)
    yield from telling


def _with_empty(
    module: Module, tried: Iterator[dict[str, int]], enough: Callable[[], bool]
) -> Iterator[dict[str, int]]:
    """Sizes until there are enough (the first in any case), and after them the first with each dim 0."""
    first = next(tried, None)
    if first is not None:
        yield first
        yield from itertools.takewhile(lambda _: not enough(), tried)
        yield from emptied(module, first)


def settle(obligations: Iterable[Obligation], done: list[str], failures: list[Counterexample]) -> Findings:
    """Close what the arguments left open by what the runs showed."""
    settled = [_settled(o, done, failures) for o in obligations]
    for failure in failures:
        if not any(o.verdict == "REFUTED" and o.family == failure.family for o in settled):
            line = failure.lines[0] if failure.lines else None
            settled.append(Obligation(failure.family, "REFUTED", line, failure.message, failure.array or ""))
    return Findings(tuple(settled), tuple(failures))


_OPEN = ("coverage", "bounds", "definedness", "aliasing")
"""Families of which a run says something where the argument stops."""


def _settled(obligation: Obligation, done: list[str], failures: list[Counterexample]) -> Obligation:
    for failure in failures:
        if failure.family == obligation.family and _about(obligation, failure):
            return replace(obligation, verdict="REFUTED", detail=failure.message)
    open_to_runs = obligation.family in _OPEN and obligation.verdict == "UNKNOWN"
    if not open_to_runs or not done or obligation.detail.startswith(_DATA):
        return obligation
    detail = f"held in runs at ({'), ('.join(done)}); not shown for all sizes: {obligation.detail}"
    return replace(obligation, verdict="TESTED", detail=detail)


def _about(obligation: Obligation, failure: Counterexample) -> bool:
    """Whether a failure is a failure of this obligation: same array, and same line where both have one."""
    if obligation.verdict != "UNKNOWN" or not failure.array or failure.array not in obligation.subject:
        return False
    return failure.family in ("coverage", "aliasing") or obligation.line is None or obligation.line in failure.lines


# Bounds --------------------------------------------------------------------------------------

_DATA = "data decides"


def prove_bounds(kernel: Kernel, solver: bool) -> list[Obligation]:
    """One obligation for each line and array."""
    groups: dict[tuple[int, str], list[Question]] = {}
    for question in bounds.questions(kernel):
        groups.setdefault((question.place.line, question.subject), []).append(question)
    return [_bound(kernel, line, subject, group, solver) for (line, subject), group in groups.items()]


def _bound(kernel: Kernel, line: int, subject: str, group: list[Question], solver: bool) -> Obligation:
    label = f"{kernel.name}: {subject}"
    left = [q for q in group if not q.proved]
    if left and solver:
        left = _after_solver(left)
    if not left:
        return Obligation("bounds", "PROVED", line, f"in range for all sizes: {group[-1].text}", label)
    if any(q.from_data for q in left):
        detail = f"{_DATA} whether {left[0].text}; write assume(lo <= array < hi) or fill="
        return Obligation("bounds", "UNKNOWN", line, detail, label)
    return Obligation("bounds", "UNKNOWN", line, f"it is open whether {left[0].text}", label)


def _after_solver(left: list[Question]) -> list[Question]:
    from kernelagent.dsl.verify.schedule.budget import exhausted
    from kernelagent.dsl.verify.solver import proves

    return [q for q in left if q.from_data or exhausted() or not proves(q)]


# Kernels -------------------------------------------------------------------------------------


def _all_tunables(entry: Kernel | Program, choice: Choice) -> dict[str, int | bool]:
    return resolve_tunables(entry, choice.tunables, choice.target)


def concrete_kernels(module: Module, choice: Choice) -> list[Kernel]:
    """The kernels that the entry runs, each instantiated as the entry would, for every class of fixed dims."""
    entry = module.entry
    if isinstance(entry, Kernel):
        return list(_classes(entry, choice))
    tunables = {name: int(value) for name, value in _all_tunables(entry, choice).items()}
    found: dict[object, list[Kernel]] = {}
    for call in entry.calls:
        given = {name: value.evaluate(tunables) for name, value in call.tunables}
        key = (call.kernel, tuple(given.items()))
        if key not in found:
            dtypes = call_dtypes(module, entry, call.kernel, dict(call.arrays), choice.dtypes)
            consts = {n: v for n, v in call.scalars if isinstance(v, bool | int)}
            own = Choice(dtypes, consts, given, choice.target, {}, choice.instances)
            found[key] = list(_classes(module.kernel(call.kernel), own))
    return [kernel for kernels in found.values() for kernel in kernels]


def _classes(kernel: Kernel, choice: Choice) -> Iterator[Kernel]:
    """One concrete kernel for each combination of the members that `assume(D in (...))` gives to fixed dims."""
    fixed = fixed_dims(kernel)
    members = Ranges.of(kernel).members
    values = [(choice.dims[d],) if d in choice.dims else members.get(d, ()) for d in fixed]
    for picked in itertools.product(*values):
        yield concrete(kernel, choice, dict(zip(fixed, picked, strict=True)))


def concrete(kernel: Kernel, choice: Choice, dims: Mapping[str, int]) -> Kernel:
    """Instantiate with f32 for every dtype variable that is not chosen."""
    dtypes = {v: choice.dtypes.get(v, "f32") for v in kernel.dtype_variables}
    consts = {s.name: int(choice.scalars[s.name]) for s in kernel.scalars if _chosen_const(s, choice)}
    return choice.instances.get(kernel, dtypes, choice.tunables, consts, choice.target, dims)


def _chosen_const(scalar: Scalar, choice: Choice) -> bool:
    return scalar.dtype == "const" and scalar.name in choice.scalars


def call_dtypes(
    module: Module, program: Program, kernel: str, arrays: Mapping[str, str], dtypes: Mapping[str, str]
) -> dict[str, str]:
    """Dtype variables of a called kernel, from the program's arrays and temporaries."""
    known = {a.name: dtypes.get(a.dtype, a.dtype) for a in program.arrays}
    known |= {t.name: dtypes.get(t.dtype, t.dtype) for t in program.temps}
    callee = module.kernel(kernel)
    found = {a.dtype: known[arrays[a.name]] for a in callee.arrays if a.name in arrays}
    return {v: "f32" if (d := found.get(v, "f32")) in program.dtype_variables else d for v in callee.dtype_variables}
