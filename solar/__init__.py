"""How fast it could possibly be: operation graph -> speed-of-light bound for a chip. Imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.solar.bounds import SolReport, bound, document
    from kernelagent.solar.calibration import calibrate
    from kernelagent.solar.chips import Chip, UnknownChip, chip_names, load_chip
    from kernelagent.solar.graph import Graph
    from kernelagent.solar.tracing import TraceError, trace

_HOMES = {
    "SolReport": "bounds",
    "bound": "bounds",
    "document": "bounds",
    "calibrate": "calibration",
    "Chip": "chips",
    "UnknownChip": "chips",
    "chip_names": "chips",
    "load_chip": "chips",
    "Graph": "graph",
    "TraceError": "tracing",
    "trace": "tracing",
}

__all__ = [
    "Chip",
    "Graph",
    "SolReport",
    "TraceError",
    "UnknownChip",
    "bound",
    "calibrate",
    "chip_names",
    "document",
    "load_chip",
    "trace",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
