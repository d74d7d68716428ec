"""A run's harness: inputs, oracle results and baseline workers stay warm while candidates come and go."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from kernelagent.dsl.verify.progress import say
from kernelagent.harness import clocks, environment, probes
from kernelagent.harness.baselines import NAMES, BaselineResult, Baselines, default_threads
from kernelagent.harness.build import Build, BuildFailure, Built
from kernelagent.harness.correctness import Finding
from kernelagent.harness.inputs import InputKey, InputSet
from kernelagent.harness.lock import Notify
from kernelagent.harness.options import Bounds, Options
from kernelagent.harness.oracle import rule
from kernelagent.harness.permits import permit
from kernelagent.harness.plan import CheckPlan, confirmation_keys, make_plan
from kernelagent.harness.process import Worker, WorkerFailure, WorkerOptions
from kernelagent.harness.records import Evaluation, Status, Timing, WorkloadResult
from kernelagent.harness.score import score, suspicion
from kernelagent.harness.subject import Subject, flush_arena
from kernelagent.harness.timing import Comparison, Samples, TimingPlan, contrast, decided, interleave
from kernelagent.problems.problem import Problem

_KEPT_SUBJECTS = 3


@dataclass(frozen=True)
class _Loaded:
    built: Built
    subject: Subject


class Session:
    """Evaluates candidates of one problem. Use as a context manager: workers end with it.

    Raises KeyError for a timed workload that the problem does not have.
    """

    def __init__(
        self, problem: Problem, options: Options | None = None, build: Build | None = None, notify: Notify | None = None
    ) -> None:
        self.problem, self.notify = problem, notify
        self.options = options = options or Options()
        self.plan: CheckPlan = make_plan(problem, options)
        self.workload = (options.workloads or (problem.workloads[0].name,))[0]
        self.threads = options.threads or default_threads()
        self.sandbox = "none"
        self.primitives: list[str] = []
        self._build = build or default_build(options.target)
        self._flush = flush_arena()
        self._sets: dict[InputKey, InputSet] = {}
        self._subjects: OrderedDict[str, _Loaded] = OrderedDict()
        self._baselines = Baselines(problem, self.threads, self._flush)
        self._baseline_ms: dict[str, float] = {}
        self._known_bounds: dict[str, Bounds] = {}

    # Candidates ------------------------------------------------------------------------------------

    def evaluate(self, text: str) -> Evaluation:
        """Everything about one candidate; whatever is its fault is a status, not an exception."""
        start = time.perf_counter()
        before = clocks.observe()
        sha = text_sha(text)
        try:
            loaded = self._load(text, sha)
        except BuildFailure as failure:
            return self._unbuilt(sha, failure, start)
        except WorkerFailure as failure:
            return self._unloadable(sha, failure, start)
        say("testing")
        results = self._check(loaded)
        hidden = self._probe(loaded, results)
        if hidden and hidden.failure:
            results.append(hidden.failure)
        if all(r.status == "PASSED" for r in results) and permit(loaded.built.verdict).timed:
            say("timing")
            results = self._time(loaded, results)
        status: Status = next((r.status for r in results if r.status != "PASSED"), "PASSED")
        built = loaded.built
        report = (*built.report, *((hidden.line,) if hidden else ()))
        self._drop_dead()
        return Evaluation(
            self.problem.name, sha, status, tuple(results), built.diagnostics, dict(built.proofs), built.verdict,
            self.sandbox, clocks.change(before, clocks.observe()), self._environment(), built.artifact, report,
            time.perf_counter() - start,
        )  # fmt: skip

    def compare(self, champion: str, challenger: str, workload: str | None = None, budget_s: float = 1.0) -> Comparison:
        """Is one text really faster than another? Both interleaved, until an interval decides or the budget ends.

        Both must have passed `evaluate`. Raises BuildFailure or WorkerFailure if one of them fails now.
        """
        first = self._load(champion, text_sha(champion)).subject
        second = self._load(challenger, text_sha(challenger)).subject
        if first is second:
            raise ValueError("a text cannot be compared with itself")
        sets = self._timed_sets(workload or self.workload)
        plan = TimingPlan(budget_s * 1e3, 0.0, device=self.options.target)
        samples = interleave([first, second], sets, plan, None, self.notify, decided(first.name, second.name))
        for record in samples.values():
            if record.wrong:
                raise WorkerFailure("RUNTIME_ERROR", record.wrong)
        return contrast(samples[first.name], samples[second.name])

    def time_together(
        self, texts: Sequence[str], baselines: Sequence[str] = (), workload: str | None = None, budget_s: float = 1.0
    ) -> tuple[Timing, ...]:
        """Times of several passed texts, interleaved with each other and with those baselines that can be had.

        The texts come first, in order, named by their index, then the baselines by name. Raises as `compare` does.
        """
        sets = self._timed_sets(workload or self.workload)
        subjects = [self._load(text, text_sha(text), keep=len(texts)).subject for text in dict.fromkeys(texts)]
        rivals = self._baselines.ready(baselines, sets[0])
        plan = TimingPlan(budget_s * 1e3, self.options.relative_width, device=self.options.target)
        samples = interleave([*subjects, *rivals], sets, plan, None, self.notify)
        wrong = next((s.wrong for s in samples.values() if s.wrong), "")
        if wrong:
            raise WorkerFailure("RUNTIME_ERROR", wrong)
        own = [replace(samples[text_sha(t)[:12]].timing(), name=str(i)) for i, t in enumerate(texts)]
        return (*own, *(samples[r.name].timing() for r in rivals))

    # Baselines -------------------------------------------------------------------------------------

    def measure_baselines(
        self, workload: str | None = None, names: Sequence[str] = NAMES, budget_s: float = 1.0
    ) -> list[BaselineResult]:
        """Time baselines against each other on a timed workload; the fastest becomes the base of scores."""
        name = workload or self.workload
        results = self._baselines.measure(names, self._timed_sets(name), TimingPlan(budget_s * 1e3), self.notify)
        self._remember(name, [r.timing for r in results if r.timing])
        return results

    def set_baseline(self, workload: str, time_ms: float) -> None:
        """The base of scores where it was measured elsewhere (a cache of the caller's)."""
        self._baseline_ms[workload] = time_ms

    # Set-up and end --------------------------------------------------------------------------------

    def inputs(self, key: InputKey) -> InputSet:
        """The prepared inputs, drawn on first use and kept."""
        if key not in self._sets:
            self._sets[key] = InputSet(self.problem, key)
        return self._sets[key]

    def prepare(self) -> None:
        """Draw all inputs and compute all references now instead of with the first candidate."""
        for key in self._planned():
            _ = self.inputs(key).expected

    def close(self) -> None:
        for loaded in self._subjects.values():
            loaded.subject.close()
        self._subjects.clear()
        self._baselines.close()
        for inputs in self._sets.values():
            inputs.close()
        self._sets.clear()
        self._flush.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Loading ---------------------------------------------------------------------------------------

    def _load(self, text: str, sha: str, keep: int = 0) -> _Loaded:
        """A running worker for the text. Raises BuildFailure or WorkerFailure."""
        self._drop_dead()
        if sha in self._subjects:
            self._subjects.move_to_end(sha)
            return self._subjects[sha]
        worker = Worker(self._worker_options())  # its interpreter starts while the text is built
        try:
            built = self._build(text, self.problem, self.options)
            worker.confine(built.readable, self._array_bytes())
            self.sandbox, self.primitives = worker.level, worker.primitives
            subject = Subject(sha[:12], worker, built.subjects, self._flush, self.options.timeout_s)
        except BaseException:
            worker.close()
            raise
        self._subjects[sha] = _Loaded(built, subject)
        while len(self._subjects) > max(keep, _KEPT_SUBJECTS):
            self._subjects.popitem(last=False)[1].subject.close()
        return self._subjects[sha]

    def _worker_options(self) -> WorkerOptions:
        o = self.options
        return WorkerOptions(o.sandbox, o.memory_mb, self.threads, o.timeout_s, prepare="cpu_artifact")

    def _planned(self) -> list[InputKey]:
        return list(dict.fromkeys([*self.plan.checked, *(k for pair in self.plan.timed.values() for k in pair)]))

    def _array_bytes(self) -> int:
        """Address space for every array that a candidate's worker may be asked to map."""
        planned = [self.inputs(key).arena.nbytes for key in self._planned()]
        return sum(planned) + 2 * max(planned) + self._flush.nbytes + probes.ARENA_BYTES

    def _drop_dead(self) -> None:
        for sha in [s for s, loaded in self._subjects.items() if not loaded.subject.worker.alive]:
            self._subjects.pop(sha).subject.close()

    # Correctness -----------------------------------------------------------------------------------

    def _check(self, loaded: _Loaded) -> list[WorkloadResult]:
        """One result per workload, in the problem's order; a crash ends the checking."""
        findings: dict[str, list[tuple[InputKey, Finding]]] = {}
        end = time.monotonic() + self.options.deadline_s
        for key in self.plan.checked:
            late = time.monotonic() > end
            finding = self._too_late() if late else self._examine(loaded, key)
            findings.setdefault(key.workload, []).append((key, finding))
            if finding.status in ("RUNTIME_ERROR", "TIMEOUT") or not loaded.subject.worker.alive:
                break
        order = [w.name for w in self.problem.workloads if w.name in findings]
        return [self._result(name, findings[name]) for name in order]

    def _probe(self, loaded: _Loaded, results: Sequence[WorkloadResult]) -> probes.Outcome | None:
        """Hidden sizes, for a candidate that is right on the problem's own."""
        if any(r.status != "PASSED" for r in results):
            return None
        smallest = self.inputs(self.plan.checked[0]).expected
        floors = {name: e.rms for name, e in smallest.items()}
        return probes.run(self.problem, loaded.built, loaded.subject, self.plan.seed, floors, self.workload)

    def _too_late(self) -> Finding:
        return Finding("TIMEOUT", detail=f"its correctness runs took longer than {self.options.deadline_s:g} s in all")

    def _examine(self, loaded: _Loaded, key: InputKey) -> Finding:
        try:
            finding = loaded.subject.examine(self.inputs(key), loaded.built.deterministic)
            return self._confirm(loaded, key, finding) if finding.unsure else finding
        except WorkerFailure as failure:
            return Finding(failure.status, detail=failure.detail)

    def _confirm(self, loaded: _Loaded, key: InputKey, finding: Finding) -> Finding:
        """A broken soft bound counts only if it breaks on fresh inputs too."""
        for other in confirmation_keys(key):
            again = loaded.subject.examine(self.inputs(other), loaded.built.deterministic)
            if again.status == "PASSED":
                return Finding("PASSED", finding.max_error, again.max_ratio, accepted=finding.accepted)
        detail = f"{finding.detail} (more than rounding in f32 explains, confirmed on three seeds)"
        return Finding(finding.status, finding.max_error, finding.max_ratio, detail)

    def _result(self, name: str, findings: Sequence[tuple[InputKey, Finding]]) -> WorkloadResult:
        workload = self.problem.workload(name)
        bounds = self._bounds(name)
        key, worst = next(((k, f) for k, f in findings if f.status != "PASSED"), findings[0])
        where = f" ({key.variant} inputs)" if worst.status != "PASSED" and key.variant != "default" else ""
        return WorkloadResult(
            name, worst.status, rule(self.problem, workload), _largest(f.max_error for _, f in findings),
            _largest(f.max_ratio for _, f in findings), worst.detail + where, sol_ms=bounds.sol_ms,
            ceiling_ms=bounds.ceiling_ms,
        )  # fmt: skip

    # Timing ----------------------------------------------------------------------------------------

    def _timed_sets(self, workload: str) -> list[InputSet]:
        seed = self.plan.seed
        keys = self.plan.timed.get(workload) or (InputKey(workload, seed), InputKey(workload, seed + 1))
        return [self.inputs(key) for key in keys]

    def _time(self, loaded: _Loaded, results: list[WorkloadResult]) -> list[WorkloadResult]:
        return [self._timed_result(loaded, r) if r.name in self.plan.timed else r for r in results]

    def _timed_result(self, loaded: _Loaded, result: WorkloadResult) -> WorkloadResult:
        sets = self._timed_sets(result.name)
        second = self._examine(loaded, sets[1].key)
        if second.status != "PASSED":
            return replace(result, status=second.status, detail=second.detail)
        baselines = self._baselines.ready(self.options.baselines, sets[0])
        plan = TimingPlan(self.options.time_budget_s * 1e3, self.options.relative_width, device=self.options.target)
        try:
            samples = interleave([loaded.subject, *baselines], sets, plan, notify=self.notify)
        except WorkerFailure as failure:
            if self._baselines.drop_dead(failure):
                return self._timed_result(loaded, result)
            return replace(result, status=failure.status, detail=f"while it was timed: {failure.detail}")
        own = samples.pop(loaded.subject.name)
        if own.wrong:
            return replace(result, status="INCORRECT_NUMERICAL", detail=own.wrong)
        return self._scored(result, own, [s.timing() for s in samples.values()])

    def _scored(self, result: WorkloadResult, own: Samples, baselines: Sequence[Timing]) -> WorkloadResult:
        self._remember(result.name, baselines)
        timing = own.timing()
        value, reason = score(timing.time_ms, result.sol_ms, self._baseline_ms.get(result.name))
        return replace(
            result, timing=timing, baselines=tuple(baselines), score=value, score_reason=reason,
            suspect=suspicion(timing.time_ms, result.sol_ms, self._bounds(result.name).floor_ms),
        )  # fmt: skip

    def _bounds(self, name: str) -> Bounds:
        if name not in self._known_bounds:
            self._known_bounds[name] = self.options.bounds_of(self.problem.workload(name))
        return self._known_bounds[name]

    def _remember(self, workload: str, baselines: Sequence[Timing]) -> None:
        if baselines:
            self._baseline_ms[workload] = min(b.time_ms for b in baselines)

    # Records ---------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, Any]:
        missing = dict(self._baselines.failures)
        return {
            **environment.describe(), "seed": self.plan.seed, "threads": self.threads,
            "sandbox_primitives": list(self.primitives), "missing_baselines": missing,
        }  # fmt: skip

    def _unbuilt(self, sha: str, failure: BuildFailure, start: float) -> Evaluation:
        return Evaluation(
            self.problem.name, sha, failure.status, (), failure.diagnostics, failure.proofs,
            "REFUTED" if failure.status == "REFUTED" else "UNKNOWN", environment=self._environment(),
            report=(failure.detail, *failure.report), seconds=time.perf_counter() - start,
        )  # fmt: skip

    def _unloadable(self, sha: str, failure: WorkerFailure, start: float) -> Evaluation:
        detail = f"while it was loaded: {failure.detail}"
        return Evaluation(
            self.problem.name, sha, failure.status, (), verdict="UNKNOWN", sandbox=self.sandbox,
            environment=self._environment(), report=(detail,), seconds=time.perf_counter() - start,
        )  # fmt: skip


def evaluate(
    text: str, problem: Problem, options: Options | None = None, build: Build | None = None,
    notify: Notify | None = None,
) -> Evaluation:  # fmt: skip
    """One candidate, from text to verdict: parse, check, compile, test on every workload, time what may be timed.

    For several candidates of one problem use a `Session`, which keeps inputs and references.
    Raises KeyError for a timed workload that the problem does not have, ValueError for an unknown target.
    """
    with Session(problem, options, build, notify) as session:
        return session.evaluate(text)


def text_sha(text: str) -> str:
    """The name of a candidate: SHA-256 of its text."""
    return hashlib.sha256(text.encode()).hexdigest()


def default_build(target: str) -> Build:
    """The compiler of a target. Raises ValueError for one that cannot be run here."""
    if target != "cpu":
        raise ValueError(f"candidates for {target!r} cannot be run here; known: cpu")
    from kernelagent.harness.build_cpu import build

    return build


def _largest(values: Any) -> float | None:
    known = [v for v in values if v is not None]
    return max(known) if known else None
