"""What each operation of a `Let` makes: its value in the engine's domain, and the accesses that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.verify.schedule.arrays import whole_vectors, with_indices, within_array
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.places import grid_of, view_positions
from kernelagent.dsl.verify.schedule.registers import value_of
from kernelagent.dsl.verify.schedule.stages import is_asynchronous, read_shared, read_tile
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled

if TYPE_CHECKING:
    from kernelagent.dsl.verify.schedule.domains.domain import Value


def compute(m: Machine, actor: Actor, let: dev.Let) -> Value:
    """The value of the fragment."""
    fragment, operation, domain = let.fragment, let.operation, m.domain
    dtype, shape = fragment.dtype, fragment.shape

    def get(x: dev.Fragment) -> Value:
        return value_of(m, actor, x, let)

    match operation:
        case dev.Constant(value):
            return domain.constant(value, dtype, shape)
        case dev.FromIndex(index):
            return domain.numbers(np.asarray(m.number(actor, index)), dtype)
        case dev.FromCondition(condition):
            return domain.numbers(np.asarray(m.truth(actor, condition)), dtype)
        case dev.Parameter(name):
            return domain.parameter(name, dtype)
        case dev.Positions(start):
            return domain.numbers(np.arange(shape[0]) + m.number(actor, start), dtype)
        case dev.Load() | dev.Gather():
            return _load(m, actor, let)
        case dev.LoadShared(source):
            return read_shared(m, actor, let, source)
        case dev.Pointwise(word, arguments):
            return domain.pointwise(word, [get(a) for a in arguments], [a.dtype for a in arguments], dtype)
        case dev.Stretch(x):
            return domain.rename([get(x)], lambda t: np.broadcast_to(t, shape))
        case dev.Reindex(kind, parts, arguments):
            return _reindexed(m, kind, [get(p) for p in parts], arguments, shape)
        case dev.Reduce(word, x, axis):
            return domain.reduce(word, get(x), axis, dtype)
        case dev.ArgReduce(word, x, axis):
            return domain.position_of(word, get(x), axis, x.dtype, dtype)
        case dev.Scan(word, x, axis):
            return domain.scan(word, get(x), axis, dtype)
        case dev.Mma():
            return _product(m, actor, let, operation)
    raise Unmodelled(f"the operation {type(operation).__name__}")


def _reindexed(
    m: Machine, kind: str, parts: Sequence[Value], arguments: tuple[int, ...], shape: tuple[int, ...]
) -> Value:
    match kind:
        case "expand" | "reshape":
            return m.domain.rename(parts, lambda t: t.reshape(shape))
        case "permute":
            return m.domain.rename(parts, lambda t: t.transpose(arguments))
        case "stack":
            return m.domain.rename(parts, lambda *t: np.stack(t, -1))
        case "take":
            return m.domain.rename(parts, lambda t: t[..., arguments[0]])
    raise Unmodelled(f"the renaming {kind}")


def _load(m: Machine, actor: Actor, let: dev.Let) -> Value:
    operation = let.operation
    assert isinstance(operation, dev.Load | dev.Gather)
    view, offsets = operation.view, grid_of(let.fragment.shape)
    if not m.domain.channels and is_float(view.dtype):
        return None
    starts = tuple(m.number(actor, s) for s in operation.start)
    if isinstance(operation, dev.Gather):
        indices = m.domain.positions(value_of(m, actor, operation.indices, let))
        offsets = with_indices(offsets, operation.axis, indices)
        starts = tuple(0 if a == operation.axis else s for a, s in enumerate(starts))
    at, inside = view_positions(view, starts, offsets, actor.variables, m.read)
    within_array(m, actor, m.site(actor, let), view.array, at, inside)
    if operation.vector > 1 and isinstance(operation, dev.Load):
        whole_vectors(m, actor, let, let.fragment.layout, view, starts, operation.vector)
    inside = inside & ~m.memory.outside(view.array, at, inside)
    return m.domain.load(view.array, at, inside, operation.fill, view.dtype)


def _product(m: Machine, actor: Actor, let: dev.Let, operation: dev.Mma) -> Value:
    asynchronous = is_asynchronous(let)
    precision = "tf32" if operation.atom.endswith("tf32") else "exact"
    sources: list[str] = []
    sides: list[Any] = []
    for name, side in (("a", operation.a), ("b", operation.b)):
        if isinstance(side, dev.Shared):
            sides.append(read_tile(m, actor, let, name, side))
            sources.append(m.buffers[side.buffer].dtype)
        else:
            sides.append(value_of(m, actor, side, let))
            sources.append(side.dtype)
    if asynchronous:
        _begun(m, actor, let, operation)
        acc = actor.values[operation.acc.number]
    else:
        acc = value_of(m, actor, operation.acc, let)
    made = m.domain.mma(sides[0], sides[1], acc, (sources[0], sources[1]), let.fragment.dtype, precision)
    if asynchronous:
        actor.flying[let.fragment.number] = actor.products.open
    return made


def _begun(m: Machine, actor: Actor, let: dev.Let, operation: dev.Mma) -> None:
    """Registers that a product takes are written in front of a fence, or by products in flight."""
    taken = [x for x in (operation.a, operation.acc) if isinstance(x, dev.Fragment)]
    for x in taken:
        if x.number not in actor.flying and actor.made.get(x.number, -1) > actor.fence:
            site = m.sites[m.site(actor, let)]
            message = f"registers of `{x.name}` are written behind the last wgmma_fence"
            m.note(Event("completion", "not-fenced", site, message))
