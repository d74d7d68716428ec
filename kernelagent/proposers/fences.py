"""The kernel in a model's answer.

The rule: the last complete fenced block (``` or ~~~, with any or no language name) that defines a kernel. Blocks that
define none are passed over, and so is a fence that was never closed. An answer without any fence counts only if the
whole of it is a kernel text. Everything else is a failure with a sentence that the model can act on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_FENCE = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[ \t]*([^\n`]*)$")
_DECORATOR = re.compile(r"^@(kernel|program)\b", re.MULTILINE)
_EDITION = re.compile(r"^\s*(#[^\n]*\n\s*)*edition\(")


@dataclass(frozen=True)
class Extracted:
    """`text`, or None with the `failure`."""

    text: str | None
    failure: str | None = None


def extract(answer: str) -> Extracted:
    """See the module's docstring for the rule."""
    if not answer.strip():
        return Extracted(None, "the answer is empty; answer with one kernel text in a fence")
    blocks, unclosed = fenced(answer)
    kernels = [b for b in blocks if _DECORATOR.search(b)]
    if kernels:
        return Extracted(kernels[-1].strip("\n") + "\n")
    if unclosed:
        return Extracted(None, "the answer stops inside a fence; send the whole kernel text, and nothing after it")
    if blocks:
        return Extracted(None, "no fenced block defines a function under @kernel or @program")
    if _EDITION.match(answer) and _DECORATOR.search(answer):
        return Extracted(answer.strip("\n") + "\n")
    return Extracted(None, "the answer has no fenced kernel text; put the whole text into one ``` fence")


def fenced(answer: str) -> tuple[list[str], bool]:
    """Contents of the complete fences in order, and whether a last one was left open."""
    blocks: list[str] = []
    mark: str | None = None
    inside: list[str] = []
    for line in answer.splitlines():
        fence = _FENCE.match(line)
        if mark is None:
            if fence:
                mark, inside = fence[1], []
        elif fence and fence[1].startswith(mark) and not fence[2].strip():
            blocks.append("\n".join(inside))
            mark = None
        else:
            inside.append(line)
    return blocks, mark is not None
