"""`kernelagent problems list|show|new|validate`."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from kernelagent.errors import EXIT_WRONG_CANDIDATE, CallError

from .groups import HelpfulGroup
from .output import json_option, print_json, table


@click.group(cls=HelpfulGroup)
def problems() -> None:
    """What to compute: built-in problems and your own files."""


@problems.command("list")
@json_option
def list_problems(as_json: bool) -> None:
    """Every built-in problem, its workloads and tags."""
    from kernelagent.problems import load, names

    found = [load(name) for name in names()]
    if as_json:
        listed = [{"name": p.name, "title": p.title, "workloads": [w.name for w in p.workloads]} for p in found]
        return print_json({"problems": listed})
    return table(
        ("problem", "title", "workloads"), [(p.name, p.title, ", ".join(w.name for w in p.workloads)) for p in found]
    )


@problems.command()
@click.argument("problem")
@json_option
def show(problem: str, as_json: bool) -> None:
    """Tensors, workloads, reference and seed kernel.

    PROBLEM is a name or a file.
    """
    from kernelagent.problems import load

    found = load(problem)
    if as_json:
        return print_json(describe(found))
    click.echo(f"{found.name}: {found.title}\n")
    tensors = [("in", t) for t in found.inputs] + [("out", t) for t in found.outputs]
    table(
        ("", "tensor", "dtype", "dims"),
        [(r, t.name, t.dtype, " x ".join(map(str, t.dims)) or "scalar") for r, t in tensors],
    )
    click.echo()
    table(
        ("workload", "sizes", "ragged"), [(w.name, _sizes(w.dims), "yes" if w.ragged else "") for w in found.workloads]
    )
    click.echo(f"\nreference:\n\n{inspect.getsource(found.reference)}")
    return click.echo(f"seed kernel:\n\n{found.seed_kernel.strip() or '(none)'}")


@problems.command()
@click.argument("name")
@click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), default=Path(), help="Where to write it."
)
def new(name: str, directory: Path) -> None:
    """Write a commented problem file NAME.py to start from."""
    from kernelagent.problems.template import write_template

    if not name.isidentifier():
        raise CallError(f"'{name}' cannot be a problem name", "use letters, digits and _, as in a Python name")
    path = directory / f"{name}.py"
    if path.exists():
        raise CallError(f"{path} exists already", "choose another name or remove the file")
    write_template(path, name)
    click.echo(f"wrote {path}\nnext: kernelagent problems validate {path}\n      kernelagent optimize run {path}")


@problems.command()
@click.argument("problem")
@json_option
@click.pass_context
def validate(ctx: click.Context, problem: str, as_json: bool) -> None:
    """Say what is wrong with PROBLEM, degenerate ones included."""
    from kernelagent.problems import load
    from kernelagent.problems import validate as findings_of

    found = load(problem)
    findings = findings_of(found, check_kernel=_front_end)
    errors = [f for f in findings if f.severity == "error"]
    if as_json:
        print_json(
            {
                "problem": found.name,
                "ok": not errors,
                "findings": [f.to_dict() for f in findings],
            }
        )
    else:
        for finding in findings:
            click.echo(f"{finding.severity}[{finding.code}]: {finding.message}")
            if finding.hint:
                click.echo(f"  help: {finding.hint}")
        click.echo(f"{found.name}: " + (f"{len(errors)} errors" if errors else "ok"))
    ctx.exit(EXIT_WRONG_CANDIDATE if errors else 0)


def _front_end(text: str) -> list[str]:
    """What the language says about a seed kernel; `problems` itself knows nothing of the language."""
    from kernelagent.dsl import KernelError, parse

    try:
        parse(text)
    except KernelError as error:
        return [f"line {d.span.line if d.span else '?'}: {d.message}" for d in error.diagnostics]
    return []


def describe(problem: object) -> dict[str, object]:
    """The problem as plain data."""
    from kernelagent.problems.problem import Problem

    assert isinstance(problem, Problem)
    return {
        "name": problem.name,
        "title": problem.title,
        "inputs": [{"name": t.name, "dtype": t.dtype, "dims": t.dims} for t in problem.inputs],
        "outputs": [{"name": t.name, "dtype": t.dtype, "dims": t.dims} for t in problem.outputs],
        "scalars": [{"name": s.name, "dtype": s.dtype, "value": s.value} for s in problem.scalars],
        "workloads": [{"name": w.name, "dims": dict(w.dims), "ragged": w.ragged} for w in problem.workloads],
        "tags": problem.tags,
        "reference": inspect.getsource(problem.reference),
        "seed_kernel": problem.seed_kernel,
    }


def _sizes(dims: object) -> str:
    assert hasattr(dims, "items")
    return " ".join(f"{name}={size}" for name, size in dims.items())
