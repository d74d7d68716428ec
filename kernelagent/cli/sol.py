"""`kernelagent sol PROBLEM`."""

from __future__ import annotations

import click

from kernelagent.errors import CallError, nearest

from .output import json_option, milliseconds, print_json, table


@click.command()
@click.argument("problem")
@click.option("--chip", default="this", show_default=True, help="A chip of `chips list`; 'this' is the calibrated CPU.")
@click.option("--workload", help="Only this workload.")
@json_option
def sol(problem: str, chip: str, workload: str | None, as_json: bool) -> None:
    """The speed of light: the least time that PROBLEM can take on a chip, and what limits it."""
    from kernelagent.problems import load
    from kernelagent.solar import bound, load_chip

    found, machine = load(problem), load_chip(chip)
    names = [w.name for w in found.workloads]
    if workload and workload not in names:
        guess = nearest(workload, names)
        raise CallError(f"{found.name} has no workload '{workload}'", f"did you mean '{guess or names[0]}'?")
    reports = [bound(found, found.workload(n), machine) for n in names if workload in (None, n)]
    if as_json:
        return print_json({"problem": found.name, "chip": machine.name, "workloads": [r.to_dict() for r in reports]})
    click.echo(f"{found.name} on {machine.title}\n")
    records = [r.to_dict() for r in reports]
    table(
        ("workload", "multiply-adds", "bytes", "sol ms", "bound by"),
        [(r["name"], r["macs"], r["min_bytes"], milliseconds(r["time_ms"]), r["bound"]) for r in records],
    )
    for record in records:
        for missing in record["unmodelled"]:
            click.echo(f"{record['name']}: not modelled: {missing}")
    return None
