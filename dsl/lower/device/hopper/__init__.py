"""Tile IR -> device schedule with roles, for sm_90a: warpgroup products fed by bulk copies."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.lower.device.grids import innermost, with_innermost
from kernelagent.dsl.lower.device.hopper.choose import WARPGROUP, Road, Unsuited, choose_road
from kernelagent.dsl.lower.device.hopper.staging import CONSUMER_REGISTERS
from kernelagent.dsl.lower.device.hopper.statements import MOST_STAGES, TILE_COUNT, HopperLowering
from kernelagent.dsl.lower.device.order_shared import order_shared
from kernelagent.dsl.lower.device.place_shared import place_shared

PRODUCER_REGISTERS = 40
CONSUMER_BARRIER = 1
CLUSTER = 2
"""Blocks that share operands: pairs halve what is read of one operand; more gains little."""


def assemble(builder: HopperLowering, grid: dev.Grid, kernel: ir.Kernel, target: str) -> dev.DeviceKernel:
    """Both roles around the same tiles, with placed buffers and ordered shared memory."""
    plan, origin = builder.plan, grid.origin
    body = innermost(grid).body
    buffers = place_shared(body, builder.buffers, frozenset(b.name for b in builder.buffers))
    updated = frozenset(a.name for a in kernel.arrays if a.role == "InOut")
    consumer = order_shared(
        (*body, *builder.releases), buffers, frozenset(builder.ringed), builder.persistent, updated,
        lambda at: dev.RoleBarrier(CONSUMER_BARRIER, at),
    )  # fmt: skip
    barriers = _placed(builder.barriers, max((b.offset + dev.stage_bytes(b) * b.stages for b in buffers), default=0))
    groups = builder.groups
    registers = CONSUMER_REGISTERS[groups]
    few = PRODUCER_REGISTERS if groups == 2 else 32 if groups == 3 else None
    leave: tuple[dev.Statement, ...] = (dev.ClusterBarrier(origin),) if builder.shares else ()  # peers still write here
    after = (*((dev.WaitBulk(0, origin),) if builder.stored_by_bulk else ()), *leave)
    roles = (
        dev.Role("producer", 0, 4, with_innermost(grid, tuple(builder.producer), TILE_COUNT), few, leave),
        dev.Role("consumer", 4, 4 * groups, with_innermost(grid, consumer, TILE_COUNT), registers, after),
    )
    prologue: list[dev.Statement] = [dev.BarrierInit(b.name, origin) for b in barriers]
    ready = dev.ClusterBarrier(origin) if builder.shares else dev.BlockBarrier(origin)
    prologue += [dev.FenceInit(origin), ready]
    return dev.DeviceKernel(
        kernel.name, target, plan.shape, WARPGROUP * (groups + 1), kernel.arrays, kernel.scalars, kernel.dims,
        buffers, with_innermost(grid, ()), (), 1, barriers, roles, tuple(prologue),
        builder.cluster if builder.shares else 1,
    )  # fmt: skip


def _placed(barriers: list[dev.MBarrier], first: int) -> tuple[dev.MBarrier, ...]:
    made: list[dev.MBarrier] = []
    offset = -(-first // 128) * 128
    for barrier in barriers:
        made.append(replace(barrier, offset=offset))
        offset += 8 * barrier.stages
    return tuple(made)


__all__ = ["CLUSTER", "MOST_STAGES", "WARPGROUP", "HopperLowering", "Road", "Unsuited", "assemble", "choose_road"]
