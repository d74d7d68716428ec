"""The finite automaton of a block that takes tile after tile: which state follows which, tile by tile.

A state is the block's in front of a tile, as a digest; a letter says how the branches go that ask where the tile lies.
Walks are steered to what was not run yet, as far as one knows where they will be: the data that decides a letter may be
read before the tile in front of it has been run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from typing import TypeAlias

Letter: TypeAlias = tuple[bool, ...]


@dataclass
class Automaton:
    """What several walks from the start have shown. `heads` and `word` are the states and letters of the current one;
    letters are chosen ahead of states. `middle`: the iteration of a tile whose state has to come back a `period` later,
    if that is asked for."""

    letters: tuple[Letter, ...]
    middle: int | None = None
    period: int = 1
    edges: dict[tuple[bytes, Letter], bytes] = field(default_factory=dict)
    states: set[bytes] = field(default_factory=set)
    heads: list[bytes] = field(default_factory=list)
    word: list[Letter] = field(default_factory=list)
    first: bytes | None = None  # the state in front of the first tile
    torn: bool = False  # the same state and letter led to different states, or a letter was not of one tile
    steady: bool = True  # it came back in every tile
    _inside: list[bytes | None] = field(default_factory=list)
    _iteration: int = 0

    def begin(self) -> None:
        """Another walk."""
        self.heads, self.word, self._inside, self._iteration = [], [], [], 0

    def arrive(self, state: bytes) -> None:
        """The block comes to another tile."""
        self.torn |= len(self.heads) > len(self.word)
        if self.heads and not self.torn:
            self._close(self.word[len(self.heads) - 1], state)
        self.first = self.first or state
        self.torn |= not self.heads and state != self.first
        self.states.add(state)
        self.heads.append(state)
        self._inside, self._iteration = [], 0

    def _close(self, letter: Letter, state: bytes) -> None:
        self.torn |= self.edges.setdefault((self.heads[-1], letter), state) != state
        if self.middle is not None:
            self.steady &= len(self._inside) == 2 and None not in self._inside and len(set(self._inside)) == 1

    def iterate(self, state: Callable[[], bytes | None]) -> None:
        """An iteration of the current tile begins."""
        if self.middle is not None and self._iteration in (self.middle, self.middle + self.period):
            self._inside.append(state())
        self._iteration += 1

    # What is left to run -----------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether every letter was run from every state."""
        return all((s, a) in self.edges for s in self.states for a in self.letters)

    @property
    def spent(self) -> bool:
        """Whether this walk comes to nothing new."""
        return self._way(self.heads[-1], frozenset()) is None

    def choose(self) -> Letter:
        """The next letter of the word."""
        state, planned = self._ahead()
        way = None if state is None else self._way(state, planned)
        self.word.append(self.letters[len(self.word) % len(self.letters)] if way is None else way)
        return self.word[-1]

    def _ahead(self) -> tuple[bytes | None, set[tuple[bytes, Letter]]]:
        """The state behind all letters that are chosen, None where it is not known, and what will be run till then."""
        state = self.heads[-1] if self.heads else self.first
        planned: set[tuple[bytes, Letter]] = set()
        for letter in self.word[max(len(self.heads) - 1, 0) :]:
            if state is not None:
                planned.add((state, letter))
                state = self.edges.get((state, letter))
        return state, planned

    def _way(self, state: bytes, planned: Set[tuple[bytes, Letter]]) -> Letter | None:
        """The first letter of the shortest way to what was not run from some state; None if there is no such way."""
        queue: deque[tuple[bytes, Letter | None]] = deque([(state, None)])
        seen = {state}
        while queue:
            at, first = queue.popleft()
            for letter in self.letters:
                following = self.edges.get((at, letter))
                if following is None and (at, letter) not in planned:
                    return letter if first is None else first
                if following is not None and following not in seen:
                    seen.add(following)
                    queue.append((following, letter if first is None else first))
        return None


__all__ = ["Automaton", "Letter"]
