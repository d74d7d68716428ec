"""`kernelagent kb stats|search|show|export|import|merge`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernelagent.errors import CallError, nearest

from .groups import HelpfulGroup
from .output import OutFile, json_option, print_json, table

if TYPE_CHECKING:
    from kernelagent.knowledge_base.records import Technique

base_option = click.option("--base", type=click.Path(path_type=Path), help="Another knowledge base file.")


@click.group(cls=HelpfulGroup)
def kb() -> None:
    """What was learned: techniques, trials, gains."""


def _open(base: Path | None):  # type: ignore[no-untyped-def]  # the facade is imported only here
    from kernelagent.knowledge_base import KnowledgeBase
    from kernelagent.settings import load_settings

    return KnowledgeBase(base or load_settings().knowledge_base)


@kb.command()
@base_option
@json_option
def stats(base: Path | None, as_json: bool) -> None:
    """Counts of trials, and what techniques gained.

    Gains are the parent's time by the trial's. What is expected of another trial is their mean, drawn towards 1 where
    trials are few.
    """
    record = _open(base).stats()
    if as_json:
        return print_json(record)
    for name, value in record.items():
        if not isinstance(value, (dict, list)):
            click.echo(f"{name.replace('_', ' '):22} {value}")
    gains = record.get("gains", [])
    if gains:
        click.echo()
        table(
            ("technique or move", "bottleneck", "trials", "failures", "expected gain", "best gain"),
            [(g["technique"], g["bottleneck"], g["trials"], g["failures"],
              _factor(g, "mean_log_gain"), _factor(g, "best_log_gain")) for g in gains],
        )  # fmt: skip
    return None


def _factor(gain: Mapping[str, Any], key: str) -> str:
    """Parent's time by the trial's. Where all trials failed nothing was timed: the number is the penalty for that."""
    return "-" if gain["failures"] == gain["trials"] else f"{math.exp(gain[key]):.2f}x"


@kb.command()
@click.argument("query")
@base_option
@json_option
def search(query: str, base: Path | None, as_json: bool) -> None:
    """Techniques and trials that mention QUERY."""
    found = _open(base).search(query)
    if as_json:
        return print_json({"query": query, "results": found})
    if not found:
        click.echo(f"nothing mentions '{query}'", err=True)
    for hit in found:
        click.echo(f"{hit['kind']:10} {hit['name']:28} {hit['text']}")
    return None


@kb.command()
@click.argument("technique")
@json_option
def show(technique: str, as_json: bool) -> None:
    """One technique: when, what, evidence, moves."""
    from dataclasses import asdict

    from kernelagent.knowledge_base import techniques

    known = {t.name: t for t in techniques()}
    if technique not in known:
        raise CallError(f"there is no technique '{technique}'", _instead(technique, known))
    record = asdict(known[technique])
    if as_json:
        return print_json(record)
    for name, value in record.items():
        click.echo(f"{name:12} {value}")
    return None


def _instead(name: str, known: Mapping[str, Technique]) -> str:
    """Runs print the names of moves: those lead to their techniques."""
    move = name.partition("(")[0]
    having = [t.name for t in known.values() if any(m.name == move for m in t.moves)]
    if having:
        return f"{move} is a move of {' and '.join(having)}"
    guess = nearest(name, known)
    return f"did you mean '{guess}'?" if guess else "`kernelagent kb search WORD` finds techniques"


@kb.command("export")
@click.argument("file", type=OutFile())
@base_option
def export_trials(file: Path, base: Path | None) -> None:
    """Write every trial to FILE, one JSON object a line."""
    click.echo(f"{_open(base).export_jsonl(file)} trials written to {file}")


@kb.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@base_option
def import_trials(file: Path, base: Path | None) -> None:
    """Add the trials of an exported FILE.

    Those already known are skipped.
    """
    click.echo(f"{_open(base).import_jsonl(file)} trials added")


@kb.command()
@click.argument("other", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@base_option
def merge(other: Path, base: Path | None) -> None:
    """Add the trials of another base file; merging never conflicts."""
    click.echo(f"{_open(base).merge(other)} trials added")
