"""The emitted code does what its schedule does: both run on inputs that tell elements apart, and must agree.

What is proved is proved of the schedule. Here the engine runs the schedule, the emulator the body that was emitted for
it, on the same arrays (`encodings`), and every output element must be equal: to the bit where the arithmetic is exact,
within a rounding step where it has functions such as `exp`. What equality on these inputs shows is stated in
`encodings`; the verdict is TESTED. Registers of packed pairs hold no tags, so elements are told apart by values.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.verify.encodings import Encoding, Group, Plan, decoded
from kernelagent.dsl.verify.records import DeviceCounterexample, Findings, Obligation
from kernelagent.dsl.verify.schedule.cases import Call, Case, call, cases
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.explain import line_of
from kernelagent.dsl.verify.schedule.globals import NOBODY, GlobalMemory
from kernelagent.dsl.verify.schedule.machine import Machine, Site
from kernelagent.dsl.verify.schedule.places import held, owners, view_positions
from kernelagent.dsl.verify.schedule.sizes import Sizes, fits, whole_calls
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled
from kernelagent.dsl.verify.shapes import completed

if TYPE_CHECKING:
    from kernelagent.dsl import ir
    from kernelagent.dsl.targets.calls import Choices
    from kernelagent.dsl.targets.emulator.report import EmulatorReport

SHORT = 2
"""Sizes beside the main ones, at which only one run of each group is made."""
MOST_OUTPUTS = 50_000
"""Elements of outputs at the main sizes, where there is a choice."""
RESIDENT = 2
"""Clusters of a persistent launch: fewer than tiles, so that each takes several."""


@dataclass(frozen=True)
class Budget:
    """`runs` and `seconds` for each schedule; the first run always happens."""

    runs: int = 60
    seconds: float = 6.0


@dataclass
class Subject:
    """A schedule and the body that is held to it."""

    case: Case
    arch: str
    body: str
    ends: float
    runs: int
    done: list[str] = field(default_factory=list)
    cut: bool = False

    def may_go_on(self) -> bool:
        if self.runs and (not self.done or time.monotonic() < self.ends):
            self.runs -= 1
            return True
        self.cut = True
        return False


def check_translation(case: Case, arch: str, budget: Budget | None = None, body: str | None = None) -> Findings:
    """Hold the body emitted for a schedule (or the given one) to the schedule.

    Raises what the emulator raises: NoCxxCompiler, CompilerFailed for a body that is no C++, EmulatorFailed.
    """
    return _held_to(case, arch, budget or Budget(), body)[1]


def _held_to(case: Case, arch: str, budget: Budget, body: str | None = None) -> tuple[Subject, Findings]:
    from kernelagent.dsl.targets.cuda.emit import emit

    ends = time.monotonic() + budget.seconds
    subject = Subject(case, arch, body or emit(case.kernel), ends, budget.runs)
    lack = "no sizes were small enough to run"
    for number, sizes in enumerate(_shapes(case)):
        try:
            found = _at(subject, sizes, short=number > 0)
        except (Unmodelled, LookupError) as missing:
            lack = f"not modelled: {missing}"
            continue
        if found:
            refuted = Obligation("translation", "REFUTED", found[0].line, found[0].message, _name(case))
            return subject, Findings((refuted,), tuple(found))
    return subject, Findings((_tested(subject, lack),))


def check_translations(module: ir.Module, choices: Sequence[Choices], arch: str, seconds: float = 8.0) -> Findings:
    """All schedules of a text, as one obligation. Raises KernelError for what the architecture refuses."""
    every = [case for chosen in choices for case in cases(module, chosen, arch)]
    made = [_held_to(case, arch, Budget(seconds=seconds / len(every))) for case in every]
    refuted = [found for _, found in made if found.counterexamples]
    if refuted:
        return refuted[0]
    unknown = [found for _, found in made if found.obligations[0].verdict == "UNKNOWN"]
    if unknown:
        return unknown[0]
    names = ", ".join(f"{_name(s.case)} {len(s.done)}{' (no time for all)' if s.cut else ''}" for s, _ in made)
    detail = f"code for {arch} stores what the schedules store, on inputs that tell elements apart: {names}"
    return Findings((Obligation("translation", "TESTED", None, detail),))


def _shapes(case: Case) -> list[Sizes]:
    """The main sizes first: whole tiles and cut ones along every axis, and so many iterations that each stage of each
    ring is used again. Then those with few tiles and most iterations, and tiny ones."""
    rounds = 1 + max((b.stages for b in case.kernel.buffers), default=1)
    found = whole_calls(case, rounds)
    if not found:
        return []
    main = max(found, key=lambda sizes: _outputs(case.kernel, sizes))
    largest = completed(case.shapes, {d: max(main[d], found[0][d]) for d in main})
    if largest is not None and fits(case.kernel, largest) and _outputs(case.kernel, largest) <= MOST_OUTPUTS:
        main = largest
    return [main, *(s for s in found[:SHORT] if s != main)]


def _outputs(kernel: dev.DeviceKernel, sizes: Sizes) -> int:
    return sum(prod(d.evaluate(sizes) for d in a.dims) for a in kernel.arrays if a.role != "In")


def _name(case: Case) -> str:
    return f"{case.kernel.name} ({case.kernel.shape_class.name})"


def _tested(subject: Subject, lack: str) -> Obligation:
    if not subject.done:
        return Obligation("translation", "UNKNOWN", None, lack, _name(subject.case))
    some = ", in the time there was" if subject.cut else ""
    detail = (
        f"code for {subject.arch} stores what the schedule stores, on {len(subject.done)} inputs that tell elements "
        f"apart{some}, at {'; '.join(dict.fromkeys(subject.done))}"
    )
    return Obligation("translation", "TESTED", None, detail, _name(subject.case))


def _at(subject: Subject, sizes: Sizes, short: bool) -> list[DeviceCounterexample]:
    """What the first input that shows something shows."""
    plan = Plan(subject.case, call(subject.case, sizes))
    where = ", ".join(f"{d}={n}" for d, n in sizes.items())
    for encoding in plan.encodings(short):
        if not subject.may_go_on():
            break
        run = Run.of(subject, plan, encoding)
        found = [*_faults(run), *_differences(run)]
        if found:
            return found
        subject.done.append(where)
    return []


# Runs ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One input: what the schedule stored and where (`machine`), what the code stored (`arrays`, `report`)."""

    subject: Subject
    plan: Plan
    encoding: Encoding
    machine: Machine
    arrays: Mapping[str, Any]
    report: EmulatorReport
    expected: Mapping[str, Any]

    @staticmethod
    def of(subject: Subject, plan: Plan, encoding: Encoding) -> Run:
        inputs = plan.arrays_of(encoding)
        machine = _engine(subject.case, plan.made, inputs)
        arrays, report = _emulated(subject, plan.made, inputs)
        return Run(subject, plan, encoding, machine, arrays, report, _stored(machine, inputs))


def _engine(case: Case, made: Call, inputs: Mapping[str, Any]) -> Machine:
    """Every block of the schedule. Raises Unmodelled for a schedule that does something wrong itself."""
    from kernelagent.dsl.targets.cuda.emit_grid import launch_blocks

    kernel = case.kernel
    memory = GlobalMemory(kernel.arrays, made.sizes, 1)
    domain = Real(inputs, made.scalars)
    machine = Machine(kernel, made.sizes, domain, memory, made.read, footprints=case.elements)
    blocks = launch_blocks(kernel, made.sizes, RESIDENT * kernel.cluster)
    for first in range(0, blocks, kernel.cluster):
        machine.run(first, blocks)
    if machine.events:
        event = next(iter(machine.events.values()))
        raise Unmodelled(f"the schedule itself has a fault ({event.kind}, line {line_of(event.site)})")
    return machine


def _emulated(subject: Subject, made: Call, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], EmulatorReport]:
    from kernelagent.dsl.targets.cuda.units import DeviceCode
    from kernelagent.dsl.targets.emulator.execute import argument, launch

    kernel = subject.case.kernel
    arrays = {a.name: np.array(inputs[a.name]) for a in kernel.arrays}
    arguments = {a.name: argument(a, arrays[a.name]) for a in kernel.arrays}
    dims = {d: made.sizes[d] for d in kernel.dims}
    try:
        report = launch(DeviceCode(kernel, subject.body), dims, made.scalars, arguments)
    except KernelError as refusal:
        raise Unmodelled(refusal.diagnostics[0].message) from None
    return arrays, report


def _stored(machine: Machine, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Outputs after the schedule, f64; elements that it leaves alone are as they were."""
    found = {}
    for name, stored in machine.memory.stored.items():
        before = np.asarray(inputs[name]).astype(np.float64)
        found[name] = np.where((stored.count > 0) | (machine.memory.roles[name] == "Acc"), stored.values[0], before)
    return found


# Findings --------------------------------------------------------------------------------------------


def _faults(run: Run) -> Iterator[DeviceCounterexample]:
    """What the emulator says of the code. The schedule did nothing of the kind, or the engine would have stopped."""
    for f in run.report.findings:
        yield _counterexample(
            run, f"{f.message} ({run.encoding.text()})", line=f.line or None, kind=f.kind, array=f.array,
            element=f.coordinates or None, place=f.place, block=f.block, warp=f.warp, lane=f.lane,
            other_line=f.other_line, occurrences=f.occurrences, scope=f"{f.occurrences} times in this run",
        )  # fmt: skip


def _differences(run: Run) -> Iterator[DeviceCounterexample]:
    for name, right in run.expected.items():
        found = np.asarray(run.arrays[name]).astype(np.float64).reshape(right.shape)
        wrong = np.argwhere(~_equal(found, right, run.plan.tolerance(run.machine.memory.dtypes[name])))
        if len(wrong):
            element = tuple(int(i) for i in wrong[0])
            yield _difference(run, name, element, float(found[element]), len(wrong))


def _equal(found: Any, right: Any, tolerance: float) -> Any:
    """NaN equals NaN. Within `tolerance` of the element, and a millionth of the largest, for what sums cancel."""
    with np.errstate(all="ignore"):
        same = (found == right) | (np.isnan(found) & np.isnan(right))
        if tolerance:
            scale = float(np.abs(right[np.isfinite(right)]).max(initial=0.0))
            same |= np.abs(found - right) <= tolerance * np.abs(right) + 2.0**-20 * scale
    return same


def _difference(run: Run, name: str, element: tuple[int, ...], found: float, count: int) -> DeviceCounterexample:
    expected = float(run.expected[name][element])
    sources = _decoded(run, name, element)
    line, thread, block = _storer(run, name, element)
    place = f"{name}{list(element)}"
    values = f"{found:.8g}, the schedule has {expected:.8g}"
    message = f"{place} is {values} ({run.encoding.text()})"
    if sources is not None:
        message = (
            f"{place} comes from {sources[1]}, in the schedule from {sources[0]} ({values}; {run.encoding.text()})"
        )
    return _counterexample(
        run, message + _emitted_at(run.subject.body, line), line=line, kind="value", array=name, element=element,
        place=place, expected=sources[0] if sources else expected, found=sources[1] if sources else found, block=block,
        warp=None if thread is None else thread // WARP, lane=None if thread is None else thread % WARP,
        occurrences=count, scope=f"{count} of {run.expected[name].size} elements of {name} at these sizes",
    )  # fmt: skip


def _counterexample(run: Run, message: str, line: int | None, **more: Any) -> DeviceCounterexample:
    kernel, sizes = run.subject.case.kernel, dict(run.plan.made.sizes)
    replay = {"sizes": sizes, "arch": run.subject.arch, "encoding": run.encoding.text()}
    return DeviceCounterexample(
        family="translation", message=message, lines=(line,) if line else (), sizes=sizes, tunables={}, replay=replay,
        kernel=kernel.name, shape_class=kernel.shape_class.name, line=line, completion="late", **more,
    )  # fmt: skip


# Who and what ----------------------------------------------------------------------------------------


def _decoded(run: Run, name: str, element: tuple[int, ...]) -> tuple[str, str] | None:
    """Elements of the coded array that the schedule and the code bring there, from the other runs of the group."""
    group = run.encoding.group
    if group is None:
        return None
    *digits, ones = group.codes()
    wanted, got = [], []
    for code in (ones, *digits):
        made = Run.of(run.subject, run.plan, Encoding(group, code))
        wanted.append(float(made.expected[name][element]))
        got.append(float(np.asarray(made.arrays[name]).reshape(made.expected[name].shape)[element]))
        if wanted[0] == 0 or got[0] not in (wanted[0], 0):
            return None  # not one element each
    shown = _source(run, group, wanted, wanted[0]), _source(run, group, got, wanted[0])
    return None if None in shown or shown[0] == shown[1] else (shown[0] or "", shown[1] or "")


def _source(run: Run, group: Group, values: list[float], unit: float) -> str | None:
    """The element whose codes these are, the run of ones first: one element has `unit` there."""
    if not any(values):
        return "no element"
    if values[0] != unit:
        return None
    flat = decoded([v / unit for v in values[1:]], group.base)
    shape = run.machine.memory.shapes[group.subject]
    if flat is None or flat >= prod(shape):
        return None
    return f"{group.subject}{[int(i) for i in np.unravel_index(flat, shape)]}"


def _storer(run: Run, name: str, element: tuple[int, ...]) -> tuple[int | None, int | None, int | None]:
    """The line of the store, and thread and block that store the element in the schedule; None: no single one."""
    stored = run.machine.memory.stored[name]
    lines = run.report.store_lines.get(name)
    line = None if lines is None else int(lines.reshape(stored.site.shape)[element]) or None
    number = int(stored.site[element])
    if number == NOBODY:
        return line, None, None
    site = run.machine.sites[number]
    return line or line_of(site), _holder(run, site, element), site.block


def _holder(run: Run, site: Site, element: tuple[int, ...]) -> int | None:
    """The thread of the block whose register is stored there; None for a bulk store and for indexed ones."""
    statement = site.statement
    if not isinstance(statement, dev.Store) or statement.value.layout is None:
        return None
    variables = {**run.plan.made.sizes, **site.variables}
    starts = tuple(s.evaluate(variables, run.plan.made.read) for s in statement.start)
    layout = statement.value.layout
    at, _ = view_positions(statement.view, starts, held(layout), variables, run.plan.made.read)
    here = np.ones((layout.threads, layout.registers), np.bool_)
    for coordinate, wanted in zip(at, element, strict=True):
        here &= np.broadcast_to(coordinate, here.shape) == wanted
    threads = np.flatnonzero(here.any(axis=1) & owners(layout))
    return site.first_thread + int(threads[0]) if len(threads) else None


def _emitted_at(body: str, line: int | None) -> str:
    """Where the store of a line stands in the emitted body, counted from 1."""
    current, mark = 0, re.compile(r'#line (\d+) "kernel"')
    for number, text in enumerate(body.split("\n"), 1):
        found = mark.fullmatch(text)
        if found:
            current = int(found.group(1))
            continue
        if current == line and _STORES.search(text):
            return f"; emitted line {number}: {text.strip()}"
        current += 1
    return ""


_STORES = re.compile(r"\bka_(stg|atomic_add|tma_store)\b")


__all__ = ["Budget", "check_translation", "check_translations"]
