"""Secrets of a session: collected once, removed from everything that is written, shown or sent.

The rules themselves (known values, shapes of keys, labelled keys) are those of the knowledge base.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .knowledge_base.redact import redact, redact_all

SECRET_VARIABLES = ("KERNELAGENT_API_KEY", "OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "HF_TOKEN", "ANTHROPIC_API_KEY")


@dataclass(frozen=True, repr=False)
class Redactor:
    """Removes known secrets by value and unknown ones by shape. Its repr shows none of them."""

    secrets: tuple[str, ...] = ()

    def text(self, text: str) -> str:
        return redact(text, self.secrets)

    def record(self, value: Any) -> Any:
        """The same on every string of a JSON-like value, keys of mappings included."""
        return redact_all(value, self.secrets)

    def __repr__(self) -> str:
        return f"Redactor({len(self.secrets)} secrets)"


def secrets_of(environment: Mapping[str, str] | None = None, extra: Iterable[str | None] = ()) -> tuple[str, ...]:
    """The values of the key variables that are set, and `extra`; each once."""
    variables = os.environ if environment is None else environment
    found = [variables.get(name) for name in SECRET_VARIABLES] + list(extra)
    return tuple(dict.fromkeys(s for s in found if s))
