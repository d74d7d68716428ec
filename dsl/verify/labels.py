"""The interpreter with coordinates in place of floats: what `tag` and `expect` say, executed.

One run follows one dim: each float is the coordinate along it of the element that it comes from, also where data says
which element that is (`gather`). Rules are those of `schedule.domains.tags`: constants have none, different ones that
meet are a mixture, a reduction uses up its axis.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.index import Index, Symbol
from kernelagent.dsl.interpreter.held import Array
from kernelagent.dsl.interpreter.machine import Machine
from kernelagent.dsl.interpreter.operations import Operation, compile_operation
from kernelagent.dsl.interpreter.tile import Tile, common, interval
from kernelagent.dsl.verify.schedule.arrays import with_indices
from kernelagent.dsl.verify.schedule.domains.tags import MIXED, NONE, consumed, joined
from kernelagent.dsl.verify.schedule.places import grid_of, view_positions


class Unlabelled(Exception):
    """The kernel decides or places something by floats: labels do not say what happens."""


@dataclass
class Claimed:
    """One `expect` in the runs so far: elements that were `reached`, those that had a coordinate (`known`), and the
    first that had another one."""

    statement: ir.Expect
    reached: int = 0
    known: int = 0
    wrong: int = 0
    first: Mistake | None = None


@dataclass(frozen=True)
class Mistake:
    """An element of a tile, its coordinate and the one that is claimed, and the loop variables there."""

    dim: str
    element: tuple[int, ...]
    expected: int
    found: int
    variables: Mapping[str, int]


@dataclass(frozen=True)
class Meeting:
    """A position `k` of two operands' tiles at which their coordinates differ; negative: none, or several."""

    dim: str
    k: int
    left: int
    right: int
    variables: Mapping[str, int]


@dataclass
class Labels:
    """A `Domain` of the interpreter. `shift` moves the coordinates of everything that is loaded or tagged: a claim that
    then still holds says nothing. `names`: kernel and array -> the dim of each axis."""

    dim: str
    names: Mapping[tuple[str, str], tuple[str | None, ...]]
    shift: int = 0
    claims: dict[tuple[str, int, int], Claimed] = field(default_factory=dict)
    products: dict[tuple[str, int], Meeting | None] = field(default_factory=dict)
    dtype = np.dtype(np.int64)

    def enter(self, data: Array) -> Array:
        return np.full(np.shape(data), NONE, np.int64)

    def garbage(self) -> int:
        return MIXED

    def operation(self, machine: Machine, statement: ir.Let) -> Operation | None:
        value, operation = statement.value, statement.operation
        floats = is_float(value.type.dtype)
        match operation:
            case ir.Load() | ir.Gather() if floats:
                return self._load(machine, operation, value)
            case ir.Tag(x, dims, start):
                return self._tag(machine, x, dims, start)
            case ir.Full() | ir.FromIndex() | ir.ScalarParam() if floats:
                shape = machine.shape(value)
                return lambda: Tile(np.full(shape, NONE), tuple((0, n) for n in shape))
            case ir.Fill(x) if floats:
                return _filled(machine.get(x))
            case ir.Cast(x):
                return self._cast(machine, x, floats)
            case ir.Unary(_, x) if is_float(x.type.dtype):
                return machine.get(x)
            case ir.Binary(_, a, b) if is_float(a.type.dtype):
                return _binary(machine, a, b, value)
            case ir.Where(_, a, b) if floats:
                return _where(machine, operation)
            case ir.Reduce(_, x, axis) if floats:
                return _reduce(machine, x, axis)
            case ir.Scan(_, x, _) if floats:
                return machine.get(x)
            case ir.Mma(a, b) if is_float(a.type.dtype):
                return self._mma(machine, statement)
            case ir.ArgReduce(_, x, _) if is_float(x.type.dtype):
                raise Unlabelled("positions that floats decide")
        return None

    # Sources -------------------------------------------------------------------------------------------

    def _load(self, machine: Machine, operation: ir.Load | ir.Gather, value: ir.Value) -> Operation:
        access, shape, view = machine.access(operation.view), machine.shape(value), operation.view
        moves = compile_operation(machine, ir.Let(value, operation))
        axes = self.names.get((machine.kernel.name, view.array), ())
        place = next((n for n, name in enumerate(axes) if name == self.dim), None)
        start = machine.evaluator.indices(operation.start)
        chosen = machine.get(operation.indices) if isinstance(operation, ir.Gather) else None
        axis = operation.axis if isinstance(operation, ir.Gather) else 0

        def load() -> Tile:
            tile = moves()
            if place is None:
                return Tile(np.full(shape, NONE), tile.live)
            first, offsets, inside = tuple(start()), grid_of(shape), np.zeros(shape, np.bool_)
            live = access.live(first, shape)
            if chosen is not None:  # positions are what the data says
                first, offsets = (*first[:axis], 0, *first[axis + 1 :]), with_indices(offsets, axis, chosen().data)
                live = live[:axis] + chosen().live + live[axis + 1 :]
            at, there = view_positions(view, first, offsets, machine.environment, machine.read_element)
            inside[tuple(slice(lo, hi) for lo, hi in live)] = True
            return Tile(np.where(inside & there, at[place] + self.shift, NONE), tile.live)

        return load

    def _tag(self, machine: Machine, x: ir.Value, dims: tuple[str, ...], start: tuple[Index, ...]) -> Operation:
        get, first = machine.get(x), machine.evaluator.indices(start)
        if self.dim not in dims:
            return get
        axis = dims.index(self.dim)

        def label() -> Tile:
            tile = get()
            return Tile(_ramp(tile, axis, first()[axis] + self.shift), tile.live)

        return label

    def _cast(self, machine: Machine, x: ir.Value, floats: bool) -> Operation | None:
        source = is_float(x.type.dtype)
        if source and floats:
            return machine.get(x)
        if source:
            raise Unlabelled("floats made integers")
        if not floats:
            return None
        get = machine.get(x)
        return lambda: Tile(np.full(get().data.shape, NONE), get().live)

    # Products and claims -------------------------------------------------------------------------------

    def _mma(self, machine: Machine, statement: ir.Let) -> Operation:
        operation = statement.operation
        assert isinstance(operation, ir.Mma)
        first, second = machine.get(operation.a), machine.get(operation.b)
        key = machine.kernel.name, statement.value.origin.span.line

        def mma() -> Tile:
            a, b = first(), second()
            lo, hi = interval(max(a.live[1][0], b.live[0][0]), min(a.live[1][1], b.live[0][1]), a.data.shape[1])
            left, right = a.data[slice(*a.live[0]), lo:hi], b.data[lo:hi, slice(*b.live[1])]
            if _runs_along(left, right) and self.products.get(key) is None:
                self.products[key] = self._meeting(left, right, lo, _variables(machine))
            made = joined(_used(a.data[:, lo:hi], 1)[:, None], _used(b.data[lo:hi], 0)[None, :])
            return Tile(made, (a.live[0], b.live[1]))

        return mma

    def _meeting(self, left: Array, right: Array, lo: int, variables: Mapping[str, int]) -> Meeting | None:
        """Where operands (m, k) and (k, n) differ first."""
        off = (left != left[:1]).any(0) | (right != right[:, :1]).any(1) | (left[0] != right[:, 0])
        if not off.any():
            return None
        k = int(np.argmax(off))
        return Meeting(self.dim, lo + k, int(_used(left, 0)[k]), int(_used(right, 1)[k]), variables)

    def expect(self, machine: Machine, statement: ir.Expect) -> Callable[[], None]:
        span = statement.origin.span
        claimed = self.claims.setdefault((machine.kernel.name, span.line, span.column), Claimed(statement))
        get, first = machine.get(statement.value), machine.evaluator.indices(statement.start)
        if self.dim not in statement.dims:
            return lambda: None
        axis = statement.dims.index(self.dim)

        def compare() -> None:
            tile = get()
            live = tuple(slice(lo, hi) for lo, hi in tile.live)
            found, wanted = tile.data[live], _ramp(tile, axis, first()[axis])[live]
            wrong = (found != wanted) & (found != NONE)
            claimed.reached += found.size
            claimed.known += int((found != NONE).sum())
            claimed.wrong += int(wrong.sum())
            if wrong.any() and claimed.first is None:
                at = tuple(int(c) for c in np.argwhere(wrong)[0])
                element = tuple(c + lo for c, (lo, _) in zip(at, tile.live, strict=True))
                claimed.first = Mistake(self.dim, element, int(wanted[at]), int(found[at]), _variables(machine))

        return compare


# Tiles of coordinates ------------------------------------------------------------------------------------


def _ramp(tile: Tile, axis: int, start: int) -> Array:
    shape = tile.data.shape
    along = np.arange(start, start + shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return np.broadcast_to(along, shape).copy()


def _filled(get: Operation) -> Operation:
    def fill() -> Tile:
        tile = get()
        data = np.full(tile.data.shape, NONE)
        live = tuple(slice(lo, hi) for lo, hi in tile.live)
        data[live] = tile.data[live]
        return Tile(data, tuple((0, n) for n in data.shape))

    return fill


def _binary(machine: Machine, a: ir.Value, b: ir.Value, value: ir.Value) -> Operation:
    first, second = machine.get(a), machine.get(b)
    if not is_float(value.type.dtype):
        if not value.type.shape:
            raise Unlabelled("branches that floats decide")
        return lambda: Tile(np.zeros(first().data.shape, np.bool_), common(first().live, second().live))

    def join() -> Tile:
        x, y = first(), second()
        return Tile(joined(x.data, y.data), common(x.live, y.live))

    return join


def _where(machine: Machine, operation: ir.Where) -> Operation:
    condition, first, second = (machine.get(v) for v in (operation.condition, operation.a, operation.b))

    def join() -> Tile:
        x, y = first(), second()
        return Tile(joined(x.data, y.data), common(condition().live, common(x.live, y.live)))

    return join


def _reduce(machine: Machine, x: ir.Value, axis: int) -> Operation:
    get = machine.get(x)

    def reduce() -> Tile:
        tile = get()
        part = tile.data[(slice(None),) * axis + (slice(*tile.live[axis]),)]
        return Tile(_used(part, axis), tile.live[:axis] + tile.live[axis + 1 :])

    return reduce


def _used(part: Array, axis: int) -> Array:
    """What is left of coordinates along an axis that is added up; of nothing, none."""
    if part.shape[axis] == 0:
        return np.full(part.shape[:axis] + part.shape[axis + 1 :], NONE)
    left: Array = consumed(part[None], axis)[0]
    return left


def _runs_along(left: Array, right: Array) -> bool:
    """Whether the dim runs along k of (m, k) or (k, n), and both have coordinates of it."""
    if not left.size or not right.size or (left < 0).all() or (right < 0).all():
        return False
    return bool((left != left[:, :1]).any() or (right != right[:1]).any())


def _variables(machine: Machine) -> dict[str, int]:
    return {n: v for n, v in machine.environment.items() if isinstance(v, int) and not n.startswith("@")}


def dims_of(module: ir.Module) -> dict[tuple[str, str], tuple[str | None, ...]]:
    """The dim of each axis of each array, where it has one to itself."""
    found: dict[tuple[str, str], tuple[str | None, ...]] = {}
    for kernel in module.kernels:
        for array in kernel.arrays:
            names = [_dim(d) for d in array.dims]
            found[kernel.name, array.name] = tuple(n if n and names.count(n) == 1 else None for n in names)
    return found


def _dim(extent: Index) -> str | None:
    match extent.terms:
        case (((Symbol(name, "dim"),), 1),):
            return name
    return None


__all__ = ["Claimed", "Labels", "Meeting", "Mistake", "Unlabelled", "dims_of"]
