"""`kernelagent bench FILE --problem P`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE

from .output import json_option, milliseconds, print_json, progress, table


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problem", required=True, help="The problem that FILE should solve.")
@click.option("--workload", help="Time only this workload; all are tested anyway.")
@json_option
@click.pass_context
def bench(ctx: click.Context, file: Path, problem: str, workload: str | None, as_json: bool) -> None:
    """Test the kernel text in FILE on every workload of a problem, and time it against the baselines."""
    from kernelagent.api import bench as bench_text
    from kernelagent.dsl.diagnostics import render_all

    progress(f"testing and timing {file} on {problem} ...")
    text = file.read_text(encoding="utf-8", errors="replace")
    report = bench_text(text, problem, workload=workload)
    record: dict[str, Any] = {**report.to_dict(), "file": str(file)}
    if as_json:
        print_json(record)
    else:
        if report.diagnostics:
            click.echo(render_all(report.diagnostics, text, str(file)) + "\n", err=True)
        table(("workload", "status", "max error", "ms", "baselines", "score"), [_row(w) for w in record["workloads"]])
        for result in record["workloads"]:
            for note in (result.get("detail"), result.get("suspect")):
                if note:
                    click.echo(f"{result['name']}: {note}")
        clocks = record["clocks"].get("state", "observed, not locked")
        click.echo(f"{record['status']}; sandbox: {record['sandbox']}; clocks: {clocks}")
    ctx.exit(0 if record["status"] in ("PASSED", "INCONCLUSIVE") else EXIT_WRONG_CANDIDATE)


def _row(result: dict[str, Any]) -> tuple[object, ...]:
    rivals = ", ".join(f"{b['name']} {milliseconds(b['time_ms'])}" for b in result["baselines"])
    error = "-" if result["max_error"] is None else f"{result['max_error']:.1e}"
    score = "-" if result["score"] is None else f"{result['score']:.2f}"
    return result["name"], result["status"], error, milliseconds(result["time_ms"]), rivals or "-", score
