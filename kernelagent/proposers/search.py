"""The proposer without a model: what the base knows first, then the change that a model of the run expects most of.

Each trial it lists the texts one change away from the best kernels, asks the surrogate how fast they will be, and
proposes the one with the largest expected improvement that also passes a static screen. Structural changes carry larger
promises than tile sizes, so they come first. It keeps nothing between trials but caches: the same context and seed give
the same proposal, also after a resumption.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from kernelagent.knowledge_base import steps_of
from kernelagent.knowledge_base.records import Trial

from .actions import SIZE_MOVES, Action, Step, action, log_sizes, steps
from .base import Context, Proposal, ProposerExhausted
from .openings import Opening, openings

PARENTS = 3
"""Kernels that are changed further: the best, and the best of other shapes."""
OPENINGS = 3
"""Texts of the base that are tried before anything else."""
FAILURE_LOG_TIME = 0.4
"""What a failed trial counts as: this much slower than its parent."""
LEAST_IMPROVEMENT = 1e-6
"""Expected log gain below which a trial is not worth its time."""
SCREENED = 200

Screen = Callable[[str], bool]
Cost = Callable[[str], float | None]
Code = Callable[[str], str | None]
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
    frozenset({"split_roles", "join_roles"}),
    frozenset({"tile_product"}),
    frozenset({"set_warps"}),
    frozenset({"unroll_device"}),
)
"""Moves of which the last one counts: they set the same word."""


@dataclass(frozen=True)
class Candidate:
    """A text within reach, by which step from which trial."""

    step: Step
    parent: Trial
    moves: Mapping[str, float]

    @property
    def sha(self) -> str:
        return _sha(self.step.text)


class SearchProposer:
    """`screen` says whether a text is acceptable (parses, types, matches the problem) before it costs a trial.

    `cost` is a static estimate of a text's work in any unit, None where it has none. `code` names the code that a text
    becomes, None where that is unknown: of texts that become the same code only one is tried.
    """

    name = "search"

    def __init__(self, screen: Screen | None = None, cost: Cost | None = None, code: Code | None = None) -> None:
        self._screen = screen or (lambda text: True)
        self._cost = cost or (lambda text: None)
        self._code = code or (lambda text: None)
        self._screened: dict[str, bool] = {}

    def propose(self, context: Context) -> Proposal:
        tried = frozenset(self._identity(t.text) for t in context.history)
        opening = self._opening(context, tried)
        if opening is not None:
            return opening.proposal(context.history[0].id if context.history else None)
        view = View(context, self._cost)
        ranked = self._ranked(view)
        for candidate, gain, mean in ranked[:SCREENED]:
            if gain < LEAST_IMPROVEMENT:
                break
            if self._worth_a_trial(candidate.step.text, tried):
                return _proposal(candidate, mean)
        raise ProposerExhausted(f"none of {len(ranked)} texts within reach promises an improvement")

    def repairs(self, context: Context) -> bool:
        return False

    def _worth_a_trial(self, text: str, tried: frozenset[str]) -> bool:
        return self._acceptable(text) and self._identity(text) not in tried

    def _acceptable(self, text: str) -> bool:
        sha = _sha(text)
        if sha not in self._screened:
            self._screened[sha] = self._screen(text)
        return self._screened[sha]

    def _identity(self, text: str) -> str:
        """Equal for texts that run the same code."""
        return self._code(text) or _sha(text)

    def _opening(self, context: Context, tried: frozenset[str]) -> Opening | None:
        """The next of a few texts that the base recommends; none once two of them were no better than the seed."""
        done = [t for t in context.history if "lead" in t.move_arguments]
        if len(done) >= OPENINGS or sum(_disappoints(t, context.history[0]) for t in done) >= 2:
            return None
        return next((o for o in openings(context) if self._worth_a_trial(o.text, tried)), None)

    def _ranked(self, view: View) -> list[tuple[Candidate, float, float]]:
        """Candidates with expected improvement and expected log time against the best, most promising first."""
        from .surrogate import expected_improvement

        pool = view.pool()
        if not pool:
            return []
        means, deviations = view.surrogate.predict([view.point(c.step.text, c.moves) for c in pool])
        ranked = []
        for candidate, mean, deviation in zip(pool, means, deviations, strict=True):
            gain = expected_improvement(float(mean), float(deviation), view.best_value)
            ranked.append((candidate, gain * view.jitter(candidate.sha), float(mean) - view.best_value))
        return sorted(ranked, key=lambda r: (-r[1], r[0].sha))


class View:
    """The context as the surrogate sees it."""

    def __init__(self, context: Context, cost: Cost) -> None:
        self.context = context
        self._cost = cost
        self._by_id = {t.id: t for t in context.history}

    @cached_property
    def seed_time(self) -> float:
        timed = [t.time_ms for t in self.context.history if t.time_ms]
        return timed[0] if timed else 1.0

    @cached_property
    def best_value(self) -> float:
        best = self.context.best
        return self._value(best) if best else 0.0

    @cached_property
    def surrogate(self):  # type: ignore[no-untyped-def]  # numpy is imported with it, on use
        from .surrogate import Surrogate

        history = [t for t in self.context.history if t.text]
        points = [self.point(t.text, self.moves_of(t)) for t in history]
        return Surrogate(points, [self._value(t) for t in history])

    def _value(self, trial: Trial) -> float:
        if trial.time_ms:
            return math.log(trial.time_ms / self.seed_time)
        parent = self._by_id.get(trial.parent or "")
        return (self._value(parent) if parent else 0.0) + FAILURE_LOG_TIME

    def point(self, text: str, moves: Mapping[str, float]):  # type: ignore[no-untyped-def]  # as above
        from .surrogate import Point

        return Point(dict(moves), log_sizes(text), self._log_cost(text))

    def _log_cost(self, text: str) -> float:
        seed = self._cost(self.context.history[0].text) if self.context.history else None
        own = self._cost(text)
        return math.log(own / seed) if seed and own else 0.0

    def moves_of(self, trial: Trial) -> dict[str, float]:
        """What was done from the seed to this trial's text, with what it promised; sizes are seen in the text."""
        moves: dict[str, float] = {}
        for one in (step for t in self._lineage(trial) for step in steps_of(t)):
            if one.move is not None:
                moves = with_move(moves, action(one.move, one.arguments, one.technique, self._promise(one.technique)))
        return moves

    def _promise(self, technique: str | None) -> float:
        found = (s.expected_log_gain for s in self.context.suggestions if s.technique.name == technique)
        return next(found, 0.0)

    def _lineage(self, trial: Trial) -> list[Trial]:
        found = [trial]
        while (parent := self._by_id.get(found[-1].parent or "")) is not None and parent not in found:
            found.append(parent)
        return found[::-1]

    def parents(self) -> list[Trial]:
        """The fastest trials, at most one for each combination of moves; the seed while nothing has passed."""
        timed = sorted((t for t in self.context.history if t.time_ms), key=lambda t: (t.time_ms, t.number))
        chosen: dict[tuple[str, ...], Trial] = {}
        for trial in timed:
            chosen.setdefault(tuple(sorted(self.moves_of(trial))), trial)
        return list(chosen.values())[:PARENTS] or list(self.context.history[:1])

    def pool(self) -> list[Candidate]:
        """Untried texts within reach of the parents, each once."""
        found: dict[str, Candidate] = {}
        for candidate in self._reachable():
            if candidate.sha not in self.context.tried:
                found.setdefault(candidate.sha, candidate)
        return list(found.values())

    def _reachable(self) -> Iterator[Candidate]:
        for parent in self.parents():
            before = self.moves_of(parent)
            for step in steps(parent.text, self.context.suggestions, self.context.arch):
                moves: Mapping[str, float] = before
                for one in step.actions:
                    moves = with_move(moves, one)
                yield Candidate(step, parent, moves)

    def jitter(self, sha: str) -> float:
        """Breaks ties by the run's seed, reproducibly."""
        digest = hashlib.sha256(f"{self.context.seed}:{self.context.number}:{sha}".encode()).digest()
        return 1.0 + 0.1 * random.Random(digest).random()


def with_move(moves: Mapping[str, float], one: Action) -> dict[str, float]:
    """The moves after one more; of moves that set the same word the last one counts."""
    if one.move in SIZE_MOVES:
        return dict(moves)
    rivals = next((group for group in _EXCLUSIVE if one.move in group), frozenset())
    kept = {key: gain for key, gain in moves.items() if key.split("{")[0] not in rivals}
    return {**kept, one.key: one.expected}


def _disappoints(opening: Trial, seed: Trial) -> bool:
    """What was best elsewhere fails here, or is slower than where the search began."""
    return opening.time_ms is None or (seed.time_ms is not None and opening.time_ms >= seed.time_ms)


def _proposal(candidate: Candidate, mean: float) -> Proposal:
    """A pair of sizes is no move of the catalogue, so it is recorded as sizes."""
    actions = candidate.step.actions
    note = f"expected x{math.exp(-mean):.2f} of the best"
    if len(actions) == 1:
        one = actions[0]
        return Proposal(candidate.step.text, one.technique, one.move, one.values, candidate.parent.id, note=note)
    sizes = {f"{a.values['kernel']}.{a.values['name']}": a.values["value"] for a in actions}
    return Proposal(candidate.step.text, None, None, {"sizes": sizes}, candidate.parent.id, note=note)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


__all__: Sequence[str] = ["Candidate", "SearchProposer", "View", "with_move"]
