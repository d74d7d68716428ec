"""Consumer warpgroups: how many, with how many registers, and whether they share a tile or alternate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

from kernelagent.dsl import ir
from kernelagent.dsl.lower.device.place_values import extents
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.rewrite import operands, walk_statements
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


def alternate(policy: Policy, kernel: ir.Kernel, choices: list[Choice]) -> bool:
    """Whether two consumers take tiles of their own by turns: `roles=pingpong` where no product feeds another. A line,
    or KernelError, where they cannot."""
    lets = [s for s in walk_statements(kernel.body) if isinstance(s, ir.Let)]
    products = [s for s in lets if isinstance(s.operation, ir.Mma)]
    if policy.get("roles") != "pingpong" or _feeds(lets):
        return False
    needed = sum(_registers(p.value, lets) for p in products) + FREE_REGISTERS
    there = CONSUMER_REGISTERS[2] or 0
    if policy.get("persistent") is False:
        why, hint = "consumers alternate over the tiles of a block, which has one", "write persistent=True"
    elif needed > there:
        why = f"one warpgroup has whole tiles, about {needed} registers a thread where there are {there}"
        hint = "halve the tile, e.g. 128x128 or 64x256"
    else:
        reason = "one multiplies while the other stores"
        choices.append(Choice("consumers", "even and odd tiles by turns", reason, products[0].value.origin))
        return True
    choices.append(policy.drop("roles", why, hint))
    return False


def _feeds(lets: Sequence[ir.Let]) -> bool:
    """Whether an operand of a product is computed from another product."""
    reached: set[int] = set()
    for let in lets:
        product = isinstance(let.operation, ir.Mma)
        if any(x.number in reached for x in operands(let.operation)):
            if product:
                return True
            reached.add(let.value.number)
        elif product:
            reached.add(let.value.number)
    return False


def _registers(product: ir.Value, lets: Sequence[ir.Let]) -> int:
    """Of a warpgroup's thread for the whole tile: its sums, and the product itself where it is not added to them."""
    tile = prod(extents(product)) // WARPGROUP
    added = any(isinstance(s.operation, ir.Binary) and s.operation.word == "add" and product in operands(s.operation)
                for s in lets)  # fmt: skip
    return tile if added else 2 * tile


__all__ = [
    "CONSUMER_REGISTERS", "FREE_REGISTERS", "PRODUCER_REGISTERS", "ROWS", "WARPGROUP", "alternate", "no_roles",
]  # fmt: skip
