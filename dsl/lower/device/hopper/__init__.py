"""Tile IR -> device schedule with roles, for sm_90a: warpgroup products fed by bulk copies."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.lower.device.grids import innermost, with_innermost
from kernelagent.dsl.lower.device.hopper.accumulate import promote
from kernelagent.dsl.lower.device.hopper.choose import WARPGROUP, Road, Unsuited, choose_road
from kernelagent.dsl.lower.device.hopper.consumers import CONSUMER_REGISTERS, PRODUCER_REGISTERS
from kernelagent.dsl.lower.device.hopper.pingpong import CONSUMERS, Half, done, half, own_buffers, until_done
from kernelagent.dsl.lower.device.hopper.statements import MOST_STAGES, TILE_COUNT, HopperLowering
from kernelagent.dsl.lower.device.order_shared import order_shared
from kernelagent.dsl.lower.device.place_shared import place_shared

CONSUMER_BARRIER = 1
"""Named barrier of the first consumer role; the next one has the next number."""
CLUSTER = 2
"""Blocks that share operands: pairs halve what is read of one operand; more gains little."""


def assemble(builder: HopperLowering, grid: dev.Grid, kernel: ir.Kernel, target: str) -> dev.DeviceKernel:
    """All roles around the same tiles, with placed buffers and ordered shared memory."""
    plan, origin = builder.plan, grid.origin
    consumers = _alternating(builder, grid) if builder.turns else _together(builder, grid)
    body = tuple(s for c in consumers for s in c.body)
    every = [replace(b, name=new) for b in builder.buffers for new in _names(b.name, consumers)]
    buffers = place_shared(body, every, frozenset(b.name for b in every))
    barriers = _placed(builder.barriers, max((b.offset + dev.stage_bytes(b) * b.stages for b in buffers), default=0))
    warpgroups = builder.groups * len(consumers)
    leave: tuple[dev.Statement, ...] = (dev.ClusterBarrier(origin),) if builder.shares else ()  # peers still write here
    produced = with_innermost(grid, tuple(builder.producer), TILE_COUNT)
    roles = [dev.Role("producer", 0, 4, produced, PRODUCER_REGISTERS[warpgroups], leave)]
    updated = frozenset(a.name for a in kernel.arrays if a.role == "InOut")
    for number, consumer in enumerate(consumers):
        roles.append(_consumer(builder, grid, consumer, number, warpgroups, buffers, updated, leave))
    prologue: list[dev.Statement] = [dev.BarrierInit(b.name, origin) for b in barriers]
    ready = dev.ClusterBarrier(origin) if builder.shares else dev.BlockBarrier(origin)
    prologue += [dev.FenceInit(origin), ready]
    return dev.DeviceKernel(
        kernel.name, target, plan.shape, WARPGROUP * (warpgroups + 1), kernel.arrays, kernel.scalars, kernel.dims,
        buffers, with_innermost(grid, ()), (), 1, barriers, tuple(roles), tuple(prologue),
        builder.cluster if builder.shares else 1, kernel.claims,
    )  # fmt: skip


def _together(builder: HopperLowering, grid: dev.Grid) -> list[Half]:
    """One role of all consumer warpgroups."""
    return [Half("consumer", (*innermost(grid).body, *builder.releases), {})]


def _alternating(builder: HopperLowering, grid: dev.Grid) -> list[Half]:
    """Two consumers with tiles of their own, and the barriers by which they alternate."""
    body = until_done(innermost(grid).body, builder.releases)
    own = own_buffers(body)
    for name in CONSUMERS:
        builder.barrier(done(name), 4 * builder.groups, 1, grid.origin)
    return [half(number, body, own, grid.origin) for number in range(len(CONSUMERS))]


def _names(buffer: str, consumers: list[Half]) -> list[str]:
    """The buffer's name, or those of each consumer's own one."""
    return list(dict.fromkeys(c.renamed.get(buffer, buffer) for c in consumers))


def _consumer(
    builder: HopperLowering, grid: dev.Grid, consumer: Half, number: int, warpgroups: int,
    buffers: tuple[dev.SharedBuffer, ...], updated: frozenset[str], leave: tuple[dev.Statement, ...],
) -> dev.Role:  # fmt: skip
    """A role of consumers, its shared memory ordered by a barrier of its own."""
    body = order_shared(
        consumer.body, buffers, frozenset(builder.ringed), builder.persistent, updated,
        lambda at: dev.RoleBarrier(CONSUMER_BARRIER + number, at),
    )  # fmt: skip
    after = (*((dev.WaitBulk(0, grid.origin),) if builder.stored_by_bulk else ()), *leave)
    warps = 4 * builder.groups
    own = with_innermost(grid, body, TILE_COUNT)
    return dev.Role(consumer.name, 4 + warps * number, warps, own, CONSUMER_REGISTERS[warpgroups], after)


def _placed(barriers: list[dev.MBarrier], first: int) -> tuple[dev.MBarrier, ...]:
    made: list[dev.MBarrier] = []
    offset = -(-first // 128) * 128
    for barrier in barriers:
        made.append(replace(barrier, offset=offset))
        offset += 8 * barrier.stages
    return tuple(made)


__all__ = [
    "CLUSTER", "CONSUMER_REGISTERS", "MOST_STAGES", "WARPGROUP", "HopperLowering", "Road", "Unsuited", "assemble",
    "choose_road", "promote",
]  # fmt: skip
