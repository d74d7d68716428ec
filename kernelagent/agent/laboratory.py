"""What the loop asks of the world: a bound, baselines, a verdict on a text, times side by side.

One protocol with two forms: the real one (`bench.Bench`), and a recording that needs neither compiler nor clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kernelagent.dsl.diagnostics import Diagnostic, Span
from kernelagent.harness.records import Evaluation, Timing

from .events import Event, RunError


class CandidateFailed(Exception):
    """A text that had passed its evaluation crashed, hung, or gave a wrong answer while it was timed again."""


@dataclass(frozen=True)
class Rivals:
    """Baselines timed together, and why others could not be had."""

    timings: tuple[Timing, ...]
    missing: Mapping[str, str] = field(default_factory=dict)


Report = dict[str, Any]
"""`SolReport.to_dict()`: `time_ms`, `bound`, `terms`, `macs`, `min_bytes`, `unmodelled` ..."""


class Laboratory(Protocol):
    """Judges texts for one problem, workload and target."""

    @property
    def chip(self) -> str: ...

    @property
    def target(self) -> str: ...

    def environment(self) -> dict[str, Any]:
        """Versions, processor, compiler: what a result depends on."""
        ...

    def bound(self) -> tuple[Report, Report]:
        """Datasheet bound and this machine's ceiling; an empty record for one that is not known."""
        ...

    def baselines(self) -> Rivals:
        """What a kernel is compared with, as far as it can be timed at once."""
        ...

    def late_baselines(self) -> Rivals:
        """The rest: those that take long to compile, and would keep the first trial waiting."""
        ...

    def check(self, text: str) -> tuple[Diagnostic, ...]:
        """What is wrong with a text, before anything is compiled; warnings included."""
        ...

    def evaluate(self, text: str) -> Evaluation:
        """Compile, test, time on the run's workload. Never raises for a candidate's fault."""
        ...

    def confirm(self, text: str) -> Evaluation:
        """The same with every workload and every distribution of inputs, for a kernel that is to win."""
        ...

    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        """Times of two correct texts, interleaved; quick. Raises CandidateFailed."""
        ...

    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        """Times of correct texts, interleaved with each other and the named baselines; texts are named by index.

        Raises CandidateFailed.
        """
        ...

    def close(self) -> None: ...


class Recording:
    """The measurements of an earlier run, by text: the loop runs again with no compiler and no clock.

    A text that was never measured is a RunError: a replay must not invent results.
    """

    def __init__(self, events: Sequence[Event]) -> None:
        self._started = next((e for e in events if e["kind"] == "run-started"), None)
        if self._started is None:
            raise RunError("the recording holds no run")
        self._bound = next((e for e in events if e["kind"] == "bound"), None)
        self._baselines = [e for e in events if e["kind"] == "baseline"]
        found = [e for e in events if e["kind"] == "evaluation"]
        self._evaluations = {e["evaluation"]["text_sha"]: e["evaluation"] for e in found if not e.get("full")}
        self._duels = {e["evaluation"]["text_sha"]: e["duel"] for e in found if e.get("duel")}
        self._full = {e["evaluation"]["text_sha"]: e["evaluation"] for e in found if e.get("full")}
        self._diagnostics = {e["text_sha"]: e["diagnostics"] for e in events if e["kind"] == "diagnostics"}
        self._comparisons = [e for e in events if e["kind"] in ("selection", "comparison")]

    @property
    def chip(self) -> str:
        return str(self._header["chip"])

    @property
    def target(self) -> str:
        return str(self._header["target"])

    @property
    def _header(self) -> Event:
        assert self._started is not None
        return self._started

    def environment(self) -> dict[str, Any]:
        return {**self._header["environment"], "replayed": self._header["run"]}

    def bound(self) -> tuple[Report, Report]:
        return (self._bound["sol"], self._bound["ceiling"]) if self._bound else ({}, {})

    def baselines(self) -> Rivals:
        return self._rivals(self._baselines[:1])

    def late_baselines(self) -> Rivals:
        return self._rivals(self._baselines[1:])

    def _rivals(self, events: Sequence[Event]) -> Rivals:
        timings = tuple(timing(t) for e in events for t in e["baselines"])
        return Rivals(timings, {name: reason for e in events for name, reason in e["missing"].items()})

    def check(self, text: str) -> tuple[Diagnostic, ...]:
        from .texts import sha

        return tuple(_diagnostic(d) for d in self._diagnostics.get(sha(text), ()))

    def evaluate(self, text: str) -> Evaluation:
        return self._recorded(text, {**self._full, **self._evaluations})

    def confirm(self, text: str) -> Evaluation:
        return self._recorded(text, {**self._evaluations, **self._full})

    def _recorded(self, text: str, evaluations: Mapping[str, Any]) -> Evaluation:
        from .texts import sha

        if sha(text) not in evaluations:
            raise RunError(f"the recording holds no measurement of the text {sha(text)[:12]}")
        return Evaluation.from_dict(evaluations[sha(text)])

    def duel(self, text: str, other: str) -> tuple[Timing, Timing]:
        """The recorded one; else the recorded times of both."""
        from .texts import sha

        duel = self._duels.get(sha(text))
        if duel is None:
            return timing(_timed(self.evaluate(text), "0")), timing(_timed(self.evaluate(other), "1"))
        if "failed" in duel:
            raise CandidateFailed(duel["failed"])
        return _point("0", duel["time_ms"]), _point("1", duel["other_ms"])

    def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
        """The last recorded comparison that has all these texts, else the last one, else the recorded times."""
        from .texts import sha

        wanted = {sha(t) for t in texts}
        last = self._comparisons[-1] if self._comparisons else {"shas": [], "timings": []}
        recorded = next((e for e in reversed(self._comparisons) if wanted <= set(e["shas"])), last)
        by_sha = dict(zip(recorded["shas"], recorded["timings"], strict=False))
        found = [by_sha.get(sha(t)) or _timed(self.evaluate(t), str(i)) for i, t in enumerate(texts)]
        own = [{**t, "name": str(i)} for i, t in enumerate(found)]
        others = recorded["timings"][len(recorded["shas"]) :]
        return tuple(timing(t) for t in [*own, *(t for t in others if t["name"] in rivals)])

    def close(self) -> None:
        """Nothing is held."""


def _diagnostic(record: Mapping[str, Any]) -> Diagnostic:
    span = Span(**record["span"]) if record.get("span") else None
    return Diagnostic(record["code"], record["message"], span, record["severity"], record.get("hint"))


def _timed(evaluation: Evaluation, name: str) -> dict[str, Any]:
    found = next((w.timing for w in evaluation.workloads if w.timing is not None), None)
    if found is None:
        raise RunError(f"the recording holds no time of candidate {name}")
    return timing_record(found)


def _point(name: str, time_ms: float) -> Timing:
    return Timing(name, time_ms, (time_ms, time_ms), (time_ms, time_ms))


def timing(record: Mapping[str, Any]) -> Timing:
    low, high = record["interval_ms"]
    return Timing(record["name"], record["time_ms"], (low, high), tuple(record["samples_ms"]))


def timing_record(timing: Timing) -> dict[str, Any]:
    return {
        "name": timing.name,
        "time_ms": timing.time_ms,
        "interval_ms": list(timing.interval_ms),
        "samples_ms": list(timing.samples_ms),
    }
