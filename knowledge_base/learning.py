"""What the log says. Everything here is a pure function of trials: order, duplicates and merging do not matter."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from kernelagent.knowledge_base.records import Gain, Suggestion, Technique, Trial

FAILURE_LOG_GAIN = -0.25
"""What a candidate that did not pass is counted as: it cost a trial and was thrown away."""
PRIOR_TRIALS = 2.0
"""Weight of the prior against evidence, in trials."""
CLAIM_TRUST = 0.5
"""Share of a claimed log speed-up that is believed before anything was measured: claims come from best cases."""
OFF_BOTTLENECK = 0.4
"""Weight of evidence, and of a claim, for another bottleneck than the present one."""
OFF_CHIP = 0.6
EXPLORATION = 0.12
"""Log speed-up that one never-tried technique is worth over a well-known equal."""

Features = Mapping[str, float | str]
SUCCESS = frozenset({"PASSED", "INCONCLUSIVE"})
UNTIMED = "UNTIMED"
"""Right, as far as that can be told without the device: says nothing about what an action gains, nor that it fails."""


def outcome(trial: Trial) -> float | None:
    """Log gain of a trial, a failure counted as FAILURE_LOG_GAIN; None when it says nothing about an action.

    Nor does a failure in a run without a device: right kernels have no gain there, and failures alone would make every
    action look bad.
    """
    if trial.status == UNTIMED or (trial.technique is None and trial.move is None):
        return None
    if trial.status not in SUCCESS and _without_device(trial):
        return None
    if trial.status not in SUCCESS:
        return FAILURE_LOG_GAIN
    return trial.reward


def _without_device(trial: Trial) -> bool:
    """A trial for a GPU whose parent was not timed: its run had none to time on."""
    return trial.target == "cuda" and trial.parent_time_ms is None


def actions(trial: Trial) -> tuple[str, ...]:
    """Keys under which a trial is evidence: its technique, and its move with arguments."""
    keys = [trial.technique] if trial.technique else []
    return (*keys, move_key(trial.move, trial.move_arguments)) if trial.move else tuple(keys)


def move_key(move: str, arguments: Mapping[str, object]) -> str:
    """`set_tunable(name="BM", value=64)`: one spelling for one action."""
    parts = ", ".join(f"{k}={json.dumps(v, sort_keys=True)}" for k, v in sorted(arguments.items()))
    return f"{move}({parts})"


@dataclass
class Tally:
    """Exact running sums of one (action, bottleneck); adding in any order gives equal tallies."""

    trials: int = 0
    failures: int = 0
    total: Fraction = Fraction(0)
    best: float = -math.inf

    def add(self, gain: float, failed: bool) -> None:
        self.trials += 1
        self.failures += failed
        self.total += Fraction(gain)
        self.best = max(self.best, gain)


@dataclass
class Learner:
    """The incremental form: `add` as trials arrive, `gains` at any time. Equal to `gains(log)` by construction."""

    seen: set[str] = field(default_factory=set)
    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)

    def add(self, trial: Trial) -> None:
        gain = outcome(trial)
        if gain is None or trial.id in self.seen:
            return
        self.seen.add(trial.id)
        for action in actions(trial):
            tally = self.tallies.setdefault((action, trial.bottleneck), Tally())
            tally.add(gain, failed=trial.status not in SUCCESS)

    def gains(self) -> list[Gain]:
        """One Gain per (action, bottleneck), best first. The mean is shrunk towards no gain by PRIOR_TRIALS."""
        found = [_gain(action, bottleneck, tally) for (action, bottleneck), tally in self.tallies.items()]
        return sorted(found, key=lambda g: (-g.mean_log_gain, g.technique, g.bottleneck))


def gains(trials: Iterable[Trial]) -> list[Gain]:
    """Statistics by (technique, bottleneck) and by (move with arguments, bottleneck), failures counted."""
    learner = Learner()
    for trial in trials:
        learner.add(trial)
    return learner.gains()


def _gain(action: str, bottleneck: str, tally: Tally) -> Gain:
    mean = float(tally.total) / (tally.trials + PRIOR_TRIALS)
    return Gain(action, bottleneck, tally.trials, tally.failures, mean, tally.best)


def similarity(a: Features, b: Features) -> float:
    """In [0, 1]: mean agreement over the features that either has. Sizes are log2, so a factor of two costs half."""
    keys = a.keys() | b.keys()
    if not keys:
        return 1.0
    return math.fsum(_agreement(a.get(k), b.get(k)) for k in keys) / len(keys)


def _agreement(a: float | str | None, b: float | str | None) -> float:
    if isinstance(a, str) or isinstance(b, str) or a is None or b is None:
        return float(a == b)
    return 1.0 / (1.0 + abs(a - b))


@dataclass(frozen=True)
class State:
    """Where the search stands: what is retrieved depends on nothing else but the log and the seed."""

    features: Features
    bottleneck: str
    chip: str
    target: str
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Evidence:
    """Similarity-weighted trials of one technique."""

    weight: float
    total: float
    trials: tuple[Trial, ...]  # most similar and most rewarding first


def retrieve(
    techniques: Sequence[Technique], trials: Iterable[Trial], state: State, limit: int = 8, seed: int | None = None
) -> list[Suggestion]:
    """The techniques most worth trying now, best first.

    Rank = posterior mean of the log gain (claim as prior, similarity-weighted trials as evidence) + an exploration
    term that falls with evidence. `seed` perturbs the rank by the remaining uncertainty; None takes the plain rank.
    Equal arguments give equal answers.
    """
    log = sorted({t.id: t for t in trials}.values(), key=lambda t: t.id)
    statistics = {(g.technique, g.bottleneck): g for g in gains(log)}
    tried: dict[str, list[Trial]] = {}
    for trial in log:
        tried.setdefault(trial.technique or "", []).append(trial)
    ranked: list[tuple[float, Suggestion]] = []
    for technique in techniques:
        if not applies(technique, state):
            continue
        evidence = _evidence(tried.get(technique.name, []), state)
        gain = statistics.get((technique.name, state.bottleneck))
        suggestion = _suggestion(technique, evidence, gain, state)
        ranked.append((suggestion.expected_log_gain + _exploration(technique.name, evidence.weight, seed), suggestion))
    ranked.sort(key=lambda pair: (-pair[0], pair[1].technique.name))
    return [suggestion for _, suggestion in ranked[:limit]]


def applies(technique: Technique, state: State) -> bool:
    """Right target and architecture, and an op class in common (techniques without tags apply to all; so does a state
    without). The architecture is a feature of a state on a GPU."""
    if technique.targets and state.target not in technique.targets:
        return False
    if technique.archs and state.features.get("arch") not in technique.archs:
        return False
    return not technique.tags or not state.tags or bool(state.tags.intersection(technique.tags))


def weight(trial: Trial, state: State) -> float:
    """How much a past trial says about the present state, in [0, 1]."""
    if trial.target != state.target:
        return 0.0
    close = similarity(trial.features, state.features)
    return (
        close
        * (1.0 if trial.bottleneck == state.bottleneck else OFF_BOTTLENECK)
        * (1.0 if trial.chip == state.chip else OFF_CHIP)
    )


def prior(technique: Technique, state: State) -> float:
    """Log gain expected from the claim alone."""
    claimed = CLAIM_TRUST * math.log(technique.claim) if technique.claim else 0.0
    fits = not technique.bottlenecks or state.bottleneck in technique.bottlenecks
    return claimed if fits else claimed * OFF_BOTTLENECK


def _evidence(tried: Sequence[Trial], state: State) -> _Evidence:
    found = [(weight(t, state), gain, t) for t in tried if (gain := outcome(t)) is not None]
    weighted = [(w, gain, t) for w, gain, t in found if w > 0]
    weighted.sort(key=lambda entry: (-entry[0] * max(entry[1], 0.0), entry[2].id))
    return _Evidence(
        math.fsum(w for w, _, _ in weighted),
        math.fsum(w * gain for w, gain, _ in weighted),
        tuple(t for _, _, t in weighted),
    )


def _suggestion(technique: Technique, evidence: _Evidence, gain: Gain | None, state: State) -> Suggestion:
    before = prior(technique, state)
    expected = (evidence.total + PRIOR_TRIALS * before) / (evidence.weight + PRIOR_TRIALS)
    good = tuple(t.id for t in evidence.trials if t.status in SUCCESS and (t.reward or 0.0) > 0)[:3]
    return Suggestion(technique, expected, gain, _reason(technique, evidence, before, state), good)


def _reason(technique: Technique, evidence: _Evidence, before: float, state: State) -> str:
    claim = f"claim x{technique.claim:.2f}" if technique.claim else "no claim"
    fit = (
        ""
        if state.bottleneck in technique.bottlenecks
        else f", curated for {', '.join(technique.bottlenecks) or 'any'}"
    )
    if not evidence.trials:
        return f"untried here; {claim}{fit} (prior x{math.exp(before):.2f})"
    measured = math.exp(evidence.total / evidence.weight)
    count = len(evidence.trials)
    return f"x{measured:.2f} over {count} trial{'s' * (count > 1)} (weight {evidence.weight:.1f}); {claim}{fit}"


def _exploration(name: str, tried: float, seed: int | None) -> float:
    bonus = EXPLORATION / math.sqrt(1.0 + tried)
    if seed is None:
        return bonus
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    return bonus + bonus * random.Random(digest).gauss(0.0, 1.0)
