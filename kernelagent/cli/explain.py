"""`kernelagent explain CODE`, also of a family of proofs."""

from __future__ import annotations

import click

from kernelagent.errors import CallError, nearest

from .output import json_option, print_json

NEAR = 0.7
"""Codes are words: less alike is another word."""


@click.command()
@click.argument("code", required=False)
@json_option
def explain(code: str | None, as_json: bool) -> None:
    """What a diagnostic CODE means, with a wrong and a right example. Without CODE: all codes.

    CODE may be a family of proofs too, as `check` names them: bounds, races, coverage ...
    """
    from kernelagent.dsl.catalogue import entries, families
    from kernelagent.dsl.catalogue import explain as explanation

    known = entries()
    if code is None and as_json:
        return print_json({name: entry.title for name, entry in sorted(known.items())})
    if code is None:
        for name, entry in sorted(known.items()):
            click.echo(f"{name:28} {entry.title}")
        return None
    about = families()
    if code in about and code not in known:
        return _family(code, about[code], as_json)
    if code not in known:
        guess = nearest(code, (*known, *about), NEAR)
        hint = f"did you mean '{guess}'?" if guess else "`kernelagent explain` lists all codes"
        raise CallError(f"there is no diagnostic code or family '{code}'", hint)
    if as_json:
        return print_json({"code": code, "title": known[code].title, "text": explanation(code)})
    click.echo(explanation(code))
    return _family(code, about[code], as_json) if code in about else None


def _family(name: str, holds: str, as_json: bool) -> None:
    from textwrap import fill

    if as_json:
        return print_json({"code": name, "title": "a family of proofs", "text": holds})
    return click.echo(f"{name}: a family of proofs; it holds when\n\n{fill(holds, 100)}\n")
