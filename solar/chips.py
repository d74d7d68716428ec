"""Chips are data: TOML files with a source for each figure; a CPU's is written by calibration."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kernelagent.solar.paths import calibrated_chips

BUILT_IN = Path(__file__).parent / "chips"
THIS_MACHINE = ("this", "cpu")
_PLAIN = ("name", "title", "kind", "arch", "units", "clock_ghz", "cache_bytes", "memory_gb", "date", "host")


class UnknownChip(Exception):
    """No chip has this name; `nearest` lists similar ones."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nearest = tuple(difflib.get_close_matches(name, chip_names(), n=3, cutoff=0.3))
        hint = f"did you mean {' or '.join(self.nearest)}?" if self.nearest else f"known: {', '.join(chip_names())}"
        super().__init__(f"unknown chip {name!r}; {hint}")


class ChipError(Exception):
    """A chip file cannot be read."""


@dataclass(frozen=True)
class Figure:
    """A rate: bytes/s, flop/s (two for a multiply-add) or operations/s, and where it comes from."""

    value: float
    source: str


@dataclass(frozen=True)
class Rates:
    """What a chip does in a second. `matrix` and `fma` are flop/s by operand dtype; absent means it has no such unit.

    `special` is exp, log, reciprocal ... per second; None when they run in the multiply-add pipe.
    """

    dram: Figure
    matrix: Mapping[str, Figure] = field(default_factory=dict)
    fma: Mapping[str, Figure] = field(default_factory=dict)
    special: Figure | None = None


@dataclass(frozen=True)
class Chip:
    """`peak` holds datasheet (or nominal) figures, `measured` this machine's own; they are never mixed.

    `cache_bytes` is the last-level cache. `dram_is_measured` says that `peak.dram` has no datasheet behind it.
    """

    name: str
    title: str
    kind: Literal["gpu", "cpu"]
    peak: Rates
    measured: Rates | None = None
    aliases: tuple[str, ...] = ()
    units: int = 0  # streaming multiprocessors, or cores
    clock_ghz: float = 0.0
    cache_bytes: int = 0
    memory_gb: float = 0.0
    arch: str = ""
    date: str = ""
    host: str = ""

    @property
    def dram_is_measured(self) -> bool:
        return self.kind == "cpu"

    def to_dict(self) -> dict[str, Any]:
        """The content of its TOML file."""
        record: dict[str, Any] = {
            key: getattr(self, key)
            for key in (
                "name",
                "title",
                "kind",
                "arch",
                "units",
                "clock_ghz",
                "cache_bytes",
                "memory_gb",
                "date",
                "host",
            )
        }
        record["aliases"] = list(self.aliases)
        record["peak"] = _rates_to_dict(self.peak)
        if self.measured:
            record["measured"] = _rates_to_dict(self.measured)
        return record

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Chip:
        """Inverse of `to_dict`. Raises KeyError for a missing figure."""
        known = dict(record)
        known["aliases"] = tuple(known.get("aliases", ()))
        known["peak"] = _rates(known["peak"])
        known["measured"] = _rates(known["measured"]) if "measured" in known else None
        return cls(**known)


def chip_names() -> tuple[str, ...]:
    """Chips that ship, then the calibrated ones; "this" when this machine is not among them."""
    from kernelagent.solar.cpu import this_cpu

    folders = (BUILT_IN, calibrated_chips())
    found = tuple(p.stem for folder in folders for p in sorted(folder.glob("*.toml")))
    return found if this_cpu().slug in found else (*found, "this")


def load_chip(name: str) -> Chip:
    """A chip by name or alias; "this" or "cpu" is the CPU of this machine, calibrated now if it never was.

    Raises UnknownChip with the nearest names, ChipError for an unreadable file.
    """
    wanted = _normal(name)
    if wanted in THIS_MACHINE:
        from kernelagent.solar.calibration import this_machine

        return this_machine()
    for folder in (BUILT_IN, calibrated_chips()):
        for path in sorted(folder.glob("*.toml")):
            chip = read_chip(path)
            if wanted in (_normal(chip.name), *map(_normal, chip.aliases)):
                return chip
    raise UnknownChip(name)


def read_chip(path: Path) -> Chip:
    """Raises ChipError, naming the file, for bad TOML or a missing figure."""
    try:
        return Chip.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, OSError) as error:
        raise ChipError(f"{path}: {type(error).__name__}: {error}") from None


def write_chip(chip: Chip, path: Path) -> None:
    """Write the TOML file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")  # two processes may calibrate at once
    partial.write_text(_toml(chip.to_dict()), encoding="utf-8")
    partial.replace(path)


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-").replace(" ", "-")


def _figure(record: Mapping[str, Any]) -> Figure:
    return Figure(float(record["value"]), str(record["source"]))


def _rates(record: Mapping[str, Any]) -> Rates:
    by_dtype = {unit: {d: _figure(f) for d, f in record.get(unit, {}).items()} for unit in ("matrix", "fma")}
    special = _figure(record["special"]) if "special" in record else None
    return Rates(_figure(record["dram"]), by_dtype["matrix"], by_dtype["fma"], special)


def _rates_to_dict(rates: Rates) -> dict[str, Any]:
    record: dict[str, Any] = {"dram": vars(rates.dram)}
    record["matrix"] = {d: vars(f) for d, f in rates.matrix.items()}
    record["fma"] = {d: vars(f) for d, f in rates.fma.items()}
    if rates.special:
        record["special"] = vars(rates.special)
    return record


def _toml(record: Mapping[str, Any], prefix: str = "") -> str:
    """Enough TOML for a chip: scalars and lists of strings first, then tables."""
    plain = [f"{k} = {_toml_value(v)}" for k, v in record.items() if not isinstance(v, Mapping)]
    tables = [
        f"\n[{prefix}{k}]\n{_toml(v, f'{prefix}{k}.')}" for k, v in record.items() if isinstance(v, Mapping) and v
    ]
    return "\n".join([*plain, *tables])


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        import json

        return json.dumps(value)  # TOML's basic strings take the same escapes
    if isinstance(value, list):
        return f"[{', '.join(map(_toml_value, value))}]"
    return repr(value)
