"""Whole level-two texts from the catalogue's snippets."""

from __future__ import annotations

import re

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


def example_text2(snippet: str) -> str:
    """A snippet inside the standard kernel; its own header lines stand in the header."""
    text = snippet.strip("\n")
    if text.startswith("edition("):
        return text + "\n"
    lines = text.splitlines()
    schedule = [x for x in lines if x.startswith("schedule(")] or [_SCHEDULE]
    guards = [x for x in lines if x.startswith("shape_class(")] or [_CLASS]
    declared = [x for x in lines if re.match(r"\w+ = (distribution|shared)\(", x)]
    body = [x for x in lines if x not in (*schedule, *guards, *declared)]
    return _STANDARD.format(
        header=_indented([*schedule, *guards], 4), declared=_indented(declared, 4), body=_indented(body, 8)
    )


def _indented(lines: list[str], by: int) -> str:
    return "".join(" " * by + line + "\n" for line in lines)
