"""Groups, barriers and fences: what an actor knows of what others did."""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.verify.schedule.control import Steps
from kernelagent.dsl.verify.schedule.machine import Actor, Block, Event, Groups, Machine
from kernelagent.dsl.verify.schedule.phases import Phase

# Groups ----------------------------------------------------------------------------------------------


def commit(m: Machine, actor: Actor, statement: dev.Commit) -> None:
    actor.copies.commit()


def wait_group(m: Machine, actor: Actor, statement: dev.WaitGroup) -> None:
    _complete(actor, actor.copies, statement.pending)


def commit_bulk(m: Machine, actor: Actor, statement: dev.CommitBulk) -> None:
    actor.stores.commit()


def wait_bulk(m: Machine, actor: Actor, statement: dev.WaitBulk) -> None:
    _complete(actor, actor.stores, statement.pending)


def wgmma_fence(m: Machine, actor: Actor, statement: dev.WgmmaFence) -> None:
    actor.fence = m.order


def wgmma_commit(m: Machine, actor: Actor, statement: dev.WgmmaCommit) -> None:
    actor.products.commit()


def wgmma_wait(m: Machine, actor: Actor, statement: dev.WgmmaWait) -> None:
    _complete(actor, actor.products, statement.pending)


def _complete(actor: Actor, groups: Groups, pending: int) -> None:
    groups.wait(pending)
    actor.clock.own[groups.agent] = groups.done


# Barriers of all threads -----------------------------------------------------------------------------


def barrier(m: Machine, actor: Actor, statement: dev.BlockBarrier | dev.RoleBarrier) -> None:
    """All threads of the actor know what each of them has done."""
    actor.clock.acquire(released(m, actor))


def released(m: Machine, actor: Actor) -> Any:
    """The actor's knowledge and its own accesses up to now: what a barrier or an arrival tells others."""
    own = actor.clock.own.copy()
    own[actor.agent] = m.order
    whole = m.agents.number(actor.block.number, "generic", "")
    if whole != actor.agent:
        own[whole] = actor.clock.known[whole]
    return np.maximum(actor.clock.known, own), actor.clock.fenced.copy()


# Barriers with phases --------------------------------------------------------------------------------


def barrier_init(m: Machine, actor: Actor, statement: dev.BarrierInit) -> None:
    for (name, _), phase in actor.block.phases.items():
        if name == statement.barrier:
            phase.start()


def nothing(m: Machine, actor: Actor, statement: Any) -> None:
    """Fences whose absence the search over protocols reports, and turns, which only add order."""


def phase_of(m: Machine, actor: Actor, name: str, stage: Any, statement: Any, block: Block | None = None) -> Phase:
    number = m.number(actor, stage)
    barrier = m.kernel.barrier(name)
    site = m.site(actor, statement)
    if not 0 <= number < barrier.stages:
        m.note(Event("bounds", "stage", m.sites[site], f"stage {number} of `{name}`, which has {barrier.stages}"))
        number %= barrier.stages
    phase = (block or actor.block).phases[name, number]
    if not phase.ready:
        m.note(Event("protocol", "not-initialised", m.sites[site], f"`{name}` is used before it is initialised"))
        phase.start()
    return phase


def expect(m: Machine, actor: Actor, statement: dev.Expect) -> None:
    phase = phase_of(m, actor, statement.barrier, statement.stage, statement)
    phase.expect(statement.bytes)
    _arrived(m, actor, statement, phase.arrive(1, (actor.clock.known.copy(), actor.clock.fenced.copy())))


def arrive(m: Machine, actor: Actor, statement: dev.Arrive) -> None:
    blocks = m.blocks if statement.everywhere else [actor.block]
    for block in blocks:
        phase = phase_of(m, actor, statement.barrier, statement.stage, statement, block)
        _arrived(m, actor, statement, phase.arrive(actor.threads // WARP, released(m, actor)))
        if block is not actor.block:
            m.remote.append((block.number, actor.agent, m.order, m.site(actor, statement)))


def _arrived(m: Machine, actor: Actor, statement: Any, fits: bool) -> None:
    if not fits:
        site = m.sites[m.site(actor, statement)]
        arrivals = m.kernel.barrier(statement.barrier).arrivals
        message = f"more arrive at `{statement.barrier}` than the {arrivals} of a phase"
        m.note(Event("protocol", "arrivals", site, message))


def wait_phase(m: Machine, actor: Actor, statement: dev.WaitPhase) -> Steps:
    phase = phase_of(m, actor, statement.barrier, statement.stage, statement)
    parity = m.number(actor, statement.parity)
    actor.waiting = f"parity {parity} of `{statement.barrier}` (line {statement.origin.span.line})"
    actor.at = statement
    while not phase.passed(parity):
        yield
    actor.waiting = ""
    m.order += 1
    if phase.completed is not None:
        actor.clock.acquire(phase.completed)


def cluster_barrier(m: Machine, actor: Actor, statement: dev.ClusterBarrier) -> Steps:
    actor.clock.acquire(released(m, actor))
    actor.at_cluster, actor.waiting = True, f"the cluster (line {statement.origin.span.line})"
    actor.at = statement
    while actor.at_cluster:
        yield
    actor.waiting = ""


def fence_async(m: Machine, actor: Actor, statement: dev.FenceAsync) -> None:
    """Generic writes of each thread so far, those of its complete copies too."""
    actor.clock.fenced[actor.agent] = m.order
    if actor.copies.done == actor.copies.open - 1:
        actor.clock.fenced[actor.copies.agent] = m.order
