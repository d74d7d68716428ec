"""What a target cannot compile: found while lowering or emitting, reported as a diagnostic of the text."""

from __future__ import annotations


class Unsupported(Exception):
    """The message names the construct; the target's `compile` turns it into a KernelError."""
