"""What one event of a warp does to barriers, stages and knowledge, and what must hold when it happens.

Every check is about order, not about the moment: an arrival must know that the phase before its own is over, a copy
that all readers have given the stage back, a read that its phase is complete. What is checked in one order of the
warps therefore holds in all of them (the module text of `explore` has the argument).
"""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.events import Violation, name
from kernelagent.dsl.verify.schedule.protocol_books import turn_of
from kernelagent.dsl.verify.schedule.protocol_stages import Stages, known_by
from kernelagent.dsl.verify.schedule.protocol_state import Clock, Fill, Place, Ring, State, join
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Event, Read


class Steps(Stages):
    """Events of one kernel. Methods change the state; they raise Violation, and return False where a warp must wait."""

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
            self.forget_phases(state, clocks, number, ring)
        shared: dict[tuple[int, str], list[int]] = {}
        for number, ring in enumerate(state.rings):
            if ring.done or ring.into is not None:
                self.raise_to_common(clocks, number, ring, shared)
        for place, found in state.reads.items():
            fillers = self.reach.fillers[place[:2]]
            state.reads[place] = {
                g: r for g, r in found.items() if not all(known_by(clocks[f], r.ends) for f in fillers)
            }

    def forget_phases(self, state: State, clocks: Sequence[Clock], number: int, ring: Ring) -> None:
        """Of one stage of a barrier."""
        block, barrier, _ = self.places[number]
        enders, users = self.reach.enders[block, barrier], self.reach.users[block, barrier]
        if ring.waits:
            ring.waits = {a: x for a, x in ring.waits.items() if any(clocks[e][a] < x.time for e in enders)}
        if ring.heard:
            ring.heard = {a: t for a, t in ring.heard.items() if any(clocks[e][a] < t for e in enders)}
        if not users:
            ring.done = ()
        if not ring.done:
            return
        at = self.first + number
        least = min([self.known(state, clocks[u], number) for u in users])
        while ring.done and ring.count - len(ring.done) < least:
            for user in users:
                clocks[user][at] = max(clocks[user][at], ring.count - len(ring.done) + 1)
            ring.done = ring.done[1:]

    def raise_to_common(
        self, clocks: Sequence[Clock], number: int, ring: Ring, shared: dict[tuple[int, str], list[int]]
    ) -> None:
        """What all users of a barrier know anyway, its phases may know too: states that differ in it are alike."""
        where = self.places[number][:2]
        users = self.reach.users[where]
        if not users:
            return
        common = shared.get(where)
        if common is None:
            common = shared[where] = [min(c) for c in zip(*(clocks[u] for u in users), strict=True)]
        ring.done = tuple([d._replace(clock=tuple(map(max, d.clock, common))) for d in ring.done])
        if ring.into is not None:
            join(ring.into, common)

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


__all__ = ["Steps", "turn_of"]
