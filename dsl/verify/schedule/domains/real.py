"""Numbers as the interpreter holds and rounds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from kernelagent.dsl.interpreter import numbers
from kernelagent.dsl.interpreter.held import held_dtype
from kernelagent.dsl.verify.schedule.places import Integers, Truths

Array = np.ndarray[Any, np.dtype[Any]]


class Real:
    """The values of one call. `arrays` are its inputs, `scalars` its runtime parameters."""

    channels = 1

    def __init__(self, arrays: Mapping[str, Any], scalars: Mapping[str, float | int | bool]) -> None:
        self.arrays, self.scalars = arrays, scalars

    def constant(self, value: float | int | bool, dtype: str, shape: tuple[int, ...]) -> Array:
        return np.full(shape, value, held_dtype(dtype))

    def numbers(self, values: Integers | Truths, dtype: str) -> Array:
        return np.asarray(values).astype(held_dtype(dtype))

    def parameter(self, name: str, dtype: str) -> Array:
        return np.asarray(self.scalars[name], held_dtype(dtype))

    def load(self, array: str, at: tuple[Integers, ...], inside: Truths, fill: float | int, dtype: str) -> Array:
        result = np.full(inside.shape, fill, held_dtype(dtype))
        result[inside] = np.asarray(self.arrays[array])[tuple(c[inside] for c in at)]
        return result

    def pointwise(self, word: str, arguments: Sequence[Array], sources: Sequence[str], dtype: str) -> Array:
        with np.errstate(all="ignore"):
            if word == "cast":
                return numbers.cast(arguments[0], sources[0], dtype)
            if word == "where":
                return np.where(*arguments)
            function: Any = numbers.UNARY[word] if len(arguments) == 1 else numbers.BINARY[word]
            result = np.asarray(function(*arguments))
            return numbers.wrap(result.astype(held_dtype(dtype)), dtype)

    def rename(self, parts: Sequence[Array], move: Callable[..., Any]) -> Array:
        return np.asarray(move(*parts))

    def reduce(self, word: str, x: Array, axis: int, dtype: str) -> Array:
        with np.errstate(all="ignore"):
            return numbers.reduce(word, x, axis, dtype)

    def position_of(self, word: str, x: Array, axis: int, source: str, dtype: str) -> Array:
        best = np.argmax(x, axis) if word == "argmax" else np.argmin(x, axis)
        return np.asarray(best).astype(held_dtype(dtype))

    def scan(self, word: str, x: Array, axis: int, dtype: str) -> Array:
        with np.errstate(all="ignore"):
            return numbers.scan(word, x, axis, dtype)

    def mma(self, a: Array, b: Array, acc: Array, sources: tuple[str, str], dtype: str, precision: str) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(acc + numbers.mma(a, b, dtype, precision, False)).astype(acc.dtype)

    def positions(self, x: Array) -> Integers:
        return x.astype(np.int64)

    def decide(self, x: Array) -> bool:
        return bool(x)

    def pack(self, x: Array, dtype: str, shape: tuple[int, ...]) -> Any:
        return x.astype(np.float64).reshape(1, *shape)

    def unpack(self, x: Any, dtype: str) -> Array:
        with np.errstate(all="ignore"):
            return np.asarray(x[0]).astype(held_dtype(dtype))

    def sum(self, old: Any, new: Any, dtype: str) -> Any:
        return old + new
