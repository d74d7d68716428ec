"""The quotient: two states with the same key go on alike, so that a search over any number of steps comes to an end.

Only what a later step can see is in a key. Counters are kept modulo their period (a multiple of twice the stages),
phases by parity and distance, a long loop's way by multiples of its period once every comparison with a number is
decided, and a clock by its order among the events that some later check may ask for. Rings that can be turned are
turned until their counters are zero (`protocol_turning`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernelagent.dsl.verify.schedule.protocol_state import (
    LASTING,
    Fill,
    Frame,
    Question,
    Reading,
    Ring,
    State,
    Warp,
)  # fmt: skip
from kernelagent.dsl.verify.schedule.protocol_turning import Turning

FAR = 3
"""A phase that lies so far back is never waited for again: the wait would be refuted."""


@dataclass(frozen=True)
class Folding:
    """Counters (by name) are alike modulo their `periods`, above their number in `counters`; a loop's way modulo `way`
    elements beyond `reach`. `ahead[a][pc]`: where loops of unknown length begin to which agent a may come from pc."""

    periods: Mapping[str, int]
    way: int
    reach: int
    counters: Mapping[str, int]
    ahead: tuple[tuple[frozenset[int], ...], ...]
    turns: tuple[frozenset[int], ...]
    """Where each agent's walks over tiles begin."""
    counting: tuple[int, ...]
    """Where each agent's last loop, branch, stage or parity is that depends on a counter."""
    turning: Turning


Known = Callable[[Sequence[int]], tuple[int, ...]]


class Keys:
    """Keys of states as short tuples of numbers: warps, stages and contents are numbered as they are met."""

    def __init__(self, folding: Folding) -> None:
        self.folding = folding
        self.numbers: dict[object, int] = {}

    def of(self, state: State) -> tuple[int, ...]:
        numbers = self.numbers
        return tuple([numbers.setdefault(part, len(numbers)) for part in parts(state, self.folding)])


def parts(state: State, folding: Folding) -> Iterator[object]:
    """What a later step can see of a state: always the same number of parts in the same order."""
    epoch = state.turn
    moved = {q: _moved(state, q, folding) for q in state.answers}
    turned = folding.turning.of(state)
    times = _live_times(state)
    agents = len(state.warps)
    phases = [(agents + n, state.rings[n].count) for n in turned.order]

    def known(clock: Sequence[int]) -> tuple[int, ...]:
        ranks = [bisect_right(of, at) for of, at in zip(times, clock, strict=False)]
        return (*ranks, *[min(count - clock[n], FAR) for n, count in phases])

    def rank(agent: int, time: int) -> int:
        return bisect_right(times[agent], time)

    for w, counting in zip(state.warps, folding.counting, strict=True):
        yield _warp(w, known(w.clock), moved, folding, turned.by, epoch, w.pc <= counting)
    for n in turned.order:
        yield _ring(state.rings[n], turned.wraps[n], known, rank)
    yield frozenset(
        [
            (
                turned.place(p),
                turned.rings[f.ring],
                min(state.rings[f.ring].count - f.phase, FAR),
                max(f.epoch - epoch, -1),
            )
            for p, f in state.fills.items()
        ]
    )
    yield frozenset(
        [
            (turned.place(p), g, _age(state, r), _ranked(r.ends, rank))
            for p, found in state.reads.items()
            for g, r in found.items()
        ]
    )
    yield frozenset([_answer(q, a, moved[q], folding, epoch) for q, a in state.answers.items()])
    yield frozenset([(where, rank(where[1], t)) for where, (t, _) in state.remote.items()])
    yield state.gone


def _warp(
    w: Warp,
    known: tuple[int, ...],
    moved: Mapping[Question, int | None],
    folding: Folding,
    turned: Mapping[str, int],
    epoch: int,
    counts: bool,
) -> object:
    if w.ended:
        return known
    if not w.walking and not counts:
        return known, w.pc, w.meeting is not None
    counters = tuple(
        (w.env.get(name, 0) - turned[name]) % folding.periods[name]
        if name in turned
        else _counted(w.env.get(name, 0), least, folding.periods[name])
        for name, least in folding.counters.items()
    )
    if not w.walking:
        return known, w.pc, counters, w.meeting is not None
    frames = tuple(_frame(f, moved) for f in w.frames)
    return known, w.pc, w.epoch - epoch, counters, frames, w.meeting is not None


def _counted(value: int, least: int, period: int) -> int:
    return value if value < least else least + (value - least) % period


def _frame(frame: Frame, moved: Mapping[Question, int | None]) -> object:
    if frame.tiles is not None or frame.asked is None:
        return frame.head, frame.turn
    if frame.asked[2] < 0:
        return (frame.head,)
    return frame.head, frame.threshold - (moved.get(frame.asked) or 0)


def _ring(r: Ring, wrap: int, known: Known, rank: Callable[[int, int], int]) -> object:
    init = (r.maker, rank(r.maker, r.made), r.fenced and rank(r.maker, r.fenced) + 1) if r.maker >= 0 else ()
    into = None if r.into is None else known(r.into)
    done = tuple([(known(d.clock), _ranked(d.came, rank)) for d in r.done])
    waits = frozenset([(a, r.count - x.phase, rank(a, x.time)) for a, x in r.waits.items()]) if r.waits else _NONE
    came = _ranked(r.came, rank)
    heard = _ranked(tuple(r.heard.items()), rank)
    loose = r.loose is not None
    return init, (r.count + wrap) & 1, r.pending, r.expected, r.issued, into, came, done, waits, heard, loose


_NONE: frozenset[tuple[int, ...]] = frozenset()


def _ranked(events: tuple[tuple[int, int], ...], rank: Callable[[int, int], int]) -> frozenset[tuple[int, ...]]:
    return frozenset([(a, rank(a, t)) for a, t in events]) if events else _NONE


def _filled(state: State, fill: Fill, epoch: int) -> tuple[int, int]:
    """How far back its phase and its tile lie."""
    return min(state.rings[fill.ring].count - fill.phase, FAR), max(fill.epoch - epoch, -1)


def _age(state: State, reading: Reading) -> int:
    """How many groups of products the reading warp has closed since; -1 for reads that are over at once."""
    return -1 if reading.serial < 0 else state.warps[reading.agent].committed - reading.serial


# Loops ------------------------------------------------------------------------------------------------


def _moved(state: State, question: Question, folding: Folding) -> int | None:
    """By how much all ways that ask this question can be moved back; None when no way asks it any more."""
    if question[2] < 0 or question[0] == LASTING:
        return 0
    ways: list[int] = []
    for agent, w in enumerate(state.warps):
        if not w.walking or w.epoch > question[0]:
            continue
        if w.epoch < question[0]:
            return 0
        inside = {f.head for f in w.frames}
        if w.pc not in folding.turns[agent] and not folding.ahead[agent][w.pc] <= inside:
            return 0
        ways += [f.threshold for f in w.frames if f.asked == question]
    if not ways:
        return None
    return max(0, (min(ways) - folding.reach) // folding.way) * folding.way


def _answer(
    question: Question, answer: tuple[int, int | None], moved: int | None, folding: Folding, epoch: int
) -> object:
    lo, hi = answer
    most = folding.reach
    if question[0] == LASTING:
        return question, lo, hi
    if moved is None:
        return question[0] - epoch, *question[1:], min(lo, most), hi if hi is not None and hi < most else None
    return question[0] - epoch, *question[1:], lo - moved, None if hi is None else hi - moved


def _live_times(state: State) -> list[list[int]]:
    """For each agent the times of its events that some check may still ask for; of several between which nobody's
    knowledge ends, the first."""
    agents = len(state.warps)
    found: list[set[int]] = [set() for _ in range(agents)]
    for r in state.rings:
        if r.maker >= 0:
            found[r.maker] |= {r.made, r.fenced}
        for agent, waited in r.waits.items():
            found[agent].add(waited.time)
        for agent, time in r.heard.items():
            found[agent].add(time)
        for agent, time in (*r.came, *(x for d in r.done for x in d.came)):
            found[agent].add(time)
    for readings in state.reads.values():
        for reading in readings.values():
            for agent, time in reading.ends:
                found[agent].add(time)
    for (_, agent), (time, _) in state.remote.items():
        found[agent].add(time)
    clocks = [w.clock for w in state.warps]
    carried = [c for r in state.rings for c in (r.into, *(d.clock for d in r.done)) if c is not None]
    return [_apart(sorted(x), {c[a] for c in (*clocks, *carried)}) for a, x in enumerate(found)]


def _apart(times: list[int], known: set[int]) -> list[int]:
    ends = sorted(known)
    kept: list[int] = []
    for t in times:
        if not kept or bisect_left(ends, kept[-1]) != bisect_left(ends, t):
            kept.append(t)
    return kept


__all__ = ["Folding", "Keys"]
