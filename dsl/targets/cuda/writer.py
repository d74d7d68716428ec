"""Lines of an emitted body, with #line marks wherever a reported call would be given the wrong line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kernelagent.dsl.ir import Origin

_REPORTING = re.compile(
    r"\bka_(ldg|stg|atomic|scalar|lds|sts|cp_async|commit|wait|barrier|shfl|ldmatrix|mma"
    r"|tma|mbar|wgmma|named|fence|cluster)"
)


class Writer:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 1
        self._line: int | None = None  # of the kernel's text, for what is written next
        self._next: int | None = None  # what the compiler takes the next physical line for

    def at(self, origin: Origin) -> None:
        """What follows comes from here."""
        self._line = origin.span.line
        self._mark()

    def forget(self) -> None:
        """Lines may be put in here later: what follows needs a mark of its own."""
        self._next = None

    def put(self, text: str) -> None:
        """One physical line."""
        if _REPORTING.search(text):
            self._mark()
        self.lines.append("    " * self.depth + text)
        if self._next is not None:
            self._next += 1

    @contextmanager
    def block(self, head: str) -> Iterator[None]:
        """`head { ... }`; an empty head makes a bare scope."""
        self.put(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.put("}")

    @contextmanager
    def loops(self, heads: Sequence[str], pragma: str = "") -> Iterator[None]:
        """A nest of loops around one body; the outer ones without braces of their own."""
        if not heads:
            yield
            return
        for head in heads:
            if pragma:
                self.put(pragma)
            if head is not heads[-1]:
                self.put(head)
        with self.block(heads[-1]):
            yield

    def _mark(self) -> None:
        if self._line is not None and self._line != self._next:
            self.lines.append(f'#line {self._line} "kernel"')
            self._next = self._line
