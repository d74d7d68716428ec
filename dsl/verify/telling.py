"""One counterexample, three forms: text with carets for a person, plain values for a program, lines for a prompt.

    for block in told(report.counterexamples, text, "gemm.tile"): print(block)

Failures are grouped by obligation and pair of lines; the first three groups are shown, as long as they fit into 40
lines and 800 tokens (`tokens` says how they are counted), and the others are counted. UNKNOWN is never told as a
failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kernelagent.dsl.diagnostics import Diagnostic, Span, render
from kernelagent.dsl.verify.records import (
    Counterexample,
    DeviceCounterexample,
    ScheduleCounterexample,
)

MOST_GROUPS = 3
MOST_LINES = 40
MOST_TOKENS = 800
_WIDTH = 96
_MARK = re.compile(r"\s+# line \d+$")
"""Where a printed schedule says which line a statement came from."""
_CARETS = 32
_RESERVED_TOKENS, _RESERVED_LINES = 150, 8
"""Kept for what stands around the counterexamples."""
_TOKEN = re.compile(r"[A-Za-z]{1,7}|\d{1,3}|([^\w\s])\1*|_|\n| {2,}")


def tokens(text: str) -> int:
    """About as many as models read, rather more: a word counts for every 7 letters, a number for every 3 digits, a run
    of one sign (a line of carets) once, so does each line break and each indentation."""
    return sum(1 for _ in _TOKEN.finditer(text))


@dataclass(frozen=True)
class Group:
    """Failures of one obligation at one pair of lines. `number`: the ID of the first, from 1, for `check --trace`."""

    number: int
    first: Counterexample
    others: int


def groups(counterexamples: Sequence[Counterexample]) -> list[Group]:
    """In the order in which their first was found."""
    found: dict[tuple[object, ...], list[int]] = {}
    for number, one in enumerate(counterexamples, 1):
        found.setdefault((one.family, one.lines), []).append(number)
    return [Group(n[0], counterexamples[n[0] - 1], len(n) - 1) for n in found.values()]


def told(counterexamples: Sequence[Counterexample], text: str, filename: str = "kernel") -> list[str]:
    """A block of at most 12 lines for each of the first groups, and a line that counts the others."""
    blocks: list[str] = []
    every = groups(counterexamples)
    mended = next((g.number for g in every if fixes(g.first)), None)
    for group in every[:MOST_GROUPS]:
        block = counterexample_text(group, text, filename)
        if mended is not None and isinstance(group.first, ScheduleCounterexample) and not fixes(group.first):
            block += f"\n  fix: that of [{mended}]"
        together = "\n".join((*blocks, block))
        fits = tokens(together) <= MOST_TOKENS - _RESERVED_TOKENS
        if blocks and not (fits and together.count("\n") < MOST_LINES - _RESERVED_LINES):
            break
        blocks.append(block)
    left = every[len(blocks) :]
    if left:
        blocks.append(f"{len(left)} more: {_rest(left)}")
    return blocks


def _rest(left: Sequence[Group]) -> str:
    named = [f"[{g.number}] {g.first.family} at {_lines(g.first)}" for g in left[:4]]
    return "; ".join(named) + ("; ..." if len(left) > 4 else "")


def _lines(c: Counterexample) -> str:
    if not c.lines:
        return "no line"
    return ("line " if len(c.lines) == 1 else "lines ") + " and ".join(map(str, c.lines))


def counterexample_text(group: Group, text: str, filename: str = "kernel") -> str:
    """At most 12 lines: the message, both source lines with carets, where, why, how far, and a proved fix."""
    one = group.first
    shown = [_MARK.sub("", line)[:_WIDTH] for line in text.splitlines()]
    spans = list(dict.fromkeys(s for n in one.lines[:2] if (s := _span(shown, n)) is not None))
    message = f"[{group.number}] {one.family}: {_clipped(one.message, 150)}"
    diagnostic = Diagnostic("refuted", message, spans[-1] if spans else None, origin=tuple(spans[:-1]))
    body = render(diagnostic, "\n".join(shown), filename).replace("error[refuted]", "REFUTED", 1)
    return "\n".join([body, *(f"  {name}: {line}" for name, line in _facts(group))])


def _span(lines: Sequence[str], number: int) -> Span | None:
    """The beginning of the statement on a line."""
    if not 0 < number <= len(lines):
        return None
    line = lines[number - 1]
    column = len(line) - len(line.lstrip()) + 1
    return Span(number, column, number, min(len(line.rstrip()) + 1, column + _CARETS))


def _facts(group: Group) -> Iterator[tuple[str, str]]:
    """Names and lines of what stands below the source."""
    one = group.first
    yield "where", _clipped(where(one), 160)
    if other := getattr(one, "other", ""):
        yield "other", _clipped(other, 110)
    if (one.expected, one.found) != (None, None) and f"is {one.found}," not in one.message:
        yield "expected", f"{_value(one.expected)}, found {_value(one.found)}"
    if why := getattr(one, "why", ""):
        yield "why", _clipped(why, 240)
    if far := _scope(group):
        yield "scope", _clipped(far, 130)
    for fix in fixes(one)[:1]:
        yield "fix", fix


def _scope(group: Group) -> str:
    more = f"{group.others} more of this kind at these lines" if group.others else ""
    return "; ".join(p for p in (group.first.scope, more) if p)


def fixes(one: Counterexample) -> tuple[str, ...]:
    return one.fixes


def where(one: Counterexample) -> str:
    """Sizes, thread, iteration and element: `M=1, K=32: block 0, warp 0, lane 3, k=0: a_s[stage 0][0, 5]`."""
    parts = [_assigned(one.sizes) or _anywhere(one)]
    parts.append(", ".join(p for p in (_thread(one), *_iterations(one)) if p))
    parts.append(getattr(one, "place", "") or _element(one))
    return ": ".join(p for p in parts if p)


def _anywhere(one: Counterexample) -> str:
    named = getattr(one, "shape_class", "")
    return f"all sizes, in the schedule of the {named} class" if named else "all sizes"


def _thread(one: Counterexample) -> str:
    if not isinstance(one, DeviceCounterexample | ScheduleCounterexample):
        return ""
    block = "" if one.block is None else f"block {one.block}"
    role = getattr(one, "role", "")
    lane = "" if one.warp is None else f"warp {one.warp}, lane {one.lane}"
    return ", ".join(p for p in (block, role, lane) if p)


def _iterations(one: Counterexample) -> Iterator[str]:
    if one.iterations and one.iterations[0]:
        yield _assigned(one.iterations[0])
    if isinstance(one, ScheduleCounterexample) and one.barrier is not None:
        yield f"{one.barrier}[{one.stage}]" + (f" in phase {one.phase}" if one.phase is not None else "")
        if one.iteration is not None:
            yield f"iteration {one.iteration}"


def _assigned(values: Mapping[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in values.items())


def _element(one: Counterexample) -> str:
    return f"{one.array}{list(one.element)}" if one.array and one.element is not None else one.array or ""


def _value(value: float | int | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "-" if value is None else str(value)


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3].rstrip() + "..."


# Prompts -------------------------------------------------------------------------------------------------


def prompt(counterexamples: Sequence[Counterexample], text: str) -> str:
    """For a model: the same facts with the source lines quoted, without carets."""
    lines = text.splitlines()
    every = groups(counterexamples)
    parts = [_prompted(g, lines) for g in every[:MOST_GROUPS]]
    left = every[MOST_GROUPS:]
    return "\n\n".join([*parts, *([f"{len(left)} more: {_rest(left)}"] if left else [])])


def _prompted(group: Group, lines: Sequence[str]) -> str:
    one = group.first
    quoted = [
        f"  line {n}: {_MARK.sub('', lines[n - 1]).strip()[:_WIDTH]}" for n in one.lines[:2] if 0 < n <= len(lines)
    ]
    facts = [f"  {name}: {line}" for name, line in _facts(group)]
    return "\n".join([f"REFUTED {one.family}: {one.message}", *quoted, *facts])


__all__ = [
    "MOST_LINES",
    "MOST_TOKENS",
    "Group",
    "counterexample_text",
    "fixes",
    "groups",
    "prompt",
    "tokens",
    "told",
    "where",
]
