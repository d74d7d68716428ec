"""Give every tile value its distribution: products and wide memory accesses fix theirs, the rest follows.

Layouts spread along elementwise operations in both directions and along stretches and reductions in one. What
nothing reaches takes the blocked layout of its memory access. A consumer that needs another layout than its
operand's gets an explicit conversion where the builder meets it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import gcd, prod

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lanes import WARP, Distribution, Mode, drop, insert, normal, permuted, striped, unit
from kernelagent.dsl.lower.device.choose_atoms import Product
from kernelagent.dsl.lower.rewrite import operands, walk_statements
from kernelagent.dsl.schedule import Choice

Spread = Callable[[Distribution], Distribution | None]


@dataclass(frozen=True)
class Tie:
    """The layout of `a` gives that of `b` through `forward`, and back where that is known."""

    a: ir.Value
    b: ir.Value
    forward: Spread | None
    backward: Spread | None


@dataclass
class Places:
    """Home distributions by value number."""

    kernel: ir.Kernel
    threads: int
    homes: dict[int, Distribution] = field(default_factory=dict)


def place_values(
    kernel: ir.Kernel, products: Mapping[int, Product], threads: int, choices: list[Choice]
) -> dict[int, Distribution]:
    """A distribution for every value of rank 1 or more."""
    places = Places(kernel, threads)
    ties, values = _ties(kernel), values_made(kernel)
    for number, product in products.items():
        places.homes[number] = product.result
    _spread(ties, places.homes)
    definitions = _definitions(kernel)
    while True:
        waiting = [v for v in values if v.number not in places.homes and v.type.rank]
        if not waiting:
            return places.homes
        largest = max(waiting, key=lambda v: (elements(v), isinstance(definitions.get(v.number), ir.Load)))
        layout = default_layout(largest, definitions.get(largest.number), threads, kernel)
        places.homes[largest.number] = layout
        if largest.type.rank > 1:
            choices.append(_layout_choice(largest, layout))
        _spread(ties, places.homes)


def _layout_choice(value: ir.Value, layout: Distribution) -> Choice:
    shape = "x".join(map(str, layout.shape))
    warp_rows = all(m.axis in (-1, len(layout.shape) - 1) for m in layout.lanes[:1]) and layout.lanes[:1]
    held = f"{layout.registers} elements a thread, {layout.contiguous()} side by side"
    reason = "neighbouring threads touch neighbouring memory" if warp_rows else "columns of memory lie along lanes"
    return Choice(f"layout of {value.name or 'tile'} {shape}", held, reason, value.origin)


def _spread(ties: list[Tie], homes: dict[int, Distribution]) -> None:
    changed = True
    while changed:
        changed = False
        for tie in ties:
            for source, target, rule in ((tie.a, tie.b, tie.forward), (tie.b, tie.a, tie.backward)):
                if rule is None or source.number not in homes or target.number in homes or not target.type.rank:
                    continue
                made = rule(homes[source.number])
                if made is not None:
                    homes[target.number] = made
                    changed = True


def _same(layout: Distribution) -> Distribution:
    return layout


def _ties(kernel: ir.Kernel) -> list[Tie]:
    found: list[Tie] = []
    for statement in walk_statements(kernel.body):
        match statement:
            case ir.Let(value, operation):
                found += _operation_ties(value, operation)
            case ir.For(carried=carried):
                for c in carried:
                    found += [Tie(x, c.inside, _same, _same) for x in (c.end, c.initial, c.result)]
            case ir.If(merged=merged):
                for m in merged:
                    found += [Tie(x, m.result, _same, _same) for x in (m.then, m.otherwise)]
    return found


def _operation_ties(value: ir.Value, operation: ir.Operation) -> list[Tie]:
    match operation:
        case ir.Unary(x=x) | ir.Cast(x) | ir.Fill(x=x):
            return [Tie(x, value, _same, _same)]
        case ir.Scan(x=x):
            return [Tie(x, value, _same, _same)]
        case ir.Binary() | ir.Where():
            return [Tie(x, value, _same, _same) for x in operands(operation) if x.type.rank]
        case ir.Broadcast(x) if x.type.rank:
            axes = stretched_axes(x, value)
            return [Tie(x, value, None, lambda d: unit_along(d, axes))]
        case ir.ExpandDims(x, axes):
            return [Tie(x, value, lambda d: expanded(d, axes), lambda d: without(d, axes))]
        case ir.Permute(x, axes):
            back = tuple(axes.index(k) for k in range(len(axes)))
            return [Tie(x, value, lambda d: permuted(d, axes), lambda d: permuted(d, back))]
        case ir.Reduce(_, x, axis) | ir.ArgReduce(_, x, axis):
            return [Tie(x, value, lambda d: drop(d, axis), None)]
        case ir.Gather(indices=indices, axis=axis):
            return [Tie(value, indices, lambda d: only(d, axis), None)]
        case ir.Reshape(x):
            return [Tie(x, value, lambda d: reshaped(d, extents(value)), lambda d: reshaped(d, extents(x)))]
        case ir.Take(x, _):
            return [Tie(x, value, taken, None)]
        case ir.Stack(parts):
            count = len(parts)
            return [Tie(p, value, lambda d: stacked(d, count), unstacked) for p in parts]
        case _:
            return []


# How layouts follow operations -----------------------------------------------------------------------


def unit_along(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    for axis in axes:
        d = unit(d, axis)
    return d


def stretched_axes(x: ir.Value, value: ir.Value) -> tuple[int, ...]:
    pairs = enumerate(zip(extents(x), extents(value), strict=True))
    return tuple(k for k, (a, b) in pairs if a != b)


def expanded(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    for axis in sorted(axes):
        d = insert(d, axis)
    return d


def without(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    for axis in sorted(axes, reverse=True):
        d = drop(d, axis)
    return d


def only(d: Distribution, axis: int) -> Distribution:
    """The rank-1 distribution of one axis."""
    return without(d, tuple(k for k in range(len(d.shape)) if k != axis))


def taken(d: Distribution) -> Distribution | None:
    """A constant subscript of the last axis, which each thread holds whole in registers."""
    axis = len(d.shape) - 1
    return None if any(m.axis == axis for m in d.lanes) else drop(d, axis)


def stacked(d: Distribution, count: int) -> Distribution:
    axis = len(d.shape)
    return Distribution((*d.shape, count), d.lanes, (Mode(count, axis, 1), *d.values))


def unstacked(d: Distribution) -> Distribution | None:
    return taken(d)


def reshaped(d: Distribution, shape: tuple[int, ...]) -> Distribution | None:
    """The same threads and registers seen in another row-major shape; None where a digit would cross an axis."""
    lanes = _through(d.lanes, d.shape, shape)
    values = _through(d.values, d.shape, shape)
    return None if lanes is None or values is None else Distribution(shape, normal(lanes), normal(values))


def _through(modes: tuple[Mode, ...], old: tuple[int, ...], new: tuple[int, ...]) -> list[Mode] | None:
    moved: list[Mode] = []
    for mode in modes:
        pieces = _place_digit(mode, old, new)
        if pieces is None:
            return None
        moved += pieces
    return moved


def _place_digit(mode: Mode, old: tuple[int, ...], new: tuple[int, ...]) -> list[Mode] | None:
    """A digit of the old shape as digits of the new one: its flat stride decides."""
    if mode.axis < 0 or mode.extent == 1:
        return [mode] if mode.axis < 0 else []
    flat, left = mode.stride * prod(old[mode.axis + 1 :]), mode.extent
    made: list[Mode] = []
    for axis in reversed(range(len(new))):
        inner = prod(new[axis + 1 :])
        room = new[axis] * inner
        if left == 1 or flat >= room:
            continue
        if flat % inner or room % flat:
            return None
        count = min(left, room // flat)
        if left % count:
            return None
        made.append(Mode(count, axis, flat // inner))
        left, flat = left // count, flat * count
    return made if left == 1 else None


# Defaults --------------------------------------------------------------------------------------------


def default_layout(value: ir.Value, operation: ir.Operation | None, threads: int, kernel: ir.Kernel) -> Distribution:
    """The blocked layout: 16-byte pieces along the axis that is contiguous in memory, threads side by side.

    Tiles whose last axis is reduced keep a row within one warp when every warp gets rows and the registers suffice.
    """
    shape = extents(value)
    first = memory_axis(operation) if isinstance(operation, (ir.Load, ir.Gather)) else len(shape) - 1
    vector = max(1, 128 // _narrowest(kernel))
    if len(shape) >= 2 and first == len(shape) - 1:
        scanned = _scanned(kernel)
        if scanned:
            return contiguous_rows(shape, threads)
        if _reduces_rows(kernel):
            return rows_per_warp(shape, threads, vector)
    return striped(shape, threads, vector, first)


ROW_REGISTERS = 64
"""Elements of a row that one thread may hold before the row is spread over several warps."""


def rows_per_warp(shape: tuple[int, ...], threads: int, vector: int) -> Distribution:
    """Rows over warps where possible, and columns over the lanes (and warps) that are left."""
    *outer, columns = shape
    rows = prod(outer)
    warps = threads // WARP
    if rows % warps == 0 and columns // WARP <= ROW_REGISTERS:
        inner = striped((*outer, columns), WARP, vector)
        if all(m.axis in (-1, len(shape) - 1) for m in inner.lanes):
            return _rows_to_warps(inner, warps)
    return striped(shape, threads, vector)


def _rows_to_warps(inner: Distribution, warps: int) -> Distribution:
    """Move a factor `warps` of the row digits from registers to threads."""
    last = len(inner.shape) - 1
    values: list[Mode] = []
    left = warps
    lanes = list(inner.lanes)
    for mode in inner.values:
        part = 1 if mode.axis == last else gcd(left, mode.extent)
        if part == 1:
            values.append(mode)
            continue
        lanes.append(Mode(part, mode.axis, mode.stride))
        if mode.extent > part:
            values.append(Mode(mode.extent // part, mode.axis, mode.stride * part))
        left //= part
    if left > 1:
        lanes.append(Mode(left, -1, 0))
    return Distribution(inner.shape, normal(lanes), normal(values))


def contiguous_rows(shape: tuple[int, ...], threads: int) -> Distribution:
    """Each lane holds a run of consecutive columns; warps take rows, or the next runs of one row."""
    *outer, columns = shape
    warps = threads // WARP
    rows = prod(outer)
    over_rows = warps if rows % warps == 0 else 1
    over_columns = warps // over_rows
    lanes_used = WARP if columns % (WARP * over_columns) == 0 else 1
    if lanes_used == 1:
        over_columns = 1
    run = columns // (lanes_used * over_columns)
    last = len(shape) - 1
    lanes = [Mode(lanes_used, last, run), Mode(WARP // lanes_used, -1, 0), Mode(over_columns, last, run * lanes_used)]
    values = [Mode(run, last, 1)]
    left = over_rows
    for axis in reversed(range(last)):
        part = gcd(left, shape[axis])
        lanes.append(Mode(part, axis, 1))
        values.append(Mode(shape[axis] // part, axis, part))
        left //= part
    used = prod(m.extent for m in lanes)
    lanes.append(Mode(threads // used, -1, 0))
    return Distribution(shape, normal(lanes), normal(values))


def memory_axis(operation: ir.Load | ir.Gather) -> int:
    """The view axis along which memory is contiguous: the one in the last array coordinate, with factor 1."""
    return view_axis(operation.view)


def view_axis(view: ir.View) -> int:
    last = view.coordinates[-1]
    for axis in reversed(range(len(view.axes))):
        symbol = ir.position(axis)
        found = last.affine(symbol)
        if found is not None and found[0].constant == 1:
            return axis
    return len(view.axes) - 1


def _narrowest(kernel: ir.Kernel) -> int:
    """Bits of the narrowest element of a matrix that is moved: a thread's consecutive registers fill 16 bytes of it."""
    moved = [bits(a.dtype) for a in kernel.arrays if len(a.dims) >= 2 and a.role != "Acc"]
    return max(8, min(moved, default=32))


def _reduces_rows(kernel: ir.Kernel) -> bool:
    for statement in walk_statements(kernel.body):
        if isinstance(statement, ir.Let) and isinstance(statement.operation, (ir.Reduce, ir.ArgReduce)):
            x = statement.operation.x
            if statement.operation.axis == x.type.rank - 1 and x.type.rank >= 2:
                return True
    return False


def _scanned(kernel: ir.Kernel) -> bool:
    lets = (s for s in walk_statements(kernel.body) if isinstance(s, ir.Let))
    return any(isinstance(s.operation, ir.Scan) for s in lets)


def _definitions(kernel: ir.Kernel) -> dict[int, ir.Operation]:
    return {s.value.number: s.operation for s in walk_statements(kernel.body) if isinstance(s, ir.Let)}


def values_made(kernel: ir.Kernel) -> list[ir.Value]:
    """Every value that a statement of the kernel makes."""
    found: list[ir.Value] = []
    for statement in walk_statements(kernel.body):
        match statement:
            case ir.Let(value, _):
                found.append(value)
            case ir.For(carried=carried):
                found += [v for c in carried for v in (c.inside, c.result)]
            case ir.If(merged=merged):
                found += [m.result for m in merged]
    return found


def extents(value: ir.Value) -> tuple[int, ...]:
    found = []
    for extent in value.type.shape:
        assert extent.constant is not None  # instantiated kernels have constant extents
        found.append(extent.constant)
    return tuple(found)


def elements(value: ir.Value) -> int:
    return prod(extents(value))
