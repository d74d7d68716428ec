"""The live view: bound, baselines, trials, best so far, gap and budget, redrawn in place on a terminal."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .summary import Board, Event, budget_text, milliseconds, shown_ms

SHOWN_TRIALS = 12
BAR_WIDTH = 36


class LiveView:
    """An observer that redraws a panel; use it as a context manager around the run."""

    def __init__(self, console: Console | None = None) -> None:
        self.board = Board()
        self._since = time.monotonic()
        self._step = ""
        self._open = ExitStack()
        self._live = Live(console=console or Console(stderr=True), refresh_per_second=4, get_renderable=self._draw)

    def __enter__(self) -> LiveView:
        from kernelagent.dsl.verify.progress import listening

        self._live.start()
        self._open.enter_context(listening(self._hear))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self._live.stop()

    def _hear(self, step: str) -> None:
        """A step of the trial at hand; the panel is redrawn by its own clock."""
        self._step = f": {step}"

    def __call__(self, event: Event) -> None:
        self.board.take(event)
        self._step = ""
        self._live.refresh()

    def _draw(self) -> Panel:
        board = self.board
        label = " · UNTIMED (estimates)" if board.untimed else ""
        title = f"{board.problem} · {board.workload} · {board.chip}{label}" if board.problem else "kernelagent"
        elapsed = f"{time.monotonic() - self._since:.0f} s"
        footer = f"{budget_text(board.budget, board.spent)} · {elapsed}" if board.budget else elapsed
        body = Group(
            _rivals(board),
            Text(),
            _trials(board),
            Text(),
            Text(board.stage + self._step, style="dim", no_wrap=True, overflow="ellipsis"),
        )
        return Panel(body, title=title, subtitle=footer, title_align="left", subtitle_align="right")


def _rivals(board: Board) -> Table:
    """Bound, baselines, seed and best, as bars on one scale (the longer, the slower)."""
    rows: list[tuple[str, float, str]] = []
    if board.sol.get("time_ms"):
        rows.append(("speed of light", board.sol["time_ms"], "blue"))
    if board.ceiling.get("time_ms"):
        rows.append(("ceiling", board.ceiling["time_ms"], "blue"))
    rows += [(name, ms, "yellow") for name, ms in board.baselines]
    if board.seed_ms:
        rows.append(("seed", board.seed_ms, "magenta"))
    if board.best_ms:
        rows.append(("best", board.best_ms, "green"))
    table = Table.grid(padding=(0, 2))
    longest = max((ms for _, ms, _ in rows), default=1.0)
    for name, ms, colour in rows:
        bar = "█" * max(1, round(BAR_WIDTH * ms / longest))
        table.add_row(name, Text(f"{milliseconds(ms):>12}"), Text(bar, style=colour), _note(board, name))
    return table


def _note(board: Board, name: str) -> str:
    if name != "best" or board.gap is None:
        return ""
    gain = f", {board.seed_ms / board.best_ms:.2f}x the seed" if board.seed_ms and board.best_ms else ""
    return f"{board.gap:.2f} x bound{gain}"


def _trials(board: Board) -> Table:
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for heading in ("trial", "status", "time", "change"):
        table.add_column(heading, justify="right" if heading in ("trial", "time") else "left", no_wrap=True)
    for trial in board.trials[-SHOWN_TRIALS:]:
        table.add_row(*_cells(board, trial), style="bold green" if trial["number"] == board.best_number else "")
    return table


def _cells(board: Board, trial: dict[str, Any]) -> tuple[str, str, str, str]:
    note = board.notes.get(trial["number"], "")
    return str(trial["number"]), trial["status"], shown_ms(trial), note
