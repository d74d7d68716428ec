"""How events of a schedule are named, and the short history that leads to a refutation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import device as dev
from kernelagent.dsl.verify.schedule.protocol_state import Place, Step
from kernelagent.dsl.verify.schedule.skeleton import Agent, Announce, Event, Read

MOST_STEPS = 8


@dataclass(frozen=True)
class Violation(Exception):
    """What goes wrong in a run, at `event`, by `agent`; `other` is the event that it collides with.

    `steps` are events before it, the oldest first. `phase` counts from 0, -1: none.
    """

    kind: str
    message: str
    why: str
    event: Event
    agent: int
    place: Place | None
    phase: int
    turn: int
    other: Event | None = None
    expected: str = ""
    found: str = ""
    steps: tuple[Step, ...] = ()


def line(event: Event) -> int:
    return event.origin.span.line


def name(place: Place) -> str:
    """`full[2]`, in a cluster's second block `full[2] of block 1`."""
    block, what, stage = place
    return f"{what}[{stage}]" + (f" of block {block}" if block else "")


def word(event: Event) -> str:
    """The word of level two that an event is."""
    match event:
        case Announce():
            return "expect"
        case Read():
            return "product" if event.asynchronous else "read"
        case dev.CopyBulk():
            return "copy_bulk"
        case dev.Arrive():
            return "arrive"
        case dev.WaitPhase():
            return "wait"
        case dev.BarrierInit():
            return "barrier_init"
        case dev.FenceInit():
            return "fence_init"
        case dev.RoleBarrier(number):
            return f"role_barrier({number})"
        case dev.BlockBarrier():
            return "barrier"
        case dev.ClusterBarrier():
            return "cluster_barrier"
        case dev.WgmmaCommit():
            return "wgmma_commit"
        case dev.WgmmaWait(pending):
            return f"wgmma_wait({pending})"


def who(agent: Agent, blocks: int) -> str:
    """`consumer`, where it matters with the warps and the block."""
    part = "" if agent.leader else f" ({agent.part})"
    return f"{agent.role}{part}" + (f" of block {agent.block}" if blocks > 1 else "")


def history(last: Step | None, clock: list[int], relevant: frozenset[Place]) -> tuple[Step, ...]:
    """Steps that lie before `clock` and touch the places (or are meetings), at most eight, the oldest first: the
    shortest run that leads there has no others."""
    found = [s for s in _back(last) if s.time <= clock[s.agent] and (s.place is None or s.place in relevant)]
    kept = [s for s in found if s.place is not None] or found
    return tuple(reversed(kept[:MOST_STEPS]))


def _back(last: Step | None) -> Iterator[Step]:
    while last is not None:
        yield last
        last = last.before


def rendered(steps: tuple[Step, ...], agents: tuple[Agent, ...], blocks: int) -> tuple[str, ...]:
    """One line a step: who, what, where, in which phase, at which line of the text."""
    return tuple(_step(s, agents[s.agent], blocks) for s in steps)


def _step(step: Step, agent: Agent, blocks: int) -> str:
    where = f" {name(step.place)}" if step.place else ""
    phase = f", phase {step.phase}" if step.phase >= 0 else ", before phase 0" if step.phase == -1 else ""
    turn = f", iteration {step.turn}" if step.turn >= 0 else ""
    return f"{who(agent, blocks)}: {word(step.event)}{where}{phase}{turn} (line {line(step.event)})"


__all__ = ["MOST_STEPS", "Violation", "history", "line", "name", "rendered", "who", "word"]
