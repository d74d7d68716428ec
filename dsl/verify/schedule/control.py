"""Loops and branches of an actor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.machine import Actor, Machine
from kernelagent.dsl.verify.schedule.registers import hand_over, put, taken, value_of
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled

Steps: TypeAlias = Iterator[None]
"""What a statement that may wait does, up to each point where others go on."""

_LOCAL = (
    dev.Constant, dev.FromIndex, dev.FromCondition, dev.Parameter, dev.Positions, dev.Load, dev.Gather, dev.Pointwise,
    dev.Stretch, dev.Reindex, dev.Reduce, dev.ArgReduce, dev.Scan,
)  # fmt: skip


def ordering(statement: dev.Statement) -> bool:
    """Whether a statement touches shared memory, or orders accesses to it."""
    if isinstance(statement, dev.Let):
        return not isinstance(statement.operation, _LOCAL)
    return not isinstance(statement, dev.Store | dev.Scatter | dev.For | dev.If)


def loop(m: Machine, actor: Actor, statement: dev.For) -> Steps:
    if not statement.body and not statement.carried and len(statement.variables) == 1:
        _pass_over(m, actor, statement)
        return
    for c in statement.carried:
        hand_over(actor, c.initial, c.inside)
    actor.depth += 1
    yield from _nested(m, actor, statement, 0)
    actor.depth -= 1
    for c in statement.carried:
        hand_over(actor, c.inside, c.result)


def _pass_over(m: Machine, actor: Actor, statement: dev.For) -> None:
    """Iterations that only count: those of a tile that another role takes."""
    lo, hi, step = (m.number(actor, bound[0]) for bound in (statement.lo, statement.hi, statement.step))
    count = len(range(lo, hi, step))
    if statement.counter is not None:
        actor.variables[statement.counter.name] += count
    if actor.depth == 0:
        actor.iteration += count


def _nested(m: Machine, actor: Actor, statement: dev.For, depth: int) -> Steps:
    if depth == len(statement.variables):
        yield from m.body(actor, statement.body)
        ends = [taken(actor, c.end) for c in statement.carried]
        for c, end in zip(statement.carried, ends, strict=True):
            put(actor, c.inside, end)
        if statement.counter is not None:
            actor.variables[statement.counter.name] += 1
        return
    lo, hi = m.number(actor, statement.lo[depth]), m.number(actor, statement.hi[depth])
    for number in range(lo, hi, m.number(actor, statement.step[depth])):
        actor.variables[statement.variables[depth].name] = number
        if depth == len(statement.variables) - 1:
            if actor.depth == 1:
                actor.at = statement
                yield  # let the roles before this one go as far as they can: states compare only where all have
            m.observe(actor, statement)
        yield from _nested(m, actor, statement, depth + 1)


def branch(m: Machine, actor: Actor, statement: dev.If) -> Steps:
    condition = statement.condition
    if isinstance(condition, dev.Fragment):
        known = m.domain.decide(value_of(m, actor, condition, statement))
        if known is None and any(ordering(s) for s in dev.walk((*statement.then, *statement.otherwise))):
            raise Unmodelled("a branch on data around barriers or shared memory")
        true = bool(known)
    else:
        true = m.truth(actor, condition)
    m.outcomes.setdefault(id(statement), set()).add(true)
    yield from m.body(actor, statement.then if true else statement.otherwise)
    for merged in statement.merged:
        hand_over(actor, merged.then if true else merged.otherwise, merged.result)
