"""Values of fragments, as one actor holds them."""

from __future__ import annotations

from typing import Any, TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.machine import Actor, Event, Machine

Held: TypeAlias = tuple[Any, int | None, int]
"""A value, the group of products that still writes it (or none), and when it was made."""


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


def taken(actor: Actor, fragment: dev.Fragment) -> Held:
    return actor.values[fragment.number], actor.flying.get(fragment.number), actor.made.get(fragment.number, -1)


def put(actor: Actor, fragment: dev.Fragment, held: Held) -> None:
    actor.values[fragment.number], group, actor.made[fragment.number] = held
    actor.flying.pop(fragment.number, None)
    if group is not None:
        actor.flying[fragment.number] = group


def hand_over(actor: Actor, old: dev.Fragment, new: dev.Fragment) -> None:
    put(actor, new, taken(actor, old))
