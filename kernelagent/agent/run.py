"""Runs as folders: start, resume, interrupt, finish.

runs/ID/events.jsonl        the truth
        kernels/SHA.tile    every text that was evaluated
        best.tile           the best so far; after the final comparison, the winner
        result.json         the outcome, once the run has ended
        checkpoints.sqlite  LangGraph's, rebuilt at each start
        lock                held while a process works on the run
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kernelagent import __version__
from kernelagent.errors import UserError
from kernelagent.harness.records import Timing
from kernelagent.knowledge_base import KnowledgeBase
from kernelagent.knowledge_base.records import Trial
from kernelagent.problems.problem import Problem, Workload
from kernelagent.proposers.base import ModelError, Proposer
from kernelagent.redact import Redactor

from .budget import Budget
from .desk import Desk
from .events import LOG_NAME, EventLog, Observer, RunError, locked, read_events
from .laboratory import CandidateFailed, Laboratory, timing_record
from .outcome import may_win, result_record, winner
from .signals import terminating
from .state import RunState
from .steering import Decision, Policy
from .texts import write_atomically, write_kernel
from .trials import evaluation_record

FINALISTS = 3
"""Kernels that meet the seed in the final comparison: the best by a single trial may owe its place to noise."""


CONFIRMED_AT_MOST = 6
"""Full evaluations spent on finding them."""


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside and can be resumed; `folder` is its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"run {folder.name} was interrupted; go on with: kernelagent optimize resume {folder.name}")


@dataclass(frozen=True)
class Plan:
    """What a run is started with. `source` is where the problem is found again: a name or a file, None if nowhere."""

    problem: Problem
    workload: Workload
    source: str | None
    budget: Budget
    policy: Policy
    seed: int
    repairs: int
    settings: dict[str, Any]
    model: str | None = None
    replay: str | None = None  # the recording of a replay
    measure: bool = True  # False: the recording's measurements, too
    untimed: bool = False  # there is no device: trials have a static model's estimates instead of times


@dataclass(frozen=True)
class Means:
    """What a run works with."""

    laboratory: Laboratory
    proposer: Proposer
    base: KnowledgeBase | None
    redactor: Redactor
    observer: Observer | None = None


def run_folder(runs: Path, name: str) -> Path:
    """The folder of a run by its id, by a unique beginning of it, by its path, or `last`. Raises RunError."""
    direct = Path(name)
    if (direct / LOG_NAME).is_file():
        return direct.resolve()
    known = sorted(
        (p for p in runs.glob("*") if (p / LOG_NAME).is_file()), key=lambda p: (p / LOG_NAME).stat().st_mtime
    )
    if name == "last" and known:
        return known[-1]
    found = [p for p in known if p.name == name] or [p for p in known if p.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise RunError(f"'{name}' begins {len(found)} runs", f"such as {found[0].name} and {found[1].name}")
    raise RunError(
        f"there is no run '{name}'", "`kernelagent runs list` shows them" if known else "no run was started yet"
    )


def start(plan: Plan, means: Means, runs: Path) -> Run:
    """A new run folder with its first event. Raises KnowledgeBaseError when the base cannot be used."""
    if means.base is not None:
        means.base.check()
    now = datetime.now(UTC)
    identifier = f"{plan.problem.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    run = Run(runs / identifier, plan, means)
    run.desk.emit(
        "run-started", run=identifier, version=__version__, problem=plan.problem.name, source=plan.source,
        workload=plan.workload.name, dims=dict(plan.workload.dims), target=means.laboratory.target,
        chip=means.laboratory.chip, proposer=means.proposer.name, model=plan.model, seed=plan.seed,
        replay=plan.replay, measure=plan.measure, untimed=plan.untimed,
        repairs=plan.repairs, budget=plan.budget.to_dict(), policy=asdict(plan.policy), settings=plan.settings,
        environment=means.laboratory.environment(),
    )  # fmt: skip
    return run


def resume(folder: Path, plan: Plan, means: Means) -> Run:
    """Open a run that was interrupted, or that finished within a budget that is now larger."""
    if means.base is not None:
        means.base.check()
    if not read_events(folder):
        raise RunError(f"run {folder.name} never began", "start it anew")
    run = Run(folder, plan, means)
    run.desk.emit("resumed", budget=plan.budget.to_dict(), environment=means.laboratory.environment())
    run.rebuild()
    return run


class Run:
    """An open run: `advance` it, then `close` it. Use as a context manager."""

    def __init__(self, folder: Path, plan: Plan, means: Means) -> None:
        self.folder = folder
        self._held = ExitStack()
        with ExitStack() as opening:
            opening.enter_context(locked(folder))
            log = EventLog(folder / LOG_NAME, means.redactor, means.observer)
            opening.callback(log.close)
            opening.callback(means.laboratory.close)
            self._held = opening.pop_all()
        self.desk = Desk(
            run=folder.name, folder=folder, problem=plan.problem, workload=plan.workload, laboratory=means.laboratory,
            proposer=means.proposer, base=means.base, log=log, redactor=means.redactor, seed=plan.seed,
            repairs=plan.repairs,
        )  # fmt: skip
        self.desk.listen()

    @property
    def state(self) -> RunState:
        return self.desk.state

    def rebuild(self) -> None:
        """Kernel files and entries of the base, from the log: a crash may have come between."""
        for trial in self.state.trials:
            if trial.text:
                write_kernel(self.folder, trial.text)
            self.desk.learn(trial)
        if self.state.best is not None:
            write_atomically(self.folder / "best.tile", self.state.best.text)

    def advance(self, trials: int | None = None) -> Decision | None:
        """Go on until the loop stops (its decision), or for a number of trials (None if it could go on).

        Raises Interrupted after Ctrl-C or SIGTERM, ModelError when the model cannot be reached; both leave a run that
        can be resumed.
        """
        from .graph import run_loop

        self.desk.slice = trials
        self.desk.begin()
        try:
            with terminating():
                return run_loop(self.desk)
        except KeyboardInterrupt:
            self._note_interruption("signal", "stopped from outside")
            raise Interrupted(self.folder) from None
        except ModelError as error:
            self._note_interruption("model", str(error))
            raise
        except Exception as error:
            self._note_interruption("error", f"{type(error).__name__}: {error}")
            raise

    def _note_interruption(self, reason: str, detail: str) -> None:
        with suppress(OSError):
            self.desk.emit("interrupted", reason=reason, detail=detail)

    def finish(self, decision: Decision) -> dict[str, Any]:
        """Compare the finalists with the seed, write down the outcome, return it."""
        try:
            with terminating():
                self._late_baselines()
                if self.state.untimed:
                    self._confirm_untimed()
                else:
                    self._compare()
        except KeyboardInterrupt:
            self._note_interruption("signal", "stopped during the final comparison")
            raise Interrupted(self.folder) from None
        best = winner(self.state)
        if best is not None:
            write_atomically(self.folder / "best.tile", best.text)
        else:
            (self.folder / "best.tile").unlink(missing_ok=True)
        self.desk.emit("run-finished", reason=decision.reason, detail=decision.detail, trials=self.state.spent.trials,
                       best=best.text_sha if best else None, time_ms=best.time_ms if best else None)  # fmt: skip
        return self.write_result()

    def _late_baselines(self) -> None:
        """Only where there is time left for them, and a kernel to compare them with."""
        minutes = self.state.budget.minutes
        if self.state.best is not None and (minutes is None or self.desk.spent.seconds < 60 * minutes):
            self.desk.rivals(self.desk.laboratory.late_baselines())

    def _confirmed(self) -> list[Trial]:
        """Up to FINALISTS of the fastest kernels that pass the full evaluation, which trials are spared."""
        seed = self.state.trials[0]
        timed = sorted((t for t in self.state.trials if t.time_ms), key=lambda t: (t.time_ms or 0.0, t.number))
        found: list[Trial] = []
        for trial in timed[:CONFIRMED_AT_MOST]:
            if trial is seed or len(found) == FINALISTS:
                break
            if trial.text_sha not in self.state.confirmed:
                record = evaluation_record(self.desk.laboratory.confirm(trial.text))
                self.desk.emit("evaluation", number=trial.number, evaluation=record, full=True)
            if may_win(self.state, trial):
                found.append(trial)
        return found

    def _confirm_untimed(self) -> None:
        """Full proofs and emulation of the best by estimate, down to the first that passes: it is the winner."""
        ranked = [(ms, t.number, t) for t in self.state.trials if (ms := self.state.rank_ms(t)) is not None]
        for _, _, trial in sorted(ranked, key=lambda entry: entry[:2])[:CONFIRMED_AT_MOST]:
            if trial.text_sha not in self.state.confirmed:
                record = evaluation_record(self.desk.laboratory.confirm(trial.text))
                self.desk.emit("evaluation", number=trial.number, evaluation=record, full=True)
            if may_win(self.state, trial):
                return

    def _compare(self) -> None:
        """Side by side, because times of different minutes do not compare. The winner is never slower than the seed.

        First the finalists alone, so that a baseline of half a second a run takes no samples from them; then the
        fastest once more, against seed and baselines: it was chosen for being low, so the second time counts.
        """
        if not self.state.trials or self.state.trials[0].time_ms is None or self.state.comparison is not None:
            return
        seed, finalists = self.state.trials[0], self._confirmed()
        if not finalists:
            return
        if len(finalists) > 1:
            timings = self._side_by_side("selection", seed, finalists, ())
            times = {t.id: timing.time_ms for t, timing in zip(finalists, timings[1:], strict=False)}
            finalists = sorted((t for t in finalists if t.id in times), key=lambda t: times[t.id])[:1]
        self._side_by_side("comparison", seed, finalists, [b["name"] for b in self.state.baselines])

    def _side_by_side(
        self, kind: str, seed: Trial, finalists: Sequence[Trial], baselines: Sequence[str]
    ) -> tuple[Timing, ...]:
        """Times of seed, finalists and baselines, written down; with one finalist less each time that one breaks."""
        for rivals in ([seed, *finalists[:count]] for count in range(len(finalists), -1, -1)):
            try:
                timings = self.desk.laboratory.compare([t.text for t in rivals], baselines)
            except CandidateFailed as failure:
                self.desk.emit(
                    "warning", message=f"the final comparison was begun again with one kernel less: {failure}"
                )
                continue
            self.desk.emit(kind, shas=[t.text_sha for t in rivals], timings=[timing_record(t) for t in timings])
            return timings
        return ()

    def write_result(self) -> dict[str, Any]:
        record = result_record(self.desk.log.events)
        assert record is not None
        write_atomically(self.folder / "result.json", json.dumps(record, indent=2) + "\n")
        return record

    def close(self) -> None:
        self._held.close()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def complete(run: Run) -> dict[str, Any]:
    """Advance to the end and finish."""
    decision = run.advance()
    assert decision is not None
    return finish(run, decision)


def finish(run: Run, decision: Decision) -> dict[str, Any]:
    """The outcome. Raises UserError when the problem's own seed kernel is wrong: there was nothing to improve."""
    record = run.finish(decision)
    if decision.reason == "seed-failed":
        raise UserError(f"{run.desk.problem.name}: {decision.detail}", f"the run is kept in {run.folder}")
    return record


__all__ = [
    "Interrupted",
    "Means",
    "Plan",
    "Run",
    "complete",
    "finish",
    "result_record",
    "resume",
    "run_folder",
    "start",
]
