"""What ptxas says with -v about each kernel, and the complaints of the compilers, read from their log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_ENTRY = re.compile(r"Compiling entry function '([^']+)' for '([^']+)'")
_STACK = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers")
_BARRIERS = re.compile(r"used (\d+) barriers")
_SHARED = re.compile(r"(\d+) bytes smem")
_ROUTINE = ("bytes gmem", "Compiling entry function", "Function properties for", "Compile time", "Used ")
_PTXAS = re.compile(r"^ptxas (?:info|warning)\s*:\s*(?P<text>.*)$")
_COMPLAINT = re.compile(r"^(?P<file>[^\s(][^(]*)\((?P<line>\d+)\): (?:catastrophic )?error:? *(?P<text>.*)$")
_ASSEMBLER = re.compile(r"^ptxas .*, line (?P<line>\d+); error\s*:\s*(?P<text>.*)$")
_FATAL = re.compile(r"^ptxas fatal\s*:\s*(?P<text>.*Insufficient registers.*)$")
_TOO_FEW = re.compile(
    r"Insufficient registers \((?P<has>\d+)\) .*in function '?(?P<function>\w+)'?\..* target of (?P<needs>\d+)"
)


@dataclass(frozen=True)
class Resources:
    """What one kernel takes. Registers are per thread; `shared_bytes` is the static part; the rest is in bytes."""

    function: str
    arch: str
    registers: int
    stack_bytes: int
    spill_store_bytes: int
    spill_load_bytes: int
    shared_bytes: int
    barriers: int

    @property
    def spills(self) -> bool:
        return self.spill_store_bytes + self.spill_load_bytes > 0


@dataclass(frozen=True)
class Complaint:
    """An error of the compiler. `file` and `line` are those of the #line mark; ptxas counts lines of its own input."""

    file: str | None
    line: int
    message: str


def resources(log: str) -> tuple[Resources, ...]:
    """One record for each kernel of the log of a compilation with --ptxas-options=-v."""
    parts = _ENTRY.split(log)[1:]  # name, arch, text, name, arch, text ...
    return tuple(_resources(*parts[i : i + 3]) for i in range(0, len(parts), 3))


def _resources(function: str, arch: str, text: str) -> Resources:
    # Device functions that were not inlined have a stack line of their own: the kernel pays for all of them.
    stack, stores, loads = (sum(column) for column in zip(*_stack_lines(text), strict=True))
    return Resources(
        function, arch, _number(_USED, text), stack, stores, loads, _number(_SHARED, text), _number(_BARRIERS, text)
    )


def _stack_lines(text: str) -> list[tuple[int, int, int]]:
    found = [(int(a), int(b), int(c)) for a, b, c in _STACK.findall(text)]
    return found or [(0, 0, 0)]


def _number(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return int(match[1]) if match else 0


def notes(log: str) -> tuple[str, ...]:
    """Lines of ptxas beyond the usual ones, each once: serialised wgmma, ignored limits, warnings."""
    found = (m["text"].strip() for line in log.splitlines() if (m := _PTXAS.match(line)))
    return tuple(dict.fromkeys(text for text in found if not any(r in text for r in _ROUTINE)))


def serialised(log: str) -> tuple[str, ...]:
    """Those notes of a log after which asynchronous products (wgmma) wait for each other or the code around them."""
    return serialising(notes(log))


def serialising(found: Iterable[str]) -> tuple[str, ...]:
    """As `serialised`, of notes."""
    return tuple(n for n in found if "are serialized" in n or "warpgroup.wait is injected" in n)


def complaints(log: str) -> tuple[Complaint, ...]:
    """Errors in the order of the log."""
    return tuple(_complaints(log))


def _complaints(log: str) -> Iterator[Complaint]:
    for line in log.splitlines():
        if match := _COMPLAINT.match(line):
            yield Complaint(match["file"], int(match["line"]), match["text"].strip())
        elif match := _ASSEMBLER.match(line):
            yield Complaint(None, int(match["line"]), match["text"].strip())
        elif match := _FATAL.match(line):
            yield Complaint(None, 0, match["text"].strip())


def too_few_registers(complaint: Complaint) -> tuple[str, int, int] | None:
    """The function, the registers a thread that its block's size leaves, and those that one of its products needs."""
    match = _TOO_FEW.search(complaint.message)
    return (match["function"], int(match["has"]), int(match["needs"])) if match else None
