"""Kernels of `tests/fixtures/semantics2`, written from the specification alone, and what must be said of them.

A file is named for its problem and holds sections. `### equal NAME: what is unusual` and a kernel (without its edition
line); `### wrong NAME of BASE: what is wrong` and edits of BASE: lines `- old`, then lines `+ new`, for each edit; `-*`
replaces every occurrence, `-` the only one. An equal kernel may be edits of another one too.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from kernelagent.problems.problem import Problem

from kernelagent import problems

FOLDER = Path(__file__).parents[1] / "fixtures" / "semantics2"
_HEADER = re.compile(r"### (equal|wrong) (\w+)(?: of (\w+))?: (.+)")


@dataclass(frozen=True)
class Case:
    """A kernel text, its problem, what must be said ("equal", "wrong"), and why."""

    name: str
    text: str
    of: Problem
    expect: str
    why: str


@cache
def cases() -> tuple[Case, ...]:
    """All of them, in the order of files and sections."""
    return tuple(case for path in sorted(FOLDER.glob("*.kernels")) for case in _read(path))


@cache
def _own_problems() -> dict[str, Problem]:
    spec = spec_from_file_location("semantics2_problems", FOLDER / "problems.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    found: dict[str, Problem] = module.PROBLEMS
    return found


def _read(path: Path) -> Iterator[Case]:
    problem = _own_problems().get(path.stem) or problems.load(path.stem)
    texts: dict[str, str] = {}
    for part in re.split(r"^(?=### )", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        head, _, body = part.partition("\n")
        match = _HEADER.fullmatch(head)
        assert match, f"{path.name}: {head}"
        expect, name, base, why = match.groups()
        assert name not in texts, f"{path.name}: {name} twice"
        texts[name] = _edited(texts[base], body, f"{path.stem}/{name}") if base else f"edition(1)\n\n{body.strip()}\n"
        yield Case(f"{path.stem}/{name}", texts[name], problem, expect, why)


def _edited(text: str, body: str, name: str) -> str:
    """`text` after the edits of `body`, one after the other."""
    for edit in re.findall(r"(?:^-.*\n)+(?:^\+.*\n)*", f"{body.strip()}\n", flags=re.M):
        text = _once(text, edit, name)
    return text


def _once(text: str, edit: str, name: str) -> str:
    lines = edit.strip("\n").split("\n")
    every = lines[0].startswith("-*")
    old = "\n".join(_content(line) for line in lines if line.startswith("-"))
    new = "\n".join(_content(line) for line in lines if line.startswith("+"))
    found = text.count(old)
    assert found == 1 or (every and found), f"{name}: {old!r} occurs {found} times"
    return text.replace(old, new)


def _content(line: str) -> str:
    return re.sub(r"^(-\*|-|\+) ?", "", line)
