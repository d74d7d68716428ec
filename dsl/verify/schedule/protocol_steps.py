"""What one event of a warp does to barriers, stages and knowledge, and what must hold when it happens.

Every check is about order, not about the moment: an arrival must know that the phase before its own is over, a copy
that all readers have given the stage back, a read that its phase is complete. What is checked in one order of the
warps therefore holds in all of them (the module text of `explore` has the argument).
"""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.level2.roles import box_bytes
from kernelagent.dsl.verify.schedule.events import Violation, history, line, name, who
from kernelagent.dsl.verify.schedule.protocol_state import (
    Clock,
    Done,
    Fill,
    Place,
    Reading,
    Ring,
    State,
    Step,
    Waited,
    Warp,
    join,
)  # fmt: skip
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Do, Event, Read, Skeleton
from kernelagent.dsl.verify.schedule.values import Values


class Steps:
    """Events of one kernel. Methods change the state; they raise Violation, and return False where a warp must wait."""

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

    def act(self, state: State, agent: Agent, event: Event) -> bool:
        """Let an agent do an event. False: it cannot yet."""
        match event:
            case dev.WaitPhase():
                return self.wait(state, agent, event)
            case dev.RoleBarrier() | dev.BlockBarrier() | dev.ClusterBarrier():
                return self.meet(state, agent, event)
            case dev.Arrive():
                self.arrive(state, agent, event)
            case Announce():
                self.announce(state, agent, event)
            case dev.CopyBulk():
                self.copy(state, agent, event)
            case Read():
                self.read(state, agent, event)
            case dev.WgmmaCommit():
                state.warps[agent.number].committed += 1
            case dev.WgmmaWait():
                self.retire(state, agent, event)
            case dev.BarrierInit():
                self.initialise(state, agent, event)
            case dev.FenceInit():
                self.fence(state, agent, event)
        return True

    def forget(self, state: State) -> None:
        """Drop what no later check can fail on, because all whom it concerns know it: waits and readings that lie
        before whoever ends the next phase or fills the stage again, and what a phase taught."""
        clocks = [w.clock for w in state.warps]
        for number, ring in enumerate(state.rings):
            _, barrier, _ = self.places[number]
            block = self.places[number][0]
            enders, users = self.reach.enders[block, barrier], self.reach.users[block, barrier]
            ring.waits = {a: x for a, x in ring.waits.items() if any(clocks[e][a] < x.time for e in enders)}
            least = min((self.known(state, clocks[u], number) for u in users), default=ring.count)
            while ring.done and ring.count - len(ring.done) < least:
                for user in users:
                    at = self.first + number
                    clocks[user][at] = max(clocks[user][at], ring.count - len(ring.done) + 1)
                ring.done = ring.done[1:]
            if users:
                common = [min(c) for c in zip(*(clocks[u] for u in users), strict=True)]
                ring.done = tuple(d._replace(clock=tuple(map(max, d.clock, common))) for d in ring.done)
                if ring.into is not None:
                    join(ring.into, common)
        for place in list(state.reads):
            fillers = self.reach.fillers[place[:2]]
            found = state.reads[place]
            kept = {g: r for g, r in found.items() if not all(_seen(clocks[f], r.ends) for f in fillers)}
            state.reads[place] = kept

    # Books -------------------------------------------------------------------------------------------

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

    # Initialisation ----------------------------------------------------------------------------------

    def initialise(self, state: State, agent: Agent, event: dev.BarrierInit) -> None:
        for stage in range(self.kernel.barrier(event.barrier).stages):
            number = self.numbers[agent.block, event.barrier, stage]
            ring, place = state.rings[number], self.places[number]
            if ring.maker >= 0:
                message = f"`{event.barrier}` is initialised again"
                raise self.violation(state, agent, event, "barrier-init", message, message, place, -2)
            ring.maker, ring.made = agent.number, self.tick(state, agent, event, place, -1)

    def fence(self, state: State, agent: Agent, event: dev.FenceInit) -> None:
        time = self.tick(state, agent, event, None, -2)
        for ring in state.rings:
            if ring.maker == agent.number and not ring.fenced:
                ring.fenced = time

    def require_init(self, state: State, agent: Agent, number: int, event: Event, remote: bool) -> None:
        """The init lies before; for bulk copies and other blocks its fence too."""
        ring, place = state.rings[number], self.places[number]
        clock = state.warps[agent.number].clock
        init = next((i for i in self.kernel.prologue if isinstance(i, dev.BarrierInit) and i.barrier == place[1]), None)
        if ring.maker < 0 or clock[ring.maker] < ring.made:
            known = "no barrier of all threads lies between" if init else "nothing initialises it"
            what = f"`{place[1]}` is used before its init is seen" if init else f"`{place[1]}` is never initialised"
            raise self.violation(state, agent, event, "barrier-init", what, known, place, -2, init)
        if remote and (not ring.fenced or clock[ring.maker] < ring.fenced):
            why = "bulk copies and other blocks see an init only behind `fence_init()` and then a barrier"
            what = f"`{place[1]}` is used by bulk copies or other blocks, but its init is not fenced"
            raise self.violation(state, agent, event, "barrier-init", what, why, place, -2, init)

    # Arrivals and phases -----------------------------------------------------------------------------

    def arrive(self, state: State, agent: Agent, event: dev.Arrive) -> None:
        """At all blocks of a cluster by lanes of the same instruction: one event."""
        stage = self.values.number(event.stage, state.warps[agent.number].env)
        blocks = range(self.blocks) if event.everywhere else (agent.block,)
        numbers = [self.place(state, agent, event.barrier, stage, block, event) for block in blocks]
        for block, number in zip(blocks, numbers, strict=True):
            self.require_init(state, agent, number, event, block != agent.block)
            self.require_alive(state, agent, block, number, event)
            self.require_turn(state, agent, number, event, agent.weight)
        own = numbers[list(blocks).index(agent.block)]
        time = self.tick(state, agent, event, self.places[own], state.rings[own].count)
        for block, number in zip(blocks, numbers, strict=True):
            self.arrived(state, agent, number, event, agent.weight, time)
            if block != agent.block:
                state.remote[block, agent.number] = time, event

    def require_turn(self, state: State, agent: Agent, number: int, event: Event, count: int) -> None:
        """The phase that is open takes these arrivals, and the warp knows that it is open."""
        ring = state.rings[number]
        over = self.known(state, state.warps[agent.number].clock, number)
        if over < ring.count or ring.pending + count > self.arrivals[number]:
            raise self.surplus(state, agent, number, event, over, count)

    def arrived(self, state: State, agent: Agent, number: int, event: Event, count: int, time: int) -> None:
        ring = state.rings[number]
        ring.came = (*(x for x in ring.came if x[0] != agent.number), (agent.number, time))
        ring.pending += count
        self.enter(ring, state.warps[agent.number].clock)
        self.complete(state, agent, number, event)

    def surplus(self, state: State, agent: Agent, number: int, event: Event, over: int, count: int) -> Violation:
        """An arrival that may land in a phase that it is not meant for."""
        ring, place = state.rings[number], self.places[number]
        wanted = self.arrivals[number]
        if over < ring.count:
            message = f"this arrival at {name(place)} may come in phase {over} or in a later one"
            why = (
                f"phase {over} takes {wanted} arrivals"
                + (" and its bytes" if ring.done[-1].bytes else "")
                + f", and nothing that `{self.who(agent.number)}` has waited for says that it is over"
            )
            expected, found = f"phase {over} of {name(place)} over", "not waited for"
        else:
            message = f"phase {ring.count} of {name(place)} gets more arrivals than it counts"
            why = f"{ring.pending} have arrived, {count} more come, and it takes {wanted}"
            expected, found = f"{wanted} arrivals", f"at least {ring.pending + count}"
        return self.violation(
            state, agent, event, "arrivals", message, why, place, over, self.waiter(place), expected, found
        )

    def waiter(self, place: Place) -> Event | None:
        """The first wait for a barrier in the text."""
        return next(
            (s for s in dev.statements(self.kernel) if isinstance(s, dev.WaitPhase) and s.barrier == place[1]), None
        )

    def enter(self, ring: Ring, clock: Clock) -> None:
        if ring.into is None:
            ring.into = list(clock)
        else:
            join(ring.into, clock)

    def announce(self, state: State, agent: Agent, event: Announce) -> None:
        expect = event.expect
        stage = self.values.number(expect.stage, state.warps[agent.number].env)
        number = self.place(state, agent, expect.barrier, stage, agent.block, event)
        self.require_init(state, agent, number, event, False)
        ring, place = state.rings[number], self.places[number]
        if event.copied is not None and event.copied != expect.bytes:
            message = f"{expect.bytes} bytes are announced on {name(place)}, but the copies behind bring {event.copied}"
            why = f"a phase is over when exactly what was announced has come: {expect.bytes} is not {event.copied}"
            found = f"{expect.bytes} bytes announced"
            raise self.violation(
                state, agent, event, "transaction-bytes", message, why, place, ring.count, None,
                f"{event.copied} bytes", found,
            )  # fmt: skip
        self.require_turn(state, agent, number, event, 1)
        ring.expected += expect.bytes
        self.arrived(state, agent, number, event, 1, self.tick(state, agent, event, place, ring.count))

    def complete(self, state: State, agent: Agent, number: int, event: Event) -> None:
        """End the phase if everything has come. Who waited for the phase before must be through."""
        ring, place = state.rings[number], self.places[number]
        if ring.pending < self.arrivals[number]:
            return
        if ring.issued > ring.expected:
            message = f"phase {ring.count} of {name(place)} gets more bytes than were announced"
            why = f"{ring.expected} bytes are announced and {ring.issued} come"
            raise self.violation(
                state, agent, event, "transaction-bytes", message, why, place, ring.count, self.announcer(place),
                f"{ring.expected} bytes", f"{ring.issued} bytes",
            )  # fmt: skip
        if ring.issued < ring.expected:
            return
        assert ring.into is not None
        for number_, waited in ring.waits.items():
            if waited.phase == ring.count - 1 and ring.into[number_] < waited.time:
                raise self.aliased(state, agent, event, place, ring.count, number_, waited)
        ring.waits = {a: w for a, w in ring.waits.items() if w.phase >= ring.count}
        clock = tuple(ring.into)
        at = self.first + number
        after = (*clock[:at], ring.count + 1, *clock[at + 1 :])
        ring.done = (*ring.done[-1:], Done(after, () if ring.issued else ring.came, ring.issued > 0))
        ring.count, ring.pending, ring.expected, ring.issued, ring.into, ring.came = ring.count + 1, 0, 0, 0, None, ()

    def announcer(self, place: Place) -> Event | None:
        return next((s for s in self._announced() if s.expect.barrier == place[1]), None)

    def _announced(self) -> list[Announce]:
        return [Announce(s, None) for s in dev.statements(self.kernel) if isinstance(s, dev.Expect)]

    def aliased(
        self, state: State, agent: Agent, event: Event, place: Place, phase: int, waiter: int, waited: Waited
    ) -> Violation:
        behind = self.who(waiter)
        message = f"phase {phase} of {name(place)} may end while `{behind}` still waits for phase {waited.phase}"
        why = (
            f"a wait sees only the parity: phases {waited.phase} and {phase + 1} look alike, so the wait"
            f" (line {line(waited.event)}) blocks or passes by chance"
        )
        return self.violation(
            state, agent, event, "phase-aliasing", message, why, place, phase, waited.event,
            f"`{behind}` through before phase {phase} ends", "no order between the two",
        )  # fmt: skip

    def wait(self, state: State, agent: Agent, event: dev.WaitPhase) -> bool:
        w = state.warps[agent.number]
        stage = self.values.number(event.stage, w.env)
        number = self.place(state, agent, event.barrier, stage, agent.block, event)
        self.require_init(state, agent, number, event, False)
        ring, place = state.rings[number], self.places[number]
        over = self.known(state, w.clock, number)
        parity = self.values.number(event.parity, w.env)
        phase = over if over % 2 == parity % 2 else over - 1
        if ring.count >= phase + 2:
            message = f"`{self.who(agent.number)}` waits for phase {phase} of {name(place)}, which may be two phases on"
            why = f"phase {phase + 1} can end before this wait: nothing in it needs `{self.who(agent.number)}`"
            raise self.violation(
                state, agent, event, "phase-aliasing", message, why, place, phase, None,
                f"phase {phase} or {phase + 1} open", f"phase {ring.count} open",
            )  # fmt: skip
        if ring.count <= phase:
            w.behind = place, ring.count
            return False
        w.behind = None
        if phase == over:
            join(w.clock, ring.done[-1].clock)
        time = self.tick(state, agent, event, place, phase)
        w.clock[self.first + number] = max(w.clock[self.first + number], phase + 1)
        ring.waits[agent.number] = Waited(phase, time, event)
        return True

    # Meetings ----------------------------------------------------------------------------------------

    def meet(self, state: State, agent: Agent, event: dev.RoleBarrier | dev.BlockBarrier | dev.ClusterBarrier) -> bool:
        """All of the role, block or cluster come; then all know what each knew."""
        scope = self.scope(agent, event)
        mates = [a for a in self.agents if self.scope(a, event) == scope]
        w = state.warps[agent.number]
        w.meeting = scope
        self.tick(state, agent, event, None, -2)
        if not all(state.warps[m.number].meeting == scope for m in mates):
            return True
        together = list(w.clock)
        for m in mates:
            join(together, state.warps[m.number].clock)
        for m in mates:
            state.warps[m.number].clock[:] = together
            state.warps[m.number].meeting = None
        return True

    def scope(self, agent: Agent, event: Event) -> tuple[int, str, int]:
        match event:
            case dev.RoleBarrier(number):
                return agent.block, agent.role, number
            case dev.ClusterBarrier():
                return -1, "cluster", 0
            case _:
                return agent.block, "block", 0

    # Copies and reads --------------------------------------------------------------------------------

    def copy(self, state: State, agent: Agent, event: dev.CopyBulk) -> None:
        """This block's part, to its own stage or that of all blocks."""
        w = state.warps[agent.number]
        stage = self.values.number(event.stage, w.env)
        to = self.values.number(event.target.stage, w.env)
        shared = event.shared_by > 1
        if shared and event.shared_by != self.blocks:
            message = f"{event.shared_by} blocks share this copy, the cluster has {self.blocks}"
            why = "each block copies its part to the first blocks of the cluster, so parts are missing or come twice"
            raise self.violation(state, agent, event, "transaction-bytes", message, why, None, -2)
        part = self.bytes[id(event)] // event.shared_by
        for block in range(self.blocks) if shared else (agent.block,):
            number = self.place(state, agent, event.barrier, stage, block, event)
            self.require_init(state, agent, number, event, True)
            self.require_alive(state, agent, block, number, event)
            place = (block, event.target.buffer, to)
            self.require_free(state, agent, event, place, number)
            self.require_open(state, agent, event, number)
            ring = state.rings[number]
            time = self.tick(state, agent, event, self.places[number], ring.count)
            state.fills[place] = Fill(number, ring.count, w.epoch, event, agent.number, time)
            ring.issued += part
            self.enter(ring, w.clock)
            self.complete(state, agent, number, event)

    def require_open(self, state: State, agent: Agent, event: dev.CopyBulk, number: int) -> None:
        """The copy counts on the phase that is open, which its issuer must know."""
        over = self.known(state, state.warps[agent.number].clock, number)
        ring, place = state.rings[number], self.places[number]
        if over == ring.count:
            return
        message = f"the bytes of this copy may count on phase {over} of {name(place)} or on a later one"
        why = f"phase {over} can end without them, or before them: nothing orders the copy behind it or in it"
        raise self.violation(state, agent, event, "transaction-bytes", message, why, place, over, self.announcer(place))

    def require_free(self, state: State, agent: Agent, event: dev.CopyBulk, place: Place, number: int) -> None:
        """Nobody reads the stage any more, and what was copied there before has come."""
        w = state.warps[agent.number]
        before = state.fills.get(place)
        if before is not None and (before.ring, before.phase) != (number, state.rings[number].count):
            self.require_landed(state, agent, event, place, before)
        for reading in state.reads.get(place, {}).values():
            if not _seen(w.clock, reading.ends):
                raise self.overwritten(state, agent, event, place, number, reading)

    def require_landed(self, state: State, agent: Agent, event: dev.CopyBulk, place: Place, before: Fill) -> None:
        if self.known(state, state.warps[agent.number].clock, before.ring) > before.phase:
            return
        ring = self.places[before.ring]
        message = f"stage {place[2]} of `{place[1]}` is filled again while an earlier copy may still write it"
        why = f"the copy of phase {before.phase} of {name(ring)} has not been waited for"
        raise self.violation(
            state, agent, event, "overwrite", message, why, ring, before.phase, before.copy, also=(place,)
        )  # fmt: skip

    def overwritten(
        self, state: State, agent: Agent, event: dev.CopyBulk, place: Place, number: int, reading: Reading
    ) -> Violation:
        reader = self.who(reading.agent)
        in_flight = "its products are not waited for" if not reading.ends else "nothing says that it has read it"
        message = f"stage {place[2]} of `{place[1]}` is filled again while `{reader}` may still read it"
        why = f"the copy does not wait for a release of `{reader}` behind line {line(reading.event)}: {in_flight}"
        near = (self.places[number], *(p for p in self.places if p[2] == self.places[number][2]))
        return self.violation(
            state, agent, event, "overwrite", message, why, self.places[number], state.rings[number].count,
            reading.event, f"the read at line {line(reading.event)} before the copy", "no order between the two", near,
        )  # fmt: skip

    def read(self, state: State, agent: Agent, event: Read) -> None:
        w = state.warps[agent.number]
        place = (agent.block, event.buffer, self.values.number(event.stage, w.env))
        fill = state.fills.get(place)
        if fill is None:
            raise self.unfilled(state, agent, event, place)
        barrier = self.places[fill.ring]
        if self.known(state, w.clock, fill.ring) <= fill.phase:
            message = f"stage {place[2]} of `{place[1]}` is read before its copy has been waited for"
            why = f"`{self.who(agent.number)}` does not know that phase {fill.phase} of {name(barrier)} is over"
            raise self.violation(
                state, agent, event, "missing-wait", message, why, barrier, fill.phase, fill.copy,
                f"phase {fill.phase} waited for", f"{self.known(state, w.clock, fill.ring)} phases known to be over",
            )  # fmt: skip
        if fill.epoch != w.epoch:
            message = f"stage {place[2]} of `{place[1]}` holds another tile's data"
            why = f"the copy belongs to tile {fill.epoch - 1} of the block's walk, the read to tile {w.epoch - 1}"
            raise self.violation(
                state, agent, event, "wrong-tile", message, why, barrier, fill.phase, fill.copy,
                f"tile {w.epoch - 1}", f"tile {fill.epoch - 1}",
            )  # fmt: skip
        time = self.tick(state, agent, event, barrier, fill.phase)
        found = state.reads.setdefault(place, {})
        if not event.asynchronous:
            found[agent.number,] = Reading(-1, ((agent.number, time),), event, agent.number, time)
            return
        group = (agent.block, self.group(agent))
        before = found.get(group)
        if before is None or before.serial < w.committed:
            found[group] = Reading(w.committed, (), event, agent.number, time)

    def group(self, agent: Agent) -> int:
        """The warpgroup, by the number of its first agent."""
        return next(a.number for a in self.agents if a.group == agent.group)

    def unfilled(self, state: State, agent: Agent, event: Read, place: Place) -> Violation:
        filler = next(
            (s for s in dev.statements(self.kernel) if isinstance(s, dev.CopyBulk) and s.target.buffer == place[1]),
            None,
        )
        message = f"stage {place[2]} of `{place[1]}` is read before any copy into it"
        why = f"no copy has been issued to stage {place[2]} that `{self.who(agent.number)}` could have waited for"
        near = tuple(p for p in self.places if p[0] == agent.block)
        return self.violation(state, agent, event, "missing-wait", message, why, None, -2, filler, also=near)

    def retire(self, state: State, agent: Agent, event: dev.WgmmaWait) -> None:
        """Products of groups closed long enough ago have read their operands."""
        w = state.warps[agent.number]
        group = (agent.block, self.group(agent))
        time = 0
        for found in state.reads.values():
            reading = found.get(group)
            if reading is None or reading.serial >= w.committed - event.pending:
                continue
            if any(a == agent.number for a, _ in reading.ends):
                continue
            time = time or self.tick(state, agent, event, None, -2)
            found[group] = reading._replace(ends=(*reading.ends, (agent.number, time)))

    # The end of a block --------------------------------------------------------------------------------

    def require_alive(self, state: State, agent: Agent, block: int, number: int, event: Event) -> None:
        if block in state.gone:
            message = f"block {block} may have ended when this reaches its shared memory"
            why = "nothing keeps it: a cluster barrier behind the last tile would"
            raise self.violation(state, agent, event, "exit", message, why, self.places[number], -2)

    def leave(self, state: State, agent: Agent) -> None:
        """A warp ends; with the last one of its block the shared memory goes."""
        state.warps[agent.number].ended = True
        mates = [a for a in self.agents if a.block == agent.block]
        if not all(state.warps[a.number].ended for a in mates):
            return
        state.gone |= {agent.block}
        together = list(state.warps[agent.number].clock)
        for a in mates:
            join(together, state.warps[a.number].clock)
        for place, fill in sorted(state.fills.items(), key=lambda x: x[0]):
            if place[0] == agent.block and self.known(state, together, fill.ring) <= fill.phase:
                raise self.in_flight(state, fill, place)
        for (block, other), (time, event) in state.remote.items():
            if block == agent.block and together[other] < time:
                peer = self.agents[other]
                message = f"block {block} may end before this arrival of block {peer.block} reaches it"
                why = "nothing that block's threads wait for lies behind the arrival: a cluster barrier at the end does"
                raise self.violation(state, peer, event, "exit", message, why, None, -2)

    def in_flight(self, state: State, fill: Fill, place: Place) -> Violation:
        ring = self.places[fill.ring]
        message = (
            f"block {place[0]} may end before this copy has come: nobody waits for phase {fill.phase} of {name(ring)}"
        )
        why = "a copy that is not waited for writes shared memory that the block no longer owns"
        return self.violation(
            state, self.agents[fill.agent], fill.copy, "exit", message, why, ring, fill.phase, self.waiter(ring)
        )


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


def _seen(clock: Clock, ends: tuple[tuple[int, int], ...]) -> bool:
    return any(clock[a] >= t for a, t in ends)


def turn_of(w: Warp) -> int:
    """The iteration of the innermost loop, -1 outside loops."""
    return w.frames[-1].turn if w.frames else -1


__all__ = ["Steps", "turn_of"]
