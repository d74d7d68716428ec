"""The sentence that each kind of finding says."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping

from kernelagent.dsl.targets.emulator.facts import Fact, line_of, where, who
from kernelagent.dsl.targets.emulator.messages_async import ASYNC_SENTENCES


def message(fact: Fact) -> str:
    """One sentence, of the first occurrence."""
    return _SENTENCES[fact.kind](fact)


_RACES = {
    "write-read": "reads {at}, which thread {other} stored at {line}: no barrier lies between",
    "copy-read": "reads {at}, which thread {other} copied at {line} and waited for, but no barrier lies between",
    "write-write": "stores {at}, which thread {other} wrote at {line}: no barrier lies between",
    "write-copy": "copies into {at}, which thread {other} wrote at {line}: no barrier lies between",
    "read-write": "stores {at}, which thread {other} reads at {line}: no barrier lies between",
    "read-copy": "copies into {at}, which thread {other} still reads at {line}: no barrier lies between",
}


def _race(fact: Fact) -> str:
    sentence = _RACES[fact.detail].format(at=where(fact), other=fact.other_thread, line=line_of(fact.other_line))
    return f"{fact.call} of {who(fact)} {sentence}"


def _misaligned(fact: Fact) -> str:
    what = where(fact) if fact.detail == "shared" else fact.place
    return f"{fact.call} of {who(fact)}: {what} is not aligned to {fact.number} bytes"


def _deadlock(fact: Fact) -> str:
    parts = []
    for call, line, threads, first, block, detail in fact.waits:
        many = f"{threads} threads" if threads > 1 else "thread"
        those = f"{many} from {first} on" if threads > 1 else f"thread {first}"
        those += f" of block {block}" if block != fact.block else ""
        have, wait = ("have", "wait") if threads > 1 else ("has", "waits")
        why = f": {detail}" if detail else ""
        parts.append(f"{those} {have} returned" if call == "return" else f"{those} {wait} in {call} (line {line}){why}")
    return f"block {fact.block} can never go on: " + "; ".join(parts)


def _divergence(fact: Fact) -> str:
    if fact.detail == "no warpgroup":
        return f"{fact.call} of {who(fact)} needs 128 threads; the block's last warps are fewer"
    if fact.detail == "descriptor":
        return f"{fact.call} of {who(fact)} has another descriptor than the first thread of its warpgroup"
    whole = "block" if fact.detail == "barrier" else fact.detail
    return (
        f"block {fact.block}: thread {fact.thread} is at {fact.call} ({line_of(fact.line)}) while thread "
        f"{fact.other_thread} of the same {whole} is at {line_of(fact.other_line)}"
    )


def _double_store(fact: Fact) -> str:
    other = f"thread {fact.other_thread} of block {fact.other_block} at {line_of(fact.other_line)}"
    return f"{who(fact)} stores {fact.place}, which {other} has stored already"


def _global_race(fact: Fact) -> str:
    verbs = {"write-read": ("reads", "stored"), "read-write": ("stores", "read"), "write-write": ("stores", "stored")}
    own, others = verbs[fact.detail]
    other = f"thread {fact.other_thread} of block {fact.other_block} {others} at {line_of(fact.other_line)}"
    return f"{who(fact)} {own} {fact.place}, which {other}: nothing orders the two"


def _never_stored(fact: Fact) -> str:
    masked, elsewhere = (
        f"the store at {line_of(fact.line)} left it out",
        f"none names it ({line_of(fact.line)} stores others)",
    )
    why = masked if fact.detail == "masked" else elsewhere if fact.line else "the array has no stores"
    return f"{fact.place} is never stored: {why}"


def _never_read(fact: Fact) -> str:
    masked, elsewhere = (
        f"the load at {line_of(fact.line)} masks it off",
        f"none names it ({line_of(fact.line)} loads others)",
    )
    why = masked if fact.detail == "masked" else elsewhere if fact.line else "the array has no loads"
    return f"{fact.place} is never read: {why}"


def _crash(fact: Fact) -> str:
    name = signal.Signals(fact.number).name if fact.number else "no signal"
    return f"{who(fact)} died with {name} after {fact.call} ({line_of(fact.line)})"


_SENTENCES: Mapping[str, Callable[[Fact], str]] = {
    **ASYNC_SENTENCES,
    "race": _race,
    "uninitialised-shared": lambda f: f"{f.call} of {who(f)} reads {where(f)}, which nobody in the block has written",
    "shared-out-of-bounds": lambda f: (
        f"{f.call} of {who(f)} touches shared bytes {f.at} to {f.at + f.bytes - 1} of {f.number}"
    ),
    "torn-matrix": lambda f: (
        f"{f.call} of {who(f)}: the row at {where(f)} was copied from columns {abs(f.number)} further "
        f"{'right' if f.number > 0 else 'left'} in {f.array} than the matrix's first row (copy at "
        f"{line_of(f.other_line)}): the two sides swizzle differently"
    ),
    "misaligned": _misaligned,
    "global-out-of-bounds": lambda f: f"{f.call} of {who(f)} touches {f.place or 'an array that was never passed'}",
    "strided-vector": lambda f: f"{f.call} of {who(f)}: no axis of {f.array} is contiguous, a vector cannot be taken",
    "wrong-address": lambda f: f"{f.call} of {who(f)}: the address is not that of {f.place}",
    "store-to-input": lambda f: f"{f.call} of {who(f)} stores {f.place}, an input",
    "uninitialised-global": lambda f: f"{f.call} of {who(f)} reads {f.place}, an output that was not stored before",
    "double-store": _double_store,
    "block-race": _global_race,
    "global-race": _global_race,
    "never-stored": _never_stored,
    "never-read": _never_read,
    "unwaited-copy": lambda f: f"{who(f)} ends without waiting for the copy of {line_of(f.line)}",
    "unread-copy": lambda f: f"what {who(f)} copied to {where(f)} was never read",
    "uninitialised-register": lambda f: f"{f.call} of {who(f)} takes a register that was never given a value",
    "lane-out-of-range": lambda f: f"{f.call} of {who(f)} names lane {f.number}",
    "divergence": _divergence,
    "deadlock": _deadlock,
    "timeout": lambda f: f"{who(f)} still runs at the time limit, last seen in {f.call} ({line_of(f.line)})",
    "crash": _crash,
}
