"""What each statement of `dsl/device.py` does to an actor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.arrays import scatter, store
from kernelagent.dsl.verify.schedule.budget import spend_on
from kernelagent.dsl.verify.schedule.control import Steps, branch, loop
from kernelagent.dsl.verify.schedule.machine import Actor, Machine
from kernelagent.dsl.verify.schedule.operations import compute
from kernelagent.dsl.verify.schedule.stages import copy, copy_bulk, store_bulk, store_shared
from kernelagent.dsl.verify.schedule.synchronisation import (
    arrive,
    barrier,
    barrier_init,
    cluster_barrier,
    commit,
    commit_bulk,
    expect,
    fence_async,
    nothing,
    wait_bulk,
    wait_group,
    wait_phase,
    wgmma_commit,
    wgmma_fence,
    wgmma_wait,
)  # fmt: skip


def let(m: Machine, actor: Actor, statement: dev.Let) -> None:
    spend_on(prod(statement.fragment.shape) if m.domain.channels else 0)
    actor.values[statement.fragment.number] = compute(m, actor, statement)
    actor.made[statement.fragment.number] = m.order


HANDLERS: Mapping[type, Callable[[Machine, Actor, Any], Steps | None]] = {
    dev.Let: let, dev.For: loop, dev.If: branch, dev.Store: store, dev.Scatter: scatter,
    dev.StoreShared: store_shared, dev.Copy: copy, dev.Commit: commit, dev.WaitGroup: wait_group,
    dev.BlockBarrier: barrier, dev.RoleBarrier: barrier, dev.BarrierInit: barrier_init, dev.FenceInit: nothing,
    dev.Expect: expect, dev.Arrive: arrive, dev.WaitPhase: wait_phase, dev.CopyBulk: copy_bulk,
    dev.StoreBulk: store_bulk, dev.CommitBulk: commit_bulk, dev.WaitBulk: wait_bulk, dev.FenceAsync: fence_async,
    dev.Turn: nothing, dev.ClusterBarrier: cluster_barrier, dev.WgmmaFence: wgmma_fence, dev.WgmmaCommit: wgmma_commit,
    dev.WgmmaWait: wgmma_wait,
}  # fmt: skip
