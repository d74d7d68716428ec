"""The interpreter's floats as finite-field values: the whole tiled kernel runs, masks, tails and loops included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.machine import Machine
from kernelagent.dsl.interpreter.operations import Operation, compile_operation
from kernelagent.dsl.interpreter.tile import Tile, common, interval
from kernelagent.dsl.verify.semantics.field import Field, Unfielded


class FieldDomain:
    """A `Domain` of the interpreter over one pair of fields."""

    dtype = np.dtype(np.int64)

    def __init__(self, field: Field) -> None:
        self.field = field

    def enter(self, data: Array) -> Array:
        """Floats are names of field values: equal floats are equal values."""
        return self.field.hashed(np.asarray(data).astype(np.float64).view(np.int64), "input")

    def garbage(self) -> Any:
        return int(self.field.hashed(np.asarray(7), "garbage"))

    def sum(self, old: Array, new: Array) -> Array:
        return self.field.add(old, new)

    def operation(self, machine: Machine, statement: ir.Let) -> Operation | None:
        value, operation = statement.value, statement.operation
        match operation:
            case ir.Load(fill=fill) | ir.Gather(fill=fill) if fill is not None and is_float(value.type.dtype):
                encoded = replace(operation, fill=self.field.constant(fill))
                return compile_operation(machine, ir.Let(value, encoded))
            case ir.Full(constant) | ir.Fill(_, constant) if is_float(value.type.dtype):
                encoded_constant = replace(operation, value=self.field.constant(constant))
                return compile_operation(machine, ir.Let(value, encoded_constant))
            case ir.FromIndex(i) if is_float(value.type.dtype):
                closure = machine.evaluator.index(i)
                return lambda: Tile(self.field.whole(np.asarray(closure())), ())
            case ir.ScalarParam(name) if is_float(value.type.dtype):
                scalar = self.enter(np.asarray(machine.scalars[name], np.float64))
                return lambda: Tile(scalar, ())
            case ir.Cast(x):
                return self._cast(machine, x, value)
            case ir.Unary(word, x) if is_float(x.type.dtype):
                return mapped(machine, x, lambda data: self.field.unary(word, data))
            case ir.Binary(word, a, b) if is_float(a.type.dtype):
                first, second = machine.get(a), machine.get(b)
                return lambda: _combined(first(), second(), lambda s, t: self.field.binary(word, s, t))
            case ir.Reduce(word, x, axis) if is_float(x.type.dtype):
                return self._reduce(machine, word, x, axis)
            case ir.Mma(a, b) if is_float(a.type.dtype):
                return self._mma(machine, a, b)
            case ir.Scan(word, x, axis) if is_float(x.type.dtype):
                return self._scan(machine, word, x, axis)
            case ir.ArgReduce(word, x, _) if is_float(x.type.dtype):
                raise Unfielded(f"`{word}` of floats")
        return None

    def _cast(self, machine: Machine, x: ir.Value, value: ir.Value) -> Operation | None:
        source, target = x.type.dtype, value.type.dtype
        if is_float(source) and is_float(target):
            return machine.get(x)
        if is_float(target):
            return mapped(machine, x, self.field.whole)
        if is_float(source):
            raise Unfielded("a float made an integer")
        return None

    def _reduce(self, machine: Machine, word: str, x: ir.Value, axis: int) -> Operation:
        get = machine.get(x)

        def reduce() -> Tile:
            tile = get()
            part = tile.data[(slice(None),) * axis + (slice(*tile.live[axis]),)]
            return Tile(self.field.reduce(word, _harmless(part, tile, axis), axis), without(tile.live, axis))

        return reduce

    def _mma(self, machine: Machine, a: ir.Value, b: ir.Value) -> Operation:
        first, second = machine.get(a), machine.get(b)

        def mma() -> Tile:
            x, y = first(), second()
            lo, hi = interval(max(x.live[1][0], y.live[0][0]), min(x.live[1][1], y.live[0][1]), x.data.shape[1])
            left, right = np.maximum(x.data[:, lo:hi], 0), np.maximum(y.data[lo:hi], 0)
            return Tile(self.field.product(left, right), (x.live[0], y.live[1]))

        return mma

    def _scan(self, machine: Machine, word: str, x: ir.Value, axis: int) -> Operation:
        get = machine.get(x)

        def scan() -> Tile:
            tile = get()
            data = tile.data.copy()
            lo, hi = tile.live[axis]
            for end in range(lo, hi):
                before = (slice(None),) * axis + (slice(lo, end + 1),)
                data[(slice(None),) * axis + (end,)] = self.field.reduce(word, tile.data[before], axis)
            return Tile(data, tile.live)

        return scan


def _harmless(part: Array, tile: Tile, axis: int) -> Array:
    """The part with void rows, which may hold anything, made zero: only live elements may stop a run."""
    if all(lo == 0 and hi == n for (lo, hi), n in zip(tile.live, tile.data.shape, strict=True)):
        return part
    void = np.ones(part.shape, bool)
    void[tuple(slice(None) if a == axis else slice(*span) for a, span in enumerate(tile.live))] = False
    return np.where(void, 0, part)


def mapped(machine: Machine, x: ir.Value, function: Callable[[Array], Array]) -> Operation:
    get = machine.get(x)

    def apply() -> Tile:
        tile = get()
        return Tile(_on_live(tile, tile.live, lambda: function(tile.data[_box(tile)])), tile.live)

    return apply


def _combined(a: Tile, b: Tile, function: Callable[[Array, Array], Array]) -> Tile:
    live = common(a.live, b.live)
    both = Tile(a.data, live)
    return Tile(_on_live(both, live, lambda: function(a.data[_box(both)], b.data[_box(both)])), live)


def _box(tile: Tile) -> tuple[slice, ...]:
    return tuple(slice(lo, hi) for lo, hi in tile.live)


def _on_live(tile: Tile, live: tuple[tuple[int, int], ...], function: Callable[[], Array]) -> Array:
    """The function's values on the live box, zeros elsewhere: void elements may not stop a run."""
    values = function()
    data = np.zeros(tile.data.shape, values.dtype)
    data[tuple(slice(lo, hi) for lo, hi in live)] = values
    return data


def without(live: tuple[tuple[int, int], ...], axis: int) -> tuple[tuple[int, int], ...]:
    return live[:axis] + live[axis + 1 :]
