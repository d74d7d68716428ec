"""The emulator target: an emitted CUDA body runs on the CPU, every access checked; no GPU is needed.

Its parts are imported where they are used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.dsl.targets.emulator.arguments import ArrayArgument, ScalarArgument, TensorMapArgument
    from kernelagent.dsl.targets.emulator.compiler import NoCxxCompiler
    from kernelagent.dsl.targets.emulator.launch import EmulatorFailed, run
    from kernelagent.dsl.targets.emulator.report import EmulatorReport, Finding

_HOMES = {
    "ArrayArgument": "arguments",
    "EmulatorFailed": "launch",
    "EmulatorReport": "report",
    "Finding": "report",
    "NoCxxCompiler": "compiler",
    "ScalarArgument": "arguments",
    "TensorMapArgument": "arguments",
    "run": "launch",
}

__all__ = [
    "ArrayArgument",
    "EmulatorFailed",
    "EmulatorReport",
    "Finding",
    "NoCxxCompiler",
    "ScalarArgument",
    "TensorMapArgument",
    "run",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
