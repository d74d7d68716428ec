"""Online statistics: what a loop conserves, where its recurrences are not linear in one value.

A running mean times the count so far is a sum; the second moment about it plus mean^2 * count is one (Welford, Chan).
So for an x that is no reduction itself, x * w + G is tried, for the counts w and the shifts G = a^2 * w that the
solved values offer. The inductive step is an identity of rational functions: the change of x * w + G in one iteration
must not depend on any state, hence equals its value where all states are 0; the difference of both is shown to
vanish.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kernelagent.dsl import index as ix
from kernelagent.dsl.verify.semantics.compare import cancelled, without_denominators
from kernelagent.dsl.verify.semantics.rewriting import Rewriting
from kernelagent.dsl.verify.semantics.terms import ONE, ZERO, Poly, State, Undenoted, Word, atom, from_index

if TYPE_CHECKING:
    from kernelagent.dsl.verify.semantics.loops import LoopSolver


@dataclass(frozen=True)
class Solved:
    """x = (initial (+) fold of `step` over the iterations) / weight, at generic positions `axes`."""

    word: Word
    axes: tuple[str, ...]
    initial: Poly
    step: Poly
    weight: Poly  # in states; ONE for a plain reduction
    shift: Poly = ZERO  # in states: x * weight + shift is the sum
    cut: bool = False  # the loop variable in weight and shift counts to the loop's end, not to that of its last tile
    logarithm: bool = False  # exp(x) is what the above says, x its logarithm


@dataclass(frozen=True)
class Count:
    """A weight before and after an iteration. `cut`: the last tile counts only up to the end of the loop."""

    before: Poly
    after: Poly
    cut: bool = False


def potentials(solver: LoopSolver, which: int, own: State, axes: tuple[str, ...]) -> Iterator[Solved]:
    """Solutions of carried value `which` by a conserved x * weight + shift."""
    if len(solver.loop.variables) != 1:
        return
    end = expanded(solver, solver.end(which)[1])
    for count in _counts(solver, own):
        for candidate in _attempts(solver, own, end, count):
            step = _step(solver, own, end, *candidate)
            if step is not None:
                (weight, _), (shift, _) = candidate
                yield Solved("sum", axes, solver.initial(which, axes), step, weight, shift, count.cut)


Change = tuple[Poly, Poly]
"""Before and after an iteration."""


def _attempts(solver: LoopSolver, own: State, end: Poly, count: Count) -> Iterator[tuple[Change, Change]]:
    yield (count.before, count.after), (ZERO, ZERO)
    for which, solved in solver.solved.items():
        if solved.weight != ONE and len(solved.axes) == len(own.place):
            mean = replace(own, which=which)
            new = expanded(solver, atom(replace(mean, ended=True)))
            yield (ONE, ONE), (atom(mean, 2) * count.before, new * new * count.after)


def _counts(solver: LoopSolver, own: State) -> Iterator[Count]:
    """Carried sums, and the loop variable itself."""
    for which, solved in solver.solved.items():
        if solved.word == "sum" and solved.weight == ONE and len(solved.axes) in (0, len(own.place)):
            state = replace(own, which=which, place=own.place if solved.axes else ())
            yield Count(atom(state), expanded(solver, atom(replace(state, ended=True))))
    loop = solver.loop
    now = ix.index(loop.variables[0]) - loop.lo[0]
    left = ix.minimum(loop.step[0], loop.hi[0] - ix.index(loop.variables[0]))
    yield Count(from_index(now), from_index(now) + from_index(solver.inner.tidy(left)), cut=True)
    yield Count(from_index(now), from_index(now + loop.step[0]))


def expanded(solver: LoopSolver, p: Poly) -> Poly:
    """p in states at the top of the iteration only."""

    def states(state: State) -> Poly | None:
        if state.loop != solver.number or not state.ended:
            return None
        axes, end = solver.end(state.which)
        moved = Rewriting(dict(zip(axes, state.place, strict=True)), None, solver.inner).poly(end)
        return expanded(solver, moved)

    return Rewriting({}, states, solver.inner).poly(p)


def _step(solver: LoopSolver, own: State, end: Poly, weight: Change, shift: Change) -> Poly | None:
    """The change of x * weight + shift in one iteration, None when it depends on the state."""
    try:
        change = end * weight[1] + shift[1] - atom(own) * weight[0] - shift[0]
        at_zero = _at_zero(solver, change)
        conserved = not without_denominators(change - at_zero).terms
    except Undenoted:
        return None
    return cancelled(at_zero) if conserved and not solver.states_in(at_zero) else None


def _at_zero(solver: LoopSolver, p: Poly) -> Poly:
    def states(state: State) -> Poly | None:
        return ZERO if state.loop == solver.number else None

    return Rewriting({}, states, solver.inner).poly(p)
