"""Interleaved timing with cold caches.

Subjects are timed in rounds: each once, in random order, so that a slow moment of the machine hits all alike. Before
every sample the worker empties the caches outside the timed window. Rounds come in blocks; each block uses other
input values (and addresses), starts with a random number of untimed warm-ups, and one random round of it is audited:
outputs are poisoned before and checked after a timed run. The timing lock is held for one block at a time.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from kernelagent.harness.caches import available_cpus
from kernelagent.harness.inputs import InputSet
from kernelagent.harness.lock import Notify, timing_lock
from kernelagent.harness.memory import POISONS
from kernelagent.harness.records import Timing
from kernelagent.harness.statistics import Median, median

ROUNDS_IN_BLOCK = 4
FEWEST_SAMPLES = 6
"""Below this no 95% interval exists."""
_FEWEST_OF_SLOW = 3
"""Enough of a subject that takes the whole budget by itself; its interval is the range of its samples."""
_MOST_WARM_UPS = 2
_MARGIN = 0.02


class Timed(Protocol):
    """What timing needs of a subject. All raise WorkerFailure."""

    name: str

    def run(self, inputs: InputSet) -> None: ...

    def sample(self, inputs: InputSet, cpus: Sequence[int]) -> float:
        """Milliseconds of one run with cold caches."""
        ...

    def audit(self, inputs: InputSet) -> str:
        """What is wrong with the outputs in the set's arrays after a timed run, or ""."""
        ...


@dataclass(frozen=True)
class TimingPlan:
    """Stop when every interval is narrower than `relative_width` of its median, or the budget is spent.

    `budget_ms` counts the time the lock is held; `rounds` caps the number of rounds.
    """

    budget_ms: float = 400.0
    relative_width: float = 0.03
    rounds: int = 200
    device: str = "cpu"


@dataclass
class Samples:
    """Raw milliseconds of one subject in the order taken, with the round of each, and what an audit found."""

    name: str
    ms: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    wrong: str = ""

    @property
    def median(self) -> Median:
        return median(self.ms)

    def timing(self) -> Timing:
        m = self.median
        return Timing(self.name, m.value, (m.low, m.high), tuple(self.ms))


@dataclass(frozen=True)
class Comparison:
    """How many times as fast `challenger` is as `champion`, from the ratios of rounds in which both were timed."""

    ratio: float
    interval: tuple[float, float]
    champion: Timing
    challenger: Timing

    @property
    def decision(self) -> str:
        """FASTER, SLOWER, or INCONCLUSIVE while the interval holds 1."""
        if self.interval[0] > 1:
            return "FASTER"
        return "SLOWER" if self.interval[1] < 1 else "INCONCLUSIVE"


def interleave(
    subjects: Sequence[Timed],
    sets: Sequence[InputSet],
    plan: TimingPlan,
    seed: int | None = None,
    notify: Notify | None = None,
    done: Callable[[Mapping[str, Samples]], bool] | None = None,
) -> dict[str, Samples]:
    """Time `subjects`, which must be bound to every one of `sets`, and return their samples by name.

    `done` replaces the stopping rule on interval widths. Raises WorkerFailure as soon as a subject fails.
    """
    chance = random.Random(seed)
    samples = {s.name: Samples(s.name) for s in subjects}
    stop = done or (lambda s: _narrow(s, plan.relative_width))
    spent_ms, block = 0.0, 0
    while not _finished(samples, spent_ms, plan) and not stop(samples):
        with timing_lock(plan.device, notify):
            start = time.perf_counter()
            _block(subjects, sets[block % len(sets)], samples, _Budget(plan, len(subjects)), chance, block)
            spent_ms += (time.perf_counter() - start) * 1e3
        block += 1
    return samples


def contrast(champion: Samples, challenger: Samples) -> Comparison:
    """Compare two subjects of the same `interleave` call. Raises ValueError without a common round."""
    theirs = dict(zip(champion.rounds, champion.ms, strict=True))
    ratios = [theirs[r] / ms for r, ms in zip(challenger.rounds, challenger.ms, strict=True) if r in theirs]
    m = median(np.log(ratios).tolist())
    low, value, high = np.exp([m.low, m.value, m.high])
    return Comparison(float(value), (float(low), float(high)), champion.timing(), challenger.timing())


def decided(champion: str, challenger: str) -> Callable[[Mapping[str, Samples]], bool]:
    """A stopping rule for `interleave`: one of two is known to be faster.

    Looking after every block makes a chance interval off 1 likelier than 5%, so it has to clear 1 by a margin, the
    same way at two looks in a row.
    """
    looks: list[str] = ["", ""]

    def rule(samples: Mapping[str, Samples]) -> bool:
        if min(len(s.ms) for s in samples.values()) < 2 * FEWEST_SAMPLES:
            return False
        low, high = contrast(samples[champion], samples[challenger]).interval
        looks.append("FASTER" if low > 1 + _MARGIN else "SLOWER" if high < 1 - _MARGIN else "")
        return looks[-1] != "" and looks[-1] == looks[-2]

    return rule


@dataclass(frozen=True)
class _Budget:
    plan: TimingPlan
    subjects: int

    def allows(self, samples: Samples) -> bool:
        """Slow subjects stop taking part once they used up their share and have enough samples for an interval."""
        share = self.plan.budget_ms / self.subjects
        return not _enough(samples, self.plan) or sum(samples.ms) < share


def _block(
    subjects: Sequence[Timed], inputs: InputSet, samples: Mapping[str, Samples], budget: _Budget,
    chance: random.Random, block: int,
) -> None:  # fmt: skip
    cpus = available_cpus()
    audited = chance.randrange(ROUNDS_IN_BLOCK)
    taking_part = [s for s in subjects if budget.allows(samples[s.name])]
    for subject in taking_part:
        for _ in range(chance.randint(1, _MOST_WARM_UPS)):
            subject.run(inputs)
    for round_ in range(ROUNDS_IN_BLOCK):
        for subject in chance.sample(taking_part, len(taking_part)):
            if round_ == audited:
                inputs.arena.poison(POISONS[block % 2])
            record = samples[subject.name]
            record.ms.append(subject.sample(inputs, cpus))
            record.rounds.append(block * ROUNDS_IN_BLOCK + round_)
            if round_ == audited:
                record.wrong = record.wrong or subject.audit(inputs)


def _enough(samples: Samples, plan: TimingPlan) -> bool:
    count = len(samples.ms)
    return count >= FEWEST_SAMPLES or (count >= _FEWEST_OF_SLOW and sum(samples.ms) >= plan.budget_ms)


def _finished(samples: Mapping[str, Samples], spent_ms: float, plan: TimingPlan) -> bool:
    if not all(_enough(s, plan) for s in samples.values()):
        return False
    return spent_ms >= plan.budget_ms or max(len(s.ms) for s in samples.values()) >= plan.rounds


def _narrow(samples: Mapping[str, Samples], relative_width: float) -> bool:
    return all(len(s.ms) >= FEWEST_SAMPLES and s.median.relative_width <= relative_width for s in samples.values())
