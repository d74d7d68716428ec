"""What a kind of value must offer to be computed with by the engine.

A value is a tile, whole: all its elements at once, wherever they are held. Its form is the domain's own business;
shared memory and arrays keep it packed, as `channels` numbers an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from kernelagent.dsl.verify.schedule.places import Integers, Truths

Value: TypeAlias = Any
Packed: TypeAlias = Any
"""f64, (channels, *shape)."""


class Domain(Protocol):
    """Values of one kind."""

    channels: int

    def constant(self, value: float | int | bool, dtype: str, shape: tuple[int, ...]) -> Value: ...
    def numbers(self, values: Integers | Truths, dtype: str) -> Value:
        """Positions and truths, known exactly."""
        ...

    def parameter(self, name: str, dtype: str) -> Value: ...
    def load(self, array: str, at: tuple[Integers, ...], inside: Truths, fill: float | int, dtype: str) -> Value: ...
    def pointwise(self, word: str, arguments: Sequence[Value], sources: Sequence[str], dtype: str) -> Value: ...
    def rename(self, parts: Sequence[Value], move: Callable[..., Any]) -> Value:
        """`move` takes tile-shaped arrays, one a part, to one tile-shaped array."""
        ...

    def reduce(self, word: str, x: Value, axis: int, dtype: str) -> Value: ...
    def position_of(self, word: str, x: Value, axis: int, source: str, dtype: str) -> Value:
        """argmax and argmin."""
        ...

    def scan(self, word: str, x: Value, axis: int, dtype: str) -> Value: ...
    def mma(self, a: Value, b: Value, acc: Value, sources: tuple[str, str], dtype: str, precision: str) -> Value: ...
    def positions(self, x: Value) -> Integers:
        """Integers that say where to load or store."""
        ...

    def decide(self, x: Value) -> bool | None:
        """A rank-0 truth, None where the domain does not know it."""
        ...

    def pack(self, x: Value, dtype: str, shape: tuple[int, ...]) -> Packed: ...
    def unpack(self, x: Packed, dtype: str) -> Value: ...
    def sum(self, old: Packed, new: Packed, dtype: str) -> Packed:
        """What an atomic addition leaves."""
        ...
