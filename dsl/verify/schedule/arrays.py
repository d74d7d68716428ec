"""Accesses to arrays in global memory: inside them, aligned, and each element stored once."""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine
from kernelagent.dsl.verify.schedule.pitches import strides
from kernelagent.dsl.verify.schedule.places import grid_of, held, view_positions
from kernelagent.dsl.verify.schedule.registers import value_of


def store(m: Machine, actor: Actor, statement: dev.Store) -> None:
    value = value_of(m, actor, statement.value, statement)
    if not m.domain.channels:
        return
    starts = tuple(m.number(actor, s) for s in statement.start)
    at, inside = view_positions(statement.view, starts, grid_of(statement.value.shape), actor.variables, m.read)
    packed = m.domain.pack(value, statement.value.dtype, statement.value.shape)
    into_array(m, actor, statement, statement.view.array, at, inside, packed)
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
    into_array(m, actor, statement, statement.view.array, at, inside, packed)


def with_indices(offsets: Any, axis: int, indices: Any) -> Any:
    """Element coordinates whose `axis` comes from a list of positions."""
    found = offsets.copy()
    found[axis] = indices.reshape([-1 if a == axis else 1 for a in range(len(offsets))])
    return found


def into_array(
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
        (cut, "cut-vector", "is cut by the end of the row or of its view"),
        (odd, "misaligned", f"does not begin at a multiple of {vector}"),
    ):
        if broken.any():
            thread, part = (int(x) for x in np.argwhere(broken)[0])
            first = tuple(int(c.reshape(layout.threads, -1, vector)[thread, part, 0]) for c in at)
            message = f"an access of {vector} elements at {view.array}[{', '.join(map(str, first))}] {why}"
            site = m.sites[m.site(actor, statement)]
            m.note(
                Event("alignment", kind, site, message, thread=actor.first_thread + thread, array=view.array,
                      element=first, count=int(broken.sum()))
            )  # fmt: skip


def _flat(m: Machine, array: str, at: tuple[Any, ...]) -> Any:
    """Elements from the array's begin, in rows as far apart as the class asks."""
    apart = strides(m.kernel, array, m.memory.shapes[array])
    return sum(coordinate * stride for coordinate, stride in zip(at, apart, strict=True))


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def array_positions(m: Machine, actor: Actor, view: Any, starts: tuple[int, ...], offsets: Any) -> Any:
    """Array coordinates of a box, and which lie inside the array: a tensor map knows nothing of the view."""
    at, _ = view_positions(view, starts, offsets, actor.variables, m.read)
    inside = ~m.memory.outside(view.array, at, np.ones(at[0].shape, np.bool_))
    return at, inside
