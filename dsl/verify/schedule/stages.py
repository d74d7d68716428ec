"""Accesses to stages of buffers in shared memory, by threads, by copies and by products."""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.level2.roles import box_bytes
from kernelagent.dsl.verify.schedule.arrays import array_positions, into_array, whole_vectors, within_array
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.places import grid_of, view_positions
from kernelagent.dsl.verify.schedule.registers import value_of
from kernelagent.dsl.verify.schedule.shadow import Access
from kernelagent.dsl.verify.schedule.synchronisation import phase_of


def stage_of(m: Machine, actor: Actor, shared: dev.Shared, statement: Any) -> tuple[dev.SharedBuffer, int]:
    """Buffer and stage. A stage that does not exist is taken modulo."""
    buffer = m.buffers[shared.buffer]
    stage = m.number(actor, shared.stage)
    if not 0 <= stage < buffer.stages:
        site = m.sites[m.site(actor, statement)]
        message = f"stage {stage} of `{buffer.name}`, which has {buffer.stages}"
        m.note(Event("bounds", "stage", site, message, buffer=buffer.name, stage=stage))
        stage %= buffer.stages
    return buffer, stage


def store_shared(m: Machine, actor: Actor, statement: dev.StoreShared) -> None:
    value = value_of(m, actor, statement.value, statement)
    packed = m.domain.pack(value, statement.value.dtype, statement.value.shape)
    _write(m, actor, statement, packed, m.order, actor.agent)


def _write(m: Machine, actor: Actor, statement: dev.StoreShared | dev.Copy, packed: Any, time: int, agent: int) -> None:
    """A tile into shared memory, each element by its thread. `packed`: (channels, *shape)."""
    buffer, stage = stage_of(m, actor, statement.target, statement)
    touched = m.footprints.of(statement, "", stage, 0, actor.first_thread)
    access = Access(agent, time, m.site(actor, statement), touched, actor.clock)
    shape = packed.shape[1:] or (1,)
    values = packed.reshape(len(packed), *shape)[(slice(None), *touched.at)] if m.domain.channels else packed
    m.conflicts(actor, actor.block.shadow.write(access, values, m.order), buffer, stage)


def copy(m: Machine, actor: Actor, statement: dev.Copy) -> None:
    agent, time = actor.agent, m.order
    if statement.asynchronous:
        agent, time = actor.copies.agent, actor.copies.open
    packed = _copied(m, actor, statement) if m.domain.channels else np.zeros((0, 1))
    _write(m, actor, statement, packed, time, agent)


def _copied(m: Machine, actor: Actor, statement: dev.Copy) -> Any:
    shape = statement.layout.shape
    starts = tuple(m.number(actor, s) for s in statement.start)
    at, inside = view_positions(statement.view, starts, grid_of(shape), actor.variables, m.read)
    within_array(m, actor, m.site(actor, statement), statement.view.array, at, inside)
    if statement.vector > 1:
        whole_vectors(m, actor, statement, statement.layout, statement.view, starts, statement.vector)
    inside = inside & ~m.memory.outside(statement.view.array, at, inside)
    value = m.domain.load(statement.view.array, at, inside, 0, statement.view.dtype)
    return m.domain.pack(value, statement.view.dtype, shape)


def read_shared(m: Machine, actor: Actor, statement: dev.Let, source: dev.Shared) -> Any:
    """Registers from shared memory; each thread reads its own."""
    buffer, stage = stage_of(m, actor, source, statement)
    touched = m.footprints.of(statement, "", stage, 0, actor.first_thread)
    access = Access(actor.agent, m.order, m.site(actor, statement), touched, actor.clock)
    packed, found = actor.block.shadow.read(access)
    m.conflicts(actor, found, buffer, stage)
    fragment = statement.fragment
    if m.domain.channels:
        value = np.full((len(packed), *(fragment.shape or (1,))), np.nan)
        value[(slice(None), *touched.at)] = packed
        packed = value.reshape(len(packed), *fragment.shape)
    return m.domain.unpack(packed, fragment.dtype)


def read_tile(m: Machine, actor: Actor, statement: dev.Let, operand: str, source: dev.Shared) -> Any:
    """A whole stage as an operand of a product, fetched by warps together or by the product itself."""
    buffer, stage = stage_of(m, actor, source, statement)
    touched = m.footprints.of(statement, operand, stage, 0, actor.first_thread)
    asynchronous = is_asynchronous(statement)
    agent, time = (actor.products.agent, actor.products.open) if asynchronous else (actor.agent, m.order)
    access = Access(agent, time, m.site(actor, statement), touched, actor.clock, asynchronous)
    packed, found = actor.block.shadow.read(access)
    m.conflicts(actor, found, buffer, stage)
    return m.domain.unpack(packed, buffer.dtype)


def is_asynchronous(statement: dev.Let) -> bool:
    """Products of warpgroups run on while their threads go ahead."""
    return isinstance(statement.operation, dev.Mma) and statement.operation.atom.startswith("wgmma")


def copy_bulk(m: Machine, actor: Actor, statement: dev.CopyBulk) -> None:
    """A box into this block, or this block's part of it into every block of the cluster."""
    buffer, stage = stage_of(m, actor, statement.target, statement)
    rank = actor.block.number % m.kernel.cluster if statement.shared_by > 1 else 0
    touched = m.footprints.of(statement, "", stage, rank, actor.first_thread)
    packed = _box_values(m, actor, statement, touched.at) if m.domain.channels else np.zeros((0, 1))
    for block in m.blocks if statement.shared_by > 1 else [actor.block]:
        phase = phase_of(m, actor, statement.barrier, statement.stage, statement, block)
        site = m.site(actor, statement)
        access = Access(phase.fill, phase.number, site, touched, actor.clock, True)
        m.conflicts(actor, block.shadow.write(access, packed, m.order), buffer, stage)
        phase.land(box_bytes(m.kernel, statement) // statement.shared_by)


def _box_values(m: Machine, actor: Actor, statement: dev.CopyBulk, offsets: Any) -> Any:
    starts = tuple(m.number(actor, s) for s in statement.start)
    at, inside = array_positions(m, actor, statement.view, starts, offsets)
    value = m.domain.load(statement.view.array, at, inside, 0, statement.view.dtype)
    return m.domain.pack(value, statement.view.dtype, inside.shape)


def store_bulk(m: Machine, actor: Actor, statement: dev.StoreBulk) -> None:
    buffer, stage = stage_of(m, actor, statement.source, statement)
    touched = m.footprints.of(statement, "", stage, 0, actor.first_thread)
    access = Access(actor.stores.agent, actor.stores.open, m.site(actor, statement), touched, actor.clock, True)
    packed, found = actor.block.shadow.read(access)
    m.conflicts(actor, found, buffer, stage)
    if m.domain.channels:
        starts = tuple(m.number(actor, s) for s in statement.start)
        at, inside = array_positions(m, actor, statement.view, starts, touched.at)
        into_array(m, actor, statement, statement.view.array, at, inside, packed)
