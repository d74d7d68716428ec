"""`kernelagent bench FILE --problem P`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE, CallError

from .files import read_text
from .output import json_option, milliseconds, print_json, shown_progress, table


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problem", required=True, help="The problem that FILE should solve.")
@click.option("--workload", help="Time only this workload; all are tested anyway.")
@json_option
@click.pass_context
def bench(ctx: click.Context, file: Path, problem: str, workload: str | None, as_json: bool) -> None:
    """Test the kernel text in FILE on every workload of a problem, and time it against the baselines."""
    from kernelagent.api import bench as bench_text
    from kernelagent.dsl.diagnostics import diagnostic_from, render_most

    text = read_text(file)
    try:
        with shown_progress(f"testing and timing {file} on {problem}"):
            evaluation = bench_text(text, problem, workloads=(workload,) if workload else ())
    except KeyError:
        raise CallError(
            f"{problem} has no workload '{workload}'", f"see: kernelagent problems show {problem}"
        ) from None
    record = bench_record(evaluation.to_dict(), str(file))
    if as_json:
        print_json(record)
    else:
        diagnostics = [diagnostic_from(d) for d in record["diagnostics"]]
        if diagnostics:
            click.echo(render_most(diagnostics, text, str(file)) + "\n", err=True)
        table(("workload", "status", "max error", "ms", "baselines", "score"), [_row(w) for w in record["workloads"]])
        for result in record["workloads"]:
            for note in (result.get("detail"), result.get("suspect")):
                if note:
                    click.echo(f"{result['name']}: {note}")
        clocks = record["clocks"].get("state", "observed, not locked")
        click.echo(f"{record['status']}; sandbox: {record['sandbox']}; clocks: {clocks}")
    ctx.exit(0 if record["status"] in ("PASSED", "INCONCLUSIVE") else EXIT_WRONG_CANDIDATE)


def bench_record(evaluation: dict[str, Any], file: str) -> dict[str, Any]:
    """The evaluation with the promised keys of `bench`: each workload's time beside its status."""
    workloads = [{**w, **_times(w)} for w in evaluation["workloads"]]
    return {**evaluation, "file": file, "workloads": workloads, "artifact": None}


def _times(workload: dict[str, Any]) -> dict[str, Any]:
    timing = workload["timing"] or {"time_ms": None, "interval_ms": None}
    return {"time_ms": timing["time_ms"], "interval_ms": timing["interval_ms"]}


def _row(result: dict[str, Any]) -> tuple[object, ...]:
    rivals = ", ".join(f"{b['name']} {milliseconds(b['time_ms'])}" for b in result["baselines"])
    error = "-" if result["max_error"] is None else f"{result['max_error']:.1e}"
    score = "-" if result["score"] is None else f"{result['score']:.2f}"
    return result["name"], result["status"], error, milliseconds(result["time_ms"]), rivals or "-", score
