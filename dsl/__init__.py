"""The tile language: text -> tile IR -> schedule -> code, with proofs and moves.

The names below are loaded when they are first used. Some share their name with the module that defines them;
here the name always means the function (import the module's other contents with `from .module import ...`).
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.dsl.binding import Binding as Binding
    from kernelagent.dsl.binding import bind as bind
    from kernelagent.dsl.catalogue import explain as explain
    from kernelagent.dsl.check import check as check
    from kernelagent.dsl.diagnostics import Diagnostic as Diagnostic
    from kernelagent.dsl.diagnostics import KernelError as KernelError
    from kernelagent.dsl.diagnostics import render as render
    from kernelagent.dsl.elaborate import parse as parse
    from kernelagent.dsl.instantiate import instantiate as instantiate
    from kernelagent.dsl.interpret import interpret as interpret

_EXPORTS = {
    "parse": ".elaborate", "instantiate": ".instantiate", "bind": ".binding", "Binding": ".binding",
    "interpret": ".interpret", "check": ".check", "explain": ".catalogue", "Diagnostic": ".diagnostics",
    "KernelError": ".diagnostics", "render": ".diagnostics",
}  # fmt: skip


class _Package(ModuleType):
    """Importing the submodule `instantiate` would set it as an attribute and hide the function."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _EXPORTS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_EXPORTS[name], __name__), name)
    setattr(sys.modules[__name__], name, value)
    return value


sys.modules[__name__].__class__ = _Package
