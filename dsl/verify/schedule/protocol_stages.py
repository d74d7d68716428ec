"""Stages of buffers: what must hold when a copy fills one, and when threads or products read it."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.events import Violation, line, name
from kernelagent.dsl.verify.schedule.protocol_phases import Phases
from kernelagent.dsl.verify.schedule.protocol_state import Clock, Fill, Place, Reading, State
from kernelagent.dsl.verify.schedule.skeleton import Agent, Read


class Stages(Phases):
    """Events of stages."""

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
        if ring.loose is not None:
            raise ring.loose
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
            if not known_by(w.clock, reading.ends):
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


def known_by(clock: Clock, ends: tuple[tuple[int, int], ...]) -> bool:
    return any(clock[a] >= t for a, t in ends)


__all__ = ["Stages", "known_by"]
