"""One JSON object on stdout or readable lines; progress goes to stderr."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from kernelagent.views.summary import figure

json_option = click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object on stdout.")


class OutFile(click.Path):
    """A file to be written: its folder must be there."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, writable=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        folder = Path(os.fsdecode(super().convert(value, param, ctx))).parent
        if not folder.is_dir():
            self.fail(f"there is no folder '{folder}'.", param, ctx)
        return folder / Path(value).name


def print_json(record: Mapping[str, Any]) -> None:
    """One object, never a list: keys can be added to it."""
    click.echo(json.dumps(_finite(record), indent=2, default=str))


def _finite(value: Any) -> Any:
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def progress(line: str) -> None:
    click.echo(line, err=True)


@contextmanager
def shown_progress(step: str = "") -> Iterator[None]:
    """On stderr the step that a command is at: on a terminal one line, gone when it ends; elsewhere a line of its own
    for steps that take seconds. `step`: before anything is said."""
    from kernelagent.dsl.verify.progress import listening
    from kernelagent.views.heartbeat import Heartbeat

    if not is_terminal():
        with Heartbeat(progress, step) as heartbeat, listening(heartbeat.step):
            yield
        return
    width = max(shutil.get_terminal_size().columns - 1, 20)
    with listening(lambda line: _redraw(line[:width])):
        if step:
            _redraw(step[:width])
        try:
            yield
        finally:
            _redraw("")


def _redraw(line: str) -> None:
    click.echo(f"\r\x1b[K{line}", err=True, nl=False, color=True)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A plain aligned table: text left, numbers right."""
    cells = [list(headers), *[["" if c is None else str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    numeric = [all(_is_number(row[i]) for row in cells[1:]) and len(cells) > 1 for i in range(len(headers))]
    for row in cells:
        line = "  ".join(c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        click.echo(line.rstrip())


def _is_number(text: str) -> bool:
    stripped = text.rstrip("x%").strip()
    return not stripped or stripped.lstrip("-").replace(".", "", 1).replace("e-", "", 1).isdigit()


def is_terminal() -> bool:
    return sys.stderr.isatty()


def milliseconds(value: float | None) -> str:
    return "-" if value is None else figure(value)


def ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}x"
