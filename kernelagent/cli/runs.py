"""`kernelagent runs list|show|diff`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

import click

from .groups import HelpfulGroup
from .output import json_option, milliseconds, print_json, table


@click.group(cls=HelpfulGroup)
def runs() -> None:
    """Runs as folders: list, show, compare."""


def _folder(name: str) -> Path:
    from kernelagent.agent.run import run_folder
    from kernelagent.settings import load_settings

    return run_folder(load_settings().runs, name)


def _record(folder: Path) -> dict[str, Any] | None:
    from kernelagent.agent.events import read_events
    from kernelagent.agent.outcome import result_record

    return result_record(read_events(folder))


def _begun(folder: Path) -> dict[str, Any]:
    """A run that was stopped before its first trial ended: it can be resumed like any other."""
    from kernelagent.agent.events import read_events
    from kernelagent.agent.state import replay_state

    started = replay_state(read_events(folder)).started
    names = ("problem", "workload", "proposer")
    return {
        "run": folder.name, **{n: started.get(n, "-") for n in names}, "trials": 0, "best": None,
        "untimed": bool(started.get("untimed")), "finished": False,
    }  # fmt: skip


@runs.command("list")
@json_option
def list_runs(as_json: bool) -> None:
    """Every run, newest last."""
    from kernelagent.settings import load_settings

    folders = sorted(load_settings().runs.glob("*/events.jsonl"), key=lambda p: p.stat().st_mtime)
    if as_json:
        return print_json({"runs": [record for path in folders if (record := _record(path.parent))]})
    records = [_record(path.parent) or _begun(path.parent) for path in folders]
    if not records:
        return click.echo("no run yet; start one with: kernelagent optimize run softmax")
    return table(
        ("run", "problem", "workload", "proposer", "trials", "best ms", "state"),
        [
            (
                r["run"],
                r["problem"],
                r["workload"],
                r["proposer"],
                r["trials"],
                "UNTIMED" if r["untimed"] else milliseconds((r["best"] or {}).get("time_ms")),
                _state(r, path.parent),
            )
            for r, path in zip(records, folders, strict=True)
        ],
    )


def _state(record: dict[str, Any], folder: Path) -> str:
    from kernelagent.agent.events import being_worked_on

    if record["finished"]:
        return f"finished: {record['stop_reason']}"
    return "running" if being_worked_on(folder) else "can be resumed"


@runs.command()
@click.argument("run_id", metavar="RUN")
@json_option
def show(run_id: str, as_json: bool) -> None:
    """The trials of RUN, what each changed and how it ended."""
    from kernelagent.agent.events import read_events
    from kernelagent.agent.outcome import result_record
    from kernelagent.agent.trials import RIGHT
    from kernelagent.views.summary import Board, shown_ms

    folder = _folder(run_id)
    events = read_events(folder)
    board = Board()
    for event in events:
        board.take(event)
    if as_json:
        return print_json({"result": result_record(events), "trials": board.trials, "folder": str(folder)})
    label = ", UNTIMED: ms are estimates of a static model" if board.untimed else ""
    click.echo(f"{board.run}: {board.problem} {board.workload} on {board.chip}, proposer {board.proposer}{label}\n")
    table(
        ("trial", "status", "ms", "change"),
        [
            (t["number"], t["status"], shown_ms(t).removesuffix(" ms"), board.notes.get(t["number"], ""))
            for t in board.trials
        ],
    )
    for event in events:
        detail = event["trial"]["detail"] if event["kind"] == "trial-finished" and event["status"] not in RIGHT else ""
        if detail:
            click.echo(f"\ntrial {event['number']}, {event['status']}: {detail}")
    best = folder / "best.tile"
    if best.exists():
        click.echo(f"\n{best}:\n\n{best.read_text(encoding='utf-8')}")
    return None


@runs.command()
@click.argument("first")
@click.argument("second")
def diff(first: str, second: str) -> None:
    """How the best kernels of two runs differ, and their times."""
    folders = _folder(first), _folder(second)
    for folder in folders:
        best = (_record(folder) or {}).get("best") or {}
        click.echo(f"{folder.name}: {milliseconds(best.get('time_ms'))} ms, {best.get('status', 'no kernel')}")
    before, after = (_lines(folder / "best.tile") for folder in folders)
    click.echo("".join(difflib.unified_diff(before, after, folders[0].name, folders[1].name)), nl=False)


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
