"""No values at all, but for integers that say where things are: enough for everything that is about order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.places import Integers, Truths

_KNOWN = ("i8", "i16", "i32", "i64", "u8", "u32", "bool")


class Unknown:
    """None stands for a value that nobody knows. Integers and truths are numbers as long as only such are in them."""

    channels = 0

    def __init__(self, arrays: Mapping[str, Any], scalars: Mapping[str, float | int | bool]) -> None:
        self.real = Real(arrays, scalars)

    def constant(self, value: float | int | bool, dtype: str, shape: tuple[int, ...]) -> Any:
        return self.real.constant(value, dtype, shape) if dtype in _KNOWN else None

    def numbers(self, values: Integers | Truths, dtype: str) -> Any:
        return self.real.numbers(values, dtype) if dtype in _KNOWN else None

    def parameter(self, name: str, dtype: str) -> Any:
        return self.real.parameter(name, dtype) if dtype in _KNOWN else None

    def load(self, array: str, at: tuple[Integers, ...], inside: Truths, fill: float | int, dtype: str) -> Any:
        if dtype not in _KNOWN or array not in self.real.arrays:
            return None
        return self.real.load(array, at, inside, fill, dtype)

    def pointwise(self, word: str, arguments: Sequence[Any], sources: Sequence[str], dtype: str) -> Any:
        if dtype not in _KNOWN or any(a is None for a in arguments):
            return None
        return self.real.pointwise(word, arguments, sources, dtype)

    def rename(self, parts: Sequence[Any], move: Callable[..., Any]) -> Any:
        return None if any(p is None for p in parts) else self.real.rename(parts, move)

    def reduce(self, word: str, x: Any, axis: int, dtype: str) -> Any:
        return None if x is None else self.real.reduce(word, x, axis, dtype)

    def position_of(self, word: str, x: Any, axis: int, source: str, dtype: str) -> Any:
        return None if x is None else self.real.position_of(word, x, axis, source, dtype)

    def scan(self, word: str, x: Any, axis: int, dtype: str) -> Any:
        return None if x is None else self.real.scan(word, x, axis, dtype)

    def mma(self, a: Any, b: Any, acc: Any, sources: tuple[str, str], dtype: str, precision: str) -> Any:
        return None

    def positions(self, x: Any) -> Integers:
        if x is None:
            raise LookupError("positions that are computed from unknown values")
        return self.real.positions(x)

    def decide(self, x: Any) -> bool | None:
        return None if x is None else bool(x)

    def pack(self, x: Any, dtype: str, shape: tuple[int, ...]) -> Any:
        return np.zeros((0, *shape))

    def unpack(self, x: Any, dtype: str) -> Any:
        return None

    def sum(self, old: Any, new: Any, dtype: str) -> Any:
        return new
