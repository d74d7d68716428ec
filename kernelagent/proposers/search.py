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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from kernelagent.knowledge_base.records import Trial

from .actions import Step, log_sizes, steps
from .base import Context, Proposal, ProposerExhausted
from .openings import Opening, openings
from .past import Past, fitted, runs, with_move

if TYPE_CHECKING:
    from .surrogate import Point

if TYPE_CHECKING:
    from .surrogate import Point

PARENTS = 3
"""Kernels that are changed further: the best, and the best of other shapes."""
OPENINGS = 2
"""Texts of the base that are tried before anything else; then it counts as what trials elsewhere have shown."""
TIE = 0.02
"""Log cost up to which texts count as equal where costs alone rank them."""
LEAST_IMPROVEMENT = 1e-6
"""Expected log gain below which a trial is not worth its time."""
SCREENED = 200

Screen = Callable[[str], bool]
Cost = Callable[[str], float | None]
Code = Callable[[str], str | None]


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
        """The next of the first few texts that the base recommends."""
        if sum("lead" in t.move_arguments for t in context.history) >= OPENINGS:
            return None
        return next((o for o in openings(context) if self._worth_a_trial(o.text, tried)), None)

    def _ranked(self, view: View) -> list[tuple[Candidate, float, float]]:
        """Candidates with expected improvement and expected log time against the best, most promising first."""
        from .surrogate import expected_improvement

        pool = view.pool()
        if not pool:
            return []
        points = [view.point(c.step.text, c.moves) for c in pool]
        means, deviations = view.surrogate.predict(points) if view.context.timed else _by_cost(points)
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
        self._past = Past(context.history, self._promise)
        self._elsewhere = runs(context.relatives, self._promise)

    @cached_property
    def best_value(self) -> float:
        best = self.context.best
        return self._past.value(best) if best else 0.0

    @cached_property
    def surrogate(self):  # type: ignore[no-untyped-def]  # numpy is imported with it, on use
        from .surrogate import Surrogate

        here = [(self.point(t.text, self.moves_of(t)), self._past.value(t)) for t in self._past.trials if t.text]
        points, values = zip(*[*here, *self._far_points()], strict=True)
        return Surrogate(points, values)

    def _far_points(self) -> Iterator[tuple[Point, float]]:
        """What relatives of this run measured, their texts fitted to this workload."""
        dims = self.context.workload.dims
        for past in self._elsewhere:
            for trial in past.trials:
                if trial.text:
                    point = self.point(fitted(trial.text, trial.features, dims), past.moves_of(trial))
                    yield replace(point, elsewhere=True), past.value(trial)

    def point(self, text: str, moves: Mapping[str, float]):  # type: ignore[no-untyped-def]  # as above
        from .surrogate import Point

        return Point(dict(moves), log_sizes(text), self._log_cost(text))

    def _log_cost(self, text: str) -> float:
        seed = self._cost(self.context.history[0].text) if self.context.history else None
        own = self._cost(text)
        return math.log(own / seed) if seed and own else 0.0

    def moves_of(self, trial: Trial) -> dict[str, float]:
        return self._past.moves_of(trial)

    def _promise(self, technique: str | None) -> float:
        found = (s.expected_log_gain for s in self.context.suggestions if s.technique.name == technique)
        return next(found, 0.0)

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


def _by_cost(points: Sequence[Point]) -> tuple[Sequence[float], Sequence[float]]:
    """Where nothing is timed the model of costs is what ranks in the end: it is believed, promises only break ties."""
    means = [p.log_cost - TIE * sum(p.moves.values()) for p in points]
    return means, [TIE] * len(points)


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
