"""Barriers and waits between accesses to shared memory: an independent simulator finds no hazard, and needs each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Span
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.lanes import Distribution, Mode
from kernelagent.dsl.lower.device.order_shared import order_shared
from kernelagent.dsl.lower.device.place_shared import place_shared, shared_accesses

ORIGIN = ir.Origin(Span(1, 1, 1, 2))
LAYOUT = Distribution((32,), (Mode(32, 0, 1),), ())
VIEW = ir.View("x", "f32", (ir.ViewAxis(index(32), index(0), index(32)),), (index(ir.position(0)),))
NAMES = "abcd"


def fragment(number: int = 0) -> dev.Fragment:
    return dev.Fragment(number, "v", "f32", (32,), LAYOUT, ORIGIN)


def place(name: str) -> dev.Shared:
    return dev.Shared(name, index(0), (0,))


def read(name: str) -> dev.Statement:
    return dev.Let(fragment(), dev.LoadShared(place(name)))


def write(name: str) -> dev.Statement:
    return dev.StoreShared(place(name), fragment(), ORIGIN)


def copy(name: str) -> tuple[dev.Statement, ...]:
    return dev.Copy(place(name), VIEW, (index(0),), LAYOUT, 1, True, ORIGIN), dev.Commit(ORIGIN)


def loop(*body: dev.Statement) -> dev.For:
    return dev.For((Symbol("t", "loop"),), (index(0),), (index(2),), (index(1),), (), body, ORIGIN)


def when(then: tuple[dev.Statement, ...], otherwise: tuple[dev.Statement, ...] = ()) -> dev.If:
    return dev.If(fragment(), then, otherwise, (), ORIGIN)


# The simulator --------------------------------------------------------------------------------------------

Body = tuple[dev.Statement, ...]


def traces(body: Body) -> Iterator[Body]:
    """Straight-line runs: every choice of branches, loops of 0, 1 and 2 iterations."""
    if not body:
        yield ()
        return
    first, rest = body[0], body[1:]
    match first:
        case dev.For():
            runs = [list(traces(first.body))]
            heads: list[Body] = [(), *runs[0], *(a + b for a in runs[0][:6] for b in runs[0][:6])]
        case dev.If():
            heads = [*traces(first.then), *traces(first.otherwise)]
        case _:
            heads = [(first,)]
    for head in heads:
        for tail in traces(rest):
            yield head + tail


@dataclass
class Event:
    buffer: str
    writes: bool
    begin: int
    end: int | None  # when its own thread knows that it is done; None: never waited for


def events(trace: Body) -> tuple[list[Event], list[int]]:
    """Accesses with the times from which to which they may happen, and the times of barriers."""
    found: list[Event] = []
    barriers: list[int] = []
    groups: list[list[Event]] = [[]]
    for time, statement in enumerate(trace):
        match statement:
            case dev.BlockBarrier():
                barriers.append(time)
            case dev.Commit():
                groups.append([])
            case dev.WaitGroup(pending):
                closed = groups[:-1]
                for group in closed[: max(0, len(closed) - pending)]:
                    for event in group:
                        event.end = time if event.end is None else event.end
            case _:
                flies = isinstance(statement, dev.Copy) and statement.asynchronous
                for buffer, writes in shared_accesses(statement):
                    found.append(Event(buffer, writes, time, None if flies else time))
                    if flies:
                        groups[-1].append(found[-1])
    return found, barriers


def hazard(trace: Body, spans: dict[str, tuple[int, int]]) -> str | None:
    """Two accesses of overlapping bytes, one of them a write, with no barrier after the first is done."""
    found, barriers = events(trace)
    for k, second in enumerate(found):
        for first in found[:k]:
            a, b = spans[first.buffer], spans[second.buffer]
            if not (first.writes or second.writes) or a[1] <= b[0] or b[1] <= a[0]:
                continue
            if first.end is None or not any(first.end < time < second.begin for time in barriers):
                return f"{first} then {second}"
    return None


def hazards(body: Body, spans: dict[str, tuple[int, int]], persistent: bool) -> str | None:
    whole = [*traces(body)][:400]
    if persistent:
        whole = [a + b for a in whole[:15] for b in whole[:15]]
    return next((h for trace in whole if (h := hazard(trace, spans)) is not None), None)


# Random bodies --------------------------------------------------------------------------------------------


def random_body(r: random.Random, depth: int = 2) -> Body:
    made: list[dev.Statement] = []
    for _ in range(r.randint(1, 5 if depth == 2 else 3)):
        name = r.choice(NAMES)
        kind = r.choice(["read", "read", "write", "write", "copy", "loop", "if"])
        if kind in ("loop", "if") and depth == 0:
            kind = "read"
        match kind:
            case "read":
                made.append(read(name))
            case "write":
                made.append(write(name))
            case "copy":
                made += copy(name)
            case "loop":
                made.append(loop(*random_body(r, depth - 1)))
            case _:
                made.append(when(random_body(r, depth - 1), random_body(r, depth - 1) if r.random() < 0.5 else ()))
    return tuple(made)


def random_buffers(r: random.Random) -> tuple[dev.SharedBuffer, ...]:
    """Some of them over one another."""
    return tuple(dev.SharedBuffer(n, "f32", (32,), offset=r.choice([0, 0, 64, 128, 512])) for n in NAMES)


def spans_of(buffers: tuple[dev.SharedBuffer, ...]) -> dict[str, tuple[int, int]]:
    return {b.name: (b.offset, b.offset + dev.stage_bytes(b) * b.stages) for b in buffers}


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.booleans())
def test_no_hazard_is_left(seed: int, persistent: bool) -> None:
    r = random.Random(seed)
    body, buffers = random_body(r), random_buffers(r)
    ordered = order_shared(body, buffers, frozenset(), persistent)
    assert hazards(ordered, spans_of(buffers), persistent) is None


def removals(body: Body, original: Body) -> Iterator[Body]:
    """The body without one of the statements that were put in."""
    for k, statement in enumerate(body):
        if isinstance(statement, dev.BlockBarrier | dev.WaitGroup):
            yield body[:k] + body[k + 1 :]
        if isinstance(statement, dev.For):
            for inner in removals(statement.body, original):
                yield (*body[:k], replace(statement, body=inner), *body[k + 1 :])
        if isinstance(statement, dev.If):
            for inner in removals(statement.then, original):
                yield (*body[:k], replace(statement, then=inner), *body[k + 1 :])
            for inner in removals(statement.otherwise, original):
                yield (*body[:k], replace(statement, otherwise=inner), *body[k + 1 :])


@settings(max_examples=60)
@given(st.integers(0, 10**6))
def test_each_barrier_is_needed_in_straight_lines(seed: int) -> None:
    """Without loops and branches nothing can be left out."""
    r = random.Random(seed)
    body, buffers = random_body(r, 0), random_buffers(r)
    ordered = order_shared(body, buffers, frozenset(), False)
    for less in removals(ordered, body):
        assert hazards(less, spans_of(buffers), False) is not None


def test_reads_need_no_barrier_between_them() -> None:
    buffers = (dev.SharedBuffer("a", "f32", (32,)),)
    assert order_shared((read("a"), read("a")), buffers, frozenset(), False) == (read("a"), read("a"))


def test_a_loop_that_writes_and_reads_has_two_barriers_an_iteration() -> None:
    buffers = (dev.SharedBuffer("a", "f32", (32,)),)
    (made,) = order_shared((loop(write("a"), read("a")),), buffers, frozenset(), False)
    assert isinstance(made, dev.For)
    kinds = [type(s).__name__ for s in made.body]
    assert kinds == ["BlockBarrier", "StoreShared", "BlockBarrier", "Let"]


def test_a_copy_that_only_one_branch_waits_for_has_landed_before_its_bytes_are_written_again() -> None:
    """Found by the simulator: the copy could land on what the other buffer held by then."""
    buffers = (dev.SharedBuffer("a", "f32", (32,)), dev.SharedBuffer("b", "f32", (32,)))
    body = (*copy("a"), when((read("a"),)), write("b"))
    ordered = order_shared(body, buffers, frozenset(), False)
    assert hazards(ordered, spans_of(buffers), False) is None
    assert [type(s).__name__ for s in ordered[-3:]] == ["WaitGroup", "BlockBarrier", "StoreShared"]


# Stores to updated arrays -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "start", "barriers"),
    [
        (LAYOUT, 0, 0),  # each thread stores what it alone loaded
        (LAYOUT, 1, 1),
        (Distribution((32,), (Mode(16, 0, 1), Mode(2, 0, 16)), ()), 0, 0),
        (Distribution((32,), (Mode(16, 0, 2),), (Mode(2, 0, 1),)), 0, 1),
        (None, 0, 1),
    ],
)
def test_a_store_waits_for_loads_of_other_threads(layout: Distribution | None, start: int, barriers: int) -> None:
    loaded = dev.Let(fragment(), dev.Load(VIEW, (index(0),), 0))
    value = dev.Fragment(1, "v", "f32", (32,) if layout else (), layout, ORIGIN)
    store = dev.Store(VIEW, (index(start),), value, ORIGIN)
    made = order_shared((loaded, store), (), frozenset(), False, frozenset({"x"}))
    assert sum(isinstance(s, dev.BlockBarrier) for s in made) == barriers
    assert order_shared((loaded, store), (), frozenset(), False) == (loaded, store)


# Placing -----------------------------------------------------------------------------------------------------


def defined_before_use(r: random.Random, known: frozenset[str] = frozenset(), depth: int = 2) -> Body:
    """As the lowering makes them: a buffer is read where an earlier statement of this or an outer block wrote it."""
    made: list[dev.Statement] = []
    for _ in range(r.randint(2, 5)):
        kind, name = r.choice(["read", "read", "write", "write", "loop", "if"]), r.choice(NAMES)
        if kind == "write" or (kind == "read" and name not in known):
            made.append(write(name))
            known |= {name}
        elif kind == "read" or depth == 0:
            made += [read(n) for n in sorted(known)[:1]]
        elif kind == "loop":
            made.append(loop(*defined_before_use(r, known, depth - 1)))
        else:
            made.append(when(defined_before_use(r, known, depth - 1), defined_before_use(r, known, depth - 1)))
    return tuple(made)


@settings(max_examples=150)
@given(st.integers(0, 10**6))
def test_what_is_read_has_not_been_overwritten(seed: int) -> None:
    r = random.Random(seed)
    body = defined_before_use(r)
    shapes = {n: (r.choice([32, 200, 600, 3000]),) for n in NAMES}
    swizzles = {n: r.choice([None, dev.Swizzle(3, 2, 5)]) for n in NAMES}
    buffers = place_shared(body, [dev.SharedBuffer(n, "f32", shapes[n], swizzle=swizzles[n]) for n in NAMES])
    assert all(b.offset % (1024 if b.swizzle else 128) == 0 for b in buffers)
    spans = spans_of(buffers)
    for trace in [*traces(body)][:60]:
        assert overwritten(events(trace)[0], spans) is None


def overwritten(found: list[Event], spans: dict[str, tuple[int, int]]) -> tuple[Event, Event] | None:
    """A read and the write of another buffer's bytes that destroyed what it reads."""
    holders: dict[str, Event | None] = {}  # by buffer: who destroyed its content
    for event in found:
        if not event.writes:
            destroyer = holders[event.buffer]
            if destroyer is not None:
                return event, destroyer
            continue
        a = spans[event.buffer]
        for other in holders:
            b = spans[other]
            if a[0] < b[1] and b[0] < a[1]:
                holders[other] = event
        holders[event.buffer] = None
    return None


def test_buffers_that_follow_one_another_share_memory() -> None:
    body = (write("a"), read("a"), write("b"), read("b"))
    buffers = place_shared(body, [dev.SharedBuffer(n, "f32", (1000,)) for n in "ab"])
    assert [b.offset for b in buffers] == [0, 0]
    both = place_shared((write("a"), write("b"), read("a")), [dev.SharedBuffer(n, "f32", (1000,)) for n in "ab"])
    assert [b.offset for b in both] == [0, 4096]
