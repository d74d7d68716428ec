"""What `validate` says about a problem."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Finding:
    """`code` is stable, `facts` are the values that the message talks about, `hint` says what to do."""

    code: str
    severity: Literal["error", "warning", "note"]
    message: str
    hint: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def error(code: str, message: str, hint: str, **facts: Any) -> Finding:
    return Finding(code, "error", message, hint, facts)


def warning(code: str, message: str, hint: str, **facts: Any) -> Finding:
    return Finding(code, "warning", message, hint, facts)
