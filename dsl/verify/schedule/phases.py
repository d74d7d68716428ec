"""Barriers with phases: arrivals, bytes on their way, and what a completed phase tells those who wait for it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from kernelagent.dsl.verify.schedule.clocks import Times


@dataclass
class Phase:
    """One stage of a barrier of one block. `fill`: the agent of the bytes that arrive here."""

    arrivals: int
    fill: int
    ready: bool = False
    number: int = 0  # of the phase that is open
    pending: int = 0
    bytes: int = 0
    known: Times | None = None
    fenced: Times | None = None
    completed: tuple[Times, Times] | None = field(default=None)

    def start(self) -> None:
        self.ready, self.pending = True, self.arrivals

    def arrive(self, count: int, released: tuple[Times, Times]) -> bool:
        """False where more arrive than the phase waits for."""
        self._learn(released)
        fits = count <= self.pending
        self.pending -= min(count, self.pending)
        self._complete()
        return fits

    def expect(self, count: int) -> None:
        self.bytes += count

    def land(self, count: int) -> None:
        self.bytes -= count
        self._complete()

    def passed(self, parity: int) -> bool:
        """Whether the phase of this parity has completed."""
        return self.number % 2 != parity

    def _learn(self, released: tuple[Times, Times]) -> None:
        known, fenced = released
        self.known = known if self.known is None else np.maximum(self.known, known)
        self.fenced = fenced if self.fenced is None else np.maximum(self.fenced, fenced)

    def _complete(self) -> None:
        if self.pending or self.bytes or self.known is None or self.fenced is None:
            return
        self.known = self.known.copy()
        self.known[self.fill] = self.number
        before = self.completed
        self.completed = (self.known, self.fenced)
        if before is not None:  # what an earlier phase said stays true
            self.completed = (np.maximum(self.known, before[0]), np.maximum(self.fenced, before[1]))
        self.known = self.fenced = None
        self.number += 1
        self.pending = self.arrivals
