"""One run's trials as a surrogate sees them: what was done from the seed to each text, and what came of it.

Runs of the same problem on other workloads are told apart by their seeds: what carries over is a time relative to the
seed's, and tiles that cover an axis here where they covered one there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, lru_cache

from kernelagent.dsl.moves import MoveError
from kernelagent.dsl.moves.refit import refit, trimmed
from kernelagent.knowledge_base import steps_of
from kernelagent.knowledge_base.records import Trial

from .actions import SIZE_MOVES, Action, action

FAILURE_LOG_TIME = 0.4
"""What a failed trial counts as: this much slower than its parent."""

_EXCLUSIVE = (
    frozenset({"prefetch"}),
    frozenset({"unroll"}),
    frozenset({"swap_raster"}),
    frozenset({"stream_stores", "cached_stores"}),
    frozenset({"direct_operands", "packed_operands"}),
    frozenset({"whole_row"}),
    frozenset({"deepen_ring"}),
    frozenset({"order_tiles"}),
    frozenset({"persistent_blocks"}),
    frozenset({"split_roles", "join_roles", "arrange_consumers"}),
    frozenset({"tile_product"}),
    frozenset({"set_warps"}),
    frozenset({"unroll_device"}),
)
"""Moves of which the last one counts: they set the same word."""


class Past:
    """`trials` of one run, the seed first; `promise` is the log gain that is expected of a technique."""

    def __init__(self, trials: Iterable[Trial], promise: Callable[[str | None], float]) -> None:
        self.trials = tuple(trials)
        self._promise = promise
        self._by_id = {t.id: t for t in self.trials}

    @cached_property
    def seed_time(self) -> float:
        """ms of the first trial that has a time."""
        return next((t.time_ms for t in self.trials if t.time_ms), 1.0)

    def value(self, trial: Trial) -> float:
        """Log of the time, relative to the seed."""
        if trial.time_ms:
            return math.log(trial.time_ms / self.seed_time)
        parent = self._by_id.get(trial.parent or "")
        return (self.value(parent) if parent else 0.0) + FAILURE_LOG_TIME

    def moves_of(self, trial: Trial) -> dict[str, float]:
        """What was done from the seed to this trial's text, with what it promised; sizes are seen in the text."""
        moves: dict[str, float] = {}
        for one in (step for t in self._lineage(trial) for step in steps_of(t)):
            if one.move is not None:
                moves = with_move(moves, action(one.move, one.arguments, one.technique, self._promise(one.technique)))
        return moves

    def _lineage(self, trial: Trial) -> list[Trial]:
        found = [trial]
        while (parent := self._by_id.get(found[-1].parent or "")) is not None and parent not in found:
            found.append(parent)
        return found[::-1]


def runs(trials: Iterable[Trial], promise: Callable[[str | None], float]) -> list[Past]:
    """The trials by run, each run's in order; without runs whose seed is missing, which nothing can be related to."""
    by_run: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda t: (t.run, t.number)):
        by_run.setdefault(trial.run, []).append(trial)
    return [Past(found, promise) for found in by_run.values() if found[0].number == 0 and found[0].time_ms]


def with_move(moves: Mapping[str, float], one: Action) -> dict[str, float]:
    """The moves after one more; of moves that set the same word the last one counts."""
    if one.move in SIZE_MOVES:
        return dict(moves)
    rivals = next((group for group in _EXCLUSIVE if one.move in group), frozenset())
    kept = {key: gain for key, gain in moves.items() if key.split("{")[0] not in rivals}
    return {**kept, one.key: one.expected}


def fitted(text: str, features: Mapping[str, float | str], dims: Mapping[str, int]) -> str:
    """A text of a workload with these features: tiles that covered an axis there cover that of `dims`, no more."""
    known = {k[5:]: v for k, v in features.items() if k.startswith("log2:") and isinstance(v, float | int)}
    old = {dim: round(2.0**size) for dim, size in known.items() if dim in dims}
    return _fitted(text, tuple(old.items()), tuple(dims.items()))


@lru_cache(maxsize=4096)
def _fitted(text: str, old: tuple[tuple[str, int], ...], dims: tuple[tuple[str, int], ...]) -> str:
    try:
        return trimmed(refit(text, dict(old), dict(dims)), dict(dims))
    except MoveError:
        return text
