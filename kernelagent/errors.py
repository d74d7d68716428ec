"""Mistakes of a person or of the environment: shown as a sentence and a way out, never as a traceback."""

from __future__ import annotations

from collections.abc import Iterable

EXIT_WRONG_CANDIDATE = 1
EXIT_WRONG_CALL = 2
EXIT_ENVIRONMENT = 3


class UserError(Exception):
    """The candidate or the problem is wrong."""

    exit_code = EXIT_WRONG_CANDIDATE

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


class CallError(UserError):
    """The call is wrong: an unknown name, an option that does not fit."""

    exit_code = EXIT_WRONG_CALL


class EnvironmentLack(UserError):
    """The machine lacks something: a compiler, a device, a package."""

    exit_code = EXIT_ENVIRONMENT


def nearest(word: str, known: Iterable[str], alike: float = 0.5) -> str | None:
    """The known name that a person most likely meant, or None."""
    import difflib

    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=alike)
    return matches[0] if matches else None
