"""Numbers of two finite fields: equal results mean that the schedule computes the same formula of the same elements.

Every element of every input is another random number, so a schedule that takes, drops or doubles one, or fills a void
with what matters, has another result but for a chance of about degree / p (p near 2^27) for each element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.interpreter.held import held_dtype
from kernelagent.dsl.interpreter.machine import Machine
from kernelagent.dsl.interpreter.operations import Operation
from kernelagent.dsl.interpreter.tile import Tile
from kernelagent.dsl.verify.schedule.domains.real import Real
from kernelagent.dsl.verify.schedule.places import Integers, Truths
from kernelagent.dsl.verify.semantics.field import NEGATIVE, POSITIVE, Field, Unfielded
from kernelagent.dsl.verify.semantics.field_domain import FieldDomain, mapped, without

Array = np.ndarray[Any, np.dtype[Any]]
FRACTION, LITERALS, MIDDLE = 1024, 1024, 8
"""Literals up to so much, in so many parts of one, keep their order; half of all numbers lie below the last."""
ALIKE = 56
"""Bits that do not count where floats are compared for equality."""
SMALL = 128
"""Integers below it are of every integer dtype but u4, which nothing is cast to."""


class Mixed(Field):
    """An order in which constants lie among random numbers: as integers, next to nothing lies below 6 of two random
    ones, and `minimum(x, 6)` forgets x. Small constants keep their own order, -max(-x) is min(x), and no magnitude is
    below 0."""

    @cached_property
    def _factor(self) -> int:
        return int(self.parts(self.hashed(np.asarray(0), "order"))[0]) | 1

    def rank(self, x: Array) -> Array:
        """Integers in this order, minus infinity first."""
        first, second = self.parts(x)
        scaled = self._about_zero(first * FRACTION)
        size = np.abs(scaled)
        small = np.sign(scaled) * (self.pair.p // 2 * size // (size + MIDDLE * FRACTION))
        place = np.where(size <= LITERALS * FRACTION, small, self._about_zero(first * self._factor))
        return np.where(x < 0, -POSITIVE, np.where(x == POSITIVE, POSITIVE, (place << 32) + second))

    def _about_zero(self, x: Array) -> Array:
        """The member of the class that is nearest to zero."""
        rest = x % self.pair.p
        return rest - np.where(rest > self.pair.p // 2, self.pair.p, 0)

    def unary(self, word: str, x: Array) -> Array:
        return self.binary("maximum", x, self.negate(x)) if word == "abs" else super().unary(word, x)

    def binary(self, word: str, x: Array, y: Array) -> Array:
        match word:
            case "maximum":
                return np.where(self.rank(x) >= self.rank(y), x, y)
            case "minimum":
                return np.where(self.rank(x) <= self.rank(y), x, y)
            case "lt" | "le" | "gt" | "ge":
                return super().binary(word, self.rank(x), self.rank(y))
            case "eq" | "ne":  # one of eight: two random numbers are never equal, and `where` would take one side only
                return super().binary(word, self.rank(x) >> ALIKE, self.rank(y) >> ALIKE)
        return super().binary(word, x, y)

    def reduce(self, word: str, x: Array, axis: int) -> Array:
        if word not in ("max", "min") or not x.shape[axis]:
            return super().reduce(word, x, axis)
        place = (np.argmax if word == "max" else np.argmin)(self.rank(x), axis=axis, keepdims=True)
        return np.take_along_axis(x, place, axis).squeeze(axis)


class Total(Mixed):
    """Void elements are computed with as well, and masked later: a division by zero gives some number."""

    def inverse(self, x: Array) -> Array:
        zero = ((np.asarray(x) >> 32) == 0) & (np.asarray(x) >= 0)
        return np.where(zero, self.hashed(x, "1 / 0"), super().inverse(np.where(zero, self.constant(1), x)))

    def total(self, x: Array, axis: int) -> Array:
        """A sum with an infinity is infinite."""
        low, high = (x < 0).any(axis=axis), (x == POSITIVE).any(axis=axis)
        made = super().total(np.where((x < 0) | (x == POSITIVE), 0, x), axis)
        return np.where(low, NEGATIVE, np.where(high, POSITIVE, made))


def _numbered(field: Field, shape: tuple[int, ...], array: int) -> Array:
    """Another number for each element of each array."""
    count = int(np.prod(shape, dtype=np.int64))
    return field.hashed(np.arange(count).reshape(shape), f"array {array}")


def integers(field: Field, x: Array, dtype: str) -> Array:
    """What numbers are as integers or truths: any small ones, equal for equal numbers."""
    first, _ = field.parts(field.hashed(x, "integer"))
    return (first % (2 if dtype == "bool" else SMALL)).astype(held_dtype(dtype))


class Finite:
    """The values of one call. Floats are encoded numbers; integers and truths are themselves."""

    channels = 1

    def __init__(self, field: Mixed, arrays: Mapping[str, Any], scalars: Mapping[str, float | int | bool]) -> None:
        self.field, self.real, self.rounds = field, Real(arrays, scalars), False
        floats = {n: a for n, a in arrays.items() if np.asarray(a).dtype.kind not in "iub"}
        self.entered = {n: _numbered(field, a.shape, k) for k, (n, a) in enumerate(floats.items())}
        self.by_identity = {id(floats[n]): e for n, e in self.entered.items()}

    def constant(self, value: float | int | bool, dtype: str, shape: tuple[int, ...]) -> Array:
        if not is_float(dtype):
            return self.real.constant(value, dtype, shape)
        return np.full(shape, self.field.constant(value), np.int64)

    def numbers(self, values: Integers | Truths, dtype: str) -> Array:
        return self.field.whole(np.asarray(values)) if is_float(dtype) else self.real.numbers(values, dtype)

    def parameter(self, name: str, dtype: str) -> Array:
        if not is_float(dtype):
            return self.real.parameter(name, dtype)
        return FieldDomain(self.field).enter(np.asarray(self.real.scalars[name], np.float64))

    def load(self, array: str, at: tuple[Integers, ...], inside: Truths, fill: float | int, dtype: str) -> Array:
        if not is_float(dtype):
            return self.real.load(array, at, inside, fill, dtype)
        result = np.full(inside.shape, self.field.constant(fill), np.int64)
        result[inside] = self.entered[array][tuple(c[inside] for c in at)]
        return result

    def pointwise(self, word: str, arguments: Sequence[Array], sources: Sequence[str], dtype: str) -> Array:
        floats = [is_float(s) for s in sources]
        if word == "cast":
            return self._cast(arguments[0], sources[0], dtype)
        if word == "where":
            return np.where(*arguments)
        if not any(floats):
            return self.real.pointwise(word, arguments, sources, dtype)
        if len(arguments) == 1:
            return self.field.unary(word, arguments[0])
        return self.field.binary(word, arguments[0], arguments[1])

    def _cast(self, x: Array, source: str, target: str) -> Array:
        if is_float(source) and is_float(target):
            return x
        if is_float(target):
            return self.field.whole(x)
        if is_float(source):
            self.rounds = True
            return integers(self.field, x, target)
        return self.real.pointwise("cast", [x], [source], target)

    def rename(self, parts: Sequence[Array], move: Callable[..., Any]) -> Array:
        return np.asarray(move(*parts))

    def reduce(self, word: str, x: Array, axis: int, dtype: str) -> Array:
        return self.field.reduce(word, x, axis) if is_float(dtype) else self.real.reduce(word, x, axis, dtype)

    def position_of(self, word: str, x: Array, axis: int, source: str, dtype: str) -> Array:
        return self.real.position_of(word, self.field.rank(x) if is_float(source) else x, axis, source, dtype)

    def scan(self, word: str, x: Array, axis: int, dtype: str) -> Array:
        if not is_float(dtype):
            return self.real.scan(word, x, axis, dtype)
        parts = [self.field.reduce(word, x.take(range(k + 1), axis), axis) for k in range(x.shape[axis])]
        return np.stack(parts, axis)

    def mma(self, a: Array, b: Array, acc: Array, sources: tuple[str, str], dtype: str, precision: str) -> Array:
        if not is_float(sources[0]):
            return self.real.mma(a, b, acc, sources, dtype, precision)
        left, right = np.maximum(a, 0), np.maximum(b, 0)
        return self.field.add(acc, self.field.product(left, right))

    def positions(self, x: Array) -> Integers:
        self._no_rounding()
        return x.astype(np.int64)

    def decide(self, x: Array) -> bool:
        self._no_rounding()
        return bool(x)

    def _no_rounding(self) -> None:
        """An integer that a number of a field was made is any integer: no place in an array."""
        if self.rounds:
            raise Unfielded("a place or a branch, where floats are made integers")

    def pack(self, x: Array, dtype: str, shape: tuple[int, ...]) -> Any:
        """The bits of the 64-bit integers."""
        return np.ascontiguousarray(x).astype(np.int64).reshape(1, *shape).view(np.float64)

    def unpack(self, x: Any, dtype: str) -> Array:
        values = np.ascontiguousarray(x[0]).view(np.int64)
        return values if is_float(dtype) else values.astype(self.real.constant(0, dtype, ()).dtype)

    def sum(self, old: Any, new: Any, dtype: str) -> Any:
        added = self.unpack(old, dtype), self.unpack(new, dtype)
        return self.pack(self.field.add(*added) if is_float(dtype) else added[0] + added[1], dtype, old.shape[1:])


class Oracle(FieldDomain):
    """The interpreter's side: the same numbers for the same elements."""

    def __init__(self, schedule: Finite, field: Mixed) -> None:
        super().__init__(field)
        self.schedule, self.ordered = schedule, field

    def enter(self, data: Any) -> Any:
        known = self.schedule.by_identity.get(id(data))
        return super().enter(data) if known is None else known

    def operation(self, machine: Machine, statement: ir.Let) -> Operation | None:
        value = statement.value
        match statement.operation:
            case ir.Cast(x) if is_float(x.type.dtype) and not is_float(value.type.dtype):
                return mapped(machine, x, lambda data: integers(self.field, data, value.type.dtype))
            case ir.ArgReduce(word, x, axis) if is_float(x.type.dtype):
                return _position_of(machine, self.ordered, word, x, axis, value.type.dtype)
        return super().operation(machine, statement)


def _position_of(machine: Machine, field: Mixed, word: str, x: ir.Value, axis: int, dtype: str) -> Operation:
    """The first largest or smallest of the live numbers, in the order of the field; -1 of none."""
    get, function = machine.get(x), np.argmax if word == "argmax" else np.argmin

    def find() -> Tile:
        tile = get()
        lo, hi = tile.live[axis]
        part = field.rank(tile.data[(slice(None),) * axis + (slice(lo, hi),)])
        missing = np.full(part.shape[:axis] + part.shape[axis + 1 :], -1)
        found = function(part, axis=axis) + lo if hi > lo else missing
        return Tile(np.asarray(found).astype(held_dtype(dtype)), without(tile.live, axis))

    return find
