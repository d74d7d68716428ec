"""Barriers: what must hold when one is initialised, arrived at, waited for, and when a phase ends."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.events import Violation, line, name
from kernelagent.dsl.verify.schedule.protocol_books import Books
from kernelagent.dsl.verify.schedule.protocol_state import Clock, Done, Place, Ring, State, Waited, join
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Event


class Phases(Books):
    """Events of barriers. `wait` returns False where a warp must wait."""

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

    def arrive(self, state: State, agent: Agent, event: dev.Arrive) -> None:
        """At all blocks of a cluster by lanes of the same instruction: one event."""
        stage = self.values.number(event.stage, state.warps[agent.number].env)
        blocks = range(self.blocks) if event.everywhere else (agent.block,)
        numbers = [self.place(state, agent, event.barrier, stage, block, event) for block in blocks]
        for block, number in zip(blocks, numbers, strict=True):
            self.require_init(state, agent, number, event, block != agent.block)
            self.require_alive(state, agent, block, number, event)
            self.loosen(state, agent, number, event)
        own = numbers[list(blocks).index(agent.block)]
        time = self.tick(state, agent, event, self.places[own], state.rings[own].count)
        for block, number in zip(blocks, numbers, strict=True):
            if state.rings[number].loose is None:
                self.arrived(state, agent, number, event, agent.weight, time)
            if block != agent.block:
                state.remote[block, agent.number] = time, event

    def loosen(self, state: State, agent: Agent, number: int, event: dev.Arrive) -> None:
        """An arrival whose phase is not known is a fault if a wait may see it: one that does not lie before it."""
        ring = state.rings[number]
        try:
            self.require_turn(state, agent, number, event, agent.weight)
        except Violation as found:
            clock = state.warps[agent.number].clock
            waiting = any(w.behind is not None and w.behind[0] == self.places[number] for w in state.warps)
            if waiting or any(clock[a] < time for a, time in ring.heard.items()):
                raise
            ring.loose = found

    def require_turn(self, state: State, agent: Agent, number: int, event: Event, count: int) -> None:
        """The phase that is open takes these arrivals, and the warp knows that it is open."""
        ring = state.rings[number]
        if ring.loose is not None:
            raise ring.loose
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

    def require_alive(self, state: State, agent: Agent, block: int, number: int, event: Event) -> None:
        if block in state.gone:
            message = f"block {block} may have ended when this reaches its shared memory"
            why = "nothing keeps it: a cluster barrier behind the last tile would"
            raise self.violation(state, agent, event, "exit", message, why, self.places[number], -2)

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
        if ring.loose is not None:
            raise ring.loose
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
        ring.heard[agent.number] = time
        return True

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


__all__ = ["Phases"]
