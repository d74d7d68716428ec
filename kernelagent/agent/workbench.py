"""The real laboratory: bound from `solar`, checks from `dsl`, verdicts and times from `harness`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from kernelagent.dsl.diagnostics import Diagnostic
from kernelagent.errors import CallError, EnvironmentLack
from kernelagent.harness import Evaluation, Options, Session, Timing
from kernelagent.harness.options import Bounds
from kernelagent.problems.problem import Problem, Workload

from .laboratory import CandidateFailed, Report, Rivals
from .matching import diagnose

QUICK_RIVALS = ("numpy", "torch_eager")
SLOW_RIVALS = ("torch_compile",)
TARGETS = ("cpu",)
BASELINE_BUDGET_S = 0.6
SELECTION_BUDGET_S = 1.5
COMPARISON_BUDGET_S = 3.0
DUEL_BUDGET_S = 0.4
TRIAL_BUDGET_S = 0.2
"""What a trial spends on a time of its own; against the best it is the duel that counts."""


def resolve_target(target: str) -> str:
    """`auto` is the best target of this machine. Raises CallError for an unknown one, EnvironmentLack for a missing."""
    if target == "auto":
        return "cpu"
    if target == "cuda":
        raise EnvironmentLack(
            "nothing is timed on cuda yet", "use --target cpu; `optimize run --target cuda` ranks without timing"
        )
    if target not in TARGETS:
        raise CallError(f"unknown target '{target}'", "known: auto, cpu, cuda")
    return target


class Workbench:
    """One problem, one timed workload, one target. Holds worker processes until `close`."""

    def __init__(
        self,
        problem: Problem,
        workload: Workload,
        target: str = "auto",
        rivals: Sequence[str] = (*QUICK_RIVALS, *SLOW_RIVALS),
    ) -> None:
        from kernelagent.solar import load_chip

        self._problem, self._workload = problem, workload
        self._target = resolve_target(target)
        self._wanted = tuple(rivals)
        self._chip = load_chip("this")
        self._trials: Session | None = None
        self._full: Session | None = None
        self._options: Options | None = None

    @property
    def chip(self) -> str:
        return self._chip.name

    @property
    def target(self) -> str:
        return self._target

    def environment(self) -> dict[str, Any]:
        from kernelagent.harness import environment

        return environment.describe()

    def bound(self) -> tuple[Report, Report]:
        """An operation that the model does not know leaves a run without a bound, not without a kernel."""
        from kernelagent.solar import TraceError, bound

        try:
            bounded = bound(self._problem, self._workload, self._chip)
        except TraceError as error:
            return {"unmodelled": [str(error)]}, {"unmodelled": [str(error)]}
        report = {**bounded.to_dict(), "floor_ms": bounded.cached_floor_ms}
        return report, {**report, **(report["ceiling"] or {})}

    def baselines(self) -> Rivals:
        return self._measure(QUICK_RIVALS)

    def late_baselines(self) -> Rivals:
        return self._measure(SLOW_RIVALS)

    def _measure(self, group: Sequence[str]) -> Rivals:
        """Those of the group that were asked for."""
        names = [name for name in group if name in self._wanted]
        if not names:
            return Rivals(())
        results = self._session.measure_baselines(self._workload.name, names, BASELINE_BUDGET_S)
        found = tuple(r.timing for r in results if r.timing)
        return Rivals(found, {r.name: r.reason or "not available" for r in results if r.timing is None})

    def check(self, text: str) -> tuple[Diagnostic, ...]:
        return diagnose(text, self._problem)

    def evaluate(self, text: str) -> Evaluation:
        return self._session.evaluate(text)

    def confirm(self, text: str) -> Evaluation:
        """With inputs of another seed than the trials saw, and against the reference over the reals."""
        if self._full is None:
            self._full = Session(self._problem, replace(self._run_options, quick=False, timing=False))
        found = self._full.evaluate(text)
        return _with_semantics(found, text, self._problem) if found.status == "PASSED" else found

    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        own, rival = self._together([text, other], (), DUEL_BUDGET_S)
        return own, rival

    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        return self._together(texts, rivals, COMPARISON_BUDGET_S if rivals else SELECTION_BUDGET_S)

    def _together(self, texts: Sequence[str], rivals: Sequence[str], budget_s: float) -> tuple[Timing, ...]:
        from kernelagent.harness.build import BuildFailure
        from kernelagent.harness.process import WorkerFailure

        try:
            return self._session.time_together(texts, rivals, self._workload.name, budget_s)
        except (BuildFailure, WorkerFailure) as failure:
            raise CandidateFailed(str(failure)) from None

    def close(self) -> None:
        for session in (self._trials, self._full):
            if session is not None:
                session.close()
        self._trials = self._full = None

    @property
    def _session(self) -> Session:
        """Started on first use: the bound is shown before any worker runs."""
        if self._trials is None:
            self._trials = Session(self._problem, self._run_options)
        return self._trials

    @property
    def _run_options(self) -> Options:
        if self._options is None:
            sol, ceiling = self.bound()
            bounds = {self._workload.name: Bounds(sol.get("time_ms"), ceiling.get("time_ms"), sol.get("floor_ms"))}
            self._options = Options(target=self._target, workloads=(self._workload.name,), quick=True, bounds=bounds,
                                    time_budget_s=TRIAL_BUDGET_S)  # fmt: skip
        return self._options


def _with_semantics(found: Evaluation, text: str, problem: Problem) -> Evaluation:
    """How far the text is its reference. One that differs on some input is refuted, however near it came."""
    from kernelagent.checking import meaning_of
    from kernelagent.dsl.verify.records import counts, level_of

    shown = meaning_of(text, problem)
    more = counts(shown.obligations)
    proofs = {v: found.proofs.get(v, 0) + more.get(v, 0) for v in {**found.proofs, **more}}
    if not shown.counterexamples:
        return replace(found, semantics=level_of(shown.obligations), proofs=proofs)
    why = tuple(f"semantics: {c.message}" for c in shown.counterexamples)
    return replace(found, status="REFUTED", verdict="REFUTED", proofs=proofs, report=(*why, *found.report))


def bench(text: str, problem: Problem, target: str, workloads: tuple[str, ...]) -> Evaluation:
    """Every workload tested, the named ones (default: all) timed against every baseline, each with its bound."""
    from kernelagent.solar import bound, load_chip

    chip = load_chip("this")

    def bounds(workload: Workload) -> Bounds:
        report = bound(problem, workload, chip)
        return Bounds(report.time_ms, report.ceiling.time_ms if report.ceiling else None, report.cached_floor_ms)

    names = workloads or tuple(w.name for w in problem.workloads)
    for name in names:
        problem.workload(name)
    rivals = (*QUICK_RIVALS, *SLOW_RIVALS)
    options = Options(target=resolve_target(target), workloads=names, baselines=rivals, bounds=bounds)
    with Session(problem, options) as session:
        return session.evaluate(text)
