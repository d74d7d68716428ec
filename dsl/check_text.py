"""Check a kernel text: does it parse, what is proved about it, what was tested, what fails."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.verify.progress import say
from kernelagent.dsl.verify.records import Counterexample, Findings, Obligation, Verdict, level_of, verdict_of

if TYPE_CHECKING:
    from kernelagent.dsl.ir import Module
    from kernelagent.dsl.verify.families import Choice
    from kernelagent.dsl.verify.numeric import Reference
    from kernelagent.dsl.verify.semantics.graph import ReferenceGraph


@dataclass(frozen=True)
class CheckReport:
    """`ok`: the text parses and types, and nothing is refuted. `verdict` sums up safety and flow (`verdict_of`),
    `semantics` is the level reached against the reference, "" where nothing was compared. `notes`: policy that the
    compiler dropped, and slower roads that it took."""

    ok: bool
    verdict: Verdict
    obligations: tuple[Obligation, ...]
    counterexamples: tuple[Counterexample, ...]
    diagnostics: tuple[Diagnostic, ...]
    resources: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    semantics: str = ""
    notes: tuple[str, ...] = ()

    def with_findings(self, found: Findings) -> CheckReport:
        """With further obligations and counterexamples, summed up again."""
        obligations = (*self.obligations, *found.obligations)
        verdict = verdict_of(obligations)
        return replace(
            self, ok=self.ok and verdict != "REFUTED", verdict=verdict, semantics=level_of(obligations),
            obligations=obligations, counterexamples=(*self.counterexamples, *found.counterexamples),
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as `check --json` prints them."""
        return {
            "ok": self.ok,
            "verdict": self.verdict,
            "semantics": self.semantics,
            "obligations": [o.to_dict() for o in self.obligations],
            "counterexamples": [c.to_dict() for c in self.counterexamples],
            "diagnostics": [d.to_dict() for d in self.diagnostics],
            "notes": list(self.notes),
            "resources": dict(self.resources),
            "seconds": self.seconds,
        }


def check(
    text: str,
    reference: Reference | None = None,
    target: str = "cpu",
    quick: bool = True,
    dtypes: Mapping[str, str] | None = None,
    scalars: Mapping[str, float | int | bool] | None = None,
    tunables: Mapping[str, int | bool] | None = None,
    absent: frozenset[str] = frozenset(),
    graph: ReferenceGraph | None = None,
) -> CheckReport:
    """Check the entry of `text`; of a level-two text its rules and its schedule. Never raises for a mistake of the
    text; it becomes a diagnostic of the report.

    `reference` adds a comparison of values on its trials, `graph` (of the same reference) a proof of equality over the
    reals, unless `quick`. `dtypes` chooses types for dtype variables (default f32),
    `absent` names optional arrays that the call leaves out. `quick` leaves out the solver and bounds the runs to a
    fraction of a second.
    """
    begin = time.perf_counter()
    from kernelagent.dsl.elaborate import parse
    from kernelagent.dsl.level2.parse_schedule import is_level_two
    from kernelagent.dsl.verify.claims import contradiction
    from kernelagent.dsl.verify.families import Choice

    if is_level_two(text):
        from kernelagent.dsl.check_schedule import check_schedule

        return check_schedule(text, quick)
    choice = Choice(dict(dtypes or {}), dict(scalars or {}), dict(tunables or {}), target)
    try:
        module = parse(text, absent)
        if (impossible := contradiction(module)) is not None:
            raise KernelError([impossible])
        findings = examine(module, choice, reference, quick, graph)
        claimed, empty = claims(module, choice, findings.obligations, quick)
        findings += claimed
        resources = _resources(module, choice)
        memory = _memory(module, choice)
    except KernelError as error:
        return CheckReport(False, "UNKNOWN", (), (), error.diagnostics, {}, time.perf_counter() - begin)
    diagnostics = (*(w for w in module.warnings if isinstance(w, Diagnostic)), *empty, *memory)
    fits = all(d.severity != "error" for d in memory)
    report = CheckReport(fits, "UNKNOWN", (), (), diagnostics, resources)
    return replace(report.with_findings(findings), seconds=time.perf_counter() - begin)


def examine(
    module: Module, choice: Choice, reference: Reference | None, quick: bool, graph: ReferenceGraph | None = None
) -> Findings:
    """All obligations of a parsed text. Raises KernelError when it cannot be instantiated."""
    from kernelagent.dsl.verify.families import Effort, argue, run_trials, settle

    effort = Effort.quick() if quick else Effort.full()
    say("proving the text")
    obligations = argue(module, choice, effort.solver)
    done, failures = run_trials(module, choice, effort)
    findings = settle(obligations, done, failures)
    if reference is None or failures:
        return findings
    from kernelagent.dsl.verify.numeric import compare

    say("comparing with the reference at small sizes")
    end = time.thread_time() + effort.seconds
    findings += compare(module, reference, choice, effort.work_limit, lambda: time.thread_time() > end)
    if not quick and graph is not None:
        findings += _meaning(module, choice, graph, reference)
    return _placed(module, findings)


def claims(
    module: Module, choice: Choice, shown: tuple[Obligation, ...], quick: bool
) -> tuple[Findings, tuple[Diagnostic, ...]]:
    """What the author claims, and claims that say nothing."""
    from kernelagent.dsl.verify.claims import examine as run
    from kernelagent.dsl.verify.families import Effort

    effort = Effort.quick() if quick else Effort.full()
    return run(module, choice, shown, effort.work_limit, effort.seconds)


def _placed(module: Module, findings: Findings) -> Findings:
    """With the line of the store at wrong values of which nothing says where they come from."""
    from kernelagent.dsl.verify.gaps import store_line

    outputs = {a.name: a for a in module.entry.arrays}
    told = {(c.array, c.element) for c in findings.counterexamples if c.lines}

    def placed(one: Counterexample) -> Counterexample:
        known = one.lines or (one.array, one.element) in told or one.array not in outputs
        return one if known else replace(one, lines=(store_line(module, outputs[str(one.array)]),))

    return replace(findings, counterexamples=tuple(placed(c) for c in findings.counterexamples))


def _meaning(module: Module, choice: Choice, graph: ReferenceGraph, reference: Reference) -> Findings:
    """Equality over the reals, and what the reals do not show."""
    from kernelagent.dsl.verify.semantics.prove import prove_semantics

    say("comparing with the reference over the reals")
    return prove_semantics(module, choice, graph, reference, fixing=True)


def _resources(module: Module, choice: Choice) -> dict[str, Any]:
    """Tunables in force, and for each kernel the bytes of its largest tile."""
    from kernelagent.dsl.verify.resources import largest_tiles

    return {"tunables": dict(choice.tunables), "largest_tile_bytes": largest_tiles(module, choice)}


def _memory(module: Module, choice: Choice) -> tuple[Diagnostic, ...]:
    """What tiles take of a CPU's memory, where that is too much."""
    if choice.target != "cpu":
        return ()
    from kernelagent.dsl.targets.cpu.memory import memory_diagnostics
    from kernelagent.dsl.verify.families import concrete_kernels

    return tuple(memory_diagnostics(concrete_kernels(module, choice)))
