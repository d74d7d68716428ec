"""`kernelagent check FILE`."""

from __future__ import annotations

from pathlib import Path

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE

from .output import json_option, print_json


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problem", help="Also match the text against this problem.")
@click.option("--target", type=click.Choice(["cpu"]), default="cpu", show_default=True)
@click.option("--quick", is_flag=True, help="Only what takes well under a second.")
@json_option
@click.pass_context
def check(ctx: click.Context, file: Path, problem: str | None, target: str, quick: bool, as_json: bool) -> None:
    """Parse, type and verify the kernel text in FILE."""
    from kernelagent.api import check as check_text
    from kernelagent.dsl.diagnostics import render_all

    text = file.read_text(encoding="utf-8", errors="replace")
    report = check_text(text, problem, target=target, quick=quick)
    if as_json:
        print_json(report.to_dict())
    else:
        if report.diagnostics:
            click.echo(render_all(report.diagnostics, text, str(file)))
            click.echo()
        record = report.to_dict()
        for obligation in record["obligations"]:
            place = f"line {obligation['line'] or '-'}"
            click.echo(f"{obligation['verdict']:15} {obligation['family']:14} {place}: {obligation['detail']}")
        click.echo(f"{file}: {'ok' if report.ok else 'wrong'}, {record['verdict']}, {record['seconds']:.2f} s")
    ctx.exit(0 if report.ok else EXIT_WRONG_CANDIDATE)
