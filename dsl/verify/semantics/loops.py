"""Loops as reductions: what a carried value is after any number of iterations.

A carried x becomes R * x + T in one iteration. By induction:

- R = 1: x = x0 + sum of T over the iterations;
- R = w(old state) / w(new state): x * w is such a sum, so x = (x0 * w(initial) + sum of T * w(new)) / w(final). An
  online softmax has w = exp(m), a running mean w = n. The step is checked here, for every iteration at once: T *
  w(new) must not depend on any state;
- x becomes max(x, T): x = max(x0, max of T);
- exp(x) becomes exp(x) + T: x is the logarithm of a sum; x that stays x0 if it was x0 is x0.

Tiles of one axis, [j, j + step) cut at the end, are joined to one range.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from kernelagent.dsl import index as ix
from kernelagent.dsl import ir
from kernelagent.dsl.index import Index
from kernelagent.dsl.verify.semantics import functions as fn
from kernelagent.dsl.verify.semantics.known import Known
from kernelagent.dsl.verify.semantics.potentials import Solved, expanded, potentials
from kernelagent.dsl.verify.semantics.reductions import fresh, opened, parted, reduction
from kernelagent.dsl.verify.semantics.rewriting import Rewriting
from kernelagent.dsl.verify.semantics.terms import (
    ONE,
    UNKNOWN,
    ZERO,
    Atom,
    Binder,
    Call,
    Extremum,
    Mono,
    Poly,
    Reduction,
    State,
    Undenoted,
    Whole,
    Word,
    atom,
    from_index,
    names,
    parts,
    state_name,
)

if TYPE_CHECKING:
    from kernelagent.dsl.verify.semantics.kernel import KernelMeaning, Place, Summary


def summarise(meaning: KernelMeaning, loop: ir.For, number: int, outer: Known) -> Summary:
    """Solve the recurrences of a loop whose body has been read. Values without a solution raise when they are used."""
    from kernelagent.dsl.verify.semantics.kernel import Summary

    solver = LoopSolver(meaning, loop, number, outer)
    reduced = {k: s.word for k, s in solver.solved.items() if any(_is_reduction(a, s.word) for a in parts(s.step))}
    words = {state_name(number, k, ended): word for k, word in reduced.items() for ended in (False, True)}
    return Summary(loop, words, solver.closed)


def with_prefixes(p: Poly, summary: Summary, number: int, known: Known) -> Poly:
    """p inside the loop, with states replaced by what the iterations before have made."""
    loop = summary.loop

    def states(state: State) -> Poly | None:
        if state.loop != number:
            return None
        now = ix.index(loop.variables[0])
        return summary.closed(state.which, state.place, now + loop.step[0] if state.ended else now, known)

    return Rewriting({}, states, known).poly(p)


def _is_reduction(a: Atom, word: str) -> bool:
    return isinstance(a, Reduction) and a.word == word


class LoopSolver:
    """The recurrences of one loop."""

    def __init__(self, meaning: KernelMeaning, loop: ir.For, number: int, outer: Known) -> None:
        self.meaning, self.loop, self.number, self.outer = meaning, loop, number, outer
        self.inner = meaning.known
        self.steps = tuple(int(s.constant or 1) for s in loop.step)
        self.solved: dict[int, Solved] = {}
        self._closed: dict[tuple[int, Index | None, Known], Poly] = {}
        self.around = meaning.around()
        self._ends: dict[int, tuple[tuple[str, ...], Poly]] = {}
        self._solve_all()

    # Solving -----------------------------------------------------------------------------------

    def _solve_all(self) -> None:
        open_ = set(range(len(self.loop.carried)))
        progress = True
        while open_ and progress:
            progress = False
            for which in sorted(open_):
                found = self._attempt(which)
                if found is not None:
                    self.solved[which] = found
                    open_.discard(which)
                    progress = True

    def _attempt(self, which: int) -> Solved | None:
        try:
            return self._solve(which)
        except Undenoted:
            return None

    def end(self, which: int) -> tuple[tuple[str, ...], Poly]:
        """Names of generic positions, and the value at the bottom of an iteration at these positions."""
        if which not in self._ends:
            carried = self.loop.carried[which]
            axes = tuple(fresh() for _ in carried.inside.type.shape)
            known = self.inner
            for name, live in zip(axes, carried.inside.type.live, strict=True):
                known = known.counting(name, live.lo, live.hi)
            self.meaning.known = known
            try:
                end = self.meaning.computed(carried.end, tuple(ix.symbol(n, "loop") for n in axes))
            finally:
                self.meaning.known = self.inner
            self._ends[which] = axes, end
        return self._ends[which]

    def initial(self, which: int, axes: tuple[str, ...]) -> Poly:
        carried, inner = self.loop.carried[which], self.meaning.known
        self.meaning.known = self.outer
        try:
            return self.meaning.element(carried.initial, tuple(ix.symbol(n, "loop") for n in axes))
        finally:
            self.meaning.known = inner

    def _solve(self, which: int) -> Solved | None:
        axes, end = self.end(which)
        own = State(self.number, which, tuple(ix.symbol(n, "loop") for n in axes))
        found = self._affine(own, end) or self._lattice(own, end)
        if found is not None and not self.states_in(found[1]):
            word, step, weight = found
            return Solved(word, axes, self.initial(which, axes), step, weight)
        for attempt in (self._constant, self._logarithm, self._conserved):
            try:
                other = attempt(which, own, axes, end)
            except Undenoted:
                continue
            if other is not None:
                return other
        rest = self._without_states(found[1]) if found is not None else None
        return (
            None if found is None or rest is None else Solved(found[0], axes, self.initial(which, axes), rest, found[2])
        )

    def _constant(self, which: int, own: State, axes: tuple[str, ...], end: Poly) -> Solved | None:
        """A value that is what it was before the loop if it was so an iteration ago: Kahan's correction is 0."""
        initial = self.initial(which, axes)

        def states(state: State) -> Poly | None:
            if (state.loop, state.which, state.ended) != (self.number, which, False):
                return None
            return Rewriting(dict(zip(axes, state.place, strict=True)), None, self.inner).poly(initial)

        if Rewriting({}, states, self.inner).poly(expanded(self, end)) != initial:
            return None
        return Solved("sum", axes, initial, ZERO, ONE)

    def _conserved(self, which: int, own: State, axes: tuple[str, ...], _end: Poly) -> Solved | None:
        return next(potentials(self, which, own, axes), None)

    def _logarithm(self, which: int, own: State, axes: tuple[str, ...], end: Poly) -> Solved | None:
        """x with exp(x) a sum: x becomes log(exp(x) + T)."""
        exponential = fn.exp(end)
        kept = Mono((), atom(own))
        step = Poly({m: c for m, c in exponential.terms if m != kept})
        if dict(exponential.terms).get(kept) != 1 or self.states_in(step):
            return None
        return Solved("sum", axes, fn.exp(self.initial(which, axes)), step, ONE, logarithm=True)

    def _affine(self, own: State, end: Poly) -> tuple[Word, Poly, Poly] | None:
        """(sum, T * w(new), w) for x -> R * x + T."""
        rate, rest = ZERO, ZERO
        for mono, coefficient in end.terms:
            if own.name not in mono.free:
                rest = rest + Poly({mono: coefficient})
                continue
            factors = dict(mono.factors)
            if factors.pop(own, None) != 1:
                return None
            rate = rate + Poly({Mono(factors.items(), mono.exponent): coefficient})
        if own.name in rate.free:
            return None
        if rate == ONE:
            return "sum", rest, ONE
        if not rest.terms and not self.states_in(rate):
            return "prod", rate, ONE
        weight = self._weight(rate)
        return None if weight is None else ("sum", rest * self.advanced(weight), weight)

    def _weight(self, rate: Poly) -> Poly | None:
        """w with rate = w(old) / w(new), None when there is none."""
        if len(rate.terms) != 1 or rate.terms[0][1] != 1:
            return None
        mono = rate.terms[0][0]
        exponent = mono.exponent or ZERO
        old = Poly({m: c for m, c in exponent.terms if self._is_old(m.free)})
        for counted in (False, True):
            factors = [(a, e) for a, e in mono.factors if self._is_old(a.free) or (counted and self._counts(a))]
            weight = Poly({Mono(factors, old): Fraction(1)})
            if weight != ONE and weight * fn.power(self.advanced(weight), Fraction(-1)) == rate:
                return weight
        return None

    def _counts(self, a: Atom) -> bool:
        return isinstance(a, Whole) and a.atom == self.loop.variables[0]

    def _is_old(self, free: frozenset[str]) -> bool:
        mine = [n for n in free if n[1:].startswith(f"{self.number}.") and n[0] in "~^"]
        return bool(mine) and all(n[0] == "~" for n in mine)

    def advanced(self, p: Poly) -> Poly:
        """p one iteration later: states at the bottom for states at the top."""

        def states(state: State) -> Poly | None:
            if state.loop != self.number or state.ended:
                return None
            return atom(State(state.loop, state.which, state.place, ended=True))

        variable = self.loop.variables[0]
        return Rewriting({variable.name: ix.index(variable) + self.steps[0]}, states, self.inner).poly(p)

    def _lattice(self, own: State, end: Poly) -> tuple[Word, Poly, Poly] | None:
        """(max, T, 1) for x -> max(x, T), and alike for min."""
        if fn.sole_atom(end) == own:
            return "sum", ZERO, ONE
        for word in ("max", "min"):
            rest = self._taken(word, own, end)
            if rest is not None and own.name not in rest.free:
                return word, rest, ONE
        return None

    def _taken(self, word: Literal["max", "min"], own: State, end: Poly) -> Poly | None:
        """T with end = max(x, T); where a selection keeps x, T is the least there is."""

        def taken(args: Sequence[Poly]) -> Poly:
            single = fn.sole_atom(args[0])
            if single == own:
                return fn.extremum(word, ())
            if isinstance(single, Extremum) and single.word == word and atom(own) in single.args:
                return fn.extremum(word, [a for a in single.args if a != atom(own)])
            raise Undenoted("a step that is no maximum")

        try:
            return fn.split(taken, (end,))
        except Undenoted:
            return None

    def states_in(self, p: Poly) -> list[str]:
        return [n for n in p.free if n[0] in "~^" and n[1:].startswith(f"{self.number}.")]

    def _without_states(self, step: Poly) -> Poly | None:
        """The step with other, solved, carried values replaced by what the iterations before have made."""
        used = self.states_in(step)
        if not used:
            return step
        if any(int(n.split(".")[1]) not in self.solved for n in used) or len(self.loop.variables) != 1:
            return None
        now = ix.index(self.loop.variables[0])

        def states(state: State) -> Poly | None:
            if state.loop != self.number:
                return None
            return self.closed(state.which, state.place, now + self.steps[0] if state.ended else now, self.inner)

        return Rewriting({}, states, self.inner).poly(step)

    # Closed forms ------------------------------------------------------------------------------

    def closed(self, which: int, place: Place, end: Index | None, known: Known) -> Poly:
        """The carried value before the iteration that begins at `end` (None: after the loop).

        One that has no closed form is an unknown function of its place, the iteration and the loops around: where it
        only stabilises it cancels. Raises Undenoted.
        """
        solved = self.solved.get(which)
        if solved is None:
            return self._unknown(which, place, end)
        if end is not None and len(self.loop.variables) != 1:
            raise Undenoted(f"a value in the middle of the nested loop on line {self.loop.origin.span.line}")
        from kernelagent.dsl.verify.semantics.kernel import Made

        key = (which, end, known)
        if key not in self._closed:
            self._closed[key] = self._generic(solved, end, known)
            line = self.loop.carried[which].end.origin.span.line
            self.meaning.history.append(Made(line, self._closed[key]))
        moved = dict(zip(solved.axes, place, strict=True))
        return Rewriting(moved, None, known).poly(self._closed[key])

    def _unknown(self, which: int, place: Place, end: Index | None) -> Poly:
        carried = self.loop.carried[which]
        around = [ix.index(v) for loop in self.around for v in loop.variables]
        args = [from_index(i) for i in (*place, *around, *(() if end is None else (end,)))]
        name, line = carried.inside.name or "a value", carried.end.origin.span.line
        return atom(Call(f"{UNKNOWN}{name}, carried on line {line}", tuple(args)))

    def _generic(self, solved: Solved, end: Index | None, known: Known) -> Poly:
        folded = self.fold(solved.word, solved.step, end, known) if solved.step.terms else None
        if solved.word in ("max", "min"):
            return solved.initial if folded is None else fn.extremum(solved.word, (solved.initial, folded))
        if solved.word == "prod":
            return solved.initial * (folded if folded is not None else ONE)
        total = folded if folded is not None else ZERO
        if solved.initial.terms:
            total = total + solved.initial * self._at(solved.weight, "start", solved.cut, known)
        if solved.shift.terms:
            total = total + self._at(solved.shift, "start", solved.cut, known)
            total = total - self._at(solved.shift, end, solved.cut, known)
        if solved.logarithm:
            return fn.log(total)
        if solved.weight == ONE:
            return total
        return total * fn.power(self._at(solved.weight, end, solved.cut, known), Fraction(-1))

    def _at(self, weight: Poly, end: Index | str | None, cut: bool, known: Known) -> Poly:
        """A weight or shift before the loop ("start"), before the iteration at `end`, or after the loop (None)."""

        def states(state: State) -> Poly | None:
            if state.loop != self.number:
                return None
            if isinstance(end, str):
                initial = self.initial(state.which, axes := tuple(fresh() for _ in state.place))
                return Rewriting(dict(zip(axes, state.place, strict=True)), None, known).poly(initial)
            return self.closed(state.which, state.place, end, known)

        at: dict[str, Index] = {}
        if len(self.loop.variables) == 1:
            last = (
                (self.loop.hi[0] if cut else self._cover(0))
                if end is None
                else self.loop.lo[0]
                if isinstance(end, str)
                else end
            )
            at[self.loop.variables[0].name] = last
        return Rewriting(at, states, known).poly(weight)

    # Folding over iterations -------------------------------------------------------------------

    def _cover(self, axis: int) -> Index:
        """Where the last tile ends, uncut."""
        lo, hi, step = self.loop.lo[axis], self.loop.hi[axis], self.loop.step[axis]
        return lo + step * ix.cdiv(hi - lo, step)

    def fold(self, word: Word, step: Poly, end: Index | None, known: Known) -> Poly:
        """The reduction of `step` over the iterations before `end`, or over all."""
        result = step
        for axis in reversed(range(len(self.loop.variables))):
            name, lo = self.loop.variables[axis].name, self.loop.lo[axis]
            inner = known
            for outer_axis in range(axis):
                variable = self.loop.variables[outer_axis]
                inner = inner.counting(variable.name, self.loop.lo[outer_axis], self.loop.hi[outer_axis])
            running = Running(name, lo, self.loop.hi[axis], self.steps[axis], end or self._cover(axis), end is not None)
            result = fold_axis(word, running, result, inner)
        return result


@dataclass(frozen=True)
class Running:
    """A loop variable: lo, lo + step, ... below hi. `cover` is where the last tile ends; `partial`: hi is `cover`."""

    name: str
    lo: Index
    hi: Index
    step: int
    cover: Index
    partial: bool

    @property
    def symbol(self) -> Index:
        return ix.symbol(self.name, "loop")


def fold_axis(word: Word, running: Running, body: Poly, known: Known) -> Poly:
    """The reduction of `body` over the values of one loop variable."""
    if running.step == 1:
        return _one_by_one(word, running, body, known)
    if word == "sum":
        total = ZERO
        for mono, coefficient in body.terms:
            total = total + _sum_tiles(running, mono, known).scaled(coefficient)
        return total
    joined = _extreme_tiles(word, running, body, known) if word in ("max", "min") else None
    return joined if joined is not None else _one_by_one(word, running, body, known)


def _one_by_one(word: Word, running: Running, body: Poly, known: Known) -> Poly:
    """A binder that counts iterations."""
    name = fresh()
    count = ix.floordiv(running.cover - running.lo, ix.index(running.step))
    binder = Binder(name, (ix.index(0),), (known.tidy(count),))
    moved = Rewriting({running.name: running.lo + binder.symbol * running.step}, None, known).poly(body)
    return reduction(word, binder, moved, known)


def _sum_tiles(running: Running, mono: Mono, known: Known) -> Poly:
    outer, inner = parted(mono, running.name)
    sums = [(a, e) for a, e in inner.factors if isinstance(a, Reduction) and a.word == "sum"]
    if not sums and len(inner.factors) == 1 and inner.exponent is None and inner.factors[0][1] == 1:
        joined = _joined_lengths(running, inner.factors[0][0], known)
        if joined is not None:
            return outer * joined
    if len(sums) == 1 and sums[0][1] == 1:
        (found, _) = sums[0]
        assert isinstance(found, Reduction)
        others = Mono(((a, e) for a, e in inner.factors if a != found), inner.exponent)
        binders, body = opened(found, known)
        joined = _joined("sum", running, binders, Poly({others: Fraction(1)}) * body, known)
        if joined is not None:
            return outer * joined
    return outer * _one_by_one("sum", running, Poly({inner: Fraction(1)}), known)


def _joined_lengths(running: Running, length: Atom, known: Known) -> Poly | None:
    """The sum of min(step, hi - j), the lengths of the tiles."""
    if not isinstance(length, Whole) or not isinstance(length.atom, ix.Extremum) or length.atom.which != "min":
        return None
    tile = Binder(fresh(), (ix.index(0),), (length.atom.a, length.atom.b))
    return _joined("sum", running, (tile,), ONE, known)


def _extreme_tiles(word: Word, running: Running, body: Poly, known: Known) -> Poly | None:
    """Maximum over tiles of c * (maximum over a tile) + d, for c > 0 and d alike in all tiles."""
    shift = Poly({m: c for m, c in body.terms if running.name not in m.free})
    rest = body - shift
    if len(rest.terms) != 1 or rest.terms[0][1] <= 0:
        return None
    single = fn.sole_atom(rest.scaled(1 / rest.terms[0][1]))
    if not isinstance(single, Reduction) or single.word != word:
        return None
    binders, inner = opened(single, known)
    joined = _joined(word, running, binders, inner, known)
    return None if joined is None else joined.scaled(rest.terms[0][1]) + shift


def _joined(word: Word, running: Running, binders: tuple[Binder, ...], body: Poly, known: Known) -> Poly | None:
    """One range for the tiles [j, j + step) that the loop runs over; None where the ranges are no such tiles."""
    tiled = [b for b in binders if running.name in b.names()]
    if len(tiled) != 1:
        return None
    (tile,) = tiled
    name = fresh()
    moved = Rewriting({tile.name: ix.symbol(name, "loop") - running.symbol}, None, known).poly(body)
    if running.name in moved.free:
        return None
    joined = _range(running, tile, known)
    if joined is None:
        return None
    result = reduction(word, Binder(name, *joined), moved, known)
    for binder in reversed([b for b in binders if b is not tile]):
        result = reduction(word, binder, result, known)
    return result


def _range(running: Running, tile: Binder, known: Known) -> tuple[tuple[Index, ...], tuple[Index, ...]] | None:
    """Bounds of the joined range, from those of one tile."""
    lo = known.prune("max", (known.tidy(i + running.symbol) for i in tile.lo))
    hi = known.prune("min", (known.tidy(i + running.symbol) for i in tile.hi))
    low_moving, low_fixed = _by_name(lo, running.name)
    high_moving, high_fixed = _by_name(hi, running.name)
    if low_moving != [running.symbol] or high_moving != [running.symbol + running.step]:
        return None
    return (running.lo, *low_fixed), (*high_fixed, known.tidy(running.cover))


def _by_name(bounds: Iterable[Index], name: str) -> tuple[list[Index], list[Index]]:
    listed = list(bounds)
    return [i for i in listed if name in names(i)], [i for i in listed if name not in names(i)]
