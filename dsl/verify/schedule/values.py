"""Index integers at a point of a run: numbers where they must be, what is left of them where sizes stay unknown."""

from __future__ import annotations

from collections.abc import Mapping

from kernelagent.dsl.index import Compare, Condition, Index, ReadElement, index
from kernelagent.dsl.verify.schedule.skeleton import Unsupported
from kernelagent.dsl.verify.schedule.trips import Ask, Decision, holds, positive, related


class Values:
    """Values of the expressions of one skeleton; the same expression is computed once for the same numbers."""

    def __init__(self, sizes: Mapping[str, int], read: ReadElement | None = None) -> None:
        self.sizes = dict(sizes)
        self.read = read
        self._names: dict[int, tuple[str, ...]] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._reduced: dict[tuple[object, ...], Index] = {}
        self._differences: dict[int, Index] = {}
        self._decisions: dict[tuple[object, ...], Decision] = {}
        self._rooms: dict[tuple[Index, int], Decision] = {}
        self._kept: list[object] = []  # identities stay taken

    def names(self, x: Index) -> tuple[str, ...]:
        found = self._names.get(id(x))
        if found is None:
            found = tuple(sorted(s.name for s in x.symbols()))
            self._names[id(x)] = found
            self._kept.append(x)
        return found

    def number(self, x: Index, env: Mapping[str, int]) -> int:
        """Raises Unsupported where the value depends on sizes that are not known."""
        names = self.names(x)
        at = (id(x), *(env.get(n) for n in names))
        found = self._numbers.get(at)
        if found is None:
            try:
                found = x.evaluate({**self.sizes, **env}, self.read)
            except KeyError as missing:
                raise Unsupported(f"{x} depends on {missing.args[0]}") from None
            self._numbers[at] = found
        return found

    def reduced(self, x: Index, env: Mapping[str, int], ways: Mapping[str, Index]) -> Index:
        """The expression with all known numbers put in, and loop variables in terms of their start (`ways`)."""
        names = self.names(x)
        if any(n in ways for n in names):
            return self._put(x, env, ways)
        at = (id(x), *(env.get(n) for n in names))
        found = self._reduced.get(at)
        if found is None:
            found = self._put(x, env, {})
            self._reduced[at] = found
        return found

    def _put(self, x: Index, env: Mapping[str, int], ways: Mapping[str, Index]) -> Index:
        known: dict[str, Index | int] = {**self.sizes, **env, **ways}
        found = x.substitute(known)
        return found if self.read is None or found.symbols() else index(found.evaluate({}, self.read))

    def truth(self, condition: Condition, env: Mapping[str, int], ways: Mapping[str, Index], ask: Ask) -> bool:
        return holds(condition, lambda c: self._decision(c, env, ways), ask)

    def _decision(self, condition: Compare, env: Mapping[str, int], ways: Mapping[str, Index]) -> Decision:
        difference = self._differences.get(id(condition))
        if difference is None:
            difference = self._differences[id(condition)] = condition.a - condition.b
            self._kept.append(condition)
        at = (id(condition), *(ways.get(n, env.get(n)) for n in self.names(difference)))
        found = self._decisions.get(at)
        if found is None:
            found = self._decisions[at] = related(condition.relation, self._put(difference, env, ways))
        return found

    def beyond(self, room: Index, way: int) -> Decision:
        """Whether `room` is more than `way`."""
        found = self._rooms.get((room, way))
        if found is None:
            found = self._rooms[room, way] = positive(room - way)
        return found


__all__ = ["Values"]
