"""Check a kernel text for a GPU without one: proofs for its policies, then the compiler's word or emulated runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal

from kernelagent.dsl.check_text import CheckReport, check
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.verify.progress import say
from kernelagent.dsl.verify.records import DeviceCounterexample, ScheduleCounterexample

if TYPE_CHECKING:
    from kernelagent.dsl.ir import Module
    from kernelagent.dsl.targets.calls import Choices
    from kernelagent.dsl.targets.cuda.artifact import Binary, CudaArtifact, CudaOptions
    from kernelagent.dsl.targets.emulator.launch import Completion
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.numeric import Reference
    from kernelagent.dsl.verify.proofs import Use
    from kernelagent.dsl.verify.semantics.graph import ReferenceGraph
    from kernelagent.dsl.verify.trials import Trial

GpuTarget = Literal["cuda", "emu", "both"]
SECONDS = 6.0
"""From the end of the first emulated trial: after that no further one is begun."""


@dataclass(frozen=True)
class GpuCalls:
    """What a text is compiled and run for. Empty `classes`: one for each member of its fixed dims; `trials` None: drawn
    at sizes around the text's own tiles. `against`: the level-one text whose interpreter says what a level-two text
    should compute. `proofs`: whether kept proofs of schedules are taken, made afresh, or compared. `workloads`: sizes
    of the dims at which what is not proved for all sizes is to be proved. `taken`: whether a call that counts takes the
    code of a kernel's shape class; spills of the others are warnings. None: all count."""

    arch: str = "sm_80"
    dtypes: Mapping[str, str] = field(default_factory=dict)
    tunables: Mapping[str, int | bool] = field(default_factory=dict)
    scalars: Mapping[str, float | int | bool] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    classes: Sequence[Choices] = ()
    trials: Sequence[Trial] | None = None
    against: str | None = None
    proofs: Use = "cached"
    workloads: Sequence[Mapping[str, int]] = ()
    taken: Callable[[str, str], bool] | None = None


def check_gpu(
    text: str,
    target: GpuTarget,
    calls: GpuCalls | None = None,
    reference: Reference | None = None,
    quick: bool = True,
    graph: ReferenceGraph | None = None,
) -> CheckReport:
    """`check` with the policies of an architecture, and the proofs of the schedules of all shape classes; then `cuda`
    compiles them and puts what they take into `resources`, `emu` runs the emitted code in the emulator, and `both`
    emulates what the compiler took.

    Never raises for a mistake of the text. Raises MissingTool or NoCompiler for what this machine lacks.
    """
    begin = time.perf_counter()
    calls = calls or GpuCalls()
    report = _of_text(text, calls, reference, quick, graph)
    if report.ok:
        try:
            report = _of_schedules(text, calls, report, quick)
            if target != "emu" and report.ok:
                report = _compiled(text, calls, report)
            if target != "cuda" and report.ok:
                report = _emulated(text, calls, report, quick)
            if target != "cuda" and report.ok and not quick:
                report = _translated(text, calls, report)
        except KernelError as error:
            found = (*report.diagnostics, *error.diagnostics)
            report = replace(report, ok=False, verdict="UNKNOWN", diagnostics=found)
    return replace(report, seconds=time.perf_counter() - begin)


def trace(text: str, calls: GpuCalls, report: CheckReport, number: int) -> list[str]:
    """The run of counterexample `number` of a report (from 1, of those that schedules have), step by step. Empty if
    there is no such one."""
    from kernelagent.dsl.verify.proofs import traced

    found = [c for c in report.counterexamples if isinstance(c, ScheduleCounterexample)]
    if not 0 < number <= len(found):
        return []
    module, oracle = _parsed(text), None if calls.against is None else _parsed(calls.against)
    return traced(module, classes(module, calls), calls.arch, found[number - 1], oracle)


def _of_text(
    text: str, calls: GpuCalls, reference: Reference | None, quick: bool, graph: ReferenceGraph | None
) -> CheckReport:
    """The text by itself. A level-two text is its schedule: its proofs are part of this."""
    from kernelagent.dsl.level2.parse_schedule import is_level_two

    if is_level_two(text):
        from kernelagent.dsl.check_schedule import check_schedule

        return check_schedule(text, quick, calls.against, calls.proofs)
    return check(text, reference, calls.arch, quick, calls.dtypes, calls.scalars, calls.tunables, graph=graph)


def _of_schedules(text: str, calls: GpuCalls, report: CheckReport, quick: bool) -> CheckReport:
    """What the compiler makes of a level-one text, proved in every shape class. Raises KernelError."""
    from kernelagent.dsl.check_schedule import recheck_diagnostics
    from kernelagent.dsl.level2.module import ScheduledModule
    from kernelagent.dsl.verify.claims import empty
    from kernelagent.dsl.verify.own_faults import own_faults
    from kernelagent.dsl.verify.proofs import prove_schedules

    module = _parsed(text)
    if isinstance(module, ScheduledModule):
        return report
    made, wanted = classes(module, calls), calls.workloads
    proofs = prove_schedules(module, made, calls.arch, quick, use=calls.proofs, workloads=wanted)
    findings = proofs.findings
    said = (*recheck_diagnostics(proofs), *empty(module, findings.obligations), *own_faults(module, findings))
    diagnostics = (*report.diagnostics, *said)
    resources = {**report.resources, "arch": calls.arch, "proofs": proofs.to_dict()}
    told = report.with_findings(findings)
    return replace(told, diagnostics=diagnostics, resources=resources, notes=proofs.notes)


def _compiled(text: str, calls: GpuCalls, report: CheckReport) -> CheckReport:
    from kernelagent.dsl.targets.cuda.artifact import CudaOptions

    artifacts = compile_classes(_parsed(text), calls, CudaOptions(gate=False))
    kernels = [resources(a, b) for a in artifacts for b in a.binaries()]
    found = {"arch": calls.arch, "compiler": artifacts[0].compiler, "kernels": kernels}
    said = tuple(_spared(d, calls) for a in artifacts for d in a.diagnostics)
    faults = [d for d in said if d.severity == "error"]
    diagnostics = report.diagnostics + said
    for artifact in artifacts:
        keep_beside(artifact.key, report)
    return replace(report, ok=not faults, diagnostics=diagnostics, resources={**report.resources, **found})


def _spared(fault: Diagnostic, calls: GpuCalls) -> Diagnostic:
    """A warning, where the machine code at fault is that of calls that do not count."""
    facts = fault.facts
    if calls.taken is None or calls.taken(str(facts["kernel"]), str(facts["class"])):
        return fault
    message = f"{fault.message}; the calls that count take other code"
    return replace(fault, severity="warning", message=message)


def keep_beside(key: str, report: CheckReport) -> None:
    """What was proved, as `proofs.json` in the folder of a compiled kernel."""
    from kernelagent.dsl.targets import cache
    from kernelagent.dsl.verify.proofs import beside

    record = {
        "verdict": report.verdict,
        "semantics": report.semantics,
        "obligations": [o.to_dict() for o in report.obligations],
        "counterexamples": [c.to_dict() for c in report.counterexamples],
        **report.resources.get("proofs", {}),
    }
    beside(cache.place(cache.cache_root("cuda"), key), record)


def _emulated(text: str, calls: GpuCalls, report: CheckReport, quick: bool) -> CheckReport:
    from kernelagent.dsl.check_schedule import positions_unknown, trials_against
    from kernelagent.dsl.level2.module import ScheduledModule
    from kernelagent.dsl.verify.emulated import Runs, emulated, small_trials
    from kernelagent.dsl.verify.own_faults import own_faults

    module, choice = _parsed(text), _choice(calls)
    oracle = None if calls.against is None else _parsed(calls.against)
    trials = small_trials(module, choice) if calls.trials is None else calls.trials
    if isinstance(module, ScheduledModule):
        if oracle is None and positions_unknown(module):
            return report
        trials = trials if oracle is None else trials_against(module, oracle, trials, choice)
    say("running the emitted code in the emulator")
    completions: tuple[Completion, ...] = ("late",) if quick else ("late", "random")
    findings = emulated(module, trials, choice, Runs(calls.arch, completions, _deadline(SECONDS)), oracle)
    told = replace(report.with_findings(findings), resources={**report.resources, "arch": calls.arch})
    return replace(told, diagnostics=(*told.diagnostics, *own_faults(module, findings)))


def _translated(text: str, calls: GpuCalls, report: CheckReport) -> CheckReport:
    """The emitted code of every shape class, held to the schedule that was proved."""
    from kernelagent.dsl.check_schedule import positions_unknown
    from kernelagent.dsl.level2.module import ScheduledModule
    from kernelagent.dsl.verify.own_faults import own_faults
    from kernelagent.dsl.verify.translation import check_translations

    module = _parsed(text)
    if isinstance(module, ScheduledModule) and positions_unknown(module):
        return report
    say("comparing the emitted code with its schedules")
    findings = check_translations(module, classes(module, calls), calls.arch)
    told = report.with_findings(findings)
    return replace(told, diagnostics=(*told.diagnostics, *own_faults(module, findings)))


def _deadline(seconds: float) -> Callable[[], bool]:
    """Whether the time is up; it begins with the first question, which comes after one run: that run may have had to
    build the emulator itself."""
    ends: list[float] = []

    def expired() -> bool:
        if not ends:
            ends.append(time.monotonic() + seconds)
        return time.monotonic() > ends[0]

    return expired


def compile_classes(module: Module, calls: GpuCalls, options: CudaOptions | None = None) -> list[CudaArtifact]:
    """The text compiled for each class of fixed dims. Raises KernelError, MissingTool."""
    from kernelagent.dsl.targets.cuda.build import compile

    return [
        compile(module, c.dtypes, c.tunables, c.consts, c.dims, calls.arch, options) for c in classes(module, calls)
    ]


def classes(module: Module, calls: GpuCalls) -> Sequence[Choices]:
    """The choices for which binaries differ. Dtype variables that are not chosen are f32."""
    from kernelagent.dsl.targets.calls import Choices, entry_dims

    if calls.classes:
        return calls.classes
    entry = module.entry
    dtypes = {v: calls.dtypes.get(v, "f32") for v in entry.dtype_variables} | dict(calls.dtypes)
    consts = {
        s.name: int(calls.scalars[s.name]) for s in entry.scalars if s.dtype == "const" and s.name in calls.scalars
    }
    fixed = [d for d in entry_dims(module, dict.fromkeys(entry.dims, 0)) if d not in calls.dims]
    picked = [dict(calls.dims) | combination for combination in _combinations(module, fixed)]
    return [Choices(dtypes, dict(calls.tunables), consts, dims) for dims in picked]


def _combinations(module: Module, fixed: Sequence[str]) -> Iterator[dict[str, int]]:
    """Members that the text's assumptions list for dims; a dim without any is left open (the compiler asks for it)."""
    from kernelagent.dsl.verify.shapes import members

    known = {d: found for d in fixed if (found := members(module, d))}
    for values in product(*known.values()):
        yield dict(zip(known, values, strict=True))


def resources(artifact: CudaArtifact, binary: Binary) -> dict[str, Any]:
    """One entry of `resources.kernels` of a check."""
    return {
        "kernel": binary.kernel,
        "shape_class": binary.shape_class,
        "guards": list(binary.guard_texts),
        "dims": dict(artifact.dims),
        "threads": binary.threads,
        **asdict(binary.resources),
        "notes": list(binary.notes),
        "report": list(binary.report),
    }


def _parsed(text: str) -> Module:
    from kernelagent.dsl.level2.module import read_module

    return read_module(text)


def _choice(calls: GpuCalls) -> Choice:
    from kernelagent.dsl.verify.families import Choice

    return Choice(calls.dtypes, calls.scalars, calls.tunables, calls.arch, calls.dims)


def finding_diagnostics(report: CheckReport, text: str) -> tuple[Diagnostic, ...]:
    """What emulated runs showed, as diagnostics at the lines of the text."""
    found = (c for c in report.counterexamples if isinstance(c, DeviceCounterexample))
    return tuple(_finding(c, text.splitlines()) for c in found)


def _finding(c: DeviceCounterexample, lines: Sequence[str]) -> Diagnostic:
    span = _line_span(lines, c.line)
    other = "" if c.other_line in (None, c.line) else f"; the other access is on line {c.other_line}"
    who = "" if c.block is None else f" (block {c.block}, warp {c.warp}, lane {c.lane})"
    message = f"{c.kind}: {c.message}{who}{other}"
    hint = f"{c.kernel}, {c.shape_class} class; {c.scope}"
    return Diagnostic("emulator-finding", message, span, "error", hint, {"kind": c.kind, "completion": c.completion})


def _line_span(lines: Sequence[str], line: int | None) -> Span | None:
    if line is None or not 0 < line <= len(lines):
        return None
    text = lines[line - 1]
    return Span(line, len(text) - len(text.lstrip()) + 1, line, len(text.rstrip()) + 1)
