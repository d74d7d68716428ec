"""What each statement does to an actor: one function a statement, in the order of `dsl/device.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.verify.schedule.machine import WARP, Actor, Block, Event, Groups, Machine
from kernelagent.dsl.verify.schedule.operations import compute
from kernelagent.dsl.verify.schedule.phases import Phase
from kernelagent.dsl.verify.schedule.places import grid_of, held, view_positions
from kernelagent.dsl.verify.schedule.shadow import Access
from kernelagent.dsl.verify.schedule.walks import Unmodelled

Steps = Iterator[None]


# Values ----------------------------------------------------------------------------------------------


def value_of(m: Machine, actor: Actor, fragment: dev.Fragment, statement: dev.Statement) -> Any:
    """A fragment's value. Registers that products still write are not to be read."""
    group = actor.flying.get(fragment.number)
    if group is not None:
        if group <= actor.products.done:
            del actor.flying[fragment.number]
        else:
            site = m.sites[m.site(actor, statement)]
            message = f"`{fragment.name}` is read while products still write it: no wgmma_wait lies between"
            m.note(Event("completion", "in-flight", site, message))
    return actor.values[fragment.number]


def let(m: Machine, actor: Actor, statement: dev.Let) -> None:
    actor.values[statement.fragment.number] = compute(m, actor, statement)
    actor.made[statement.fragment.number] = m.order


_LOCAL = (
    dev.Constant, dev.FromIndex, dev.FromCondition, dev.Parameter, dev.Positions, dev.Load, dev.Gather, dev.Pointwise,
    dev.Stretch, dev.Reindex, dev.Reduce, dev.ArgReduce, dev.Scan,
)  # fmt: skip


def ordering(statement: dev.Statement) -> bool:
    """Whether a statement touches shared memory, or orders accesses to it."""
    if isinstance(statement, dev.Let):
        return not isinstance(statement.operation, _LOCAL)
    return not isinstance(statement, dev.Store | dev.Scatter | dev.For | dev.If)


# Control ---------------------------------------------------------------------------------------------


def loop(m: Machine, actor: Actor, statement: dev.For) -> Steps:
    for c in statement.carried:
        _hand_over(m, actor, c.initial, c.inside, statement)
    actor.depth += 1
    yield from _nested(m, actor, statement, 0)
    actor.depth -= 1
    for c in statement.carried:
        _hand_over(m, actor, c.inside, c.result, statement)


def _nested(m: Machine, actor: Actor, statement: dev.For, depth: int) -> Steps:
    if depth == len(statement.variables):
        yield from m.body(actor, statement.body)
        ends = [_taken(actor, c.end) for c in statement.carried]
        for c, end in zip(statement.carried, ends, strict=True):
            _put(actor, c.inside, end)
        if statement.counter is not None:
            actor.variables[statement.counter.name] += 1
        return
    lo, hi = m.number(actor, statement.lo[depth]), m.number(actor, statement.hi[depth])
    for number in range(lo, hi, m.number(actor, statement.step[depth])):
        actor.variables[statement.variables[depth].name] = number
        if depth == len(statement.variables) - 1:
            if actor.depth == 1:
                yield  # let the roles before this one go as far as they can: states compare only where all have
            m.observe(actor, statement)
        yield from _nested(m, actor, statement, depth + 1)


def _taken(actor: Actor, fragment: dev.Fragment) -> tuple[Any, int | None, int]:
    return actor.values[fragment.number], actor.flying.get(fragment.number), actor.made.get(fragment.number, -1)


def _put(actor: Actor, fragment: dev.Fragment, taken: tuple[Any, int | None, int]) -> None:
    actor.values[fragment.number], group, actor.made[fragment.number] = taken
    actor.flying.pop(fragment.number, None)
    if group is not None:
        actor.flying[fragment.number] = group


def _hand_over(m: Machine, actor: Actor, old: dev.Fragment, new: dev.Fragment, statement: dev.Statement) -> None:
    _put(actor, new, _taken(actor, old))


def branch(m: Machine, actor: Actor, statement: dev.If) -> Steps:
    condition = statement.condition
    if isinstance(condition, dev.Fragment):
        known = m.domain.decide(value_of(m, actor, condition, statement))
        if known is None and any(ordering(s) for s in dev.walk((*statement.then, *statement.otherwise))):
            raise Unmodelled("a branch on data around barriers or shared memory")
        taken = bool(known)
    else:
        taken = m.truth(actor, condition)
    yield from m.body(actor, statement.then if taken else statement.otherwise)
    for merged in statement.merged:
        _hand_over(m, actor, merged.then if taken else merged.otherwise, merged.result, statement)


# Global memory ---------------------------------------------------------------------------------------


def store(m: Machine, actor: Actor, statement: dev.Store) -> None:
    value = value_of(m, actor, statement.value, statement)
    if not m.domain.channels:
        return
    starts = tuple(m.number(actor, s) for s in statement.start)
    at, inside = view_positions(statement.view, starts, grid_of(statement.value.shape), actor.variables, m.read)
    packed = m.domain.pack(value, statement.value.dtype, statement.value.shape)
    _into_array(m, actor, statement, statement.view.array, at, inside, packed)
    if statement.vector > 1:
        whole_vectors(m, actor, statement, statement.value.layout, statement.view, starts, statement.vector)


def scatter(m: Machine, actor: Actor, statement: dev.Scatter) -> None:
    value = value_of(m, actor, statement.value, statement)
    if not m.domain.channels:
        return
    indices = m.domain.positions(value_of(m, actor, statement.indices, statement))
    starts = tuple(0 if a == statement.axis else m.number(actor, s) for a, s in enumerate(statement.start))
    offsets = with_indices(grid_of(statement.value.shape), statement.axis, indices)
    at, inside = view_positions(statement.view, starts, offsets, actor.variables, m.read)
    packed = m.domain.pack(value, statement.value.dtype, statement.value.shape)
    _into_array(m, actor, statement, statement.view.array, at, inside, packed)


def with_indices(offsets: Any, axis: int, indices: Any) -> Any:
    """Element coordinates whose `axis` comes from a list of positions."""
    found = offsets.copy()
    found[axis] = indices.reshape([-1 if a == axis else 1 for a in range(len(offsets))])
    return found


def _into_array(
    m: Machine, actor: Actor, statement: Any, array: str, at: tuple[Any, ...], inside: Any, packed: Any
) -> None:
    site = m.site(actor, statement)
    within_array(m, actor, site, array, at, inside)
    outside = m.memory.outside(array, at, inside)
    kept = inside & ~outside
    flat = tuple(c[kept] for c in at)
    add = m.domain.sum if getattr(statement, "atomic", False) else None
    again = m.memory.store(array, flat, packed[:, kept], site, actor.block.number, add)
    if again.any() and m.memory.roles[array] == "Out":
        first = tuple(int(c[again][0]) for c in flat)
        m.note(
            Event("coverage", "stored-twice", m.sites[site], f"`{array}` is stored again", array=array, element=first,
                  count=int(again.sum()))
        )  # fmt: skip


def within_array(m: Machine, actor: Actor, site: int, array: str, at: tuple[Any, ...], inside: Any) -> None:
    """Elements inside the view lie inside the array."""
    outside = m.memory.outside(array, at, inside)
    if not outside.any():
        return
    first = tuple(int(c[outside][0]) for c in at)
    message = f"{array}[{', '.join(map(str, first))}] lies outside of {_times(m.memory.shapes[array])}"
    m.note(Event("bounds", "outside", m.sites[site], message, array=array, element=first, count=int(outside.sum())))


def whole_vectors(
    m: Machine, actor: Actor, statement: Any, layout: Any, view: Any, starts: tuple[int, ...], vector: int
) -> None:
    """Elements of one access are all inside or all outside, and the first lies at a multiple of their number."""
    at, inside = view_positions(view, starts, held(layout), actor.variables, m.read)
    inside = inside.reshape(layout.threads, -1, vector)
    cut = inside.any(-1) & ~inside.all(-1)
    flat = _flat(m, view.array, at).reshape(layout.threads, -1, vector)
    steps = flat != flat[..., :1] + np.arange(vector)
    odd = inside.all(-1) & ((flat[..., 0] % vector != 0) | steps.any(-1))
    for broken, kind, why in (
        (cut, "cut-vector", "ends inside"),
        (odd, "misaligned", "does not begin at a multiple of"),
    ):
        if broken.any():
            thread, part = (int(x) for x in np.argwhere(broken)[0])
            first = tuple(int(c.reshape(layout.threads, -1, vector)[thread, part, 0]) for c in at)
            message = f"an access of {vector} elements at {view.array}[{', '.join(map(str, first))}] {why} {vector}"
            site = m.sites[m.site(actor, statement)]
            m.note(
                Event("alignment", kind, site, message, thread=actor.first_thread + thread, array=view.array,
                      element=first, count=int(broken.sum()))
            )  # fmt: skip


def _flat(m: Machine, array: str, at: tuple[Any, ...]) -> Any:
    flat: Any = 0
    for coordinate, extent in zip(at, m.memory.shapes[array], strict=True):
        flat = flat * extent + coordinate
    return flat


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


# Shared memory ---------------------------------------------------------------------------------------


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


# Groups and barriers of all threads -------------------------------------------------------------------


def commit(m: Machine, actor: Actor, statement: dev.Commit) -> None:
    actor.copies.commit()


def wait_group(m: Machine, actor: Actor, statement: dev.WaitGroup) -> None:
    _complete(actor, actor.copies, statement.pending)


def _complete(actor: Actor, groups: Groups, pending: int) -> None:
    groups.wait(pending)
    actor.clock.own[groups.agent] = groups.done


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


# Barriers with phases ---------------------------------------------------------------------------------


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
    while not phase.passed(parity):
        yield
    actor.waiting = ""
    m.order += 1
    if phase.completed is not None:
        actor.clock.acquire(phase.completed)


def cluster_barrier(m: Machine, actor: Actor, statement: dev.ClusterBarrier) -> Steps:
    actor.clock.acquire(released(m, actor))
    actor.at_cluster, actor.waiting = True, f"the cluster (line {statement.origin.span.line})"
    while actor.at_cluster:
        yield
    actor.waiting = ""


def fence_async(m: Machine, actor: Actor, statement: dev.FenceAsync) -> None:
    """Generic writes of each thread so far, those of its complete copies too."""
    actor.clock.fenced[actor.agent] = m.order
    if actor.copies.done == actor.copies.open - 1:
        actor.clock.fenced[actor.copies.agent] = m.order


# Bulk copies ------------------------------------------------------------------------------------------


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
        phase.land(prod(statement.shape) // statement.shared_by * bits(buffer.dtype) // 8)


def _box_values(m: Machine, actor: Actor, statement: dev.CopyBulk, offsets: Any) -> Any:
    starts = tuple(m.number(actor, s) for s in statement.start)
    at, inside = array_positions(m, actor, statement.view, starts, offsets)
    value = m.domain.load(statement.view.array, at, inside, 0, statement.view.dtype)
    return m.domain.pack(value, statement.view.dtype, inside.shape)


def array_positions(m: Machine, actor: Actor, view: Any, starts: tuple[int, ...], offsets: Any) -> Any:
    """Array coordinates of a box, and which lie inside the array: a tensor map knows nothing of the view."""
    at, _ = view_positions(view, starts, offsets, actor.variables, m.read)
    inside = ~m.memory.outside(view.array, at, np.ones(at[0].shape, np.bool_))
    return at, inside


def store_bulk(m: Machine, actor: Actor, statement: dev.StoreBulk) -> None:
    buffer, stage = stage_of(m, actor, statement.source, statement)
    touched = m.footprints.of(statement, "", stage, 0, actor.first_thread)
    access = Access(actor.stores.agent, actor.stores.open, m.site(actor, statement), touched, actor.clock, True)
    packed, found = actor.block.shadow.read(access)
    m.conflicts(actor, found, buffer, stage)
    if m.domain.channels:
        starts = tuple(m.number(actor, s) for s in statement.start)
        at, inside = array_positions(m, actor, statement.view, starts, touched.at)
        _into_array(m, actor, statement, statement.view.array, at, inside, packed)


def commit_bulk(m: Machine, actor: Actor, statement: dev.CommitBulk) -> None:
    actor.stores.commit()


def wait_bulk(m: Machine, actor: Actor, statement: dev.WaitBulk) -> None:
    _complete(actor, actor.stores, statement.pending)


# Asynchronous products ----------------------------------------------------------------------------------


def wgmma_fence(m: Machine, actor: Actor, statement: dev.WgmmaFence) -> None:
    actor.fence = m.order


def wgmma_commit(m: Machine, actor: Actor, statement: dev.WgmmaCommit) -> None:
    actor.products.commit()


def wgmma_wait(m: Machine, actor: Actor, statement: dev.WgmmaWait) -> None:
    _complete(actor, actor.products, statement.pending)


HANDLERS: Mapping[type, Callable[[Machine, Actor, Any], Steps | None]] = {
    dev.Let: let, dev.For: loop, dev.If: branch, dev.Store: store, dev.Scatter: scatter,
    dev.StoreShared: store_shared, dev.Copy: copy, dev.Commit: commit, dev.WaitGroup: wait_group,
    dev.BlockBarrier: barrier, dev.RoleBarrier: barrier, dev.BarrierInit: barrier_init, dev.FenceInit: nothing,
    dev.Expect: expect, dev.Arrive: arrive, dev.WaitPhase: wait_phase, dev.CopyBulk: copy_bulk,
    dev.StoreBulk: store_bulk, dev.CommitBulk: commit_bulk, dev.WaitBulk: wait_bulk, dev.FenceAsync: fence_async,
    dev.Turn: nothing, dev.ClusterBarrier: cluster_barrier, dev.WgmmaFence: wgmma_fence, dev.WgmmaCommit: wgmma_commit,
    dev.WgmmaWait: wgmma_wait,
}  # fmt: skip
