"""A line now and then for whoever waits behind a pipe: which step it is that takes so long."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

QUIET_SECONDS = 3.0
"""Of silence before a step is named."""
AGAIN_SECONDS = 10.0
"""Before a step that was named is named again."""


class Heartbeat:
    """Calls `say` with the step at hand, and since when, where nothing was said for a while; use it as a context
    manager. Short steps are never named."""

    def __init__(
        self, say: Callable[[str], None], step: str = "", quiet: float = QUIET_SECONDS, again: float = AGAIN_SECONDS
    ) -> None:
        self._say, self._quiet, self._again = say, quiet, again
        self._step, self._since = step, time.monotonic()
        self._named, self._last = "", self._since
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def step(self, line: str) -> None:
        """From here on this is what takes time."""
        with self._lock:
            self._step, self._since = line, time.monotonic()

    def heard(self) -> None:
        """Something else was printed."""
        with self._lock:
            self._last = time.monotonic()

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._quiet / 4):
            if line := self._due(time.monotonic()):
                self._say(line)

    def _due(self, now: float) -> str:
        with self._lock:
            pause = self._again if self._named == self._step else self._quiet
            if not self._step or now - self._last < pause:
                return ""
            self._named, self._last = self._step, now
            lasted = now - self._since
            return f"{self._step} ... {lasted:.0f} s" if lasted >= 1 else f"{self._step} ..."


__all__ = ["AGAIN_SECONDS", "QUIET_SECONDS", "Heartbeat"]
