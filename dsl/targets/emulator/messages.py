"""The runner's records, and the sentence that each kind of finding says."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kernelagent.dsl.device import SharedBuffer, stage_bytes, stage_elements
from kernelagent.dsl.dtypes import DTYPES


@dataclass(frozen=True)
class Fact:
    """A record of the runner with names in place of numbers; -1 stands for what does not apply."""

    kind: str
    detail: str
    call: str
    block: int
    thread: int
    line: int
    array: str | None
    at: int
    bytes: int
    coordinates: tuple[int, ...]
    place: str
    other_block: int
    other_thread: int
    other_line: int
    number: int
    waits: tuple[tuple[str, int, int, int], ...]
    count: int

    @staticmethod
    def of(record: Mapping[str, Any], names: Sequence[str], buffers: Sequence[SharedBuffer]) -> Fact:
        values = dict(record)
        array = names[values["array"]] if values["array"] >= 0 else None
        coordinates = tuple(values["coordinates"])
        shared = values["kind"] in SHARED or values["detail"] == "shared"
        place = f"{array}[{_commas(coordinates)}]" if array else ""
        if shared:
            place = shared_place(values["at"], buffers)
        waits = tuple((c, ln, n, t) for c, ln, n, t in values.pop("waits"))
        values |= {"array": array, "coordinates": coordinates, "place": place, "waits": waits}
        return Fact(**values)


SHARED = frozenset({
    "race", "missing-wait", "overwrite-in-flight", "uninitialised-shared", "shared-out-of-bounds", "torn-matrix",
    "unread-copy",
})  # fmt: skip


def shared_place(at: int, buffers: Sequence[SharedBuffer]) -> str:
    """The elements at a byte offset, of every buffer that lies there: `a_tile[1][3, 16]`."""
    return " or ".join(p for p in (_in_buffer(at, b) for b in buffers) if p)


def _in_buffer(at: int, buffer: SharedBuffer) -> str | None:
    stage, within = divmod(at - buffer.offset, stage_bytes(buffer))
    element = within * 8 // DTYPES[buffer.dtype].bits
    if not 0 <= stage < buffer.stages or element >= stage_elements(buffer):
        return None
    if s := buffer.swizzle:
        element ^= (element >> s.shift) & (((1 << s.bits) - 1) << s.base)
    extents = (*buffer.shape[:-1], buffer.shape[-1] + buffer.pad)
    coordinates: list[int] = []
    for extent in reversed(extents):
        coordinates.insert(0, element % extent)
        element //= extent
    which = f"[{stage}]" if buffer.stages > 1 else ""
    return f"{buffer.name}{which}[{_commas(coordinates)}]"


def message(fact: Fact) -> str:
    """One sentence, of the first occurrence."""
    return _SENTENCES[fact.kind](fact)


def _commas(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _who(fact: Fact) -> str:
    return f"thread {fact.thread} of block {fact.block}"


def _where(fact: Fact) -> str:
    """The shared bytes of an access."""
    place = f" ({fact.place})" if fact.place else ""
    return f"shared byte {fact.at}{place}"


def _line(number: int) -> str:
    return f"line {number}" if number else "no line"


_RACES = {
    "write-read": "reads {at}, which thread {other} stored at {line}: no barrier lies between",
    "copy-read": "reads {at}, which thread {other} copied at {line} and waited for, but no barrier lies between",
    "write-write": "stores {at}, which thread {other} wrote at {line}: no barrier lies between",
    "write-copy": "copies into {at}, which thread {other} wrote at {line}: no barrier lies between",
    "read-write": "stores {at}, which thread {other} reads at {line}: no barrier lies between",
    "read-copy": "copies into {at}, which thread {other} still reads at {line}: no barrier lies between",
}


def _race(fact: Fact) -> str:
    sentence = _RACES[fact.detail].format(at=_where(fact), other=fact.other_thread, line=_line(fact.other_line))
    return f"{fact.call} of {_who(fact)} {sentence}"


def _missing_wait(fact: Fact) -> str:
    why = "its group was never committed" if fact.detail == "uncommitted" else "its group has not been waited for"
    return (
        f"{fact.call} of {_who(fact)} reads {_where(fact)} while the copy of thread {fact.other_thread} "
        f"({_line(fact.other_line)}) may still be in flight: {why}"
    )


def _overwrite(fact: Fact) -> str:
    return (
        f"{fact.call} of {_who(fact)} writes {_where(fact)} while the copy of thread {fact.other_thread} "
        f"({_line(fact.other_line)}) into it may still be in flight"
    )


def _misaligned(fact: Fact) -> str:
    what = _where(fact) if fact.detail == "shared" else fact.place
    return f"{fact.call} of {_who(fact)}: {what} is not aligned to {fact.number} bytes"


def _deadlock(fact: Fact) -> str:
    parts = []
    for call, line, threads, first in fact.waits:
        many = f"{threads} threads" if threads > 1 else "thread"
        who = f"{many} from {first} on" if threads > 1 else f"thread {first}"
        have, wait = ("have", "wait") if threads > 1 else ("has", "waits")
        parts.append(f"{who} {have} returned" if call == "return" else f"{who} {wait} in {call} (line {line})")
    return f"block {fact.block} can never go on: " + "; ".join(parts)


def _divergence(fact: Fact) -> str:
    whole = "block" if fact.detail == "barrier" else "warp"
    return (
        f"block {fact.block}: thread {fact.thread} is at {fact.call} ({_line(fact.line)}) while thread "
        f"{fact.other_thread} of the same {whole} is at {_line(fact.other_line)}"
    )


def _double_store(fact: Fact) -> str:
    other = f"thread {fact.other_thread} of block {fact.other_block} at {_line(fact.other_line)}"
    return f"{_who(fact)} stores {fact.place}, which {other} has stored already"


def _global_race(fact: Fact) -> str:
    verbs = {"write-read": ("reads", "stored"), "read-write": ("stores", "read"), "write-write": ("stores", "stored")}
    own, others = verbs[fact.detail]
    other = f"thread {fact.other_thread} of block {fact.other_block} {others} at {_line(fact.other_line)}"
    return f"{_who(fact)} {own} {fact.place}, which {other}: nothing orders the two"


def _never_stored(fact: Fact) -> str:
    masked, elsewhere = (
        f"the store at {_line(fact.line)} left it out",
        f"none names it ({_line(fact.line)} stores others)",
    )
    why = masked if fact.detail == "masked" else elsewhere if fact.line else "the array has no stores"
    return f"{fact.place} is never stored: {why}"


def _never_read(fact: Fact) -> str:
    masked, elsewhere = (
        f"the load at {_line(fact.line)} masks it off",
        f"none names it ({_line(fact.line)} loads others)",
    )
    why = masked if fact.detail == "masked" else elsewhere if fact.line else "the array has no loads"
    return f"{fact.place} is never read: {why}"


def _crash(fact: Fact) -> str:
    name = signal.Signals(fact.number).name if fact.number else "no signal"
    return f"{_who(fact)} died with {name} after {fact.call} ({_line(fact.line)})"


_SENTENCES = {
    "race": _race,
    "missing-wait": _missing_wait,
    "overwrite-in-flight": _overwrite,
    "uninitialised-shared": lambda f: f"{f.call} of {_who(f)} reads {_where(f)}, which nobody in the block has written",
    "shared-out-of-bounds": lambda f: (
        f"{f.call} of {_who(f)} touches shared bytes {f.at} to {f.at + f.bytes - 1} of {f.number}"
    ),
    "torn-matrix": lambda f: (
        f"ldmatrix of {_who(f)}: the row at {_where(f)} was copied from columns {abs(f.number)} further "
        f"{'right' if f.number > 0 else 'left'} in {f.array} than the matrix's first row (copy at "
        f"{_line(f.other_line)}): the two sides swizzle differently"
    ),
    "misaligned": _misaligned,
    "global-out-of-bounds": lambda f: f"{f.call} of {_who(f)} touches {f.place or 'an array that was never passed'}",
    "strided-vector": lambda f: f"{f.call} of {_who(f)}: no axis of {f.array} is contiguous, a vector cannot be taken",
    "wrong-address": lambda f: f"{f.call} of {_who(f)}: the address is not that of {f.place}",
    "store-to-input": lambda f: f"{f.call} of {_who(f)} stores {f.place}, an input",
    "uninitialised-global": lambda f: f"{f.call} of {_who(f)} reads {f.place}, an output that was not stored before",
    "double-store": _double_store,
    "block-race": _global_race,
    "global-race": _global_race,
    "never-stored": _never_stored,
    "never-read": _never_read,
    "unwaited-copy": lambda f: f"{_who(f)} ends without waiting for the copy of {_line(f.line)}",
    "unread-copy": lambda f: f"what {_who(f)} copied to {_where(f)} was never read",
    "uninitialised-register": lambda f: f"{f.call} of {_who(f)} takes a register that was never given a value",
    "lane-out-of-range": lambda f: f"{f.call} of {_who(f)} names lane {f.number}",
    "divergence": _divergence,
    "deadlock": _deadlock,
    "timeout": lambda f: f"{_who(f)} still runs at the time limit, last seen in {f.call} ({_line(f.line)})",
    "crash": _crash,
}
