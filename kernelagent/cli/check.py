"""`kernelagent check FILE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE

from .choices import gpu_options, known_arch, read_dims, read_dtypes
from .files import read_text
from .output import json_option, print_json, shown_progress, table

if TYPE_CHECKING:
    from kernelagent.dsl.check_gpu import GpuCalls
    from kernelagent.dsl.check_text import CheckReport
    from kernelagent.dsl.verify.records import Counterexample

MOST_FINDINGS = 3
"""Of the emulator that are shown with source lines."""


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--problem", help="Also match the text against this problem.")
@click.option("--target", type=click.Choice(["cpu", "cuda", "emu"]), default="cpu", show_default=True)
@gpu_options
@click.option("--against", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="For a level-two FILE: the level-one text whose values it must have.")  # fmt: skip
@click.option("--quick", is_flag=True, help="Only what takes well under a second (emu: some seconds).")
@click.option("--recheck", is_flag=True, help="Prove schedules again, and compare with the proofs that were kept.")
@click.option("--trace", type=int, metavar="N", help="Show the run of counterexample N step by step.")
@click.option("--verbose", "-v", is_flag=True, help="A line for everything that is proved, not one for each family.")
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
    recheck: bool,
    trace: int | None,
    verbose: bool,
    as_json: bool,
) -> None:
    """Parse, type and verify the kernel text or schedule (level two) in FILE.

    --target cuda proves its schedules, compiles it for a GPU and says what it takes; --target emu proves them and runs
    the GPU code in an emulator that sees races, missing waits and accesses out of bounds. Neither needs a GPU.
    """
    from kernelagent.api import check as check_text
    from kernelagent.dsl.check_gpu import GpuCalls

    text = read_text(file)
    other = read_text(against) if against else None
    named, chosen, sizes = known_arch(arch, text), read_dtypes(dtypes), read_dims(dims)
    if target == "cpu":
        _refuse_ignored(arch, sizes, recheck, text)
    with shown_progress():
        report = check_text(
            text, problem, target=target, quick=quick, arch=named, dtypes=chosen, dims=sizes, against=other,
            recheck=recheck,
        )  # fmt: skip
    steps = () if trace is None else _steps(report, text, trace, GpuCalls(named, chosen, dims=sizes, against=other))
    if as_json:
        print_json(report.to_dict() | ({"trace": steps} if trace is not None else {}))
    elif trace is not None:
        click.echo("\n".join(steps))
    else:
        _show(report, text, file, verbose)
    ctx.exit(0 if report.ok else EXIT_WRONG_CANDIDATE)


def _refuse_ignored(arch: str | None, dims: Mapping[str, int], recheck: bool, text: str) -> None:
    """Raises CallError for what only code for GPUs depends on, and for another architecture than the schedule's."""
    from kernelagent.dsl.level2 import target_of
    from kernelagent.errors import CallError

    own = target_of(text)
    if own is None and arch is not None:
        raise CallError("--arch says nothing of a kernel for the CPU", f"add --target cuda, or leave out --arch {arch}")
    if own is None and recheck:
        raise CallError("--recheck is for proofs of schedules, which code for the CPU has not", "add --target cuda")
    if own is not None and arch not in (None, own):
        hint = f"leave out --arch; `kernelagent inspect KERNEL --arch {arch} --schedule` prints one for {arch}"
        raise CallError(f"the schedule is for {own}, not {arch}", hint)
    if dims:
        raise CallError("--dim fixes extents of GPU code only", "add --target cuda, or leave out --dim")


def _steps(report: CheckReport, text: str, number: int, calls: GpuCalls) -> list[str]:
    """Raises CallError for a number that the report does not have."""
    from kernelagent.dsl.check_gpu import trace
    from kernelagent.dsl.verify.records import ScheduleCounterexample
    from kernelagent.dsl.verify.summary import shown_faults
    from kernelagent.errors import CallError

    steps = trace(text, calls, report, number)
    if not steps:
        shown = shown_faults(report.counterexamples)
        if 0 < number <= len(shown) and not isinstance(shown[number - 1], ScheduleCounterexample):
            raise CallError(f"[{number}] is of the kernel of tiles", "only schedules have a trace")
        count = len(of_schedules(report))
        hint = f"the report has {count} of schedules, numbered from 1" if count else "nothing of a schedule is refuted"
        raise CallError(f"there is no counterexample {number}", hint)
    return steps


def _show(report: CheckReport, text: str, file: Path, verbose: bool) -> None:
    from kernelagent.dsl.check_gpu import finding_diagnostics
    from kernelagent.dsl.diagnostics import render_most
    from kernelagent.dsl.verify.summary import last_line, summary

    found = finding_diagnostics(report, text)
    shown = (*report.diagnostics, *found[:MOST_FINDINGS])
    if shown:
        click.echo(render_most(shown, text, str(file)))
        if len(found) > MOST_FINDINGS:
            click.echo(f"{len(found) - MOST_FINDINGS} more of the emulator; --json has all")
        click.echo()
    lines = summary(report, text, str(file), verbose)
    for line in lines:
        click.echo(line)
    if kernels := report.resources.get("kernels"):
        if lines:
            click.echo()
        _resources(kernels)
    click.echo(last_line(report, str(file)))


def of_schedules(report: CheckReport) -> list[Counterexample]:
    """What proofs of schedules refuted; what emulated runs showed is among the diagnostics."""
    from kernelagent.dsl.verify.records import ScheduleCounterexample

    return [c for c in report.counterexamples if isinstance(c, ScheduleCounterexample)]


def _resources(kernels: Sequence[dict[str, Any]]) -> None:
    """What the compiler says; dims only where kernels differ in them."""
    headers = ("kernel", "class", "dims", "registers", "spilled bytes", "shared bytes", "occupancy", "limited by")
    rows = [_row(k) for k in kernels]
    shown = [n for n in range(len(headers)) if headers[n] != "dims" or any(row[n] for row in rows)]
    table([headers[n] for n in shown], [[row[n] for n in shown] for row in rows])


def _row(used: dict[str, Any]) -> tuple[object, ...]:
    dims = ", ".join(f"{d}={n}" for d, n in used["dims"].items())
    shared = used["static_shared_bytes"] + used["dynamic_shared_bytes"]
    spilled = used["spill_store_bytes"] + used["spill_load_bytes"]
    return (
        used["kernel"], used["shape_class"], dims, used["registers"], spilled, shared, f"{used['occupancy']:.0%}",
        used["limiter"],
    )  # fmt: skip
