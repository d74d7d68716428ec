"""Consumers that take turns (`roles=pingpong`): while one multiplies, the other does everything else.

Where a step is one product, each consumer has tiles of its own, even and odd ones: it multiplies when the other's
products are done, so that its epilogue runs under them. Both walk over all tiles, and count the steps of those that
they leave to the other, so that stages and parities go on. Where a step is two products (attention) both warpgroups
share the tile and its operands, and alternate within the steps (`overlap`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Compare, index
from kernelagent.dsl.lower.device.hopper.staging import TILE_COUNT

TURN_BARRIER = 2
"""The first of the two named barriers of warpgroups that alternate within a step."""
CONSUMERS = ("even", "odd")


@dataclass(frozen=True)
class Half:
    """One of two consumers with tiles of their own: its statements, in a walk over all tiles, and its buffers."""

    name: str
    body: tuple[dev.Statement, ...]
    renamed: Mapping[str, str]


def done(name: str) -> str:
    """The barrier that says that a consumer's products of a tile are done."""
    return f"{name}_done"


def half(number: int, body: Sequence[dev.Statement], own: Sequence[str], origin: ir.Origin) -> Half:
    """The consumer of every second tile, `number` 0 or 1. `own`: buffers that each consumer needs for itself."""
    name, other = CONSUMERS[number], CONSUMERS[1 - number]
    renamed = {b: b if number == 0 else f"{b}_{name}" for b in own}
    turns = index(TILE_COUNT) // 2
    begin = dev.WaitPhase(done(other), index(0), (turns + (1 - number)) % 2, origin)
    end = dev.Arrive(done(name), index(0), origin)
    last = _last_product(body)
    mine = tuple(_with_buffers(s, renamed) for s in body)
    turn = Compare("==", index(TILE_COUNT) % 2, index(number))
    taken = dev.If(turn, (begin, *mine[: last + 1], end, *mine[last + 1 :]), _counted(body), (), origin)
    return Half(name, (taken,), renamed)


def own_buffers(body: Sequence[dev.Statement]) -> list[str]:
    """What a consumer writes it needs for itself."""
    stored = (s.target.buffer for s in dev.walk(tuple(body)) if isinstance(s, dev.StoreShared))
    return list(dict.fromkeys(stored))


def until_done(body: Sequence[dev.Statement], releases: Sequence[dev.Statement]) -> list[dev.Statement]:
    """The body, which gives back the operands of the whole tile behind its last product."""
    last = _last_product(body) + 1
    return [*body[:last], *releases, *body[last:]]


def _last_product(body: Sequence[dev.Statement]) -> int:
    """The position of the last statement that multiplies, waits for products or gives a stage back."""
    kinds = (dev.Arrive, dev.WgmmaWait)
    return max(k for k, s in enumerate(body) if any(isinstance(x, kinds) for x in dev.walk((s,))))


def _counted(body: Sequence[dev.Statement]) -> tuple[dev.Statement, ...]:
    """The loops of another consumer's tile, of which only the steps are counted."""
    loops = (s for s in dev.walk(tuple(body)) if isinstance(s, dev.For) and s.counter is not None)
    return tuple(replace(s, carried=(), body=()) for s in loops)


def _with_buffers(statement: dev.Statement, names: Mapping[str, str]) -> dev.Statement:
    """The statement on other buffers."""

    def moved(shared: dev.Shared) -> dev.Shared:
        return replace(shared, buffer=names.get(shared.buffer, shared.buffer))

    match statement:
        case dev.StoreShared(target=target):
            return replace(statement, target=moved(target))
        case dev.StoreBulk(source=source):
            return replace(statement, source=moved(source))
        case dev.Let(_, dev.LoadShared(source=source) as load):
            return replace(statement, operation=replace(load, source=moved(source)))
        case dev.Let(_, dev.Mma(a=a, b=b) as mma):
            left = moved(a) if isinstance(a, dev.Shared) else a
            right = moved(b) if isinstance(b, dev.Shared) else b
            return replace(statement, operation=replace(mma, a=left, b=right))
        case dev.For(body=body):
            return replace(statement, body=tuple(_with_buffers(s, names) for s in body))
        case dev.If(then=then, otherwise=otherwise):
            arms = [tuple(_with_buffers(s, names) for s in arm) for arm in (then, otherwise)]
            return replace(statement, then=arms[0], otherwise=arms[1])
        case _:
            return statement


__all__ = ["CONSUMERS", "TURN_BARRIER", "Half", "done", "half", "own_buffers", "until_done"]
