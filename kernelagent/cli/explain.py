"""`kernelagent explain CODE`."""

from __future__ import annotations

import click

from kernelagent.errors import CallError, nearest

from .output import json_option, print_json


@click.command()
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """What a diagnostic CODE means, with a wrong and a right example. Without CODE: all codes."""
    from kernelagent.dsl.catalogue import entries
    from kernelagent.dsl.catalogue import explain as explanation

    known = entries()
    if code is None and as_json:
        return print_json({name: entry.title for name, entry in sorted(known.items())})
    if code is None:
        for name, entry in sorted(known.items()):
            click.echo(f"{name:28} {entry.title}")
        return None
    if code not in known:
        guess = nearest(code, known)
        raise CallError(f"there is no diagnostic code '{code}'", f"did you mean '{guess}'?" if guess else None)
    if as_json:
        return print_json({"code": code, "title": known[code].title, "text": explanation(code)})
    return click.echo(explanation(code))
