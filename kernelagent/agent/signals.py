"""Ctrl-C and SIGTERM leave by the same door, and never in the middle of writing an event."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Door:
    """How deep in sections that must not be interrupted, and whether a signal waits for their end."""

    depth = 0
    waiting = False


@contextmanager
def terminating() -> Iterator[None]:
    """SIGINT and SIGTERM become KeyboardInterrupt inside. Only the main thread receives signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(_: int, __: FrameType | None) -> None:
    if _Door.depth:
        _Door.waiting = True
    else:
        raise KeyboardInterrupt


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What stands inside is done whole; a signal that came meanwhile raises KeyboardInterrupt at the end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _Door.depth += 1
    try:
        yield
    finally:
        _Door.depth -= 1
        if not _Door.depth and _Door.waiting:
            _Door.waiting = False
            raise KeyboardInterrupt
