"""The live things of a run that no checkpoint can hold: log, laboratory, knowledge base, proposer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from kernelagent.knowledge_base import KnowledgeBase, KnowledgeBaseError
from kernelagent.knowledge_base.records import Lead, Suggestion, Trial
from kernelagent.problems.problem import Problem, Workload
from kernelagent.proposers.base import Context, Failed, Listens, Proposal, Proposer
from kernelagent.redact import Redactor

from .budget import Spent
from .events import Event, EventLog
from .features import Features, Signature, features, op_classes, signature
from .laboratory import Laboratory, Rivals, timing_record
from .state import RunState, advance

Known = TypeVar("Known")


@dataclass
class Desk:
    """One run at work. `state` is always the fold of the log's events; `emit` is the only way to change it."""

    run: str
    folder: Path
    problem: Problem
    workload: Workload
    laboratory: Laboratory
    proposer: Proposer
    base: KnowledgeBase | None
    log: EventLog
    redactor: Redactor
    seed: int
    repairs: int
    slice: int | None = None  # trials that this advance may still finish; None: until the run stops
    since: float = field(default_factory=time.monotonic)
    _folded: tuple[int, RunState] = field(default_factory=lambda: (0, RunState()))

    @property
    def state(self) -> RunState:
        """Events that came since the last look are folded in; an interruption in between loses nothing."""
        count, state = self._folded
        while count < len(self.log.events):
            count, state = count + 1, advance(state, self.log.events[count])
            self._folded = (count, state)
        return state

    def begin(self) -> None:
        """Start the clock: what passed since the last event was not this run's time."""
        self.since = time.monotonic()

    def emit(self, kind: str, **fields: Any) -> Event:
        event = self.log.append(kind, **fields)
        self.since = time.monotonic()
        return event

    @property
    def spent(self) -> Spent:
        """With the time since the last event."""
        return replace(self.state.spent, seconds=self.state.spent.seconds + time.monotonic() - self.since)

    @property
    def seed_text(self) -> str:
        return self.problem.seed_kernel

    @property
    def signature(self) -> Signature:
        best = self.state.best
        bound = self.state.ceiling or self.state.sol
        return signature(bound, self.state.ceiling_ms, self.state.rank_ms(best) if best else None)

    @property
    def features(self) -> Features:
        return features(self.problem, self.workload, self.state.sol or self.state.ceiling)

    def context(self, failed: Failed | None = None) -> Context:
        """What the proposer is told now."""
        where = self.signature
        budget = self.state.budget.trials
        return Context(
            problem=self.problem,
            workload=self.workload,
            target=self.laboratory.target,
            chip=self.laboratory.chip,
            seed=self.seed,
            number=self.state.next_number,
            history=self.state.ranked,
            facts=self.state.facts,
            bound=self.state.sol,
            ceiling=self.state.ceiling,
            bottleneck=where.bottleneck,
            regime=where.regime,
            suggestions=self._suggestions(where),
            leads=self._leads(),
            relatives=self._relatives(),
            failed=failed,
            arch=str(self.state.sol.get("arch", "")),
            timed=not self.state.untimed,
            trials_left=None if budget is None else max(0, budget - self.state.spent.trials),
        )

    def _suggestions(self, where: Signature) -> tuple[Suggestion, ...]:
        lab, tags = self.laboratory, op_classes(self.problem)
        return self._recalled(
            lambda base: base.retrieve(self.features, where.bottleneck, lab.chip, lab.target, tags=tags, limit=24)
        )

    def _leads(self) -> tuple[Lead, ...]:
        lab = self.laboratory
        return self._recalled(lambda base: base.best_known(self.problem.name, self.features, lab.chip, lab.target))

    def _relatives(self) -> tuple[Trial, ...]:
        lab = self.laboratory
        return self._recalled(lambda base: base.relatives(self.run, self.problem.name, lab.chip, lab.target))

    def _recalled(self, ask: Callable[[KnowledgeBase], Iterable[Known]]) -> tuple[Known, ...]:
        """What the base answers; a base that breaks during a run costs its knowledge and a warning, not the run."""
        if self.base is None:
            return ()
        try:
            return tuple(ask(self.base))
        except KnowledgeBaseError as error:
            self.emit("warning", message=str(error))
            return ()

    def learn(self, trial: Trial) -> None:
        """Add the trial to the base. A base that cannot be written costs a warning; the trial is in the log anyway."""
        if self.base is None:
            return
        try:
            self.base.record(trial)
        except KnowledgeBaseError as error:
            self.emit("warning", message=str(error))

    def proposed(self, proposal: Proposal, attempt: int) -> Proposal:
        """Write a proposal down; what is worked with from here on is free of secrets, the text included."""
        record = self.redactor.record(proposal.to_dict())
        self.emit("proposal", number=self.state.next_number, attempt=attempt, proposal=record)
        return Proposal.from_dict(record)

    def rivals(self, found: Rivals) -> None:
        if found.timings or found.missing:
            timings = [timing_record(t) for t in found.timings]
            self.emit("baseline", baselines=timings, missing=dict(found.missing))

    def listen(self) -> None:
        """Have the proposer's waits written to the log."""
        if isinstance(self.proposer, Listens):
            self.proposer.listen(lambda record: self.emit("retry", **record))
