"""Who knows what has happened: clocks of the roles of a cluster, and of the asynchronous work that they begin.

An agent does accesses: the threads of a role (`generic`: ordinary accesses, in program order for one thread), its
groups of asynchronous copies (`copies`), of products (`products`) and of bulk stores (`stores`), and the fills of one
stage of a barrier (`fill`). Each access has a time of its agent: a running number for generic accesses, the number of
the group, the number of the phase. A role's clock says, for every agent, up to which time its accesses have happened
before whatever the role's threads do next; `own` says the same for accesses of one and the same thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Kind = Literal["generic", "copies", "products", "stores", "fill"]
Times = np.ndarray[Any, np.dtype[np.int64]]
NEVER = -1
ALWAYS = 1 << 60


@dataclass(frozen=True)
class Agent:
    """`part`: a role's name, or barrier and stage of a fill."""

    number: int
    block: int
    kind: Kind
    part: str


class Agents:
    """All agents of a cluster, numbered."""

    def __init__(self) -> None:
        self.all: list[Agent] = []
        self._numbers: dict[tuple[int, Kind, str], int] = {}

    def add(self, block: int, kind: Kind, part: str) -> int:
        number = len(self.all)
        self.all.append(Agent(number, block, kind, part))
        self._numbers[block, kind, part] = number
        return number

    def number(self, block: int, kind: Kind, part: str) -> int:
        return self._numbers[block, kind, part]

    def nothing(self) -> Times:
        return np.full(len(self.all), NEVER, np.int64)


@dataclass
class Clock:
    """What a role knows. `known`: accesses ordered before its next step; `fenced`: generic writes that are visible to
    asynchronous work as well; `own`: accesses that are complete for the thread that began them."""

    known: Times
    fenced: Times
    own: Times

    @classmethod
    def start(cls, agents: Agents) -> Clock:
        return cls(agents.nothing(), agents.nothing(), agents.nothing())

    def release(self, own: bool = True) -> tuple[Times, Times]:
        """What others learn from the role; without `own` only what it knows of others."""
        if not own:
            return self.known.copy(), self.fenced.copy()
        return np.maximum(self.known, self.own), self.fenced.copy()

    def acquire(self, released: tuple[Times, Times]) -> None:
        self.known = np.maximum(self.known, released[0])
        self.fenced = np.maximum(self.fenced, released[1])
