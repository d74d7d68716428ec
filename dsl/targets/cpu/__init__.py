"""The CPU target: schedule IR -> C with vector extensions -> shared object -> callable.

Its parts are imported where they are used, so that importing this package stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.dsl.targets.cpu.artifact import CpuArtifact, CpuOptions
    from kernelagent.dsl.targets.cpu.build import compile
    from kernelagent.dsl.targets.cpu.compiler import CompilerFailed, NoCompiler, find_compiler
    from kernelagent.dsl.targets.cpu.loader import LoadedKernel, load

_HOMES = {
    "CompilerFailed": "compiler",
    "CpuArtifact": "artifact",
    "CpuOptions": "artifact",
    "LoadedKernel": "loader",
    "NoCompiler": "compiler",
    "compile": "build",
    "find_compiler": "compiler",
    "load": "loader",
}

__all__ = [
    "CompilerFailed",
    "CpuArtifact",
    "CpuOptions",
    "LoadedKernel",
    "NoCompiler",
    "compile",
    "find_compiler",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
