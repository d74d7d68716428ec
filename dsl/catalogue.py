"""Every diagnostic code with its explanation; examples are real texts and their diagnostics are computed."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from kernelagent.dsl.diagnostics import Diagnostic, KernelError, render

_STANDARD = """edition(1)

@kernel
def example(x: In[f32, M, N], y: Out[f32, M, N], BM=32, BN=64):
{header}    for i, j in tiles((M, N), (BM, BN)):
        v = load(x, (i, j), (BM, BN))
{body}"""


@dataclass(frozen=True)
class Entry:
    """`wrong` gives the code and `right` is accepted; both are None for codes that arise at a call or in a proof.
    `level`: 2 for texts that are schedules."""

    code: str
    title: str
    why: str
    wrong: str | None = None
    right: str | None = None
    level: int = 1


@cache
def entries() -> dict[str, Entry]:
    """Every code that a diagnostic may carry."""
    found: dict[str, Entry] = {}
    for level, package in ((1, "kernelagent.dsl"), (2, "kernelagent.dsl.level2")):
        table = tomllib.loads(files(package).joinpath("catalogue.toml").read_text(encoding="utf-8"))
        found |= {code: Entry(code, **record, level=level) for code, record in table.items()}
    return found


@cache
def families() -> dict[str, str]:
    """When each family of obligations holds."""
    text = files("kernelagent.dsl.verify").joinpath("families.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text))


def example_text(snippet: str, level: int = 1) -> str:
    """A whole kernel text from an example: lines are put into a standard kernel, functions get an edition line."""
    if level == 2:
        from kernelagent.dsl.level2.examples import example_text2

        return example_text2(snippet)
    text = snippet.strip("\n")
    if text.startswith(("edition(", "# no edition")):
        return text + "\n"
    if text.startswith(("@", "import ")):
        return f"edition(1)\n\n{text}\n"
    lines = text.splitlines()
    header = [line for line in lines if line.startswith(("on(", "require(", "claim("))]
    header += [line for line in lines if line.startswith("assume(") and len(lines) == 1]
    body = [line for line in lines if line not in header]
    if not any("store(y" in line or "add(y" in line for line in body):
        body.append("store(y, (i, j), v)")
    indented = "".join(f"        {line}\n" for line in body)
    return _STANDARD.format(header="".join(f"    {line}\n" for line in header), body=indented)


def diagnose(text: str, level: int = 1) -> tuple[Diagnostic, ...]:
    """Errors and warnings of a text of this level."""
    from kernelagent.dsl.elaborate import parse
    from kernelagent.dsl.level2.parse_schedule import parse_schedule

    try:
        if level == 2:
            parse_schedule(text)
            return ()
        return tuple(w for w in parse(text).warnings if isinstance(w, Diagnostic))
    except KernelError as error:
        return error.diagnostics


def explain(code: str) -> str:
    """What the code means, with a wrong text, its diagnostic, and a right text. Raises KeyError for other codes."""
    entry = entries()[code]
    parts = [f"{entry.code}: {entry.title}", "", entry.why]
    if entry.wrong is not None:
        text = example_text(entry.wrong, entry.level)
        shown = next((d for d in diagnose(text, entry.level) if d.code == code), None)
        parts += ["", "Wrong:", "", _indented(entry.wrong)]
        if shown is not None:
            parts += ["", _indented(render(shown, text, "example"))]
    if entry.right is not None:
        parts += ["", "Right:", "", _indented(entry.right)]
    return "\n".join(parts) + "\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.strip("\n").splitlines())
