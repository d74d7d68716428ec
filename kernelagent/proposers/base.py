"""What a proposer is told and what it answers. A proposer keeps no state: everything it needs is in the context."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from kernelagent.errors import EnvironmentLack
from kernelagent.knowledge_base.records import Lead, Suggestion, Trial
from kernelagent.problems.problem import Problem, Workload


class ProposerExhausted(Exception):
    """There is nothing left to try; the message says why."""


class ModelError(EnvironmentLack):
    """The model's endpoint cannot be used: no key, a refused key, unknown model, or failures beyond the retries."""


@dataclass(frozen=True)
class Proposal:
    """A candidate text, or None with the reason in `failure` when the answer held no kernel.

    `parent` is the id of the trial whose text was changed. `tokens` counts prompt and answer; `tokens_estimated`
    marks a count taken from the length of the texts. `note` is for people.
    """

    text: str | None
    technique: str | None = None
    move: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    tokens: int = 0
    tokens_estimated: bool = False
    cost_usd: float | None = None
    note: str = ""
    failure: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Proposal:
        """Inverse of `to_dict`; keys of later versions are ignored."""
        return cls(**{name: record[name] for name in cls.__dataclass_fields__ if name in record})


@dataclass(frozen=True)
class Failed:
    """The last proposal of this trial, and what is wrong with it (`Diagnostic.to_dict()` records)."""

    proposal: Proposal
    diagnostics: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Context:
    """Everything that is known when a proposal is asked for. Times in ms.

    `history` holds the finished trials, the seed first; `facts` what was found out about each, by trial id.
    `bound` and `ceiling` are `SolReport.to_dict()` records. `failed` is set when a wrong text is to be repaired.
    """

    problem: Problem
    workload: Workload
    target: str
    chip: str
    seed: int
    number: int
    history: tuple[Trial, ...]
    facts: Mapping[str, Mapping[str, Any]]
    bound: Mapping[str, Any]
    ceiling: Mapping[str, Any]
    bottleneck: str
    regime: str
    suggestions: Sequence[Suggestion] = ()
    leads: Sequence[Lead] = ()
    relatives: Sequence[Trial] = ()  # of other runs of this problem, on this target and chip
    failed: Failed | None = None
    trials_left: int | None = None
    arch: str = ""  # of the GPU whose schedule is looked for; empty: a CPU
    timed: bool = True  # False: times are a static model's estimates

    @property
    def best(self) -> Trial | None:
        """The fastest trial so far."""
        timed = [t for t in self.history if t.time_ms is not None]
        return min(timed, key=lambda t: (t.time_ms or 0.0, t.number), default=None)

    @property
    def tried(self) -> frozenset[str]:
        """Digests of the texts that need not be proposed again."""
        return frozenset(t.text_sha for t in self.history)


class Proposer(Protocol):
    """`propose` raises ProposerExhausted when nothing is left, ModelError when it cannot go on."""

    @property
    def name(self) -> str: ...

    def propose(self, context: Context) -> Proposal: ...

    def repairs(self, context: Context) -> bool:
        """Whether it is worth sending `context.failed` back to this proposer."""
        ...


@runtime_checkable
class Listens(Protocol):
    """A proposer that has something to tell while it works: waits before it asks again."""

    def listen(self, notify: Callable[[Mapping[str, Any]], object]) -> None: ...
