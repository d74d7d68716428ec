"""What stops a run: a mistake of the text or of the data, with the values that show it."""

from __future__ import annotations

from typing import Any

from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.ir import Origin


class RunError(KernelError):
    """A kernel did something that the language forbids, at one place of one iteration."""

    def __init__(self, code: str, message: str, origin: Origin | None = None, hint: str | None = None, **facts: Any):
        self.code = code
        self.message = message
        self.facts = facts
        self.origin = origin
        span = origin.span if origin else None
        calls = origin.calls if origin else ()
        super().__init__([Diagnostic(code, message, span, hint=hint, facts=facts, origin=calls)])


class WorkLimit(RunError):
    """The run was stopped because it takes more work than the caller allows; says nothing about the kernel."""


def values_text(values: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
