"""What can be wrong with a base, as a person reads it. None of these ever changes the file."""

from __future__ import annotations

from pathlib import Path


class KnowledgeBaseError(Exception):
    """A base cannot be used. `side_file` holds the trials that could not be written, if there were any."""

    def __init__(self, message: str, side_file: Path | None = None) -> None:
        self.message = message
        self.side_file = side_file
        super().__init__(message)

    def __str__(self) -> str:
        if self.side_file is None:
            return self.message
        return f"{self.message}; the trial is kept in {self.side_file} and is added once the base can be written"


class BaseLocked(KnowledgeBaseError):
    """Another process kept the write lock for longer than the timeout."""


class BaseReadOnly(KnowledgeBaseError):
    """The file or its folder may not be written."""


class BaseCorrupt(KnowledgeBaseError):
    """Truncated, damaged, or not a knowledge base at all."""


class BaseNewer(KnowledgeBaseError):
    """Written by a later version of this program."""


class NotAnExport(KnowledgeBaseError, ValueError):
    """A file that should be an export of trials is none: names the file and the line. Nothing was added."""


class TechniqueError(Exception):
    """A technique file is wrong: names the file and the key."""
