"""How much the proof of one schedule may cost: work and time, after which what is not shown yet is UNKNOWN.

Work is counted, so that verdicts do not depend on the machine; the time limit only ends what counting does not see.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf, prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.ir import Array
from kernelagent.dsl.verify.schedule.unmodelled import Unmodelled

SECONDS = 20.0
WORK = 600_000
"""Statements of the engine and steps of searches, some 20 microseconds each; an element costs 1 / PER_STATEMENT."""
PER_STATEMENT = 1024
CALLS = 16
"""Of single steps between two looks at the clock, which costs more than the rest."""
ELEMENTS = 1 << 23
"""Of all arrays of one call: with what the engine keeps of each, below a gigabyte."""
ITERATIONS = 100_000
"""Of outermost loops, of all blocks of a launch."""
TILE = 1 << 22
"""Elements of one value."""


class Exhausted(Unmodelled):
    """The budget is spent, or what is asked for is too large for it."""


@dataclass
class Budget:
    """What is left of the work, and when time is up. `reason` says what ended it first."""

    work: int = WORK
    end: float = field(default_factory=lambda: time.thread_time() + SECONDS)
    reason: str = ""
    unwatched: int = 0  # calls since the clock was looked at


_CURRENT: ContextVar[Budget | None] = ContextVar("budget", default=None)
_DEADLINE: ContextVar[float] = ContextVar("deadline", default=inf)


@contextmanager
def deadline(seconds: float = SECONDS) -> Iterator[None]:
    """All budgets that are opened inside end together: the schedules of one text share the time."""
    token = _DEADLINE.set(min(time.thread_time() + seconds, _DEADLINE.get()))
    try:
        yield
    finally:
        _DEADLINE.reset(token)


@contextmanager
def within(seconds: float = SECONDS, work: int = WORK) -> Iterator[Budget]:
    """Everything inside spends from one budget: the outermost."""
    budget = _CURRENT.get() or Budget(work, min(time.thread_time() + seconds, _DEADLINE.get()))
    token = _CURRENT.set(budget)
    try:
        yield budget
    finally:
        _CURRENT.reset(token)


@contextmanager
def share(part: float) -> Iterator[None]:
    """Inside, only so much of what is left: Exhausted leaves the rest to what follows."""
    outer = _CURRENT.get()
    if outer is None:
        yield
        return
    now = time.thread_time()
    inner = Budget(int(outer.work * part), now + (outer.end - now) * part)
    begun, token = inner.work, _CURRENT.set(inner)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        outer.work -= begun - inner.work


def spend(work: int = 1) -> None:
    """Raises Exhausted where nothing is left; free outside of `within`."""
    budget = _CURRENT.get()
    if budget is None:
        return
    budget.work -= work
    if budget.work < 0:
        budget.reason = budget.reason or "more work than the limit allows"
    elif work == 1 and budget.unwatched < CALLS:
        budget.unwatched += 1
    else:
        budget.unwatched = 0
        if time.thread_time() > budget.end:
            budget.reason = budget.reason or "more time than the limit allows"
    if budget.reason:
        raise Exhausted(budget.reason)


def exhausted() -> bool:
    """Whether nothing is left: what would cost more is to be left out."""
    try:
        spend(0)
    except Exhausted:
        return True
    return False


def spend_on(elements: int) -> None:
    """Work on a tile of so many elements."""
    if elements >= PER_STATEMENT:
        spend(elements // PER_STATEMENT)


def check_arrays(arrays: tuple[Array, ...], sizes: Mapping[str, int]) -> None:
    """Raises Exhausted for arrays that are too large to run with."""
    total = sum(prod(d.evaluate(sizes) for d in a.dims) for a in arrays)
    if total > ELEMENTS:
        raise Exhausted(f"arrays of {total} elements are too large to run with; at most {ELEMENTS}")


def check_iterations(count: int) -> None:
    """Raises Exhausted for launches of more iterations than any budget suffices for."""
    if count > ITERATIONS:
        raise Exhausted(f"{count} iterations are too many to run; at most {ITERATIONS}")


def check_kernel(kernel: dev.DeviceKernel) -> None:
    """Raises Exhausted for tiles that are too large to run with."""
    for s in dev.statements(kernel):
        shape = s.fragment.shape if isinstance(s, dev.Let) else ()
        if prod(shape) > TILE:
            line = s.fragment.origin.span.line if isinstance(s, dev.Let) else 0
            raise Exhausted(f"a tile of {prod(shape)} elements (line {line}) is too large to run; at most {TILE}")


__all__ = [
    "ELEMENTS", "ITERATIONS", "SECONDS", "TILE", "WORK", "Budget", "Exhausted", "check_arrays", "check_iterations",
    "check_kernel", "deadline", "exhausted", "spend", "spend_on", "within",
]  # fmt: skip
