"""Which loads are boxes of a tensor map: what a bulk copy brings is what the load would have brought.

A bulk copy knows the array's own bounds, outside of which it writes zeros. Three things follow. Positions along the
summed axis that are void must lie outside the array. So must those that a load fills with a zero of its own (`fill=0`),
unless nobody can see them: rows of a product that every store leaves out. And other void positions may hold anything:
a row of a product that is void stays void (rows behind the end of a group, which the copy reads from the next one).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index, Symbol, index, maximum, minimum
from kernelagent.dsl.lower.device.place_values import extents
from kernelagent.dsl.lower.device.stage import Operand, Staged
from kernelagent.dsl.lower.rewrite import operands, walk_statements
from kernelagent.dsl.tensor_map import LARGEST_BOX, LARGEST_ELEMENT_STRIDE

SPAN_BYTES = 128
"""The widest swizzle: the longest row of a box."""
MOST_AXES = 5
"""Of a tensor map."""


class Unsuited(Exception):
    """Why a kernel keeps the products of single warps; the text goes into the report. `hint`: the nearest legal choice,
    for policy that insists."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


@dataclass(frozen=True)
class Along:
    """An axis of a tile along an array axis: position p is element `step` p + `offset` of `dim` elements."""

    axis: int
    array_axis: int
    step: int
    offset: Index
    dim: Index

    @property
    def end(self) -> Index:
        """The first position behind the array."""
        return -((self.offset - self.dim) // self.step)


def box_axes(view: ir.View, array: ir.Array, shape: tuple[int, ...]) -> dict[int, int]:
    """For each axis of the view the array axis along which it runs. Raises Unsuited."""
    return {a.axis: a.array_axis for a in along(view, array, shape)}


def along(view: ir.View, array: ir.Array, shape: tuple[int, ...]) -> tuple[Along, ...]:
    """How the tile's axes run through the array, by axis; steps above 1 not along the last one. Raises Unsuited."""
    if len(array.dims) > MOST_AXES:
        raise Unsuited(f"{array.name}: rank {len(array.dims)} is more than a tensor map has")
    found: dict[int, Along] = {}
    for dim, coordinate in enumerate(view.coordinates):
        moving = [a for a in range(len(shape)) if ir.position(a) in coordinate.symbols()]
        if len(moving) > 1:
            raise Unsuited(f"{array.name}: one array axis follows several tile axes")
        for axis in moving:
            affine = coordinate.affine(ir.position(axis))
            step = affine[0].constant if affine else None
            most = 1 if dim == len(array.dims) - 1 else LARGEST_ELEMENT_STRIDE
            if affine is None or step is None or not 1 <= step <= most or axis in found:
                raise Unsuited(f"{array.name}: a tile axis steps by no constant from 1 to {most}")
            found[axis] = Along(axis, dim, step, affine[1], array.dims[dim])
    if len(found) < len(shape):
        raise Unsuited(f"{array.name}: a tile axis moves along no array axis")
    return tuple(found[a] for a in sorted(found))


def require_box(staged: Staged, operand: Operand, k_axis: int, kernel: ir.Kernel) -> None:
    """Raises Unsuited."""
    load = staged.load.operation
    assert isinstance(load, ir.Load)
    array = kernel.array(load.view.array)
    shape = extents(staged.load.value)
    summed = _tile_axes(staged, operand, k_axis, len(shape))
    for a in along(load.view, array, shape):
        bounds = load.view.axes[a.axis]
        if a.axis in summed and bounds.hi != a.end:
            raise Unsuited(f"{array.name}: the summed axis ends at {bounds.hi}, inside the array")
        if load.fill is not None and not _zeros_outside(a, load, shape[a.axis], kernel):
            raise Unsuited(f"{array.name}: zeros that a load fills in lie inside the array, and results depend on them")
        if a.step > 1 and a.step * (shape[a.axis] - 1) >= LARGEST_BOX:
            raise Unsuited(f"{array.name}: {shape[a.axis]} elements at steps of {a.step} are more than a box spans")
    inner = staged.shape[1] * bits(load.view.dtype) // 8
    if inner % 16 or (inner > SPAN_BYTES and inner % SPAN_BYTES):
        near = max(1, round(inner / SPAN_BYTES)) * SPAN_BYTES * 8 // bits(load.view.dtype)
        message = f"{array.name}: rows of {inner} bytes are no box: 16 to {SPAN_BYTES} by 16, or whole {SPAN_BYTES}"
        raise Unsuited(message, f"tiles of {near} elements along its rows are one")
    if any(extent > LARGEST_BOX for extent in staged.shape[:1]):
        message = f"{array.name}: {staged.shape[0]} rows, a box has at most {LARGEST_BOX}"
        raise Unsuited(message, f"tiles of {LARGEST_BOX} rows are the largest")


def _tile_axes(staged: Staged, operand: Operand, k_axis: int, rank: int) -> list[int]:
    """Axes of the loaded tile that make up the operand's k."""
    buffer_axis = operand.axes[k_axis]
    if rank == 2:
        return [staged.axes.index(buffer_axis)]
    return [rank - 1] if buffer_axis == 1 else list(range(rank - 1))


# Zeros of the load ---------------------------------------------------------------------------------------


def _zeros_outside(a: Along, load: ir.Load, extent: int, kernel: ir.Kernel) -> bool:
    """Whether positions outside the view are outside the array, too, or are seen by nobody."""
    bounds, start = load.view.axes[a.axis], load.start[a.axis]
    if bounds.hi != a.end:
        short = bounds.hi in (bounds.length, minimum(a.end, bounds.length))
        if not short or not _dropped(start, bounds.length, extent, kernel):
            return False
    first = -(a.offset // a.step)  # the first position inside the array
    if bounds.lo.constant == 0 and a.offset.constant == 0:
        return True
    return bounds.lo in (index(0), first, maximum(first, index(0))) and _never_negative(start, kernel)


def _never_negative(start: Index, kernel: ir.Kernel) -> bool:
    """Whether a position is a sum of dims and of variables that count up from 0 or more."""
    loops = [s for s in walk_statements(kernel.body) if isinstance(s, ir.For)]
    counted = {v for loop in loops for v, lo in zip(loop.variables, loop.lo, strict=True) if _constant(lo) >= 0}
    known = {s for s in start.symbols() if s.kind == "dim" or s in counted}
    return start.symbols() <= known and all(n >= 0 and _plain(atoms) for atoms, n in start.terms)


def _constant(value: Index) -> int:
    """The literal, or -1."""
    return -1 if value.constant is None else value.constant


def _plain(atoms: tuple[object, ...]) -> bool:
    return all(isinstance(atom, Symbol) for atom in atoms)


def _dropped(start: Index, length: Index, extent: int, kernel: ir.Kernel) -> bool:
    """Whether every store leaves out positions from `length` on of the tile axis that begins at `start`, and nothing
    else looks at them: they stay rows (or columns) of one product."""
    return _rows_stay_apart(kernel) and all(
        any(
            at == start and size == extent and store.view.axes[axis].hi == length
            for axis, (at, size) in enumerate(zip(store.start, extents(store.value), strict=True))
        )
        for store in _stores(kernel)
    )


def _stores(kernel: ir.Kernel) -> Iterator[ir.Store]:
    return (s for s in walk_statements(kernel.body) if isinstance(s, ir.Store))


def _rows_stay_apart(kernel: ir.Kernel) -> bool:
    """Whether no rows are reduced, scanned or scattered, and no product is an operand of another."""
    products: set[int] = set()
    for statement in walk_statements(kernel.body):
        match statement:
            case ir.Let(_, ir.Reduce() | ir.ArgReduce() | ir.Scan()) | ir.Scatter():
                return False
            case ir.Let(value, ir.Mma(a, b)):
                if {a.number, b.number} & products:
                    return False
                products.add(value.number)
            case ir.Let(value, operation):
                if any(x.number in products for x in operands(operation)):
                    products.add(value.number)
            case _:
                pass
    return True


__all__ = ["SPAN_BYTES", "Along", "Unsuited", "along", "box_axes", "require_box"]
