"""What is known of each byte of shared memory: who wrote it and when, who has read it since, and what it holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from kernelagent.dsl.verify.records import Family
from kernelagent.dsl.verify.schedule.clocks import ALWAYS, NEVER, Agents, Clock
from kernelagent.dsl.verify.schedule.footprints import MANY, Footprint
from kernelagent.dsl.verify.schedule.places import Integers

Kind = Literal[
    "race", "overwritten", "uninitialised", "in-flight", "not-fenced", "other-element", "other-stage",
]  # fmt: skip
FAMILIES: dict[Kind, Family] = {
    "race": "races", "overwritten": "races", "uninitialised": "definedness", "in-flight": "completion",
    "not-fenced": "completion", "other-element": "flow", "other-stage": "flow",
}  # fmt: skip


@dataclass(frozen=True)
class Access:
    """One statement's access, at a time of its agent."""

    agent: int
    time: int
    site: int
    touched: Footprint
    clock: Clock
    asynchronous: bool = False  # through the asynchronous proxy: generic writes must be fenced for it

    @property
    def whose(self) -> Any:
        """As `threads`, or the one number for all."""
        threads = self.touched.threads
        return threads if np.ndim(threads) == 0 else self.threads

    @property
    def threads(self) -> Integers:
        """Of each element; MANY and ASYNCHRONOUS are no single one."""
        return np.broadcast_to(self.touched.threads, self.touched.bytes.shape).reshape(-1)


@dataclass(frozen=True)
class Conflict:
    """Elements of an access that break a rule, with the other access. Arrays are over the elements at fault."""

    kind: Kind
    access: Access
    elements: Integers  # flat positions in the access
    other_sites: Integers
    other_threads: Integers


class Shadow:
    """Shared memory of one block: `places` bytes in granules, or as many merged places (`granule` 1). `channels`
    numbers are what the domain keeps of a value."""

    def __init__(self, places: int, granule: int, agents: Agents, channels: int) -> None:
        count = -(-places // granule)
        self.granule, self.agents = granule, agents
        self.writer = np.full(count, NEVER, np.int32)
        self.write_time = np.full(count, NEVER, np.int64)
        self.write_order = np.full(count, NEVER, np.int64)
        self.write_thread = np.full(count, NEVER, np.int32)
        self.write_site = np.full(count, NEVER, np.int32)
        self.element = np.full(count, NEVER, np.int32)  # the granule in which the element that was written begins
        self.width = np.zeros(count, np.int8)
        self.values = np.full((channels, count), np.nan)
        self.readers: dict[int, tuple[Any, Any, Any]] = {}  # agent: time, thread, site of its last read
        self.kinds = np.array([a.kind == "generic" for a in agents.all])
        self.copies = np.array([a.kind in ("generic", "copies") for a in agents.all])

    def read(self, access: Access) -> tuple[Any, list[Conflict]]:
        """What the domain kept of the elements, (channels, *shape of the access), and what is wrong with reading."""
        touched = access.touched
        at = touched.bytes.reshape(-1) // self.granule if self.granule > 1 else touched.bytes.reshape(-1)
        clean = not len(self.values) and self._readable(access, at)
        found = [] if clean else list(self._unreadable(access, at, access.threads))
        self._note_read(access, at)
        return self.values[:, at].reshape(len(self.values), *touched.bytes.shape), found

    def write(self, access: Access, values: Any, order: int) -> list[Conflict]:
        """`values`: (channels, *shape of the access). `order`: the running number of the statement."""
        size = access.touched.size
        at = access.touched.bytes.reshape(-1) // self.granule if self.granule > 1 else access.touched.bytes.reshape(-1)
        count = max(size // self.granule, 1)
        every = np.concatenate([at + k for k in range(count)]) if count > 1 else at
        clean = self._writable(access, every)
        found = [] if clean else list(self._conflicts(access, every, np.tile(access.threads, count)))
        for k, one in enumerate(np.split(every, count) if count > 1 else (every,)):
            self.writer[one], self.write_time[one], self.write_order[one] = access.agent, access.time, order
            self.write_thread[one], self.write_site[one] = access.whose, access.site
            self.element[one], self.width[one] = at, size
            if len(self.values):
                self.values[:, one] = values.reshape(len(self.values), at.size) if k == 0 else np.nan
        for times, _, _ in self.readers.values():
            times[every] = NEVER
        return found

    # Rules -------------------------------------------------------------------------------------------

    def _readable(self, access: Access, at: Integers) -> bool:
        """Whether all is written, known to all threads and fenced: then no rule is broken."""
        writer = self.writer[at]
        return bool((writer >= 0).all()) and self._ordered(access, at, writer)

    def _writable(self, access: Access, at: Integers) -> bool:
        """Whether what was written and read before is known to all threads."""
        known = access.clock.known
        return self._ordered(access, at, self.writer[at]) and all(
            int(times[at].max(initial=NEVER)) <= known[agent] for agent, (times, _, _) in self.readers.items()
        )

    def _ordered(self, access: Access, at: Integers, writer: Any) -> bool:
        """Of what nobody has written, the times are NEVER, which every clock knows."""
        known = bool((access.clock.known[writer] >= self.write_time[at]).all())
        return known and not (access.asynchronous and bool(self._unfenced(access, at).any()))

    def _unreadable(self, access: Access, at: Integers, threads: Any) -> Iterator[Conflict]:
        writer, known = self.writer[at], writer_known(self, access, at, threads)
        missing = writer == NEVER
        yield from self._conflict("uninitialised", access, missing, at)
        late = ~missing & ~known
        flying = late & ~self.kinds[writer]
        yield from self._conflict("in-flight", access, flying, at)
        yield from self._conflict("race", access, late & ~flying, at)
        if access.asynchronous:
            yield from self._conflict("not-fenced", access, ~missing & known & self._unfenced(access, at), at)
        if len(self.values):
            other = ~missing & known & ((self.element[at] != at) | (self.width[at] != access.touched.size))
            yield from self._conflict("other-element", access, other, at)

    def _unfenced(self, access: Access, at: Integers) -> Any:
        """Generic writes that no fence has made visible to the asynchronous proxy."""
        writer = self.writer[at]
        return self.copies[writer] & (access.clock.fenced[writer] < self.write_order[at])

    def _conflicts(self, access: Access, at: Integers, threads: Any) -> Iterator[Conflict]:
        missing = self.writer[at] == NEVER
        late = ~missing & ~writer_known(self, access, at, threads)
        flying = late & ~self.kinds[self.writer[at]]
        yield from self._conflict("race", access, late & ~flying, at)
        yield from self._conflict("in-flight", access, flying, at)
        if access.asynchronous:
            yield from self._conflict("not-fenced", access, ~missing & ~late & self._unfenced(access, at), at)
        for agent, (times, who, sites) in self.readers.items():
            read, by = times[at], who[at]
            known = (access.clock.known[agent] >= read) | ((by == threads) & (access.clock.own[agent] >= read))
            broken = (read != NEVER) & ~known
            if broken.any():
                yield Conflict("overwritten", access, np.flatnonzero(broken), sites[at][broken], by[broken])

    def _conflict(self, kind: Kind, access: Access, broken: Any, at: Integers) -> Iterable[Conflict]:
        if not broken.any():
            return ()
        there = at[broken]
        return (Conflict(kind, access, np.flatnonzero(broken), self.write_site[there], self.write_thread[there]),)

    def _note_read(self, access: Access, at: Integers) -> None:
        if access.agent not in self.readers:
            count = len(self.writer)
            blank = (np.full(count, NEVER, np.int64), np.full(count, NEVER, np.int32), np.full(count, NEVER, np.int32))
            self.readers[access.agent] = blank
        times, who, sites = self.readers[access.agent]
        before, threads = times[at], access.whose
        forgotten = access.clock.known[access.agent] >= before  # or never read
        who[at] = threads if forgotten.all() else np.where(forgotten | (who[at] == threads), threads, MANY)
        times[at], sites[at] = access.time, access.site
        if access.touched.repeated:
            low, high = np.full(len(self.writer), ALWAYS), np.full(len(self.writer), -ALWAYS)
            np.minimum.at(low, at, access.threads)
            np.maximum.at(high, at, access.threads)
            who[at] = np.where(low[at] == high[at], who[at], MANY)


class Valued(Shadow):
    """Values by granules of memory, rules by merged places: what is known of one byte of a place is known of all. Is
    told accesses with both (`Paired`). A conflict is a place's: which elements it is about says a `Shadow` of them."""

    def __init__(self, size: int, granule: int, places: int, agents: Agents, channels: int) -> None:
        super().__init__(places, 1, agents, 0)
        count = -(-size // granule)
        self.step = granule
        self.held = np.full((channels, count), np.nan)
        self.begins = np.full(count, NEVER, np.int32)
        self.widths = np.zeros(count, np.int8)

    def read(self, access: Access) -> tuple[Any, list[Conflict]]:
        touched = access.touched
        at = touched.bytes.reshape(-1) // self.step
        _, found = super().read(_in_places(access))
        other = (self.begins[at] != at) | (self.widths[at] != touched.size)
        if not found and other.any():
            none = np.full(1, NEVER)
            found = [Conflict("other-element", access, np.flatnonzero(other)[:1], none, none)]
        return self.held[:, at].reshape(len(self.held), *touched.bytes.shape), found

    def write(self, access: Access, values: Any, order: int) -> list[Conflict]:
        touched = access.touched
        found = super().write(_in_places(access), np.zeros((0, touched.bytes.size)), order)
        at = touched.bytes.reshape(-1) // self.step
        for k in range(max(touched.size // self.step, 1)):
            self.begins[at + k], self.widths[at + k] = at, touched.size
            self.held[:, at + k] = values.reshape(len(self.held), at.size) if k == 0 else np.nan
        return found


def _in_places(access: Access) -> Access:
    assert access.touched.places is not None
    return replace(access, touched=access.touched.places)


def writer_known(shadow: Shadow, access: Access, at: Integers, threads: Any) -> Any:
    """Whether the last write of each granule has happened before the access."""
    writer, time = shadow.writer[at], shadow.write_time[at]
    same = (shadow.write_thread[at] == threads) & (threads >= 0)
    return (access.clock.known[writer] >= time) | (same & (access.clock.own[writer] >= time))
