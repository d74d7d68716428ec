"""Options that choose an architecture, dtypes and dims on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from kernelagent.errors import CallError

F = TypeVar("F", bound=Callable[..., Any])
_PAIR = re.compile(r"([A-Za-z_]\w*)=(\w+)")


def gpu_options(command: F) -> F:
    """--arch, --dtype and --dim."""
    wanted = (
        click.option("--arch", help="GPU architecture (default: that of a level-two text, else sm_80)."),
        click.option("--dtype", "dtypes", multiple=True, metavar="T=bf16", help="A dtype variable (default f32)."),
        click.option("--dim", "dims", multiple=True, metavar="D=64", help="A dim that is a tile extent."),
    )
    for option in reversed(wanted):
        command = option(command)
    return command


def read_dtypes(given: Sequence[str]) -> dict[str, str]:
    """NAME=DTYPE pairs. Raises CallError for an unknown dtype."""
    from kernelagent.dsl.dtypes import DTYPES, HABITS

    found = dict(_pair(text, "--dtype T=bf16") for text in given)
    for name, dtype in found.items():
        if dtype not in DTYPES:
            hint = f"did you mean {HABITS[dtype]}?" if dtype in HABITS else f"dtypes are {', '.join(DTYPES)}"
            raise CallError(f"{dtype!r} in --dtype {name}={dtype} is not a dtype", hint)
    return found


def read_dims(given: Sequence[str]) -> dict[str, int]:
    """NAME=NUMBER pairs, numbers above 0."""
    found = dict(_pair(text, "--dim D=64") for text in given)
    for name, value in found.items():
        if not value.isdecimal() or int(value) < 1:
            raise CallError(f"--dim {name}={value} is not a size", "write a number like --dim D=64")
    return {name: int(value) for name, value in found.items()}


def _pair(text: str, example: str) -> tuple[str, str]:
    match = _PAIR.fullmatch(text)
    if match is None:
        raise CallError(f"{text!r} is not NAME=VALUE", f"write {example}")
    return match[1], match[2]


def known_arch(name: str | None, text: str) -> str:
    """The name, if archs.toml has it; by default what a level-two text says. Raises CallError with the nearest."""
    from kernelagent.dsl.diagnostics import KernelError
    from kernelagent.dsl.level2 import target_of
    from kernelagent.dsl.targets.cuda.archs import arch

    if name is None:
        return target_of(text) or "sm_80"
    try:
        return arch(name).name
    except KernelError as error:
        raise CallError(error.diagnostics[0].message, error.diagnostics[0].hint) from None
