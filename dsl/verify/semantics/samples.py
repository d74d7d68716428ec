"""Points at which everything known holds: what is negative at one of them cannot be shown to be never negative.

The prover of `verify.ranges` is slow to give up; a few points settle most of the questions that it would give up on. A
point too few only costs time: points never show anything.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.index import Condition, Index, evaluate_condition

_POINTS = 24
_ATTEMPTS = 600
_SIZES = (1, 2, 3, 4, 6, 8, 17, 32, 45, 64, 96, 130, 257)


class Samples:
    """Values of all symbols, at some twenty points. `ranges`: what elements of integer arrays lie in."""

    def __init__(self, points: Sequence[Mapping[str, int]], ranges: Mapping[str, tuple[Index, Index]]) -> None:
        self.points, self._ranges = list(points), ranges
        self._refuted: dict[Index, bool] = {}

    @classmethod
    def of(cls, dims: Sequence[str], assumes: Sequence[ir.Assume], seed: int = 0) -> Samples:
        """Sizes that the assumptions allow; few or none where they are hard to guess."""
        conditions = [a.condition for a in assumes if a.condition is not None]
        ranges = {a.data[1]: (a.data[2][0], a.data[2][1]) for a in assumes if a.data and a.data[0] == "range"}
        generator = random.Random(seed)
        points: list[Mapping[str, int]] = []
        for _ in range(_ATTEMPTS):
            point = {d: generator.choice(_SIZES) for d in dims}
            if all(_holds(c, point) for c in conditions):
                points.append(point)
            if len(points) == _POINTS:
                break
        return cls(points, ranges)

    def counting(self, name: str, lo: Index, hi: Index, step: int = 1) -> Samples:
        """Also: `name` runs over lo, lo + step, ... below hi; by turns the first, the last and some other value."""
        points: list[Mapping[str, int]] = []
        for number, point in enumerate(self.points):
            first, end = self._value(lo, point), self._value(hi, point)
            if first is None or end is None or end <= first:
                continue
            count = -(-(end - first) // step)
            chosen = zlib.crc32(f"{name}{number}".encode())
            places = (count - 1, chosen % count, 0)
            points.append({**point, name: first + step * places[chosen % 3]})
        return Samples(points, self._ranges)

    def where(self, condition: Condition) -> Samples:
        return Samples([p for p in self.points if _holds(condition, p)], self._ranges)

    def refute(self, i: Index) -> bool:
        """Whether `i` is negative at some point."""
        if i not in self._refuted:
            values = (self._value(i, p) for p in self.points)
            self._refuted[i] = any(v is not None and v < 0 for v in values)
        return self._refuted[i]

    def _value(self, i: Index, point: Mapping[str, int]) -> int | None:
        """The value at a point; elements of integer arrays are arbitrary within their ranges."""

        def read(array: str, place: tuple[int, ...]) -> int:
            lo, hi = (b.evaluate(point) for b in self._ranges[array])
            return lo + zlib.crc32(f"{array}{place}".encode()) % max(hi - lo, 1)

        try:
            return i.evaluate(point, read)
        except (KeyError, ZeroDivisionError):
            return None


def _holds(condition: Condition, point: Mapping[str, int]) -> bool:
    try:
        return evaluate_condition(condition, point)
    except (KeyError, ZeroDivisionError):
        return False
