"""What every step of the search writes down and looks up: events, phases that are known to be over, faults."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.level2.roles import box_bytes
from kernelagent.dsl.verify.schedule.events import Violation, history, who
from kernelagent.dsl.verify.schedule.protocol_state import Clock, Place, Ring, State, Step, Warp
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Do, Event, Skeleton
from kernelagent.dsl.verify.schedule.values import Values


class Books:
    """Places, numbers and bytes of one kernel."""

    def __init__(self, skeleton: Skeleton, values: Values) -> None:
        self.kernel = skeleton.kernel
        self.agents = skeleton.agents
        self.blocks = skeleton.blocks
        self.values = values
        self.places: list[Place] = [
            (block, b.name, stage)
            for block in range(self.blocks)
            for b in self.kernel.barriers
            for stage in range(b.stages)
        ]
        self.numbers = {place: n for n, place in enumerate(self.places)}
        self.arrivals = [self.kernel.barrier(p[1]).arrivals for p in self.places]
        self.first = len(self.agents)
        self.reach = Reach(skeleton)
        self.bytes = {
            id(s): box_bytes(self.kernel, s) for s in dev.statements(self.kernel) if isinstance(s, dev.CopyBulk)
        }

    def start(self) -> State:
        size = self.first + len(self.places)
        return State([Warp([0] * size) for _ in self.agents], [Ring() for _ in self.places])

    def tick(self, state: State, agent: Agent, event: Event, place: Place | None, phase: int) -> int:
        """Count an event of a warp, and write it down."""
        w = state.warps[agent.number]
        w.clock[agent.number] += 1
        time = w.clock[agent.number]
        state.steps = Step(agent.number, time, event, place, phase, w.epoch, turn_of(w), state.steps)
        return time

    def place(self, state: State, agent: Agent, barrier: str, stage: int, block: int, event: Event) -> int:
        """The number of one stage of a barrier."""
        number = self.numbers.get((block, barrier, stage))
        if number is None:
            why = f"stage {stage} of `{barrier}` does not exist"
            raise self.violation(state, agent, event, "stage", why, why, None, -2)
        return number

    def known(self, state: State, clock: Clock, number: int) -> int:
        """How many phases are over as far as the clock's owner knows."""
        ring = state.rings[number]
        seen = clock[self.first + number]
        while seen < ring.count:
            back = ring.count - seen
            if back > len(ring.done):
                break
            came = ring.done[-back].came
            if not came or any(time > clock[a] for a, time in came):
                break
            seen += 1
        return seen

    def violation(
        self, state: State, agent: Agent, event: Event, kind: str, message: str, why: str, place: Place | None,
        phase: int, other: Event | None = None, expected: str = "", found: str = "",
        also: tuple[Place, ...] = (),
    ) -> Violation:  # fmt: skip
        w = state.warps[agent.number]
        near = frozenset((*((place,) if place else ()), *also))
        steps = history(state.steps, w.clock, near)
        return Violation(
            kind, message, why, event, agent.number, place, phase, turn_of(w), other, expected, found, steps
        )

    def who(self, agent: int) -> str:
        return who(self.agents[agent], self.blocks)


class Reach:
    """Which agents' events concern a barrier of a block, or a buffer: who uses it, who ends phases, who fills it."""

    def __init__(self, skeleton: Skeleton) -> None:
        kernel, blocks = skeleton.kernel, range(skeleton.blocks)
        self.users: dict[tuple[int, str], set[int]] = {(b, x.name): set() for b in blocks for x in kernel.barriers}
        self.enders: dict[tuple[int, str], set[int]] = {(b, x.name): set() for b in blocks for x in kernel.barriers}
        self.fillers: dict[tuple[int, str], set[int]] = {(b, x.name): set() for b in blocks for x in kernel.buffers}
        for agent in skeleton.agents:
            for instruction in agent.code:
                if isinstance(instruction, Do) and (agent.leader or not instruction.leader):
                    self.add(agent, instruction.event, blocks)

    def add(self, agent: Agent, event: Event, blocks: range) -> None:
        match event:
            case dev.WaitPhase(barrier=barrier):
                self.users[agent.block, barrier].add(agent.number)
            case Announce(expect):
                self.end(agent, expect.barrier, (agent.block,))
            case dev.Arrive(barrier=barrier, everywhere=everywhere):
                self.end(agent, barrier, blocks if everywhere else (agent.block,))
            case dev.CopyBulk(barrier=barrier, target=target, shared_by=shared):
                to = blocks if shared > 1 else (agent.block,)
                self.end(agent, barrier, to)
                for block in to:
                    self.fillers[block, target.buffer].add(agent.number)
            case _:
                pass

    def end(self, agent: Agent, barrier: str, blocks: range | tuple[int, ...]) -> None:
        for block in blocks:
            self.users[block, barrier].add(agent.number)
            self.enders[block, barrier].add(agent.number)


def turn_of(w: Warp) -> int:
    """The iteration of the innermost loop, -1 outside loops."""
    return w.frames[-1].turn if w.frames else -1


__all__ = ["Books", "turn_of"]
