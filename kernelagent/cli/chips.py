"""`kernelagent chips list|calibrate`."""

from __future__ import annotations

import click

from .groups import HelpfulGroup
from .output import json_option, print_json, table


@click.group(cls=HelpfulGroup)
def chips() -> None:
    """The machines that bounds are computed for."""


@chips.command("list")
@json_option
def list_chips(as_json: bool) -> None:
    """Every chip with its memory bandwidth and matrix rates."""
    from kernelagent.solar import chip_names, load_chip

    found = [load_chip(name) for name in chip_names()]
    if as_json:
        return print_json([c.to_dict() for c in found])
    return table(
        ("chip", "title", "DRAM GB/s", "fp32 TFLOP/s", "bf16 TFLOP/s"),
        [(c.name, c.title, *summary(c.to_dict())) for c in found],
    )


@chips.command()
@json_option
def calibrate(as_json: bool) -> None:
    """Measure this machine (a few seconds) and keep the result."""
    from kernelagent.solar import calibrate as measure

    chip = measure()
    if as_json:
        return print_json(chip.to_dict())
    for name, value in chip.to_dict().items():
        click.echo(f"{name:28} {value}")
    return None


def summary(chip: dict[str, object]) -> tuple[object, object, object]:
    raise NotImplementedError
