"""A fast path for rows that fit one tile."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator, Sequence

from kernelagent.dsl.moves.registry import Arguments, move
from kernelagent.dsl.moves.source import (  # fmt: skip
    Edit,
    MoveError,
    Source,
    arguments_of,
    below,
    blocks,
    called,
    calls,
    edited,
    extract,
    fresh,
    functions,
    named,
    read,
    renamed,
    same,
    target_names,
)
from kernelagent.dsl.moves.tunables import row_tunables, set_tunable
from kernelagent.dsl.moves.values import array_of


def _propose(source: Source) -> Iterator[Arguments]:
    for function in functions(source, "kernel"):
        for size in (1024, 2048, 4096, 8192, 16384, 32768):
            yield from ({"size": size, **rows, "kernel": function.name} for rows in ({"rows": 1}, {}))


@move(_propose)
def whole_row(text: str, size: int, rows: int | None = None, kernel: str | None = None) -> str:
    """Hold a whole row in one tile where it fits, and load it once; longer rows keep the loops.

    The tile of the row loops becomes `size` wide, and `rows` high if given: a wide tile of many rows leaves the caches.
    Under `if C <= BC:` each loop has exactly one iteration, at 0, so its body stands there once with 0 for the
    variable, and equal loads are named once; the other arm is the text as it was. Sound because this holds for every
    C: a tail inside the tile is void, and zero columns store nothing in either arm.
    """
    step = _row_loops(read(text), kernel)[2]
    widened = set_tunable(text if rows is None else _rows_high(text, rows, kernel), step, size, kernel)
    source = read(widened)
    block, serial, step = _row_loops(source, kernel)
    end = source.segment(arguments_of(serial[0])[1])
    indent = source.indent(block[0])
    loops_text = textwrap.indent(textwrap.dedent(source.lines_of(block)), indent + "    ")
    once = textwrap.indent(_flat(source, block, serial), indent + "    ")
    new = f"{indent}if {end} <= {step}:\n{once}{indent}else:\n{loops_text}"
    return edited(widened, [Edit(source.line_start(block[0]), source.line_end(block[-1]), new)])


def _rows_high(text: str, rows: int, kernel: str | None) -> str:
    """The text with every row tile of the kernel `rows` high."""
    names = {n for f in named(read(text), kernel) for n in row_tunables(f)}
    if not names:
        raise MoveError("no tunable says how many rows a tile has")
    for name in sorted(names):
        text = set_tunable(text, name, rows, kernel)
    return text


def _row_loops(source: Source, kernel: str | None) -> tuple[list[ast.stmt], list[ast.For], str]:
    """The block with several loops over one range (0, end, tunable), those loops, and the tunable."""
    for function in named(source, kernel):
        if any(isinstance(n, ast.If) and any(isinstance(c, ast.For) for c in below(n)) for n in below(function)):
            continue  # it has a fast path already
        for block in blocks(function):
            serial = [s for s in block if isinstance(s, ast.For) and called(s.iter, "pipeline")]
            if len(serial) >= 2 and all(same(s.iter, serial[0].iter) for s in serial):
                start, _, step = (*arguments_of(serial[0]), None, None)[:3]
                single = all(isinstance(s.target, ast.Name) and not s.orelse for s in serial)
                zero = isinstance(start, ast.Constant) and start.value == 0
                if single and zero and isinstance(step, ast.Name):
                    return block, serial, step.id
    raise MoveError("no block passes over a row more than once")


def _flat(source: Source, block: Sequence[ast.stmt], serial: Sequence[ast.For]) -> str:
    """The block with each loop replaced by its body at position 0, not indented, repeated loads named once."""
    parts = []
    for statement in block:
        if isinstance(statement, ast.For) and statement in serial:
            body = statement.body
            zero = renamed(source, body, {target_names(statement.target)[0]: "0"})
            lines = extract(source, source.line_start(body[0]), source.line_end(body[-1]), zero)
        else:
            lines = source.lines_of([statement])
        parts.append(textwrap.dedent(lines if lines.endswith("\n") else lines + "\n"))
    return _shared("".join(parts), taken=source)


def _shared(text: str, taken: Source) -> str:
    """Name the loads that occur more than once, above the first use."""
    source = Source(text)
    groups: dict[str, list[ast.Call]] = {}
    for load in calls(source.tree, "load"):
        groups.setdefault(ast.dump(load), []).append(load)
    edits: list[Edit] = []
    for group in groups.values():
        if len(group) > 1:
            name = fresh(taken, f"{array_of(group[0])}_row")
            edits += [source.replace(load, name) for load in group]
            holder = min((_holder(source, load) for load in group), key=lambda s: s.lineno)
            edits.append(source.before(holder, [f"{name} = {source.segment(group[0])}"]))
    return edited(text, edits)


def _holder(source: Source, load: ast.Call) -> ast.stmt:
    return next(s for s in source.tree.body if any(n is load for n in below(s)))
