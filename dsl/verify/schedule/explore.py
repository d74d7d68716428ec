"""The search: every trip count and number of tiles, one order of the warps.

Why one order is enough. Warps run straight-line code between loop ends and branches, which ask only about sizes, so
all orders of one run do the same events. Let E be the run that is followed, with its order "lies before": program
order, what a wait learns from the phase that it waits for, what a meeting learns. The checks of `protocol_steps` say,
for every arrival, copy and wait of E: (a) the phase before the one it belongs to lies before it; (b) the phase behind
the one that a wait is for ends behind the wait; (c) a phase takes exactly its arrivals and bytes. Claim: in any other
order, what has happened at each moment is a set D of events of E that holds with an event all that lies before it.
Take the next event e of a warp. An arrival: by (a) the phase before is complete in D; the own one is not, by (c), as e
is missing; so it counts where it counts in E. A wait for phase n: by (a) and (b) the barrier is in phase n or n + 1, so
the parity tells the two apart, and it passes if and only if all of phase n is in D. A copy: as an arrival, and its
bytes complete the phase at some time behind; when does not matter, as no check asks about the moment. So D with e is
such a set again. And no order gets stuck: the first event of E that is missing in D has all that lies before it in D,
so it can happen. What is checked about order (a stage filled behind its last read, read behind its fill) therefore
holds in every order, and one fill-complete event for each stage and block is all that the model needs. An arrival that
breaks (a) or (c) is left out where all waits for its barrier lie before it (`loosen`): nobody can see where it counts.

Why it ends. The run branches only where a loop's end or a condition asks whether a sum of sizes is above a threshold
(`trips`). Both answers are followed, each answer serves all warps, and states that no later step can tell apart
(`protocol_keys`) are followed once. When nothing is left, the checks hold for every trip count and number of tiles.
What is asked of sizes alone has one answer for all tiles up to a threshold (`Folding.reach`); above it each tile is
asked anew, since to remember long trip counts exactly would have no end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm
from typing import NamedTuple

from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Element, Index, ReadElement, index
from kernelagent.dsl.verify.schedule.budget import Exhausted, spend
from kernelagent.dsl.verify.schedule.events import Violation, history, line, name, who
from kernelagent.dsl.verify.schedule.extents import extents_of
from kernelagent.dsl.verify.schedule.protocol_keys import Folding, Keys
from kernelagent.dsl.verify.schedule.protocol_state import LASTING, Frame, Question, State, Warp
from kernelagent.dsl.verify.schedule.protocol_steps import Steps, turn_of
from kernelagent.dsl.verify.schedule.protocol_turning import Turning
from kernelagent.dsl.verify.schedule.skeleton import (
    Agent,
    Announce,
    Do,
    Event,
    Head,
    Instruction,
    Jump,
    Loop,
    Next,
    Read,
    Skeleton,
    Test,
    Unsupported,
)  # fmt: skip
from kernelagent.dsl.verify.schedule.trips import cap, compared, constants, decided, shift
from kernelagent.dsl.verify.schedule.values import Values
from kernelagent.dsl.walks import tile_counts, tiles

MOST_STATES = 200_000
STATE = 10
"""Work for what is kept and compared of one state, in steps of a warp up to the end of an iteration."""
MOST_PERIOD = 512
MORE_TILES = -1
"""The base of the question whether a walk goes on."""


class Asked(Exception):
    """A question that the run has no answer for yet."""

    def __init__(self, question: Question, threshold: int) -> None:
        super().__init__(question, threshold)
        self.question, self.threshold = question, threshold


class OutOfBudget(Exception):
    """The search did not close within its states or its work."""


@dataclass(frozen=True)
class Explored:
    """`states` in which a question was open (a run without any: 1). `refuted`: what was found first. `within`: dims
    that the run took to be above one number and at most another (None: any), `tiles` how many it took at most."""

    states: int
    refuted: Violation | None
    within: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    tiles: int = 1


class Base(NamedTuple):
    """What sizes are asked about. `own`: blocks of a cluster differ in it; `lasts`: it is the same for all tiles;
    `multiple` divides it, and it is `least` at least, if that is known."""

    number: int
    own: bool
    lasts: bool
    multiple: int
    least: int | None


@dataclass(frozen=True)
class Sizes:
    """One launch: all dims and scalars. Blocks that take one tile each take number `tile`; others take all of them."""

    values: Mapping[str, int]
    tile: int = 0
    read: ReadElement | None = None


class Explorer:
    """Runs of one skeleton: over all sizes, or for one launch."""

    def __init__(self, skeleton: Skeleton, sizes: Sizes | None = None) -> None:
        self.skeleton = skeleton
        self.sizes = sizes
        self.values = Values(sizes.values if sizes else {}, sizes.read if sizes else None)
        self.steps = Steps(skeleton, self.values)
        self.bases: dict[Index, Base] = {}
        self.extents = extents_of(skeleton.kernel)
        self.most = 0
        self.differing = _differing(skeleton.kernel)
        self.states = 0

    # Runs --------------------------------------------------------------------------------------------

    def search(self, most_states: int = MOST_STATES) -> Explored:
        """Every answer to every question, the shortest runs first. Raises Unsupported, OutOfBudget."""
        try:
            return self._search(most_states)
        except Exhausted:
            raise OutOfBudget(f"{self.states} states are not all") from None

    def _search(self, most_states: int) -> Explored:
        keys = None
        if self.sizes is None:
            folded = folding(self.skeleton)
            keys, self.most = Keys(folded), folded.reach
        queue = deque([self.start()])
        seen: set[tuple[int, ...]] = set()
        while queue:
            state = queue.popleft()
            self.states += 1
            spend(STATE)
            if self.states > most_states:
                raise OutOfBudget(f"{self.states} states are not all")
            try:
                self.run(state)
            except Violation as found:
                return Explored(self.states, found, self.asked(state), max(w.epoch for w in state.warps))
            except Asked as open_:
                if keys is None:
                    raise Unsupported("a loop's end is not known for these sizes") from None
                state.forget([self.asks_from(a, w) for a, w in zip(self.skeleton.agents, state.warps, strict=True)])
                self.steps.forget(state)
                mark = keys.of(state)
                if mark in seen:
                    continue
                seen.add(mark)
                queue += _answered(state, open_)
        return Explored(self.states, None)

    def asks_from(self, agent: Agent, w: Warp) -> int:
        """The first turn of the grids about whose sizes the warp may still ask."""
        if not w.walking:
            return 1 << 60
        at = w.pc
        while at < len(agent.code):
            match agent.code[at]:
                case Head(loop) if loop.tiles:
                    return w.epoch + 1
                case Test() | Head():
                    return w.epoch
                case Next() as back:
                    return w.epoch + self.ends_turn(agent, back)
                case Jump(to):
                    at = to
                case _:
                    at += 1
        return w.epoch + 1

    def ends_turn(self, agent: Agent, instruction: Next) -> bool:
        head = agent.code[instruction.head]
        return isinstance(head, Head) and head.loop.tiles

    def start(self) -> State:
        state = self.steps.start()
        for agent, w in zip(self.skeleton.agents, state.warps, strict=True):
            loops = (i.loop for i in agent.code if isinstance(i, Head))
            w.env.update({c.name: 0 for loop in loops for c in loop.counters})
            w.walking = any(isinstance(i, Head) for i in agent.code)
        return state

    def run(self, state: State) -> None:
        """Let the warps run until all have ended. Raises Violation, or Asked when no warp gets on without an answer:
        at such points few states differ."""
        open_: dict[int, Asked] = {}
        while (agent := self.next(state, open_)) is not None:
            spend()
            try:
                self.go(state, agent)
            except Asked as asked:
                open_[agent.number] = asked
        if open_:
            raise min(open_.values(), key=lambda a: a.question)
        if not all(w.ended for w in state.warps):
            raise self.deadlock(state)

    def next(self, state: State, open_: Mapping[int, Asked]) -> Agent | None:
        """The warp that can go on and has come least far."""
        best: Agent | None = None
        for agent, w in zip(self.skeleton.agents, state.warps, strict=True):
            if w.ended or agent.number in open_ or self.blocked(state, w):
                continue
            if best is None or w.turns < state.warps[best.number].turns:
                best = agent
        return best

    def blocked(self, state: State, w: Warp) -> bool:
        if w.behind is not None:
            place, count = w.behind
            return state.rings[self.steps.numbers[place]].count == count
        return w.meeting is not None

    def go(self, state: State, agent: Agent) -> None:
        """Up to the end of an iteration, or as far as the warp gets."""
        w = state.warps[agent.number]
        while w.pc < len(agent.code):
            match agent.code[w.pc]:
                case Do(event, leader):
                    if (not leader or agent.leader) and not self.steps.act(state, agent, event):
                        return
                    w.pc += 1
                    if w.meeting is not None:
                        return
                case Head(loop, out):
                    self.head(state, agent, loop, out)
                case Next(head):
                    self.again(w, agent, head)
                    return
                case Test(condition, otherwise):
                    ask = self.asker(state, agent, None)
                    w.pc = w.pc + 1 if self.values.truth(condition, w.env, w.ways, ask) else otherwise
                case Jump(to):
                    w.pc = to
        self.steps.leave(state, agent)

    # Loops -------------------------------------------------------------------------------------------

    def head(self, state: State, agent: Agent, loop: Loop, out: int) -> None:
        """Into the body, or out behind the loop."""
        w = state.warps[agent.number]
        if not w.frames or w.frames[-1].head != w.pc:
            w.frames.append(Frame(w.pc, 0, None, 0, self.tiles(w, agent, loop)))
        frame = w.frames[-1]
        if self.goes_on(state, agent, loop, frame):
            self.enter(w, loop, w.frames[-1])
            w.pc += 1
        else:
            w.frames.pop()
            w.walking = bool(w.frames) or any(isinstance(i, Head) for i in agent.code[out:])
            if loop.variable is not None:
                w.env.pop(loop.variable.name, None)
                w.ways.pop(loop.variable.name, None)
            w.pc = out
        w.turns += 1
        w.epoch += loop.tiles

    def tiles(self, w: Warp, agent: Agent, loop: Loop) -> tuple[dict[str, int], ...] | None:
        """The tiles of a launch with known sizes."""
        if loop.grid is None or self.sizes is None:
            return None
        env = {**self.sizes.values, **w.env}
        cluster = self.skeleton.kernel.cluster
        counts = tile_counts(loop.grid, env, self.sizes.read)
        found = list(tiles(loop.grid, counts, env, agent.block, cluster, self.sizes.read))
        if loop.single:
            found = found[self.sizes.tile or 0 :][:1]
        return tuple(found)

    def goes_on(self, state: State, agent: Agent, loop: Loop, frame: Frame) -> bool:
        if frame.tiles is not None:
            return frame.turn < len(frame.tiles)
        if loop.single:
            return frame.turn == 0
        w = state.warps[agent.number]
        if loop.room is None or (loop.tiles and self.sizes is None):
            question = (w.epoch, -1, MORE_TILES)
            going = answer(state, question, 0)
            w.frames[-1] = frame._replace(asked=question)
            return going
        room = self.values.reduced(loop.room, w.env, w.ways)
        return decided(self.values.beyond(room, frame.turn * loop.step), self.asker(state, agent, frame))

    def asker(self, state: State, agent: Agent, frame: Frame | None) -> Callable[[Index, int], bool]:
        """Answers questions about sizes; those of a loop's end are noted in its frame."""
        w = state.warps[agent.number]

        def ask(base: Index, threshold: int) -> bool:
            known = self.base(base)
            question = (w.epoch, agent.block if known.own else -1, known.number)
            threshold -= threshold % known.multiple
            found = (known.least is not None and known.least > threshold) or self.above(
                state, known, question, threshold
            )
            if frame is not None:
                w.frames[-1] = w.frames[-1]._replace(asked=question, threshold=threshold)
            return found

        return ask

    def above(self, state: State, base: Base, question: Question, threshold: int) -> bool:
        """Whether a base is above a threshold: of all tiles first, above what lasts of this one."""
        if not base.lasts:
            return answer(state, question, threshold)
        if not answer(state, (LASTING, -1, base.number), min(threshold, self.most)):
            return False
        return threshold <= self.most or answer(state, question, threshold)

    def asked(self, state: State) -> dict[str, tuple[int, int | None]]:
        """What a run has answered about single dims, for all tiles or for its last one."""
        names = {
            b.number: next(iter(x.symbols())).name
            for x, b in self.bases.items()
            if len(x.symbols()) == 1 and x == index(next(iter(x.symbols())))
        }
        found = sorted((q, a) for q, a in state.answers.items() if q[2] in names)
        return {names[q[2]]: a for q, a in found}

    def base(self, base: Index) -> Base:
        found = self.bases.get(base)
        if found is None:
            symbols, data = base.symbols(), any(isinstance(a, Element) for a in base.atoms())
            own = any(s.name in self.differing for s in symbols)
            lasts = not data and all(s.kind in ("dim", "param") for s in symbols)
            multiple, least = self.extents.multiple(base), self.extents.least(base)
            found = self.bases[base] = Base(len(self.bases), own, lasts, multiple, least)
        return found

    def enter(self, w: Warp, loop: Loop, frame: Frame) -> None:
        if frame.tiles is not None:
            w.env.update(frame.tiles[frame.turn])
        elif loop.variable is not None and (not loop.tiles or self.sizes is not None):
            first = self.values.reduced(loop.lo, w.env, w.ways)
            at = first + frame.turn * loop.step
            if at.constant is not None:
                w.env[loop.variable.name] = at.constant
            else:
                w.ways[loop.variable.name] = at

    def again(self, w: Warp, agent: Agent, head: int) -> None:
        instruction = agent.code[head]
        assert isinstance(instruction, Head)
        for counter in instruction.loop.counters:
            w.env[counter.name] = w.env.get(counter.name, 0) + 1
        w.frames[-1] = w.frames[-1]._replace(turn=w.frames[-1].turn + 1)
        w.pc = head

    # Deadlock ----------------------------------------------------------------------------------------

    def deadlock(self, state: State) -> Violation:
        """Who waits, for what, and what is missing; the first warp that waits for a phase is named."""
        blocks = self.skeleton.blocks
        stuck = [(a, w) for a, w in zip(self.skeleton.agents, state.warps, strict=True) if not w.ended]
        waits = [x for x in stuck if x[1].behind is not None]
        agent, w = (waits or stuck)[0]
        parts = tuple(dict.fromkeys(self.missing(state, a, x) for a, x in stuck if a.leader or (a, x) == (agent, w)))
        event = self.waits_at(agent, w)
        other = next((self.waits_at(a, x) for a, x in waits if a.role != agent.role), None)
        place, phase = w.behind or (None, -2)
        together = [max(x.clock[k] for x in state.warps) for k in range(len(w.clock))]
        steps = history(state.steps, together, frozenset(x.behind[0] for _, x in waits if x.behind is not None))
        message = f"`{who(agent, blocks)}` waits for ever"
        return Violation(
            "deadlock", message, "; ".join(parts), event, agent.number, place, phase, turn_of(w), other,
            "every wait ends", "no warp can go on", steps,
        )  # fmt: skip

    def waits_at(self, agent: Agent, w: Warp) -> Event:
        instruction = agent.code[w.pc - (w.meeting is not None)]
        assert isinstance(instruction, Do)
        return instruction.event

    def missing(self, state: State, agent: Agent, w: Warp) -> str:
        """`consumer waits (line 9) for phase 0 of full[0]: 0 of 1 arrivals, 32768 of 32768 bytes are missing`."""
        begin = f"`{who(agent, self.skeleton.blocks)}` waits (line {line(self.waits_at(agent, w))}) for"
        if w.behind is None:
            return f"{begin} the others of its {w.meeting[1] if w.meeting else 'block'}"
        place, phase = w.behind
        number = self.steps.numbers[place]
        ring, wanted = state.rings[number], self.steps.arrivals[number]
        lack = ring.expected - ring.issued
        missing = f", {lack} of {ring.expected} bytes are missing" if lack > 0 else ""
        return f"{begin} phase {phase} of {name(place)}: {ring.pending} of {wanted} arrivals{missing}"


def answer(state: State, question: Question, threshold: int) -> bool:
    """Whether the base is above the threshold, as far as the run has decided. Raises Asked."""
    lo, hi = state.answers.get(question, (-(1 << 60), None))
    if lo >= threshold:
        return True
    if hi is not None and hi <= threshold:
        return False
    raise Asked(question, threshold)


def _answered(state: State, open_: Asked) -> Iterator[State]:
    """Both answers: the end first, so that short runs come first."""
    lo, hi = state.answers.get(open_.question, (-(1 << 60), None))
    ends = state.copy()
    ends.answers[open_.question] = (lo, open_.threshold)
    yield ends
    state.answers[open_.question] = (open_.threshold, hi)
    yield state


def _differing(kernel: dev.DeviceKernel) -> frozenset[str]:
    """Grid variables in which the blocks of a cluster differ: those along which their tiles follow each other."""
    if kernel.cluster == 1:
        return frozenset()
    found: set[str] = set()
    for grid in (kernel.grid, *(r.grid for r in kernel.roles)):
        along = [v.name for v, n in zip(grid.variables[-2:], grid.together, strict=False) if n > 1]
        found |= set(along if grid.together != (1, 1) else (v.name for v in grid.variables))
    return frozenset(found)


# Folding ----------------------------------------------------------------------------------------------


def folding(skeleton: Skeleton) -> Folding:
    """The periods of a skeleton. Raises Unsupported where stages or parities have none."""
    code = [i for a in skeleton.agents for i in a.code]
    loops = [i.loop for i in code if isinstance(i, Head)]
    counters = sorted({c.name for x in loops for c in x.counters})
    inner = {x.variable.name: x.step for x in loops if x.variable is not None and not x.tiles}
    numbers = [x for i in code if isinstance(i, Do) for x in _indices(i.event)]
    asked = [d for i in code if isinstance(i, Test) for d in compared(i.condition)]
    period = _period(numbers, asked, [{n: 1} for n in counters])
    ways = [s * _period(numbers, asked, [{n: s}]) for n, s in inner.items()]
    rooms = [x.room for x in loops if x.room is not None]
    lows = [x.lo for x in loops]
    most = max((c for x in (*asked, *rooms, *lows) for c in constants(x)), default=1)
    most = max(most, *(cap(x) or 0 for x in rooms)) if rooms else most
    steps = [abs(s) for s in inner.values()] or [1]
    deepest = max((b.stages for b in skeleton.kernel.barriers), default=1)
    reach = 2 * most + max(2, deepest) * max(steps)  # beyond it, no role is more than one tile ahead of another
    periods = {n: _period(numbers, asked, [{n: 1}]) for n in counters}
    growing = {n for n in counters if any(shift(d, {n: periods[n]}) != 0 for d in asked)}
    used = {s.name for x in (*numbers, *asked) for s in x.symbols()}
    least = {n: reach if n in growing else 0 for n in counters if n in used}
    ahead = tuple(_ahead(a.code) for a in skeleton.agents)
    turns = tuple(
        frozenset(at for at, i in enumerate(a.code) if isinstance(i, Head) and i.loop.tiles) for a in skeleton.agents
    )
    turning = Turning(skeleton, period, (*asked, *rooms, *lows))
    counting = tuple(_last_counting(a.code, frozenset(counters)) for a in skeleton.agents)
    return Folding(periods, lcm(*ways), reach, least, ahead, turns, counting, turning)


def _period(numbers: list[Index], asked: list[Index], steps: list[dict[str, int]]) -> int:
    """The smallest number of steps after which all stages and parities repeat, and comparisons move by a fixed
    amount: their outcome is then fixed beyond the reach."""
    for period in range(1, MOST_PERIOD + 1):
        each = [{n: period * s for n, s in step.items()} for step in steps]
        if all(shift(x, e) == 0 for x in numbers for e in each) and all(
            shift(d, e) is not None for d in asked for e in each
        ):
            return period
    raise Unsupported(f"stages and parities do not repeat within {MOST_PERIOD} iterations")


def _indices(event: object) -> Iterator[Index]:
    match event:
        case Announce(expect):
            yield expect.stage
        case dev.Arrive(stage=stage) | Read(stage=stage):
            yield stage
        case dev.WaitPhase(stage=stage, parity=parity):
            yield stage
            yield parity
        case dev.CopyBulk(stage=stage, target=target):
            yield stage
            yield target.stage
        case _:
            pass


def _last_counting(code: Sequence[Instruction], counters: frozenset[str]) -> int:
    """The last instruction that asks for a counter; a loop asks for what its bounds hold. -1: none."""
    found = -1
    for at, instruction in enumerate(code):
        match instruction:
            case Do(event):
                asked = list(_indices(event))
            case Test(condition):
                asked = list(compared(condition))
            case Head(loop):
                asked = [loop.lo, *([] if loop.room is None else [loop.room])]
            case _:
                asked = []
        if any(s.name in counters for x in asked for s in x.symbols()):
            found = at
    return found


def _ahead(code: Sequence[Instruction]) -> tuple[frozenset[int], ...]:
    """From each instruction, which heads of loops that no number bounds can still be come to, going forwards."""
    found: list[frozenset[int]] = [frozenset()] * (len(code) + 1)
    for at in reversed(range(len(code))):
        match code[at]:
            case Head(loop, out):
                long = loop.room is not None and not loop.tiles and cap(loop.room) is None
                found[at] = found[at + 1] | found[out] | (frozenset([at]) if long else frozenset())
            case Test(_, otherwise):
                found[at] = found[at + 1] | found[otherwise]
            case Jump(to):
                found[at] = found[to]
            case _:
                found[at] = found[at + 1]
    return tuple(found)


__all__ = ["Explored", "Explorer", "OutOfBudget", "Sizes", "folding"]
