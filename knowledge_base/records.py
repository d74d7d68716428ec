"""What the base keeps: trials as they happened, techniques as they were curated."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Trial:
    """One proposal and what became of it. Never changed once written; `id` is content-derived, so merging is set union.

    `reward` is log(parent time / time), None when there was no time to compare (then `status` says why).
    `features` describe the problem and workload (see kernelagent/features.py): op classes, log2 sizes, intensity.
    """

    id: str
    run: str
    number: int
    problem: str
    workload: str
    chip: str
    target: str
    parent: str | None
    text: str
    text_sha: str
    status: str
    time_ms: float | None
    parent_time_ms: float | None
    reward: float | None
    technique: str | None
    move: str | None
    move_arguments: dict[str, Any]
    bottleneck: str
    features: dict[str, float | str]
    proposer: str
    detail: str = ""
    tokens: int = 0
    created: str = ""  # ISO 8601, UTC
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Trial:
        """Inverse of `to_dict`. Raises ValueError for a newer schema or for missing or unknown keys."""
        if record.get("schema_version", 0) > SCHEMA_VERSION:
            raise ValueError(f"trial schema {record['schema_version']} is newer than {SCHEMA_VERSION}")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(record) - known):
            raise ValueError(f"a trial has no field {unknown[0]!r}")
        try:
            return cls(**record)
        except TypeError as error:
            raise ValueError(f"incomplete trial: {error}") from None


def trial_id(trial: Trial) -> str:
    """Digest of every field but `id`: equal trials have equal ids on every machine.

    Raises ValueError when a number is NaN or infinite.
    """
    content = trial.to_dict()
    del content["id"]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def identified(trial: Trial) -> Trial:
    """The same trial with its content-derived id."""
    return replace(trial, id=trial_id(trial))


@dataclass(frozen=True)
class Move:
    """An executable form of a technique: a function of `dsl/moves` by name and the arguments to try."""

    name: str
    arguments: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Technique:
    """A curated entry of `knowledge_base/techniques/*.toml`."""

    name: str
    title: str
    what: str  # advice in one paragraph, for a person or a model
    when: str
    bottlenecks: tuple[str, ...]
    targets: tuple[str, ...]
    tags: tuple[str, ...]  # op classes it applies to; empty: all
    evidence: str  # source of the claim
    claim: float | None  # claimed speed-up factor, None if unknown
    moves: tuple[Move, ...] = ()
    archs: tuple[str, ...] = ()  # GPU architectures it applies to; empty: all


@dataclass(frozen=True)
class Gain:
    """Statistics of one (technique or move, bottleneck), recomputed from the log."""

    technique: str
    bottleneck: str
    trials: int
    failures: int
    mean_log_gain: float
    best_log_gain: float


@dataclass(frozen=True)
class Suggestion:
    """A technique with the reason it was retrieved; `expected_log_gain` blends claim and evidence."""

    technique: Technique
    expected_log_gain: float
    evidence: Gain | None
    reason: str
    examples: tuple[str, ...] = field(default=())  # ids of trials on similar problems


@dataclass(frozen=True)
class Step:
    """One action of a lineage: what was done to the parent's text.

    Sizes that were set together have no move; their arguments are `{"sizes": {name: value}}`. `log_gain` is
    log(parent time / time) where it was measured.
    """

    technique: str | None
    move: str | None
    arguments: dict[str, Any]
    log_gain: float | None = None


@dataclass(frozen=True)
class Lead:
    """A text that did well on similar workloads of the same problem, and how it came about.

    `log_gain` is log(seed time / time), similarity-weighted over the workloads it was timed on; `similarity` in [0, 1]
    is that of the nearest of them.
    """

    text: str
    text_sha: str
    log_gain: float
    similarity: float
    workloads: tuple[str, ...]
    trial: str  # id of the trial that supports it best
    steps: tuple[Step, ...]  # from the seed to this text
    features: dict[str, float | str] = field(default_factory=dict)  # of the workload of `trial`
