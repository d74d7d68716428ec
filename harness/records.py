"""What an evaluation says. Frozen, versioned, with units in the field names."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1

Status = Literal[
    "PASSED", "INVALID_REFERENCE", "INCORRECT_SHAPE", "INCORRECT_NUMERICAL", "INCORRECT_DTYPE", "RUNTIME_ERROR",
    "COMPILE_ERROR", "TIMEOUT", "REWARD_HACK", "REJECTED", "REFUTED", "INCONCLUSIVE", "UNTIMED",
]  # fmt: skip
"""The nine statuses of the public trace schema, then ours: REJECTED (the text does not parse, type or fit the
problem), REFUTED (a proof found a counterexample), INCONCLUSIVE (the timing interval stayed too wide),
UNTIMED (right as far as that can be told without the device, which was not at hand)."""


@dataclass(frozen=True)
class Timing:
    """Wall-clock of one subject on one workload, cold caches, interleaved with the others of the session.

    `interval_ms` is the 95% interval of the median; `samples_ms` are raw, in the order taken.
    """

    name: str
    time_ms: float
    interval_ms: tuple[float, float]
    samples_ms: tuple[float, ...]


@dataclass(frozen=True)
class WorkloadResult:
    """One workload: correctness first, then times. Times are None unless the status allows them."""

    name: str
    status: Status
    rule: str  # which correctness rule decided, with its bound
    max_error: float | None  # largest |y - y64| over all outputs
    max_error_ratio: float | None  # largest error / allowed error; <= 1 passes
    detail: str = ""  # first wrong element, crash signal, ...
    timing: Timing | None = None
    baselines: tuple[Timing, ...] = ()
    sol_ms: float | None = None
    ceiling_ms: float | None = None
    score: float | None = None
    score_reason: str | None = None  # why score is null
    suspect: str | None = None  # why the time is not plausible
    estimate: dict[str, Any] | None = None  # `static_model.Estimate.to_dict()` of an UNTIMED result; never a time


@dataclass(frozen=True)
class Evaluation:
    """Everything that was found out about one candidate text."""

    problem: str
    text_sha: str
    status: Status
    workloads: tuple[WorkloadResult, ...]
    diagnostics: tuple[dict[str, Any], ...] = ()  # Diagnostic.to_dict()
    proofs: dict[str, int] = field(default_factory=dict)  # verdict -> count
    verdict: str = "TESTED"
    sandbox: str = "none"  # bubblewrap | userns | landlock | rlimits | none
    clocks: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    artifact: dict[str, Any] | None = None
    report: tuple[str, ...] = ()  # compile report lines
    seconds: float = 0.0
    covered: bool = False  # PROVED_BOUNDED: proved for the workloads' sizes
    semantics: str = ""  # how far the text was shown to be the reference (`dsl.verify.records.level_of`)
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Evaluation:
        """Inverse of `to_dict`. Raises ValueError for a schema that is newer than this program."""
        if record.get("schema_version", 0) > SCHEMA_VERSION:
            raise ValueError(f"evaluation schema {record['schema_version']} is newer than {SCHEMA_VERSION}")
        known = dict(record)
        known["workloads"] = tuple(_workload(w) for w in record["workloads"])
        known["diagnostics"] = tuple(record["diagnostics"])
        known["report"] = tuple(record["report"])
        return cls(**known)


def _workload(record: dict[str, Any]) -> WorkloadResult:
    known = dict(record)
    known["timing"] = _timing(record["timing"]) if record["timing"] else None
    known["baselines"] = tuple(_timing(b) for b in record["baselines"])
    return WorkloadResult(**known)


def _timing(record: dict[str, Any]) -> Timing:
    low, high = record["interval_ms"]
    return Timing(record["name"], record["time_ms"], (low, high), tuple(record["samples_ms"]))
