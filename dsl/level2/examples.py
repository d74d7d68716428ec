"""Whole level-two texts from the catalogue's snippets."""

from __future__ import annotations

import re

from kernelagent.dsl.level2.guide import HOPPER_GEMM

_STANDARD = """edition(1)
level(2)

@kernel
def example(x: In[f32, M, N], h: In[f16, M, N], idx: In[i32, M], y: Out[f32, M, N]):
{header}    d = distribution((32, 64), lanes=((16, 1, 4), (8, 0, 1)), values=((4, 1, 1), (4, 0, 8)))
{declared}    for i, j in tiles((M, N), (32, 64)):
        v = load(x, (i, j), d, fill=0.0, vector=4)
{body}        store(y, (i, j), v, vector=4)
"""
_SCHEDULE = "schedule(sm_80, threads=128)"
_CLASS = 'shape_class("aligned", aligned(x, 16), aligned(y, 16))'


_PLACE = re.compile(r"# in place of: (.+?)(?: \.\.\. (.+))?")
"""First line of a snippet for the guide's Hopper kernel: which lines there it replaces, by how they begin."""


def example_text2(snippet: str) -> str:
    """A snippet inside the standard kernel; its own header lines stand in the header."""
    text = snippet.strip("\n")
    first, _, rest = text.partition("\n")
    if place := _PLACE.fullmatch(first):
        return _in_place(rest, place[1], place[2] or place[1])
    if text.startswith("edition("):
        return text + "\n"
    lines = text.splitlines()
    schedule = [x for x in lines if x.startswith("schedule(")] or [_SCHEDULE]
    guards = [x for x in lines if x.startswith("shape_class(")] or [_CLASS]
    declared = [x for x in lines if re.match(r"\w+ = (distribution|shared|mbarrier)\(", x)]
    body = [x for x in lines if x not in (*schedule, *guards, *declared)]
    return _STANDARD.format(
        header=_indented([*schedule, *guards], 4), declared=_indented(declared, 4), body=_indented(body, 8)
    )


def _in_place(snippet: str, first: str, last: str) -> str:
    lines = HOPPER_GEMM.strip("\n").splitlines()
    lo = next(n for n, line in enumerate(lines) if line.strip().startswith(first))
    hi = next(n for n, line in enumerate(lines) if n >= lo and line.strip().startswith(last))
    indent = len(lines[lo]) - len(lines[lo].lstrip())
    return "\n".join([*lines[:lo], _indented(snippet.splitlines(), indent).rstrip("\n"), *lines[hi + 1 :], ""])


def _indented(lines: list[str], by: int) -> str:
    return "".join(" " * by + line + "\n" for line in lines)
