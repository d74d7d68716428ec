"""Consumer warpgroups: how many, with how many registers, and whether they share a tile or alternate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.lower.device.place_values import extents
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.schedule import Choice

WARPGROUP = 128
ROWS = 64
"""Rows of one warpgroup's product."""
PRODUCER_REGISTERS: Mapping[int, int | None] = {1: None, 2: 40, 3: 32}
CONSUMER_REGISTERS: Mapping[int, int | None] = {1: None, 2: 232, 3: 160}
"""Per thread, by consumer warpgroups; None: what the launch gives. 128 * (40 + 2 * 232) and 128 * (32 + 3 * 160) are at
most the 65536 of a multiprocessor."""
FREE_REGISTERS = 40
"""Of a consumer's thread, beside the tiles that live at the same time: addresses, statistics of rows, counters."""


def no_roles(policy: Policy) -> bool:
    """Whether policy asks for one kind of warps: `roles=1` or `roles=False`."""
    asked = policy.get("roles")
    return asked is False or (asked == 1 and asked is not True)


def alternate(policy: Policy, products: Sequence[ir.Let], choices: list[Choice]) -> bool:
    """Whether two consumers take tiles of their own by turns: `roles=pingpong` where a step is one product. A line, or
    KernelError, where they cannot."""
    if policy.get("roles") != "pingpong" or len(products) != 1:
        return False
    m, n = extents(products[0].value)
    needed, there = m * n // WARPGROUP + FREE_REGISTERS, CONSUMER_REGISTERS[2] or 0
    if policy.get("persistent") is False:
        why, hint = "consumers alternate over the tiles of a block, which has one", "write persistent=True"
    elif needed > there:
        why = f"one warpgroup has the whole tile {m}x{n}, about {needed} registers a thread where there are {there}"
        hint = "halve the tile, e.g. 128x128 or 64x256"
    else:
        reason = "one multiplies while the other stores"
        choices.append(Choice("consumers", "even and odd tiles by turns", reason, products[0].value.origin))
        return True
    choices.append(policy.drop("roles", why, hint))
    return False


__all__ = [
    "CONSUMER_REGISTERS", "FREE_REGISTERS", "PRODUCER_REGISTERS", "ROWS", "WARPGROUP", "alternate", "no_roles",
]  # fmt: skip
