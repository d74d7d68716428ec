"""Sentences about barriers with phases, bulk copies, warpgroup products, roles and clusters."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kernelagent.dsl.targets.emulator.facts import Fact, line_of, where, who

_MISSING_WAIT = {
    "uncommitted": "while the copy of thread {other} ({line}) may still be in flight: its group was never committed",
    "committed": "while the copy of thread {other} ({line}) may still be in flight: its group has not been waited for",
    "bulk": "which the bulk copy of thread {other} ({line}) writes: this thread has not waited for the phase that "
    "counts its bytes",
}

_IN_FLIGHT = {
    "uncommitted": "while the copy of thread {other} ({line}) into it may still be in flight",
    "committed": "while the copy of thread {other} ({line}) into it may still be in flight",
    "bulk": "while the bulk copy of thread {other} ({line}) into it may still be in flight: this thread does not know "
    "that its phase has completed",
    "wgmma": "while the product of {line} may still read it: this thread does not know that anybody waited for its "
    "group",
    "bulk-store": "while the bulk store of thread {other} ({line}) may still read it: this thread does not know that "
    "its group has been waited for",
}


def missing_wait(fact: Fact) -> str:
    why = _MISSING_WAIT[fact.detail].format(other=fact.other_thread, line=line_of(fact.other_line))
    comma = "," if fact.detail == "bulk" else ""
    return f"{fact.call} of {who(fact)} reads {where(fact)}{comma} {why}"


def overwrite(fact: Fact) -> str:
    why = _IN_FLIGHT[fact.detail].format(other=fact.other_thread, line=line_of(fact.other_line))
    return f"{fact.call} of {who(fact)} writes {where(fact)} {why}"


def _proxy_fence(fact: Fact) -> str:
    verb = "reads" if fact.detail == "read" else "writes"
    return (
        f"{fact.call} of {who(fact)} {verb} {where(fact)} through the async proxy; thread {fact.other_thread} stored "
        f"it at {line_of(fact.other_line)}, and no ka_fence_async lies between"
    )


_INIT = {
    "never": "uses {at}, where no barrier was initialised",
    "unseen": "uses the barrier of {at}, whose init at {line} it has not seen: a barrier of the block (of the cluster "
    "for other blocks' barriers) must lie between",
    "unfenced": "uses the barrier of {at} before ka_mbar_fence_init made its init at {line} visible there",
    "again": "initialises the barrier of {at} again (first at {line})",
}


def _init(fact: Fact) -> str:
    return f"{fact.call} of {who(fact)} " + _INIT[fact.detail].format(at=where(fact), line=line_of(fact.other_line))


_COUNTS = {
    "init": "initialises {at} for {number} arrivals; 1 to 1048575 are possible",
    "bytes": "makes {at} expect {number} bytes in a phase; 0 to 1048575 are possible",
    "arrivals": "arrives at {at}, whose phase {number} has had all {bytes} arrivals and waits for bytes",
    "parity": "waits for parity {number} of {at}; parities are 0 and 1",
    "warps": "meets {number} threads at a barrier; whole warps are possible",
    "turn": "arrives at a barrier without knowing that all of its last turn (at {line}) have come: "
    "it may be counted there",
    "disagree": "meets {number} threads at a barrier where others (at {line}) expect {bytes}",
}


def _counts(fact: Fact) -> str:
    facts = {"at": where(fact), "number": fact.number, "bytes": fact.bytes, "line": line_of(fact.other_line)}
    return f"{fact.call} of {who(fact)} " + _COUNTS[fact.detail].format(**facts)


def _transaction_bytes(fact: Fact) -> str:
    come = "never comes to an end" if fact.detail == "fewer" else "ends while bytes are on their way, or never"
    return (
        f"the barrier at {where(fact)} expects {fact.number} bytes ({line_of(fact.line)}), the bulk copies of that "
        f"phase bring {fact.bytes}: the phase {come}"
    )


_LEAVES = {
    "arrive": "arrives at a barrier of block {other}, which may have ended: nobody in that block learns of it",
    "load": "copies into the shared memory of block {other}, in which nobody waits for it: the block may have ended",
    "store": "ends without waiting for its bulk store: the shared memory that it reads goes away",
    "wgmma": "ends without waiting for its product",
}


def _exit(fact: Fact) -> str:
    return f"{who(fact)} ({line_of(fact.line)}) {_LEAVES[fact.detail].format(other=fact.other_block)}"


_REGISTERS = {
    "read": "takes a value that comes from an accumulator in flight: the product of {line} has not been waited for",
    "write": "an accumulator of {who} was written while the product of {line} was in flight (found at its wait)",
    "a": "registers of {who} that the product of {line} reads as a were written while it was in flight (found at its "
    "wait)",
    "overlap": "the accumulator shares registers with that of the product in flight of {line}",
}


def _register_in_flight(fact: Fact) -> str:
    place = line_of(fact.other_line) if fact.other_line else "another line"
    return f"{fact.call} of {who(fact)}: " + _REGISTERS[fact.detail].format(line=place, who=who(fact))


_SPLITS = {
    "step": "asks for {number} registers: a multiple of 8 from 24 to 256 is possible",
    "more": "asks for {number} registers, {bytes} are there already",
    "pool": "waits for {number} registers for ever: with what the others have given back {bytes} are there",
    "less": "keeps {number} registers of {bytes}",
}


def _register_count(fact: Fact) -> str:
    return f"{fact.call} of {who(fact)} " + _SPLITS[fact.detail].format(number=fact.number, bytes=fact.bytes)


ASYNC_SENTENCES: Mapping[str, Callable[[Fact], str]] = {
    "missing-wait": missing_wait,
    "overwrite-in-flight": overwrite,
    "missing-proxy-fence": _proxy_fence,
    "barrier-overwritten": lambda f: (
        f"{f.call} of {who(f)} writes {where(f)}, a barrier that was initialised at {line_of(f.other_line)}"
    ),
    "barrier-init": _init,
    "barrier-count": _counts,
    "transaction-bytes": _transaction_bytes,
    "no-such-block": lambda f: f"{f.call} of {who(f)} names block {f.number} of its cluster, which has fewer",
    "overlapping-tile": lambda f: (
        f"{f.call} of {who(f)}: the descriptor of operand {f.detail} reads {where(f)} as two different elements"
    ),
    "box-rank": lambda f: f"{f.call} of {who(f)} gives {f.number} coordinates to a tensor map of rank {f.bytes}",
    "exit-in-flight": _exit,
    "register-in-flight": _register_in_flight,
    "missing-wgmma-fence": lambda f: (
        f"{f.call} of {who(f)} takes registers that were written after the last ka_wgmma_fence"
    ),
    "register-count": _register_count,
}
