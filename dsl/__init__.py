"""The tile language: text -> tile IR -> schedule -> code, with proofs and moves.

The names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelagent.dsl.binding import Binding as Binding
    from kernelagent.dsl.binding import bind as bind
    from kernelagent.dsl.catalogue import explain as explain
    from kernelagent.dsl.check_text import check as check
    from kernelagent.dsl.diagnostics import Diagnostic as Diagnostic
    from kernelagent.dsl.diagnostics import KernelError as KernelError
    from kernelagent.dsl.diagnostics import render as render
    from kernelagent.dsl.elaborate import parse as parse
    from kernelagent.dsl.instantiation import instantiate as instantiate
    from kernelagent.dsl.interpreter import interpret as interpret

_EXPORTS = {
    "parse": ".elaborate", "instantiate": ".instantiation", "bind": ".binding", "Binding": ".binding",
    "interpret": ".interpreter", "check": ".check_text", "explain": ".catalogue", "Diagnostic": ".diagnostics",
    "KernelError": ".diagnostics", "render": ".diagnostics",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name], __name__), name)
