"""`kernelagent check FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE

from .choices import gpu_options, known_arch, read_dims, read_dtypes
from .output import json_option, print_json, table

if TYPE_CHECKING:
    from kernelagent.dsl.check import CheckReport


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problem", help="Also match the text against this problem.")
@click.option("--target", type=click.Choice(["cpu", "cuda", "emu"]), default="cpu", show_default=True)
@gpu_options
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="For a level-two FILE in the emulator: the level-one text whose values it must have.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Only what takes well under a second (emu: some seconds).")
@json_option
@click.pass_context
def check(
    ctx: click.Context,
    file: Path,
    problem: str | None,
    target: str,
    arch: str | None,
    dtypes: tuple[str, ...],
    dims: tuple[str, ...],
    against: Path | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Parse, type and verify the kernel text or schedule (level two) in FILE.

    --target cuda compiles it for a GPU and says what it takes; --target emu runs the GPU code in an emulator that sees
    races, missing waits and accesses out of bounds. Neither needs a GPU.
    """
    from kernelagent.api import check as check_text

    text = file.read_text(encoding="utf-8", errors="replace")
    report = check_text(
        text, problem, target=target, quick=quick, arch=known_arch(arch, text), dtypes=read_dtypes(dtypes),
        dims=read_dims(dims), against=against.read_text(encoding="utf-8", errors="replace") if against else None,
    )  # fmt: skip
    if as_json:
        print_json(report.to_dict())
    else:
        _show(report, text, file)
    ctx.exit(0 if report.ok else EXIT_WRONG_CANDIDATE)


def _show(report: CheckReport, text: str, file: Path) -> None:
    from kernelagent.dsl.check_gpu import finding_diagnostics
    from kernelagent.dsl.diagnostics import render_all

    shown = (*report.diagnostics, *finding_diagnostics(report, text))
    if shown:
        click.echo(render_all(shown, text, str(file)))
        click.echo()
    record = report.to_dict()
    for obligation in record["obligations"]:
        place = f"line {obligation['line'] or '-'}"
        click.echo(f"{obligation['verdict']:15} {obligation['family']:14} {place}: {obligation['detail']}")
    if kernels := record["resources"].get("kernels"):
        table(
            ("kernel", "class", "dims", "registers", "spilled bytes", "shared bytes", "occupancy", "limited by"),
            [_row(k) for k in kernels],
        )
    click.echo(f"{file}: {'ok' if report.ok else 'wrong'}, {record['verdict']}, {record['seconds']:.2f} s")


def _row(used: dict[str, Any]) -> tuple[object, ...]:
    dims = ", ".join(f"{d}={n}" for d, n in used["dims"].items())
    shared = used["static_shared_bytes"] + used["dynamic_shared_bytes"]
    spilled = used["spill_store_bytes"] + used["spill_load_bytes"]
    return (
        used["kernel"], used["shape_class"], dims, used["registers"], spilled, shared, f"{used['occupancy']:.0%}",
        used["limiter"],
    )  # fmt: skip
