"""`kernelagent doctor`."""

from __future__ import annotations

import click

from kernelagent.errors import EXIT_ENVIRONMENT

from .output import json_option, print_json


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """What this machine has, what it lacks, and how to get it."""
    from kernelagent.doctor import examine, to_dict

    findings = examine()
    record = to_dict(findings)
    if as_json:
        print_json(record)
    else:
        for finding in findings:
            mark = "ok  " if finding.ok else ("FAIL" if finding.needed else "-   ")
            click.echo(f"{mark} {finding.name:12} {finding.detail}")
            if not finding.ok and finding.hint:
                click.echo(f"     {'':12} {finding.hint}")
    ctx.exit(0 if record["ok"] else EXIT_ENVIRONMENT)
