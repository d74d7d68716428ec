"""One record for every mistake: what a person reads, what `--json` prints, what an agent is prompted with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, order=True)
class Span:
    """A place in a kernel text; lines and columns count from 1, `end_column` is exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True)
class Diagnostic:
    """`code` is a key of the catalogue (`explain CODE`); `facts` are the values that the message talks about."""

    code: str
    message: str
    span: Span | None = None
    severity: Severity = "error"
    hint: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    origin: tuple[Span, ...] = ()  # call sites of @inline functions, outermost first

    def to_dict(self) -> dict[str, Any]:
        record = asdict(self)
        record["line"] = self.span.line if self.span else None
        record["column"] = self.span.column if self.span else None
        return record


def diagnostic_from(record: Mapping[str, Any]) -> Diagnostic:
    """Inverse of `Diagnostic.to_dict`."""
    spans = [Span(**s) if s else None for s in (record.get("span"), *record.get("origin", ()))]
    return Diagnostic(
        record["code"], record["message"], spans[0], record["severity"], record.get("hint"),
        dict(record.get("facts") or {}), tuple(s for s in spans[1:] if s),
    )  # fmt: skip


class KernelError(Exception):
    """A kernel text is wrong. Carries every diagnostic that was found; never shown as a traceback."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(f"{d.code}: {d.message}" for d in self.diagnostics))


def render(diagnostic: Diagnostic, text: str, filename: str = "kernel") -> str:
    """The diagnostic with its source line and carets, as compilers print it."""
    head = f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    parts = [head]
    for span in (*diagnostic.origin, *([diagnostic.span] if diagnostic.span else [])):
        parts.append(_excerpt(span, text, filename))
    if diagnostic.hint:
        parts.append(f"  help: {diagnostic.hint}")
    return "\n".join(parts)


def render_all(diagnostics: Sequence[Diagnostic], text: str, filename: str = "kernel") -> str:
    return "\n\n".join(render(d, text, filename) for d in diagnostics)


MAX_DIAGNOSTICS = 20
"""Of one text that are looked for: more would be the same one again."""
MOST_BLOCKS = 6
"""That a person is shown at once: with one more line these are fewer than 40."""
_MOST_PLACES = 8


def render_most(diagnostics: Sequence[Diagnostic], text: str, filename: str = "kernel") -> str:
    """As `render_all`, for a screen: a mistake that is made again is one block that names the other lines, and what is
    beyond `MOST_BLOCKS` is counted."""
    found: dict[tuple[str, str, str | None, Severity], list[Diagnostic]] = {}
    for one in diagnostics:
        found.setdefault((one.code, one.message, one.hint, one.severity), []).append(one)
    blocks = [render(same[0], text, filename) + _again(same) for same in list(found.values())[:MOST_BLOCKS]]
    left = sum(len(same) for same in list(found.values())[MOST_BLOCKS:])
    last = [f"{left} more in --json"] * (left > 0) + [f"only the first {len(diagnostics)} mistakes were looked for"] * (
        len(diagnostics) >= MAX_DIAGNOSTICS
    )
    return "\n\n".join([*blocks, *(["; ".join(last)] if last else [])])


def _again(same: Sequence[Diagnostic]) -> str:
    """The other lines of the same mistake."""
    first = same[0].span.line if same[0].span else 0
    lines = sorted({one.span.line for one in same if one.span} - {first})
    if not lines:
        return ""
    named = ", ".join(str(n) for n in lines[:_MOST_PLACES])
    rest = f" and {len(lines) - _MOST_PLACES} more" if len(lines) > _MOST_PLACES else ""
    return f"\n  also: line{'s' * (len(lines) > 1)} {named}{rest}"


EXCERPT = 160
"""Longer lines are shown around the place only."""


def _excerpt(span: Span, text: str, filename: str) -> str:
    lines = text.splitlines()
    line = lines[span.line - 1] if 0 < span.line <= len(lines) else ""
    end = span.end_column if span.end_line == span.line else len(line) + 1
    number = str(span.line)
    gutter = " " * len(number)
    cut = 0 if len(line) <= EXCERPT else max(0, span.column - 1 - EXCERPT // 2)
    shown = "".join(
        c if c.isprintable() or c == "\t" else "\N{REPLACEMENT CHARACTER}" for c in line[cut : cut + EXCERPT]
    )
    start = span.column - 1 - cut
    carets = " " * start + "^" * max(1, min(end - span.column, EXCERPT - start))
    return f" {gutter}--> {filename}:{span.line}:{span.column}\n {number} | {shown}\n {gutter} | {carets}"
