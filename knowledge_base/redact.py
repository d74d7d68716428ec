"""Secrets never reach the base: known ones are removed by value, others by what keys look like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MARK = "[redacted]"

_SHAPES = re.compile(
    r"""
      \bsk-[A-Za-z0-9_-]{16,}              # OpenAI, Anthropic, OpenRouter ...
    | \bnvapi-[A-Za-z0-9_-]{16,}
    | \bhf_[A-Za-z0-9]{16,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,}
    | \bxox[abprs]-[A-Za-z0-9-]{10,}
    | \bAKIA[0-9A-Z]{16}\b
    | \bAIza[0-9A-Za-z_-]{30,}
    | \bgsk_[A-Za-z0-9]{20,}
    | \beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}   # JSON web token
    | -----BEGIN[ A-Z]*PRIVATE[ ]KEY-----.*?(?:-----END[ A-Z]*PRIVATE[ ]KEY-----|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_LABELLED = re.compile(
    r"(?i)(authorization\s*:\s*(?:bearer\s+)?|bearer\s+|api[-_]?key[\"']?\s*[=:]\s*[\"']?)([^\s\"',;]{8,})"
)


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the given secrets and without anything shaped like a key. Idempotent."""
    for secret in sorted((s for s in secrets if len(s) >= 6), key=len, reverse=True):
        text = text.replace(secret, MARK)
    text = _SHAPES.sub(MARK, text)
    return _LABELLED.sub(lambda match: match[1] + MARK, text)


def redact_all(value: Any, secrets: Iterable[str] = ()) -> Any:
    """`redact` on every string of a JSON-like value, keys of mappings included."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {redact(str(k), secrets): redact_all(v, secrets) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [redact_all(v, secrets) for v in value]
    return value
