"""Every trip count from a few: the state of a block, seen from an iteration, comes back.

A snapshot holds what the rules look at, relative to the iteration: which statement, so many iterations ago, wrote or
read each byte; which of the roles know it, and to whom it is complete; groups and phases under way; where the other
roles stand. Two iterations with equal snapshots are followed by the same accesses and the same judgements, shifted,
as long as the loop goes on: addresses of shared memory depend on the iteration through the stage, which the snapshot
has, and the loop's own conditions look at most `ahead` iterations ahead. So if a snapshot returns after `period`
iterations, a run of n iterations is, but for one more round, a run of n - period; and when all runs of up to
first + period + ahead iterations are free of faults, all are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.budget import spend
from kernelagent.dsl.verify.schedule.clocks import NEVER
from kernelagent.dsl.verify.schedule.machine import Actor, Block, Machine
from kernelagent.dsl.verify.schedule.sizes import deepest_ring

Place: TypeAlias = tuple[int, int]
"""The head of a walk or a loop, in one block of a cluster."""
_SKIPPED = b""
_WORK = 40
"""Of one snapshot, in statements."""


@dataclass
class Snapshots:
    """Those of one run. `tiles`: by walk, one a tile. `loops`: by outermost loop, for each tile those of its
    iterations; loops within loops are part of an iteration. `taken`: of which heads they are."""

    taken: type[dev.For] | type[dev.Grid]
    until: bool = False  # stop when a tile's has come back
    middle: int | None = None  # the one iteration that counts, from the third tile on
    tiles: dict[Place, list[bytes]] = field(default_factory=dict)
    loops: dict[Place, list[list[bytes]]] = field(default_factory=dict)
    heads: dict[Place, dev.For] = field(default_factory=dict)
    tile: dict[tuple[int, str], int] = field(default_factory=dict)  # how many each role has begun

    def watch(self, machine: Machine, actor: Actor, head: dev.For | dev.Grid) -> None:
        role, place = (actor.block.number, actor.name), (id(head), actor.block.number)
        if isinstance(head, dev.Grid):
            self.tile[role] = self.tile.get(role, 0) + 1
            if self.taken is dev.Grid:
                heads = self.tiles.setdefault(place, [])
                heads.append(snapshot(machine))
                if self.until and closes(heads):
                    machine.stop()
        elif self.taken is dev.For:
            self.heads[place] = head
            segments = self.loops.setdefault(place, [])
            segments += [[] for _ in range(self.tile[role] - len(segments))]
            skipped = self.middle is not None and len(segments) > 2 and len(segments[-1]) != self.middle
            segments[-1].append(_SKIPPED if skipped else snapshot(machine))

    @property
    def returned(self) -> bool:
        """Whether a tile's has come back."""
        return any(closes(heads) for heads in self.tiles.values())


def closes(heads: list[bytes]) -> tuple[int, int] | None:
    """(first, period) of the earliest iteration whose snapshot comes again, None if none does."""
    seen: dict[bytes, int] = {}
    for number, head in enumerate(heads):
        if head in seen:
            return seen[head], number - seen[head]
        seen[head] = number
    return None


# Snapshots -------------------------------------------------------------------------------------------


def snapshot(machine: Machine) -> bytes:
    """What the rules can tell about the state, relative to the iterations that the roles are in."""
    spend(_WORK)
    digest = hashlib.blake2b(digest_size=16)
    for block in machine.blocks:
        for part in _shadow_parts(machine, block, iterations(machine)):
            digest.update((np.packbits(part) if part.dtype == np.bool_ else np.ascontiguousarray(part)).tobytes())
        digest.update(repr(list(_phase_parts(machine, block))).encode())
    digest.update(repr([_standing(machine, a) for a in machine.actors]).encode())
    return digest.digest()


def iterations(machine: Machine) -> dict[tuple[int, str], int]:
    """How many iterations of its outermost loops each role of each block has begun."""
    return {(a.block.number, a.name): a.iteration for a in machine.actors}


def _shadow_parts(machine: Machine, block: Block, now: dict[tuple[int, str], int]) -> Iterator[Any]:
    shadow = block.shadow
    written = shadow.writer != NEVER
    yield shadow.writer
    yield shadow.write_thread
    yield shadow.element
    yield shadow.width
    yield _ago(machine, shadow.write_site, now)
    for actor in machine.actors:
        yield written & (actor.clock.known[shadow.writer] >= shadow.write_time)
        yield written & (actor.clock.own[shadow.writer] >= shadow.write_time)
        yield written & (actor.clock.fenced[shadow.writer] >= shadow.write_order)
    for agent, (times, threads, sites) in sorted(shadow.readers.items()):
        read = times != NEVER
        if not read.any():
            continue  # as one that has read nothing yet
        yield np.array([agent])
        yield np.where(read, threads, NEVER)
        yield np.where(read, _ago(machine, sites, now), NEVER)
        for actor in machine.actors:
            yield read & (actor.clock.known[agent] >= times)
            yield read & (actor.clock.own[agent] >= times)


def _ago(machine: Machine, sites: Any, now: dict[tuple[int, str], int]) -> Any:
    """For each site number the statement and how many iterations ago it ran, as one number."""
    counts = np.bincount(sites.ravel() + 1)  # from NEVER on
    codes = np.zeros(len(counts), np.int32)
    for n in np.flatnonzero(counts):
        codes[n] = NEVER if n == 0 else _code(machine, int(n) - 1, now)
    return codes[sites + 1]


def _code(machine: Machine, number: int, now: dict[tuple[int, str], int]) -> int:
    site = machine.sites[number]
    ago = now[site.block, site.role] - site.iteration if site.iteration >= 0 else 0
    return machine.statement_number(site.statement) * 4096 + min(ago, _long_ago(machine))


def _long_ago(machine: Machine) -> int:
    """Iterations after which how many no longer matters: every stage of every ring has come around."""
    return deepest_ring(machine.kernel) + 1


def _phase_parts(machine: Machine, block: Block) -> Iterator[Any]:
    for key, phase in block.phases.items():
        told = phase.completed
        known = [told is not None and bool((a.clock.known >= told[0]).all()) for a in machine.actors]
        yield key, phase.ready, phase.number % 2, phase.pending, phase.bytes, known


def _standing(machine: Machine, actor: Actor) -> Any:
    """Where a role stands, and its groups under way."""
    groups = [g.open - g.done for g in actor.groups()]
    flying = sorted((f, actor.products.open - g) for f, g in actor.flying.items() if g > actor.products.done)
    behind = machine.actors[-1].iteration - actor.iteration if actor.iteration >= 0 else None
    return actor.block.number, actor.name, actor.waiting, actor.at_cluster, behind, groups, flying
