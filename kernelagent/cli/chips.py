"""`kernelagent chips list|calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .groups import HelpfulGroup
from .output import json_option, print_json, table

if TYPE_CHECKING:
    from kernelagent.solar.chips import Chip, Figure, Rates


@click.group(cls=HelpfulGroup)
def chips() -> None:
    """The machines that bounds are computed for."""


@chips.command("list")
@json_option
def list_chips(as_json: bool) -> None:
    """Every chip with its memory bandwidth and matrix rates."""
    from kernelagent.solar import chip_names, load_chip

    found = list({chip.name: chip for chip in map(load_chip, chip_names())}.values())
    if as_json:
        return print_json({"chips": [c.to_dict() for c in found]})
    return table(
        ("chip", "title", "DRAM GB/s", "f32 TFLOP/s", "bf16 TFLOP/s", "figures"),
        [_row(chip) for chip in found],
    )


@chips.command()
@json_option
def calibrate(as_json: bool) -> None:
    """Measure this machine (a few seconds) and keep the result."""
    from kernelagent.solar import calibrate as measure

    chip = measure()
    if as_json:
        return print_json(chip.to_dict())
    click.echo(f"{chip.title}, {chip.units} cores, {chip.date}")
    for label, rates in (("nominal", chip.peak), ("measured", chip.measured)):
        for name, figure in _figures(rates) if rates else ():
            click.echo(f"{label:9} {name:14} {figure.value / 1e9:9.1f} G/s  {figure.source}")
    return None


def _figures(rates: Rates) -> list[tuple[str, Figure]]:
    """Every rate with a name: bytes, flops or operations per second."""
    named = [("memory", rates.dram), *((f"fma {t}", f) for t, f in rates.fma.items())]
    named += [(f"matrix {t}", f) for t, f in rates.matrix.items()]
    return [*named, *([("special", rates.special)] if rates.special else [])]


def _row(chip: Chip) -> tuple[str, ...]:
    rates = chip.measured or chip.peak
    wide = {**rates.fma, **rates.matrix}
    cells = [f"{rates.dram.value / 1e9:.0f}", *(_tera(wide.get(dtype)) for dtype in ("f32", "bf16"))]
    return chip.name, chip.title, *cells, "measured" if chip.measured else "datasheet"


def _tera(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    tera = figure.value / 1e12
    return f"{tera:.2f}" if tera < 10 else f"{tera:.0f}"
