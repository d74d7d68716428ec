"""`kernelagent kb stats|search|show|export|import|merge`."""

from __future__ import annotations

from pathlib import Path

import click

from kernelagent.errors import CallError, nearest

from .groups import HelpfulGroup
from .output import json_option, print_json, table

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
    """Counts of trials and techniques, and the gains that the log supports."""
    record = _open(base).stats()
    if as_json:
        return print_json(record)
    for name, value in record.items():
        if not isinstance(value, (dict, list)):
            click.echo(f"{name:20} {value}")
    gains = record.get("gains", [])
    if gains:
        click.echo()
        table(tuple(gains[0]), [tuple(g.values()) for g in gains])
    return None


@kb.command()
@click.argument("query")
@base_option
@json_option
def search(query: str, base: Path | None, as_json: bool) -> None:
    """Techniques and trials that mention QUERY."""
    found = _open(base).search(query)
    if as_json:
        return print_json(found)
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
        guess = nearest(technique, known)
        raise CallError(f"there is no technique '{technique}'", f"did you mean '{guess}'?" if guess else None)
    record = asdict(known[technique])
    if as_json:
        return print_json(record)
    for name, value in record.items():
        click.echo(f"{name:12} {value}")
    return None


@kb.command("export")
@click.argument("file", type=click.Path(path_type=Path))
@base_option
def export_trials(file: Path, base: Path | None) -> None:
    """Write every trial to FILE, one JSON object a line."""
    click.echo(f"{_open(base).export_jsonl(file)} trials written to {file}")


@kb.command("import")
@click.argument("file", type=click.Path(exists=True, path_type=Path))
@base_option
def import_trials(file: Path, base: Path | None) -> None:
    """Add the trials of an exported FILE; those already known are skipped."""
    click.echo(f"{_open(base).import_jsonl(file)} trials added")


@kb.command()
@click.argument("other", type=click.Path(exists=True, path_type=Path))
@base_option
def merge(other: Path, base: Path | None) -> None:
    """Add the trials of another base file; merging never conflicts."""
    click.echo(f"{_open(base).merge(other)} trials added")
