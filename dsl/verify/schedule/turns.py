"""Tiles by turns: of a walk that several roles share, one stores the even tiles and another the odd ones.

The roles walk over the same tiles in the same order and count them, so a block's tile number n is the same to all.
Each of those that store does so under a condition on that number alone, which repeats; over one period exactly one of
the conditions holds for each number; and what is stored under one is what is stored under another. So each tile is
stored once, and how the output is covered can be argued of one role that always stores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.index import Condition, evaluate_condition
from kernelagent.dsl.verify.schedule.arms import joined
from kernelagent.dsl.verify.schedule.tiles import as_tiles
from kernelagent.dsl.verify.schedule.trips import compared, shift

MOST_PERIOD = 64
_Stored: TypeAlias = tuple[Any, Any, Any]


def stored_tiles(kernel: dev.DeviceKernel, assumes: tuple[ir.Assume, ...]) -> ir.Kernel:
    """The kernel as tiles, for the argument how its stores cover an output: what several statements store for one is
    stored by one."""
    return joined(_by_one_role(kernel, as_tiles(kernel, assumes)))


def _by_one_role(kernel: dev.DeviceKernel, tiles: ir.Kernel) -> ir.Kernel:
    walks = [role.grid for role in kernel.roles]
    counter = walks[0].counter.name if walks and walks[0].counter is not None else ""
    if not counter or not all(_same_tiles(walks[0], walk) for walk in walks):
        return tiles
    turns = {k: found for k, walk in enumerate(tiles.body) if (found := _turn(walk, counter)) is not None}
    conditions = [s.condition for s in turns.values() if not isinstance(s.condition, ir.Value)]
    if len(turns) < 2 or not _one_each(conditions, counter):
        return tiles
    first = min(turns)
    stored = tuple(_stores(turns[first].then))
    if any(tuple(_stores(s.then)) != stored for s in turns.values()):
        return tiles
    return replace(tiles, body=tuple(_replaced(w, turns.get(k), k == first) for k, w in enumerate(tiles.body)))


def _same_tiles(one: dev.Grid, other: dev.Grid) -> bool:
    """Whether two roles of a block take the same tiles in the same order, and count them alike."""
    if one.inner is not None or other.inner is not None:
        return False
    mine, theirs = (replace(walk, body=(), origin=one.origin) for walk in (one, other))
    return mine == theirs


def _turn(walk: ir.Statement, counter: str) -> ir.If | None:
    """The one branch of a role on the number of the tile, with all that the role stores in its first arm."""
    if not isinstance(walk, ir.For):
        return None
    found = [s for s in walk.body if isinstance(s, ir.If) and _asks_only(s, counter)]
    if len(found) != 1 or list(_stores(found[0].otherwise)):
        return None
    return found[0] if len(list(_stores(walk.body))) == len(list(_stores(found))) else None


def _asks_only(s: ir.If, counter: str) -> bool:
    if isinstance(s.condition, ir.Value):
        return False
    return {x.name for d in compared(s.condition) for x in d.symbols()} == {counter}


def _one_each(conditions: Sequence[Condition], counter: str) -> bool:
    """Whether for each number exactly one condition holds."""
    asked = [d for c in conditions for d in compared(c)]
    period = next((n for n in range(1, MOST_PERIOD + 1) if all(shift(d, {counter: n}) == 0 for d in asked)), None)
    if period is None:
        return False
    return all(sum(evaluate_condition(c, {counter: n}) for c in conditions) == 1 for n in range(period))


def _stores(statements: Sequence[ir.Statement]) -> Iterator[_Stored]:
    """What is stored where, and the branches and loops around it."""
    for s in statements:
        match s:
            case ir.Store(view=view, start=start, value=value):
                yield view, start, value.type.shape
            case ir.Scatter():
                yield s, (), ()  # equal to no other
            case ir.If(condition=condition, then=then, otherwise=otherwise):
                for arm in (then, otherwise):
                    yield from ((condition, arm is then, inner) for inner in _stores(arm))
            case ir.For(variables=variables, lo=lo, hi=hi, step=step, body=body):
                yield from ((variables, (lo, hi, step), inner) for inner in _stores(body))


def _replaced(walk: ir.Statement, turn: ir.If | None, stores: bool) -> ir.Statement:
    """The role's walk with what it stores in its turn as what it always stores, or without it."""
    assert isinstance(walk, ir.For)
    if turn is None:
        return walk
    body: list[ir.Statement] = []
    for s in walk.body:
        body += [s] if s is not turn else turn.then if stores else ()
    return replace(walk, body=tuple(body))


__all__ = ["stored_tiles"]
