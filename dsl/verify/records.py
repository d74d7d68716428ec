"""What a check says: obligations with verdicts, and counterexamples that can be replayed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

SCHEMA_VERSION = 1

Verdict: TypeAlias = Literal["PROVED", "PROVED_BOUNDED", "TESTED", "UNKNOWN", "REFUTED"]
"""PROVED: for all sizes that the kernel accepts. PROVED_BOUNDED: for the sizes that the detail lists, by a complete
argument. TESTED: no failure in the runs that the detail lists. UNKNOWN: nothing was shown, the detail says why.
REFUTED: a counterexample exists and was replayed."""

Family: TypeAlias = Literal[
    "coverage", "bounds", "definedness", "accumulator", "numeric", "emulation", "schedule",
    "overflow", "alignment", "races", "completion", "protocol", "uniformity", "aliasing", "flow", "banks", "coalescing",
    "resources", "skipping", "claims", "semantics", "stability", "translation",
]  # fmt: skip
"""What an obligation is about. On a schedule: `races` also has the reuse of stages, `completion` asynchronous copies,
products and the fences between proxies, `flow` which element meets which, `skipping` loops that leave tiles out;
`translation` is about the emitted code: it does what its schedule does."""

_FROM_WORST: tuple[Verdict, ...] = ("REFUTED", "UNKNOWN", "TESTED", "PROVED_BOUNDED", "PROVED")

BESIDE: frozenset[Family] = frozenset(
    ("semantics", "stability", "numeric", "translation", "emulation", "banks", "coalescing")
)
"""Families that are told beside the verdict: how far values and emitted code were compared, and what accesses cost.
They lower the verdict of a kernel when they refute it, or when its author claimed them; safety and flow always do."""

_LEVELS = ("", "NUMERICALLY_TESTED", "FIELD_TESTED", "EQUAL_OVER_REALS")
"""Of semantics, from the weakest; the number of runs stands behind them in brackets."""


@dataclass(frozen=True)
class Obligation:
    """One thing that must hold. `line` is the line of the text that it is about, None for a whole array."""

    family: Family
    verdict: Verdict
    line: int | None
    detail: str
    subject: str = ""  # kernel and array, or the expression
    level: str = ""  # of semantics and numeric: EQUAL_OVER_REALS, FIELD_TESTED(n), NUMERICALLY_TESTED(n)
    claimed: bool = False  # of banks and coalescing: the author claims a limit
    sizes: tuple[Mapping[str, int], ...] = ()  # of PROVED_BOUNDED: those that it is known to hold at

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Counterexample:
    """A run that breaks an obligation.

    `iterations` are the `tiles` iterations involved (two for an element stored twice), `scope` says how many
    elements fail at these sizes, `replay` are the arguments of `verify.trials.replay`, `why` is the reason. `fixes` are
    edits of the text after which the whole was shown again.
    """

    family: Family
    message: str
    lines: tuple[int, ...]
    sizes: Mapping[str, int]
    tunables: Mapping[str, int | bool]
    array: str | None = None
    element: tuple[int, ...] | None = None
    iterations: tuple[Mapping[str, int], ...] = ()
    expected: float | int | str | None = None
    found: float | int | str | None = None
    scope: str = ""
    replay: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    fixes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {"obligation": self.family, **asdict(self)}


@dataclass(frozen=True)
class DeviceCounterexample(Counterexample):
    """What an emulated run of the GPU code did wrong, and who did it.

    `kind` is the emulator's word (race, out-of-bounds, missing-wait ...) or "value" for a wrong element; `element` and
    `place` say where, `warp` and `lane` are those of a thread of `block`. `other_*` is the other party of a race.
    `completion` is how late asynchronous copies were in that run. Lines are of the kernel text, None: unknown.
    """

    kind: str = "value"
    kernel: str = ""
    shape_class: str = ""
    block: int | None = None
    warp: int | None = None
    lane: int | None = None
    place: str = ""
    line: int | None = None
    other_line: int | None = None
    completion: str = "late"
    occurrences: int = 1


@dataclass(frozen=True)
class ScheduleCounterexample(Counterexample):
    """What a device schedule does wrong, shown on the schedule itself.

    `kind` names the fault (deadlock, phase-aliasing, overwrite ...); `line` is where `role` does it, `other_line` the
    event that it collides with. `barrier[stage]` is in phase `phase` (from 0), the role in iteration `iteration` of its
    innermost loop; None where there is no such thing. `trace` are at most eight events that lead there, the oldest
    first; `why` is the arithmetic in one sentence. `place` is what `warp` and `lane` of `block` access: a stage of a
    buffer, or an array, and the element; `other` is who did the other access. `occurrences` counts elements or times
    at these sizes.
    """

    kind: str = ""
    kernel: str = ""
    shape_class: str = ""
    block: int | None = None
    warp: int | None = None
    lane: int | None = None
    place: str = ""
    other: str = ""
    occurrences: int = 1
    role: str = ""
    barrier: str | None = None
    stage: int | None = None
    phase: int | None = None
    iteration: int | None = None
    line: int | None = None
    other_line: int | None = None
    trace: tuple[str, ...] = ()


@dataclass(frozen=True)
class Findings:
    """The outcome of one family, or of several."""

    obligations: tuple[Obligation, ...] = ()
    counterexamples: tuple[Counterexample, ...] = ()

    def __add__(self, other: Findings) -> Findings:
        return Findings(self.obligations + other.obligations, self.counterexamples + other.counterexamples)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `findings_from` is the inverse."""
        shown = [{"record": type(c).__name__, **asdict(c)} for c in self.counterexamples]
        obligations = [o.to_dict() for o in self.obligations]
        return {"schema": SCHEMA_VERSION, "obligations": obligations, "counterexamples": shown}


def findings_from(record: Mapping[str, Any]) -> Findings:
    """Inverse of `Findings.to_dict`. Raises KeyError or TypeError for another schema's record."""
    made = [_counterexample_from(dict(c)) for c in record["counterexamples"]]
    obligations = (Obligation(**{**o, "sizes": tuple(o.get("sizes", ()))}) for o in record["obligations"])
    return Findings(tuple(obligations), tuple(made))


_RECORDS: dict[str, type[Counterexample]] = {
    kind.__name__: kind for kind in (Counterexample, DeviceCounterexample, ScheduleCounterexample)
}


def _counterexample_from(record: dict[str, Any]) -> Counterexample:
    kind = _RECORDS[record.pop("record")]
    tuples = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    return kind(**{**record, **tuples})


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of several verdicts. UNKNOWN when there is none."""
    found = set(verdicts)
    return next((v for v in _FROM_WORST if v in found), "UNKNOWN")


def verdict_of(obligations: Iterable[Obligation]) -> Verdict:
    """The verdict of a kernel: REFUTED if anything is, else that of its worst obligation of safety and flow.

    UNKNOWN where there is none of these: then nothing was shown.
    """
    known = list(obligations)
    if any(o.verdict == "REFUTED" for o in known):
        return "REFUTED"
    return worst(o.verdict for o in known if lowers(o))


def lowers(obligation: Obligation) -> bool:
    """Whether the verdict of a kernel is at most this one. A claim that held wherever it was looked at lowers nothing:
    a kernel that claims more is not proved less."""
    if obligation.family == "claims" and obligation.verdict in ("PROVED_BOUNDED", "TESTED"):
        return False
    return obligation.verdict == "REFUTED" or obligation.claimed or obligation.family not in BESIDE


def level_of(obligations: Iterable[Obligation]) -> str:
    """How far a kernel is its reference: the weakest level of its outputs, "" where nothing was compared or it is not.

    An output whose semantics stay open has the level of the numeric comparison.
    """
    known = list(obligations)
    if any(o.verdict == "REFUTED" for o in known):
        return ""
    numeric = max((o.level for o in known if o.family == "numeric"), key=_strength, default="")
    outputs = [o.level or numeric for o in known if o.family == "semantics"]
    return min(outputs or [numeric], key=_strength)


def _strength(level: str) -> tuple[int, int]:
    """Levels first, then runs."""
    name, _, runs = level.removesuffix(")").partition("(")
    return _LEVELS.index(name), int(runs or 0)


def covers(obligations: Iterable[Obligation], dims: Mapping[str, int]) -> bool:
    """Whether what is proved for some sizes is proved for these: every bounded obligation that counts holds at sizes
    that agree with `dims` in all that both name."""
    bounded = [o for o in obligations if o.verdict == "PROVED_BOUNDED" and lowers(o)]
    return all(any(_agree(sizes, dims) for sizes in o.sizes) for o in bounded)


def _agree(sizes: Mapping[str, int], dims: Mapping[str, int]) -> bool:
    common = sizes.keys() & dims.keys()
    return bool(common) and all(sizes[d] == dims[d] for d in common)


def counts(obligations: Iterable[Obligation]) -> dict[str, int]:
    """How many obligations have each verdict; verdicts that do not occur are left out."""
    total: dict[str, int] = {}
    for obligation in obligations:
        total[obligation.verdict] = total.get(obligation.verdict, 0) + 1
    return total
