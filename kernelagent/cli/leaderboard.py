"""`kernelagent leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click

from .output import OutFile, json_option, print_json


@click.command()
@click.option("--html", type=OutFile(), help="Write one self-contained HTML file.")
@click.option("--markdown", type=OutFile(), help="Write a Markdown table.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path), help="Another folder of runs.")
@json_option
def leaderboard(html: Path | None, markdown: Path | None, runs: Path | None, as_json: bool) -> None:
    """The best kernels of all runs against bounds and baselines."""
    from kernelagent.reports.leaderboard import collect, to_html, to_json, to_markdown
    from kernelagent.settings import load_settings

    entries = collect(runs or load_settings().runs)
    if html:
        _write(html, to_html(entries))
    if markdown:
        _write(markdown, to_markdown(entries))
    if as_json:
        return print_json(to_json(entries))
    if not entries:
        return click.echo("no run has finished yet; start one with: kernelagent optimize run softmax")
    return None if html or markdown else click.echo(to_markdown(entries), nl=False)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    click.echo(f"wrote {path}", err=True)
