"""Small edits of a level-two text that may mend a fault: a wait, a barrier, a fence, a number one off.

Each is a text again; nothing here knows whether it is right. Lines count from 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kernelagent.dsl.verify.records import ScheduleCounterexample

NEAR = 10
"""Lines around a fault in which a word is looked for."""
_NUMBER = re.compile(r"(?<![\w.])\d+(?![\w.])")
_COUNTED = re.compile(r"(?:expect|arrive|wait)\((\w+)\[(\w+) % (\d+)\]")
_PARITY = re.compile(r"\((\w+) // (\d+)( \+ 1)?\) % 2")


@dataclass(frozen=True)
class Edit:
    """What to do, as a person would say it, and the text after it. `ordering`: it changes no value that is computed."""

    said: str
    text: str
    ordering: bool = True


SHORT = 40
"""Statements up to this length are said old and new; of longer ones the new one."""


def _changed(old: str, new: str) -> str:
    """`wait_group(2) -> wait_group(1)`; where that is long, the whole new statement."""
    if old.strip() == new.strip():
        return f"{new.strip()} {'further left' if len(new) < len(old) else 'further right'}"
    before, after = (line.split("#")[0].strip() for line in (old, new))
    return f"{before} -> {after}" if max(len(before), len(after)) <= SHORT else f"write {after}"


@dataclass(frozen=True)
class Lines:
    """A text by lines, with edits that keep it well-formed."""

    lines: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Lines:
        return cls(tuple(text.split("\n")))

    def __getitem__(self, number: int) -> str:
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def indent(self, number: int) -> int:
        return len(self[number]) - len(self[number].lstrip())

    def word(self, number: int) -> str:
        """What a line says, without indentation and comment."""
        return self[number].split("#")[0].strip()

    def insert(self, number: int, *words: str, after: bool = False) -> Edit:
        """Statements in front of (or behind) a line, as far to the right as it is."""
        made = [" " * self.indent(number) + w for w in words]
        at = number if after else number - 1
        said = f"insert {' and '.join(words)} {'behind' if after else 'in front of'} line {number}"
        return Edit(said, "\n".join([*self.lines[:at], *made, *self.lines[at:]]))

    def replace(self, number: int, new: str, ordering: bool = True) -> Edit:
        said = f"line {number}: {_changed(self[number], new)}"
        return Edit(said, "\n".join([*self.lines[: number - 1], new, *self.lines[number:]]), ordering)

    def move(self, number: int, to: int) -> Edit:
        """A line in front of another, as far to the right as that one is."""
        moved = " " * self.indent(to) + self.word(number)
        rest = [x for n, x in enumerate(self.lines, 1) if n != number]
        at = to - 1 if to < number else to - 2
        said = f"move {self.word(number)} of line {number} in front of line {to}"
        return Edit(said, "\n".join([*rest[:at], moved, *rest[at:]]))

    def above(self, number: int, *words: str) -> int:
        """The nearest line in front that begins with a word (or any) and stands further left; 0: none."""
        depth = self.indent(number)
        lines = (n for n in range(number - 1, 0, -1) if self.word(n) and self.indent(n) < depth)
        return next((n for n in lines if not words or self.word(n).startswith(words)), 0)

    def all(self, *words: str) -> list[int]:
        """Every line that begins with a word."""
        return [n for n in range(1, len(self.lines) + 1) if self.word(n).startswith(words)]

    def near(self, number: int, *words: str) -> list[int]:
        """Lines that begin with a word, the nearest in front of `number` first, then those behind it."""
        found = [n for n in self.all(*words) if abs(n - number) <= NEAR]
        return sorted(found, key=lambda n: (n >= number, abs(n - number)))


def edits(fault: ScheduleCounterexample, text: str) -> Iterator[Edit]:
    """Likely ones first, each text once."""
    seen = {text}
    for edit in _edits(fault, Lines.of(text)):
        if edit.text not in seen:
            seen.add(edit.text)
            yield edit


def _edits(fault: ScheduleCounterexample, text: Lines) -> Iterator[Edit]:
    here, other = fault.line or 0, fault.other_line or fault.line or 0
    writers = _writers(text, fault.place.split("[")[0])
    if fault.family == "protocol":
        yield from _protocol(text, here, other)
    match fault.kind:
        case "in-flight" | "exit-in-flight" | "missing-wait":
            yield from _waits(text, here, other)
            yield from _commits(text, here, other)
        case "overwritten" | "race" | "overwrite":
            yield from _fewer(text, here)
            yield from _barriers(text, here, other)
        case "not-fenced":
            yield from _fences(text, here, other)
    yield from _numbers(text, list(dict.fromkeys((here, other, *writers))))
    yield from _barriers(text, here, other)


def _writers(text: Lines, buffer: str) -> list[int]:
    """Lines that fill a buffer, and the loops around them."""
    if not buffer:
        return []
    words = ("copy_async", "copy_bulk", "store_shared", "copy")
    found = [n for n in text.all(*(f"{w}({buffer}" for w in words))]
    return [*found, *(loop for n in found if (loop := text.above(n, "for ")))]


def _barrier_word(text: Lines, line: int) -> str:
    """What all threads of the role around a line meet at."""
    role = text.above(line, "with role")
    if not role:
        return "barrier()"
    end = next((n for n in text.all("with role") if n > role), len(text.lines) + 1)
    used = [n for n in text.all("role_barrier(") if role < n < end]
    return text.word(used[0]) if used else "role_barrier(1)"


# Waits ------------------------------------------------------------------------------------------------------


def _waits(text: Lines, here: int, other: int) -> Iterator[Edit]:
    """A smaller count, a wait in front of the barrier that publishes, or both in front of the access."""
    for number in text.near(here, "wait_group(", "wgmma_wait(", "wait_bulk("):
        yield from _less(text, number)
        for barrier in text.near(number, "barrier()", "role_barrier("):
            if barrier in (number - 1, number + 1):
                yield text.move(max(number, barrier), min(number, barrier))
    word = _wait_word(text, here, other)
    for pending in (2, 1, 0):
        for barrier in text.near(here, "barrier()", "role_barrier("):
            if barrier < here and text.indent(barrier) == text.indent(here):
                yield text.insert(barrier, f"{word}({pending})")
    meeting = _barrier_word(text, here)
    for number in text.near(here, "wait_group("):
        yield text.insert(number, meeting, after=True)
    for pending in (1, 0):
        yield text.insert(here, f"{word}({pending})", meeting)
    yield text.insert(here, "wait_group(0)")
    yield text.insert(here, "wgmma_wait(0)")


def _wait_word(text: Lines, here: int, other: int) -> str:
    if "store_bulk" in text[other]:
        return "wait_bulk"
    return "wgmma_wait" if "mma(" in text[other] and "wgmma" in text[other] else "wait_group"


def _less(text: Lines, number: int) -> Iterator[Edit]:
    """A wait that lets fewer groups stay in flight."""
    found = re.search(r"\((\d+)\)", text[number])
    for pending in range(int(found[1]) - 1, -1, -1) if found else ():
        yield text.replace(number, text[number].replace(f"({found[1]})", f"({pending})", 1))  # type: ignore[index]


def _fewer(text: Lines, here: int) -> Iterator[Edit]:
    """Smaller counts of the waits around, and these waits a little earlier or later."""
    for number in text.near(here, "wait_group(", "wgmma_wait(", "wait_bulk("):
        yield from _less(text, number)
        for to in (number - 1, number - 2, number + 2, number + 3):
            if text.word(to) and text.indent(to) == text.indent(number):
                yield text.move(number, to)


def _commits(text: Lines, here: int, other: int) -> Iterator[Edit]:
    """A group that is closed behind its copies, outside the `if` that guards them."""
    last = other
    while text.word(last + 1).startswith("copy_async("):
        last += 1
    outer = text.above(other)
    depths = [text.indent(outer), text.indent(other)] if text.word(outer).startswith("if ") else [text.indent(other)]
    for depth in depths:
        lines = [*text.lines[:last], " " * depth + "commit()", *text.lines[last:]]
        yield Edit(f"insert commit() behind line {last}", "\n".join(lines))
    for number in text.near(other, "commit()"):
        outside = " " * max(text.indent(number) - 4, 0) + "commit()"
        yield text.replace(number, outside)
        for to in range(number + 1, number + 5):
            if text.word(to) and to != number + 1:
                yield text.move(number, to)


# Barriers and fences ------------------------------------------------------------------------------------------


def _barriers(text: Lines, here: int, other: int) -> Iterator[Edit]:
    """One between the two accesses: in front of the later one, behind the earlier one, or moved there."""
    meeting = _barrier_word(text, here)
    for number in text.near(here, "barrier()", "role_barrier("):
        for to in (number - 1, number + 2, number - 2, number + 3, number - 3):
            if text.word(to) and text.indent(to) == text.indent(number):
                yield text.move(number, to)
    yield text.insert(here, meeting)
    outer = text.above(here)
    if text.word(outer).startswith("if "):
        yield text.insert(outer, meeting)
    yield text.insert(other, meeting, after=True)
    loop = next(
        (n for n in range(here, 0, -1) if text.word(n).startswith("for ") and text.indent(n) < text.indent(here)), 0
    )
    if loop:
        yield text.insert(loop + 1, meeting)


def _fences(text: Lines, here: int, other: int) -> Iterator[Edit]:
    for number in text.near(here, "fence_async()"):
        for to in (number - 1, number + 2):
            if text.word(to):
                yield text.move(number, to)
    yield text.insert(other, "fence_async()", after=True)
    yield text.insert(other, "fence_async()", _barrier_word(text, other), after=True)
    yield text.insert(here, "fence_async()")
    yield text.insert(here, "wgmma_fence()")


# Protocols and numbers ------------------------------------------------------------------------------------------


def _protocol(text: Lines, here: int, other: int) -> Iterator[Edit]:
    """Parities turned, waits added or moved, counts and stages of barriers one off, arrivals taken away."""
    waits = text.all("wait(")
    for number in dict.fromkeys((here, other, *waits)):
        yield from _parities(text, number)
    yield from _fewer(text, here)
    for number in dict.fromkeys((here, other)):
        for wait in _phase_waits(text):
            yield text.insert(number, wait)
    for number in [n for n in range(1, len(text.lines) + 1) if "mbarrier(" in text[n] or "arrive(" in text[n]]:
        yield from _one_off(text, number, True)
    for number in text.near(other, "arrive("):
        yield Edit(f"delete line {number}", "\n".join(x for n, x in enumerate(text.lines, 1) if n != number))
    yield from (e for n in dict.fromkeys((here, other, *waits)) for e in _one_off(text, n, True))


def _parities(text: Lines, number: int) -> Iterator[Edit]:
    """The other parity, and that of the counter where there is a constant."""
    line = text[number]
    for found in _PARITY.finditer(line):
        turned = f"({found[1]} // {found[2]}{'' if found[3] else ' + 1'}) % 2"
        yield text.replace(number, line.replace(found[0], turned, 1))
    if text.word(number).startswith("wait("):
        for wait in _phase_waits(text):
            if wait.rsplit(", ", 1)[0] == text.word(number).rsplit(", ", 1)[0]:
                yield text.replace(number, " " * text.indent(number) + wait)


def _phase_waits(text: Lines) -> list[str]:
    """Waits for each stage of a barrier that the text counts, in both parities."""
    found: list[str] = []
    for name, counter, stages in _COUNTED.findall("\n".join(text.lines)):
        for turn in ("", " + 1"):
            found.append(f"wait({name}[{counter} % {stages}], ({counter} // {stages}{turn}) % 2)")
    return list(dict.fromkeys(found))


def _numbers(text: Lines, lines: Sequence[int]) -> Iterator[Edit]:
    for number in lines:
        yield from _one_off(text, number, False)


def _one_off(text: Lines, number: int, ordering: bool) -> Iterator[Edit]:
    """Every number of a line one less and one more."""
    for found in _NUMBER.finditer(text[number]):
        for value in (int(found[0]) - 1, int(found[0]) + 1):
            if value >= 0:
                line = text[number]
                yield text.replace(number, f"{line[: found.start()]}{value}{line[found.end() :]}", ordering)


__all__ = ["Edit", "Lines", "edits"]
