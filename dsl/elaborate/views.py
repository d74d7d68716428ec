"""Views of arrays: subscripts, transposition, reshape, window. No view ever copies."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate.context import Context
from kernelagent.dsl.elaborate.live import Shape, axis_groups, product
from kernelagent.dsl.elaborate.operands import Operand, Poison, describe, shape_text, source_text, view_text
from kernelagent.dsl.elaborate.words import Call, handles
from kernelagent.dsl.index import Element, Index, Symbol, element, index
from kernelagent.dsl.syntax import fault

Coordinates = tuple[Index, ...]
Evaluate = Callable[[Context, ast.expr], Operand]


def whole(array: ir.Array) -> ir.View:
    """The view of all of an array."""
    axes = tuple(ir.ViewAxis(extent, index(0), extent) for extent in array.dims)
    return ir.View(array.name, array.dtype, axes, tuple(index(ir.position(d)) for d in range(len(axes))))


def _moved(coordinates: Coordinates, positions: dict[int, Index]) -> Coordinates:
    """Coordinates with the position along each axis replaced."""
    table = {ir.position(axis).name: value for axis, value in positions.items()}
    return tuple(c.substitute(table) for c in coordinates)


# Subscripts --------------------------------------------------------------------------------------


def subscript(k: Context, view: ir.View, node: ast.Subscript, evaluate: Evaluate) -> Operand:
    """`x[b, lo:hi]`: leading integers drop axes, slices clamp; all axes indexed reads one element."""
    entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if len(entries) > len(view.axes):
        text = f"`{source_text(node)}` has {len(entries)} subscripts, but {view_text(view)} has rank {len(view.axes)}"
        raise fault("index-rank", text, node, f"give at most {len(view.axes)} subscripts", rank=len(view.axes))
    leading = _leading_integers(entries)
    for entry in entries[leading:]:
        if not isinstance(entry, ast.Slice):
            _refuse_late_index(entry, view)
    indices = [_integer(k, e, evaluate) for e in entries[:leading]]
    _note_row_uses(k, indices, node)
    _warn_unproved(k, view, indices, entries)
    view = _drop_leading(view, indices)
    for axis, entry in enumerate(entries[leading:]):
        assert isinstance(entry, ast.Slice)
        view = _sliced(k, view, axis, entry, evaluate)
    return view if view.axes else _element(k, view, node)


def _leading_integers(entries: list[ast.expr]) -> int:
    return next((n for n, e in enumerate(entries) if isinstance(e, ast.Slice) or _is_none(e)), len(entries))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _refuse_late_index(entry: ast.expr, view: ir.View) -> None:
    if _is_none(entry):
        raise fault("view-none", "`None` adds axes to tiles, not to arrays", entry, "load first, then `tile[:, None]`")
    hint = "keep the axis: load extent 1 there, then `reshape`; or put the integer first"
    raise fault("index-after-slice", f"the integer `{source_text(entry)}` follows a slice", entry, hint)


def _integer(k: Context, node: ast.expr, evaluate: Evaluate) -> Index:
    found: Operand = evaluate(k, node)
    if isinstance(found, ir.Value):
        hint = (
            "index with dims, integer parameters, loop variables or `In` elements; for a tile of indices use `gather`"
        )
        raise fault("position-not-index", f"`{source_text(node)}` is {describe(found)}, computed data", node, hint)
    if not isinstance(found, Index):
        hint = "use an index integer"
        raise fault("position-not-index", f"`{source_text(node)}` is {describe(found)}", node, hint)
    if found.constant is not None and found.constant < 0:
        hint = "positions count from the start: write `N - 1` for the last element"
        raise fault("negative-index", f"the position {found.constant} is negative", node, hint)
    return found


def _warn_unproved(k: Context, view: ir.View, indices: list[Index], nodes: list[ast.expr]) -> None:
    """An integer subscript read from an array about whose contents nothing is known."""
    for axis, (found, node) in enumerate(zip(indices, nodes, strict=False)):
        unknown = [a.array for a in found.atoms() if isinstance(a, Element) and a.array not in k.facts.ranges]
        if unknown:
            length = view.axes[axis].length
            message = f"`{source_text(node)}` may be outside 0 ... {length} - 1: nothing is known about `{unknown[0]}`"
            k.warn("index-unproved", message, node, f"write `assume(0 <= {unknown[0]} < {length})`")


def _note_row_uses(k: Context, indices: list[Index], whole_node: ast.expr) -> None:
    """`x[i]` where i advances by more than one row: remembered, judged at the end of the loop."""
    for found in indices:
        for frame in k.loops:
            for variable, step in zip(frame.variables, frame.step, strict=True):
                if found == index(variable) and step != index(1):
                    frame.row_uses.setdefault(variable.name, whole_node)


def _drop_leading(view: ir.View, indices: list[Index]) -> ir.View:
    count = len(indices)
    if not count:
        return view
    positions = dict(enumerate(indices))
    positions |= {axis: index(ir.position(axis - count)) for axis in range(count, len(view.axes))}
    return replace(view, axes=view.axes[count:], coordinates=_moved(view.coordinates, positions))


def _sliced(k: Context, view: ir.View, axis: int, node: ast.Slice, evaluate: Evaluate) -> ir.View:
    if node.lower is None and node.upper is None:
        return view
    old, facts = view.axes[axis], k.facts
    start = _integer(k, node.lower, evaluate) if node.lower else index(0)
    stop = _integer(k, node.upper, evaluate) if node.upper else old.length
    start = facts.clamp(start, index(0), old.length)
    length = facts.maximum(index(0), facts.minimum(stop, old.length) - start)
    whole_axis = old.lo == index(0) and old.hi == old.length
    lo = index(0) if whole_axis else facts.maximum(index(0), old.lo - start)
    hi = length if whole_axis else facts.minimum(length, old.hi - start)
    axes = (*view.axes[:axis], ir.ViewAxis(length, lo, hi), *view.axes[axis + 1 :])
    return replace(view, axes=axes, coordinates=_moved(view.coordinates, {axis: index(ir.position(axis)) + start}))


def _element(k: Context, view: ir.View, node: ast.expr) -> Operand:
    """A fully indexed element: an index integer for integer arrays, else a rank-0 value."""
    array = k.arrays[view.array]
    if array.role != "In":
        hint = "only `In` arrays are read element by element; use `load` on an InOut"
        raise fault("load-of-output", f"`{array.name}` is {array.role}, not In", node, hint)
    if dtypes.is_integer(view.dtype):
        return element(view.array, view.coordinates)
    return k.emit(ir.Load(view, ()), view.dtype, (), node)


# Words -------------------------------------------------------------------------------------------


def transposed(k: Context, view: ir.View, node: ast.expr) -> ir.View:
    if len(view.axes) != 2:
        hint = "write `permute(x, axes)`"
        raise fault("transpose-rank", f"`.T` needs rank 2, not {view_text(view)}", node, hint, rank=len(view.axes))
    return permuted(view, (1, 0))


def permuted(view: ir.View, axes: tuple[int, ...]) -> ir.View:
    positions = {old: index(ir.position(new)) for new, old in enumerate(axes)}
    return replace(view, axes=tuple(view.axes[a] for a in axes), coordinates=_moved(view.coordinates, positions))


def reshaped(k: Context, view: ir.View, shape: Shape, node: ast.expr) -> ir.View:
    """Merge axes that are contiguous in memory, or split one by a proved divisor."""
    old = tuple(a.length for a in view.axes)
    groups = axis_groups(old, shape, k.facts)
    if groups is None:
        text = f"{shape_text(old)} to {shape_text(shape)}"
        hint = "the sizes must be equal as expressions; a split needs `assume(K % 128 == 0)`"
        raise fault("reshape-size", f"reshape of {text} changes the number of elements", node, hint, shapes=text)
    positions: dict[int, Index] = {}
    axes: list[ir.ViewAxis] = [ir.ViewAxis(e, index(0), e) for e in shape]
    for olds, news in groups:
        if len(olds) == 1 and len(news) == 1:
            axes[news[0]] = view.axes[olds[0]]
            positions[olds[0]] = index(ir.position(news[0]))
            continue
        _need_whole_axes(k, view, olds, node)
        if len(olds) > 1:
            _need_contiguous(view, olds, k, node)
        positions |= _split_position(news, shape, olds, old)
    return replace(view, axes=tuple(axes), coordinates=_moved(view.coordinates, positions))


def _split_position(news: range, shape: Shape, olds: range, old: Shape) -> dict[int, Index]:
    """Row-major position of the new axes, divided up among the old ones."""
    flat = index(0)
    for axis in news:
        flat = flat * shape[axis] + index(ir.position(axis))
    if len(olds) == 1:
        return {olds[0]: flat}
    positions = {}
    for n, axis in enumerate(olds):
        inner = product(old[axis + 1 : olds[-1] + 1])
        quotient = flat // inner
        positions[axis] = quotient if n == 0 else quotient % old[axis]
    return positions


def _need_whole_axes(k: Context, view: ir.View, axes: range, node: ast.expr) -> None:
    for axis in axes:
        found = view.axes[axis]
        if found.lo != index(0) or found.hi != found.length:
            hint = "reshape the array before `window`, or reshape the loaded tile"
            raise fault("view-reshape", f"axis {axis} of a window cannot be merged or split", node, hint)


def _need_contiguous(view: ir.View, axes: range, k: Context, node: ast.expr) -> None:
    """Merged axes must be neighbours in memory, whole but for the first."""
    dims = k.arrays[view.array].dims
    places = [_array_axis(view, axis) for axis in axes]
    neighbours = all(p is not None and p == (places[0] or 0) + n for n, p in enumerate(places))
    complete = all(
        p is not None and view.axes[a].length == dims[p] for a, p in list(zip(axes, places, strict=True))[1:]
    )
    if not (neighbours and complete):
        hint = "merge whole neighbouring axes of the array, or reshape the loaded tile"
        raise fault("view-reshape", f"axes {list(axes)} of `{view.array}` are not contiguous here", node, hint)


def _array_axis(view: ir.View, axis: int) -> int | None:
    """The array axis that the view's axis walks with stride one, if it walks no other."""
    symbol: Symbol = ir.position(axis)
    hits = [d for d, c in enumerate(view.coordinates) if symbol in c.symbols()]
    if len(hits) != 1:
        return None
    parts = view.coordinates[hits[0]].affine(symbol)
    return hits[0] if parts and parts[0] == index(1) else None


@handles("window")
def window(k: Context, call: Call) -> Operand:
    """A view whose position p reads source position offset + stride * p; outside is void."""
    view = call["view"]
    if not isinstance(view, ir.View):
        raise fault("not-a-view", f"`window` takes an array, not {describe(view)}", call.at("view"), "pass an array")
    rank = len(view.axes)
    offset, stride, shape = (integers(call, name, rank) for name in ("offset", "stride", "shape"))
    for s in stride:
        if s.constant is None or s.constant < 1:
            hint = "write literal strides of 1 or more"
            raise fault("window-stride", f"the stride {s} is not a positive literal", call.at("stride"), hint)
    axes = tuple(_window_axis(k, axis, o, s, n) for axis, o, s, n in zip(view.axes, offset, stride, shape, strict=True))
    positions = {d: o + s * index(ir.position(d)) for d, (o, s) in enumerate(zip(offset, stride, strict=True))}
    return replace(view, axes=axes, coordinates=_moved(view.coordinates, positions))


def _window_axis(k: Context, source: ir.ViewAxis, offset: Index, stride: Index, length: Index) -> ir.ViewAxis:
    """Positions p with source.lo <= offset + stride * p < source.hi."""
    lo = -((offset - source.lo) // stride)
    hi = -((offset - source.hi) // stride)
    return ir.ViewAxis(length, k.facts.maximum(index(0), lo), k.facts.minimum(length, hi))


def integers(call: Call, name: str, rank: int | None = None) -> Shape:
    """An argument as a tuple of index integers; one integer means a 1-tuple."""
    found = call[name]
    parts: tuple[Operand, ...] = found if isinstance(found, tuple) else (found,)
    result = []
    for part in parts:
        if not isinstance(part, Index):
            what = describe(part) if not isinstance(part, Poison) else "in error"
            hint = "use dims, integer parameters, tunables, loop variables or `In` elements"
            if call.word.name in ("expect", "tag"):
                hint = "say where the tile begins; where data places it, label it: `t = tag(t, (M, D), (i, d))`"
            at = call.at(name)
            raise fault("position-not-index", f"`{source_text(at)}`: {what} is not an index integer", at, hint)
        result.append(part)
    if rank is not None and len(result) != rank:
        at = call.at(name)
        message = f"`{name}` is `{source_text(at)}` with {len(result)} entries, but rank {rank} is needed"
        hint = f"write {rank} {'entry' if rank == 1 else 'entries'}"
        raise fault("index-rank", message, at, hint, rank=rank)
    return tuple(result)
