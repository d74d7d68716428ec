"""`kernelagent explain CODE`."""

from __future__ import annotations

import click

from kernelagent.errors import CallError, nearest


@click.command()
@click.argument("code", required=False)
def explain(code: str | None) -> None:
    """What a diagnostic CODE means, with a wrong and a right example. Without CODE: all codes."""
    from kernelagent.dsl.catalogue import entries
    from kernelagent.dsl.catalogue import explain as explanation

    known = entries()
    if code is None:
        for name, entry in sorted(known.items()):
            click.echo(f"{name:28} {entry.title}")
        return
    if code not in known:
        guess = nearest(code, known)
        raise CallError(f"there is no diagnostic code '{code}'", f"did you mean '{guess}'?" if guess else None)
    click.echo(explanation(code))
