"""What a candidate is compared with: numpy, torch eager and torch.compile, each in a worker process of its own.

Trusted code, so not sandboxed, but isolated: torch is loaded there and nowhere else. All write into preallocated
outputs, and their allocator keeps freed memory instead of returning it, so that temporaries cost no page faults.
A baseline that cannot be had is a record with a reason, never an error.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from kernelagent.harness.correctness import judge
from kernelagent.harness.inputs import InputKey, InputSet
from kernelagent.harness.lock import Notify
from kernelagent.harness.memory import POISONS, Arena
from kernelagent.harness.problem_source import source_of
from kernelagent.harness.process import Worker, WorkerFailure, WorkerOptions
from kernelagent.harness.records import Timing
from kernelagent.harness.subject import Subject, flush_arena
from kernelagent.harness.timing import TimingPlan, interleave
from kernelagent.problems.problem import Problem

NAMES = ("numpy", "torch_eager", "torch_compile")
COMPILE_TIMEOUT_S = 180.0
_RUN_TIMEOUT_S = 30.0
_KEEP_MEMORY = {
    "MALLOC_ARENA_MAX": "8",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
_ONE_COMPILER_PROCESS = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}


@dataclass(frozen=True)
class BaselineResult:
    """`timing` is None when the baseline could not be had or gave a wrong answer, and `reason` says why."""

    name: str
    timing: Timing | None
    reason: str | None = None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Baselines:
    """The baseline workers of one problem, started on first use and kept."""

    def __init__(self, problem: Problem, threads: int, flush: Arena) -> None:
        self.problem, self.threads, self.flush = problem, threads, flush
        self.failures: dict[str, str] = {}
        self._subjects: dict[str, Subject] = {}
        self._checked: set[tuple[str, str]] = set()

    def ready(self, names: Iterable[str], inputs: InputSet) -> list[Subject]:
        """The baselines that exist and are right on `inputs`; the others are in `failures` with their reason."""
        found = [self._get(name, inputs) for name in names if name not in self.failures]
        return [s for s in found if s is not None]

    def measure(
        self, names: Sequence[str], sets: Sequence[InputSet], plan: TimingPlan, notify: Notify | None = None
    ) -> list[BaselineResult]:
        """Time these baselines against each other."""
        subjects = self.ready(names, sets[0])
        timings: dict[str, Timing] = {}
        if subjects:
            try:
                timings = {n: s.timing() for n, s in interleave(subjects, sets, plan, notify=notify).items()}
            except WorkerFailure as failure:
                self.drop_dead(failure)
                return self.measure(names, sets, plan, notify)
        return [BaselineResult(n, timings.get(n), self.failures.get(n)) for n in names]

    def drop_dead(self, failure: WorkerFailure) -> bool:
        """After a failure while several subjects were timed: forget baselines that died; whether there was one."""
        dead = [name for name, subject in self._subjects.items() if not subject.worker.alive]
        for name in dead:
            self.failures[name] = failure.detail
            self._subjects.pop(name).close()
        return bool(dead)

    def forget(self, inputs: InputSet) -> None:
        for subject in self._subjects.values():
            subject.forget(inputs)

    def close(self) -> None:
        for subject in self._subjects.values():
            subject.close()
        self._subjects.clear()

    def _get(self, name: str, inputs: InputSet) -> Subject | None:
        reason = unavailable(self.problem, name)
        if reason is not None:
            self.failures[name] = reason
            return None
        try:
            subject = self._subjects.get(name)
            if subject is None or not subject.worker.alive:
                subject = self._subjects[name] = self._start(name)
            self._check(subject, inputs)
        except WorkerFailure as failure:
            self.failures[name] = failure.detail
            self._subjects.pop(name, None)
        return self._subjects.get(name)

    def _start(self, name: str) -> Subject:
        source = source_of(self.problem)
        assert source is not None
        environment = _KEEP_MEMORY | _ONE_COMPILER_PROCESS
        options = WorkerOptions("none", None, self.threads, _RUN_TIMEOUT_S, environment)
        worker = Worker(options)
        return Subject(name, worker, {"": {"kind": name, "problem": asdict(source)}}, self.flush, COMPILE_TIMEOUT_S)

    def _check(self, subject: Subject, inputs: InputSet) -> None:
        """One run (the first one compiles) with the hard bound, once per input set. Raises WorkerFailure."""
        key = (subject.name, str(inputs.key))
        if key in self._checked:
            return
        inputs.arena.poison(POISONS[0])
        subject.worker.run(subject.bind(inputs), COMPILE_TIMEOUT_S)
        finding = judge(inputs)
        if finding.status != "PASSED" and not finding.unsure:
            subject.close()
            raise WorkerFailure("RUNTIME_ERROR", f"its answer is wrong: {finding.detail}")
        self._checked.add(key)


def unavailable(problem: Problem, name: str) -> str | None:
    """Why a baseline cannot be had here, or None. Loads neither torch nor a worker."""
    if name not in NAMES:
        return f"unknown baseline; known: {', '.join(NAMES)}"
    if source_of(problem) is None:
        return "the problem was built in memory; only one with a name or a file can be loaded in a worker"
    if name == "numpy":
        return None
    if problem.torch_reference is None:
        return "the problem has no torch reference"
    if importlib.util.find_spec("torch") is None:
        return "torch is not installed"
    return None


def default_threads() -> int:
    """As many threads as CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure_baselines(
    problem: Problem, workload: str | None = None, names: Sequence[str] = NAMES, budget_s: float = 1.0,
    threads: int | None = None, seed: int = 0, notify: Notify | None = None,
) -> list[BaselineResult]:  # fmt: skip
    """Time the baselines of a problem by themselves, in workers of their own that end with the call.

    `torch_compile` compiles for seconds to minutes before its first time: ask for it apart where that matters.
    """
    name = workload or problem.workloads[0].name
    sets = [InputSet(problem, InputKey(name, seed + i)) for i in range(2)]
    baselines = Baselines(problem, threads or default_threads(), flush_arena())
    try:
        return baselines.measure(names, sets, TimingPlan(budget_s * 1e3), notify)
    finally:
        baselines.close()
        baselines.flush.close()
        for inputs in sets:
            inputs.close()
