"""Every trip count from a few: the state of a block, seen from an iteration, comes back.

A snapshot holds what the rules look at, relative to the iteration: which statement, so many iterations ago, wrote or
read each byte; which of the roles know it, and to whom it is complete; groups and phases under way; where the other
roles stand, and how far their counters are apart. Two iterations with equal snapshots are followed by the same
accesses and the same judgements, shifted, as long as the loop goes on: addresses of shared memory depend on the
iteration through the stage, which the snapshot has (or is turned by, `turning`), and the loop's own conditions look at
most `ahead` iterations ahead. So if a snapshot returns after `period` iterations, a run of n iterations is, but for one
more round, a run of n - period; and when all runs of up to first + period + ahead iterations are free of faults, all
are.

That is so where all roles have as many iterations left: those that are in a loop are in the same tile. A role that has
its part of the tile behind it, and waits in front of a later one for what this one does not change, is no part of the
comparison: by how much it is ahead is what a longer loop adds to it and to the others alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.budget import spend
from kernelagent.dsl.verify.schedule.clocks import NEVER
from kernelagent.dsl.verify.schedule.machine import Actor, Block, Machine
from kernelagent.dsl.verify.schedule.sizes import deepest_ring, ends_early
from kernelagent.dsl.verify.schedule.turning import Turned

Place: TypeAlias = tuple[int, int]
"""The head of a walk or a loop, in one block of a cluster."""
_WORK = 40
"""Of one snapshot, in statements."""


@dataclass
class Iterations:
    """Snapshots of every iteration of the outermost loops of the first tile; loops within loops are part of one."""

    loops: dict[Place, list[bytes]] = field(default_factory=dict)
    heads: dict[Place, dev.For] = field(default_factory=dict)

    def watch(self, machine: Machine, actor: Actor, head: dev.For | dev.Grid) -> None:
        if isinstance(head, dev.For) and actor.tile == 1:
            place = (id(head), actor.block.number)
            self.heads[place] = head
            seen = self.loops.setdefault(place, [])
            seen.append(within_tile(machine, actor) or b"%d" % len(seen))


@dataclass
class Tiles:
    """Snapshots in front of every tile, until one has come back; and in each tile of its iterations `middle` and
    `middle` + `period`, if that is asked for."""

    middle: int | None = None
    period: int = 1
    fronts: list[bytes] = field(default_factory=list)  # of the role that is first
    steady: bool = True  # the two of each tile, and of each loop that no constant bounds, are equal
    returned: bool = False
    ends: bool = True  # in front of every tile the walk may end as well
    _whose: Place | None = None
    _tile: dict[Place, int] = field(default_factory=dict)
    _count: dict[Place, int] = field(default_factory=dict)  # iterations of the tile so far
    _first: dict[Place, bytes | None] = field(default_factory=dict)

    def watch(self, machine: Machine, actor: Actor, head: dev.For | dev.Grid) -> None:
        place = (id(head), actor.block.number)
        if isinstance(head, dev.Grid):
            self.ends &= may_end(machine, actor)
            self._whose = self._whose or place
            if place == self._whose:
                self.fronts.append(snapshot(machine, actor))
            if closes(self.fronts):
                self.returned = True
                machine.stop()
        elif self.middle is not None and not ends_early(head):
            self._iterate(machine, actor, place, self.middle)

    def _iterate(self, machine: Machine, actor: Actor, place: Place, middle: int) -> None:
        if self._tile.get(place) != actor.tile:
            self.steady &= self._count.get(place, middle + self.period + 1) > middle + self.period
            self._tile[place], self._count[place] = actor.tile, 0
        if self._count[place] == middle:
            self._first[place] = within_tile(machine, actor)
        if self._count[place] == middle + self.period:
            first = self._first[place]
            self.steady &= first is not None and first == within_tile(machine, actor)
        self._count[place] += 1


def may_end(machine: Machine, actor: Actor) -> bool:
    """Whether nothing of a role in front of a tile is under way that nobody waits for, were there no tile more."""
    role = next((r for r in machine.kernel.roles if r.name == actor.name), None)
    waited = role is not None and any(isinstance(s, dev.WaitBulk) and s.pending == 0 for s in role.after)
    for groups, later in ((actor.products, False), (actor.stores, waited)):
        times = actor.block.shadow.readers.get(groups.agent)
        if times is not None and not later and bool((times[0] > groups.done).any()):
            return False
    return True


def closes(heads: list[bytes]) -> tuple[int, int] | None:
    """(first, period) of the earliest iteration whose snapshot comes again, None if none does."""
    seen: dict[bytes, int] = {}
    for number, head in enumerate(heads):
        if head in seen:
            return seen[head], number - seen[head]
        seen[head] = number
    return None


# Snapshots -------------------------------------------------------------------------------------------


def within_tile(machine: Machine, watched: Actor) -> bytes | None:
    """A snapshot to compare with other iterations of the watched role's tile; None where a role is in another tile, and
    has more or fewer iterations left."""
    turned = machine.footprints.turning.of(_reference(machine))
    return snapshot(machine, watched, True) if all(_together(a, watched, turned) for a in machine.actors) else None


def snapshot(machine: Machine, watched: Actor, inside: bool = False) -> bytes:
    """What the rules can tell about the state, relative to the iterations that the roles are in. `inside`: but for how
    far roles are that wait in front of later tiles."""
    spend(_WORK)
    digest = hashlib.blake2b(digest_size=16)
    counters = _reference(machine)
    turned = machine.footprints.turning.of(counters)
    now, agents = iterations(machine), _agents(machine, turned)
    for block in machine.blocks:
        for part in _shadow_parts(machine, block, now, turned, agents):
            digest.update((np.packbits(part) if part.dtype == np.bool_ else np.ascontiguousarray(part)).tobytes())
        digest.update(repr(sorted(_phase_parts(machine, block, turned))).encode())
    standing = [_standing(machine, a, watched, inside, turned, counters) for a in machine.actors]
    digest.update(repr(standing).encode())
    return digest.digest()


def iterations(machine: Machine) -> dict[tuple[int, str], int]:
    """How many iterations of its outermost loops each role of each block has begun."""
    return {(a.block.number, a.name): a.iteration for a in machine.actors}


def _reference(machine: Machine) -> dict[str, int]:
    """Each counter, of the first role that counts it."""
    found: dict[str, int] = {}
    for actor in machine.actors:
        for name in machine.footprints.turning.periods:
            if name in actor.variables:
                found.setdefault(name, actor.variables[name])
    return found


def _agents(machine: Machine, turned: Turned) -> Any:
    """For each agent the one that does its work after turning: the fills of a stage become those of another. The last
    entry is for NEVER."""
    found = np.arange(len(machine.agents.all) + 1)
    found[-1] = NEVER
    for block in machine.blocks:
        for (name, stage), phase in block.phases.items():
            found[phase.fill] = block.phases[name, turned.stage(name, stage)[0]].fill
    return found


def _shadow_parts(
    machine: Machine, block: Block, now: Mapping[tuple[int, str], int], turned: Turned, agents: Any
) -> Iterator[Any]:
    shadow, order = block.shadow, turned.order
    writer, time = shadow.writer[order], shadow.write_time[order]
    written, running = writer != NEVER, shadow.write_order[order]
    yield agents[writer]
    yield shadow.write_thread[order]
    yield _ago(machine, shadow.write_site[order], now)
    for actor in machine.actors:
        yield written & (actor.clock.known[writer] >= time)
        yield written & (actor.clock.own[writer] >= time)
        yield written & (actor.clock.fenced[writer] >= running)
    for agent, (times, threads, sites) in sorted(shadow.readers.items()):
        last = times[order]
        read = last != NEVER
        if not read.any():
            continue  # as one that has read nothing yet
        yield np.array([agent])
        yield np.where(read, threads[order], NEVER)
        yield np.where(read, _ago(machine, sites[order], now), NEVER)
        for actor in machine.actors:
            yield read & (actor.clock.known[agent] >= last)
            yield read & (actor.clock.own[agent] >= last)


def _ago(machine: Machine, sites: Any, now: Mapping[tuple[int, str], int]) -> Any:
    """For each site number the statement and how many iterations ago it ran, as one number."""
    counts = np.bincount(sites.ravel() + 1)  # from NEVER on
    codes = np.zeros(len(counts), np.int32)
    for n in np.flatnonzero(counts):
        codes[n] = NEVER if n == 0 else _code(machine, int(n) - 1, now)
    return codes[sites + 1]


def _code(machine: Machine, number: int, now: Mapping[tuple[int, str], int]) -> int:
    site = machine.sites[number]
    ago = now[site.block, site.role] - site.iteration if site.iteration >= 0 else 0
    return machine.statement_number(site.statement) * 4096 + min(ago, _long_ago(machine))


def _long_ago(machine: Machine) -> int:
    """Iterations after which how many no longer matters: every stage of every ring has come around."""
    return deepest_ring(machine.kernel) + 1


def _phase_parts(machine: Machine, block: Block, turned: Turned) -> Iterator[Any]:
    for (name, stage), phase in block.phases.items():
        told = phase.completed
        known = [told is not None and bool((a.clock.known >= told[0]).all()) for a in machine.actors]
        to, wrap = turned.stage(name, stage)
        yield name, to, phase.ready, (phase.number + wrap) % 2, phase.pending, phase.bytes, known


def _standing(
    machine: Machine, actor: Actor, watched: Actor, inside: bool, turned: Turned, counters: Mapping[str, int]
) -> Any:
    """Where a role stands, and its groups under way."""
    groups = [g.open - g.done for g in actor.groups()]
    flying = sorted((f, actor.products.open - g) for f, g in actor.flying.items() if g > actor.products.done)
    at = None if actor is watched or actor.at is None else machine.statement_number(actor.at)
    tile = None if actor.ended else actor.tile - watched.tile
    free = actor.ended or (inside and _ahead(actor, watched, turned))
    done = actor.iteration - actor.front - (watched.iteration - watched.front if inside else 0)
    relative = (done, _counted(machine, actor, counters), _parity(machine, actor, turned))
    place = (actor.block.number, actor.name, at, actor.at_cluster, actor.ended, actor.depth, tile)
    return place, None if free else relative, groups, flying


def _together(actor: Actor, watched: Actor, turned: Turned) -> bool:
    """Whether a role has as many iterations left in the watched role's tile as the watched role."""
    if actor.ended or actor.name not in turned.looping:
        return True
    return (actor.depth > 0 and actor.tile == watched.tile) or _ahead(actor, watched, turned)


def _ahead(actor: Actor, watched: Actor, turned: Turned) -> bool:
    """Whether a role waits in front of a later tile, and for nothing that the iterations of this one change."""
    rings = isinstance(actor.at, dev.WaitPhase) and actor.at.barrier in turned.stages
    return actor.depth == 0 and actor.tile > watched.tile and not rings


def _counted(machine: Machine, actor: Actor, counters: Mapping[str, int]) -> list[tuple[str, int]]:
    """The role's counters: those of rings from the reference, others as they are."""
    turning, own = machine.footprints.turning, actor.variables
    begins = {r.counter: counters.get(r.counter, 0) for r in turning.rings}
    return [(c, (own[c] - begins.get(c, 0)) % n) for c, n in turning.periods.items() if c in own]


def _parity(machine: Machine, actor: Actor, turned: Turned) -> int | None:
    """What a role waits for, if it does."""
    if not isinstance(actor.at, dev.WaitPhase) or not actor.waiting:
        return None
    stage, parity = machine.number(actor, actor.at.stage), machine.number(actor, actor.at.parity)
    return (parity + turned.stage(actor.at.barrier, stage)[1]) % 2
