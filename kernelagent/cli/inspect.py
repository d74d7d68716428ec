"""`kernelagent inspect FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE, CallError

from .choices import gpu_options, known_arch, read_dims, read_dtypes
from .files import read_text
from .output import json_option, print_json, progress, shown_progress

if TYPE_CHECKING:
    from kernelagent.inspection import Inspected


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@gpu_options
@click.option("--class", "shape_class", help="Only this shape class (aligned, general ...): one schedule, one file.")
@click.option("--schedule", is_flag=True, help="Print the schedule as level-two text instead.")
@click.option("--body", is_flag=True, help="Print the emitted C++ instead.")
@json_option
@click.pass_context
def inspect(
    ctx: click.Context,
    file: Path,
    arch: str | None,
    dtypes: tuple[str, ...],
    dims: tuple[str, ...],
    shape_class: str | None,
    schedule: bool,
    body: bool,
    as_json: bool,
) -> None:
    """What the kernel text or schedule (level two) in FILE becomes on a GPU, by kernel and shape class.

    Registers, spills, shared memory, occupancy and what limits it, machine opcodes and the widths of loads and stores.
    Spills, and warpgroup products that do not overlap, are errors. No GPU is needed.
    """
    from kernelagent.dsl.check_gpu import GpuCalls
    from kernelagent.dsl.diagnostics import KernelError, render_most
    from kernelagent.inspection import inspect_text

    text = read_text(file)
    calls = GpuCalls(known_arch(arch, text), read_dtypes(dtypes), dims=read_dims(dims))
    try:
        with shown_progress():
            found = inspect_text(text, calls, machine_code=not (schedule or body))
    except KernelError as error:
        if as_json:
            record = {"file": str(file), "arch": calls.arch, "diagnostics": [d.to_dict() for d in error.diagnostics]}
            print_json({**record, "kernels": []})
        else:
            click.echo(render_most(error.diagnostics, text, str(file)))
        ctx.exit(EXIT_WRONG_CANDIDATE)
    found = _only(found, shape_class)
    if as_json:
        print_json({"file": str(file), **found.to_dict(schedule, body)})
    else:
        for part in found.parts:
            click.echo(_text(part, schedule, body))
        for note in _notes(found, schedule):
            progress(note)
        if found.faults:
            click.echo(render_most(found.faults, text, str(file)))
    ctx.exit(EXIT_WRONG_CANDIDATE if found.faults else 0)


def _only(found: Inspected, shape_class: str | None) -> Inspected:
    """Raises CallError for a shape class that no kernel has."""
    if shape_class is None:
        return found
    parts = tuple(p for p in found.parts if p.shape_class == shape_class)
    if not parts:
        known = ", ".join(dict.fromkeys(p.shape_class for p in found.parts))
        raise CallError(f"no kernel of the text has the shape class '{shape_class}'", f"there are: {known}")
    return replace(found, parts=parts)


def _notes(found: Inspected, schedule: bool) -> Iterator[str]:
    """Beside the output, so that it can go to a file."""
    if found.unread:
        yield f"note: {found.unread}"
    names = dict.fromkeys(p.shape_class for p in found.parts)
    if schedule and len(found.parts) > 1:
        one = " or ".join(f"--class {name}" for name in names)
        yield f"note: these are {len(found.parts)} texts; each is a file of its own ({one} prints fewer)"


def _text(part: Any, schedule: bool, body: bool) -> str:
    asked = [part.schedule] * schedule + [part.body] * body
    return "\n".join(asked) if asked else f"{part}\n"
