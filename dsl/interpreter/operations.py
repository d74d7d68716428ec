"""One closure for each operation of the tile IR: fetch operands, compute data, derive the live intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import DTYPES, is_float
from kernelagent.dsl.interpreter import numbers
from kernelagent.dsl.interpreter.fault import RunError
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.tile import (
    Interval,
    Tile,
    Unreshapable,
    box,
    broadcast,
    common,
    interval,
    nothing,
    refill,
    reshape,
    whole,
)

if TYPE_CHECKING:
    from kernelagent.dsl.interpreter.machine import Machine

Operation: TypeAlias = Callable[[], Tile]


def compile_operation(machine: Machine, statement: ir.Let) -> Operation:
    """The closure that computes `statement.value`."""
    return _COMPILERS[type(statement.operation)](machine, statement.operation, statement.value)


def _numpy(machine: Machine, dtype: str) -> np.dtype[Any]:
    return machine.options.held(dtype)


# Sources -----------------------------------------------------------------------------------


def _load(machine: Machine, op: ir.Load, value: ir.Value) -> Operation:
    access, start, shape = machine.access(op.view), machine.evaluator.indices(op.start), machine.shape(value)
    dtype, fill, full = _numpy(machine, value.type.dtype), op.fill, whole(shape)
    noted = access.cell.role == "InOut"

    def load() -> Tile:
        first = start()
        live = access.live(first, shape)
        boxes = [(lo + f, hi + f) for (lo, hi), f in zip(live, first, strict=True)]
        if noted and all(lo < hi for lo, hi in boxes):
            machine.note_load(access, access.selection(boxes))
        if live == full:
            return Tile(access.read(access.cell.data, boxes).copy(), live)
        data = np.full(shape, 0 if fill is None else fill, dtype)
        data[box(live)] = access.read(access.cell.data, boxes)
        return Tile(data, live if fill is None else full)

    return load


def _gather(machine: Machine, op: ir.Gather, value: ir.Value) -> Operation:
    from kernelagent.dsl.interpreter.machine import check_listed

    access, start, shape = machine.access(op.view), machine.evaluator.indices(op.start), machine.shape(value)
    get, dtype, axis = machine.get(op.indices), _numpy(machine, value.type.dtype), op.axis

    def gather() -> Tile:
        chosen, first = get(), start()
        live = list(access.live(first, shape))
        live[axis] = chosen.live[0]
        positions = [np.arange(lo, hi) + f for (lo, hi), f in zip(live, first, strict=True)]
        listed = chosen.data[box(chosen.live)].astype(np.int64)
        lo, hi = access.range_of(axis)
        if op.fill is None:
            check_listed(access, axis, listed)
        good = (listed >= lo) & (listed < hi)
        positions[axis] = listed[good]
        data = np.full(shape, 0 if op.fill is None else op.fill, dtype)
        target: list[Any] = [np.arange(a, b) for a, b in live]
        target[axis] = target[axis][good]
        places = access.places(positions)
        if places[0].size:
            machine.note_load(access, places)
        data[np.ix_(*target)] = access.cell.data[places]
        return Tile(data, tuple(live) if op.fill is None else whole(shape))

    return gather


def _constant(tile: Tile) -> Operation:
    tile.data.flags.writeable = False
    return lambda: tile


def _full(machine: Machine, op: ir.Full, value: ir.Value) -> Operation:
    shape = machine.shape(value)
    return _constant(Tile(np.full(shape, op.value, _numpy(machine, value.type.dtype)), whole(shape)))


def _from_index(machine: Machine, op: ir.FromIndex, value: ir.Value) -> Operation:
    closure, dtype = machine.evaluator.index(op.index), value.type.dtype
    numpy_type = _numpy(machine, dtype)

    def from_index() -> Tile:
        number = closure()
        if not is_float(dtype):
            _require_fits(number, dtype, value)
        return Tile(np.asarray(number).astype(numpy_type), ())

    return from_index


def _require_fits(number: int, dtype: str, value: ir.Value) -> None:
    info = DTYPES[dtype]
    lowest = -info.largest - 1 if info.kind == "int" else 0
    if not lowest <= number <= info.largest:
        raise RunError("literal-range", f"the index {number} does not fit {dtype}", value.origin, value=number)


def _from_condition(machine: Machine, op: ir.FromCondition, value: ir.Value) -> Operation:
    holds = machine.evaluator.condition(op.condition)
    return lambda: Tile(np.asarray(holds(), np.bool_), ())


def _scalar_param(machine: Machine, op: ir.ScalarParam, value: ir.Value) -> Operation:
    number = np.asarray(machine.scalars[op.name], _numpy(machine, value.type.dtype))
    return _constant(Tile(number, ()))


def _iota(machine: Machine, op: ir.Iota, value: ir.Value) -> Operation:
    start, (extent,) = machine.evaluator.index(op.start), machine.shape(value)
    dtype, steps = _numpy(machine, value.type.dtype), np.arange(extent, dtype=np.int64)
    return lambda: Tile((steps + _low_bits(start())).astype(dtype), ((0, extent),))


def _low_bits(number: int) -> int:
    """Positions wrap: what numpy cannot hold is cut to 32 bits first."""
    return number if abs(number) < 2**62 else number % 2**32


# Elementwise -------------------------------------------------------------------------------


def _unary(machine: Machine, op: ir.Unary, value: ir.Value) -> Operation:
    get, function, dtype = machine.get(op.x), numbers.UNARY[op.word], value.type.dtype

    def unary() -> Tile:
        x = get()
        return Tile(numbers.wrap(np.asarray(function(x.data)), dtype), x.live)

    return unary


def _binary(machine: Machine, op: ir.Binary, value: ir.Value) -> Operation:
    first, second, function = machine.get(op.a), machine.get(op.b), numbers.BINARY[op.word]
    dtype = value.type.dtype

    def binary() -> Tile:
        a, b = first(), second()
        return Tile(numbers.wrap(np.asarray(function(a.data, b.data)), dtype), common(a.live, b.live))

    return binary


def _where(machine: Machine, op: ir.Where, value: ir.Value) -> Operation:
    condition, first, second = machine.get(op.condition), machine.get(op.a), machine.get(op.b)

    def where() -> Tile:
        c, a, b = condition(), first(), second()
        return Tile(np.where(c.data, a.data, b.data), common(c.live, a.live, b.live))

    return where


def _cast(machine: Machine, op: ir.Cast, value: ir.Value) -> Operation:
    get, source, target = machine.get(op.x), op.x.type.dtype, value.type.dtype
    widen = machine.options.widen

    def cast() -> Tile:
        x = get()
        return Tile(np.asarray(numbers.cast(x.data, source, target, widen)), x.live)

    return cast


# Shapes ------------------------------------------------------------------------------------


def _broadcast(machine: Machine, op: ir.Broadcast, value: ir.Value) -> Operation:
    get, shape = machine.get(op.x), machine.shape(value)
    return lambda: broadcast(get(), shape)


def _expand_dims(machine: Machine, op: ir.ExpandDims, value: ir.Value) -> Operation:
    get, axes = machine.get(op.x), op.axes

    def expand() -> Tile:
        x = get()
        live = iter(x.live)
        rank = len(x.live) + len(axes)
        return Tile(np.expand_dims(x.data, axes), tuple((0, 1) if a in axes else next(live) for a in range(rank)))

    return expand


def _reshape(machine: Machine, op: ir.Reshape, value: ir.Value) -> Operation:
    get, shape = machine.get(op.x), machine.shape(value)

    def apply() -> Tile:
        try:
            return reshape(get(), shape)
        except Unreshapable as error:
            hint = "write fill(x, value) before the reshape"
            raise RunError(
                "reshape-partly-live", f"reshape of a partly void axis: {error}", value.origin, hint
            ) from None

    return apply


def _permute(machine: Machine, op: ir.Permute, value: ir.Value) -> Operation:
    get, axes = machine.get(op.x), op.axes

    def permute() -> Tile:
        x = get()
        return Tile(x.data.transpose(axes), tuple(x.live[a] for a in axes))

    return permute


def _fill(machine: Machine, op: ir.Fill, value: ir.Value) -> Operation:
    get, shape = machine.get(op.x), machine.shape(value)
    return lambda: Tile(refill(get(), op.value), whole(shape))


def _stack(machine: Machine, op: ir.Stack, value: ir.Value) -> Operation:
    parts = [machine.get(p) for p in op.parts]

    def stack() -> Tile:
        tiles = [part() for part in parts]
        live = common(tiles[0].live, *(t.live for t in tiles[1:]))
        return Tile(np.stack([t.data for t in tiles], axis=-1), (*live, (0, len(tiles))))

    return stack


def _take(machine: Machine, op: ir.Take, value: ir.Value) -> Operation:
    get, position = machine.get(op.x), op.position

    def take() -> Tile:
        x = get()
        lo, hi = x.live[-1]
        live = x.live[:-1] if lo <= position < hi else nothing(len(x.live) - 1)
        return Tile(x.data[..., position], live)

    return take


# Along an axis -----------------------------------------------------------------------------


def _along(x: Tile, axis: int, span: Interval) -> Array:
    """The part of the data that is live on one axis."""
    return x.data[(slice(None),) * axis + (slice(*span),)]


def _without(live: tuple[Interval, ...], axis: int) -> tuple[Interval, ...]:
    return live[:axis] + live[axis + 1 :]


def _reduce(machine: Machine, op: ir.Reduce, value: ir.Value) -> Operation:
    get, word, axis, dtype = machine.get(op.x), op.word, op.axis, value.type.dtype

    def reduce() -> Tile:
        x = get()
        return Tile(numbers.reduce(word, _along(x, axis, x.live[axis]), axis, dtype), _without(x.live, axis))

    return reduce


def _arg_reduce(machine: Machine, op: ir.ArgReduce, value: ir.Value) -> Operation:
    get, axis, dtype = machine.get(op.x), op.axis, _numpy(machine, value.type.dtype)
    function = np.argmax if op.word == "argmax" else np.argmin

    def arg_reduce() -> Tile:
        x = get()
        lo, hi = x.live[axis]
        live = _without(x.live, axis)
        if lo == hi:
            return Tile(np.full(_without_extent(x.data.shape, axis), -1, dtype), live)
        part = _along(x, axis, (lo, hi))
        part = part.astype(np.float64) if is_float(op.x.type.dtype) else part  # ml_dtypes' argmax skips NaN
        return Tile(np.asarray(function(part, axis=axis) + lo).astype(dtype), live)

    return arg_reduce


def _without_extent(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _scan(machine: Machine, op: ir.Scan, value: ir.Value) -> Operation:
    get, word, axis, dtype = machine.get(op.x), op.word, op.axis, value.type.dtype

    def scan() -> Tile:
        x = get()
        data = x.data.copy()
        place = (slice(None),) * axis + (slice(*x.live[axis]),)
        data[place] = numbers.scan(word, data[place], axis, dtype)
        return Tile(data, x.live)

    return scan


def _mma(machine: Machine, op: ir.Mma, value: ir.Value) -> Operation:
    first, second, dtype = machine.get(op.a), machine.get(op.b), value.type.dtype
    widen, precision = machine.options.widen, op.precision

    def mma() -> Tile:
        a, b = first(), second()
        lo, hi = interval(max(a.live[1][0], b.live[0][0]), min(a.live[1][1], b.live[0][1]), a.data.shape[1])
        left, right = a.data[:, lo:hi], b.data[lo:hi]
        machine.spend(left.size * right.shape[1] // 8)
        return Tile(numbers.mma(left, right, dtype, precision, widen), (a.live[0], b.live[1]))

    return mma


def _tag(machine: Machine, op: ir.Tag, value: ir.Value) -> Operation:
    return machine.get(op.x)


_COMPILERS: dict[type, Callable[..., Operation]] = {
    ir.Load: _load, ir.Gather: _gather, ir.Full: _full, ir.FromIndex: _from_index,
    ir.FromCondition: _from_condition, ir.ScalarParam: _scalar_param, ir.Iota: _iota,
    ir.Unary: _unary, ir.Binary: _binary, ir.Where: _where, ir.Cast: _cast,
    ir.Broadcast: _broadcast, ir.ExpandDims: _expand_dims, ir.Reshape: _reshape, ir.Permute: _permute,
    ir.Fill: _fill, ir.Stack: _stack, ir.Take: _take,
    ir.Reduce: _reduce, ir.ArgReduce: _arg_reduce, ir.Scan: _scan, ir.Mma: _mma, ir.Tag: _tag,
}  # fmt: skip
