"""Words that touch arrays: load, gather, store, scatter, atomic_add."""

from __future__ import annotations

import ast

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate.arithmetic import as_value, need_value
from kernelagent.dsl.elaborate.context import Context, literal_value
from kernelagent.dsl.elaborate.extents import extents
from kernelagent.dsl.elaborate.live import Shape
from kernelagent.dsl.elaborate.operands import Number, Operand, describe, shape_text, source_text, type_text, view_text
from kernelagent.dsl.elaborate.ranges import check_gathered, distinct_indices
from kernelagent.dsl.elaborate.views import integers
from kernelagent.dsl.elaborate.words import Call, handles
from kernelagent.dsl.index import Index, Symbol, index
from kernelagent.dsl.syntax import fault

_WRITES = {"store": ("Out", "InOut"), "scatter": ("Out", "InOut"), "atomic_add": ("Acc",)}


@handles("load")
def load(k: Context, call: Call) -> Operand:
    view, start = _readable(k, call), _start(k, call)
    shape = extents(k, call["shape"], call.at("shape"))
    _check_ranks(call, view, start, shape)
    return k.emit(ir.Load(view, start, _fill(call, view.dtype)), view.dtype, shape, call.node)


@handles("gather")
def gather(k: Context, call: Call) -> Operand:
    """A load whose position along one axis comes from a rank-1 integer tile."""
    view = _readable(k, call)
    start, axis, indices = _indirect(k, call, view)
    shape = extents(k, call["shape"], call.at("shape"))
    _check_ranks(call, view, start, shape)
    if axis is None or indices is None:
        hint = "pass a rank-1 integer tile as one position, or write `load`"
        raise fault("gather-position", "no position is a tile of indices", call.at("position"), hint)
    if shape[axis] != indices.type.shape[0]:
        text = f"{shape_text(shape)} at axis {axis} against {shape_text(indices.type.shape)} indices"
        hint = f"write {indices.type.shape[0]} at axis {axis} of the shape"
        raise fault("shape-mismatch", text, call.at("shape"), hint, shapes=text)
    fill = _fill(call, view.dtype)
    if fill is None:
        check_gathered(k, view, axis, indices, call.at("position"))
    return k.emit(ir.Gather(view, start, axis, indices, fill), view.dtype, shape, call.node)


@handles("store")
def store(k: Context, call: Call) -> Operand:
    view, start = _writable(k, call), _start(k, call)
    value = _stored(k, call, view)
    _check_ranks(call, view, start, value.type.shape)
    k.block.append(ir.Store(view, start, value, k.origin(call.node)))
    return ()


@handles("scatter", "atomic_add")
def scatter(k: Context, call: Call) -> Operand:
    view = _writable(k, call)
    atomic = call.word.name == "atomic_add"
    start, axis, indices = _indirect(k, call, view)
    value = _stored(k, call, view)
    _check_ranks(call, view, start, value.type.shape)
    if indices is None and not atomic:
        hint = "pass a rank-1 integer tile as one position, or write `store`"
        raise fault("gather-position", "no position is a tile of indices", call.at("position"), hint)
    if indices is not None and axis is not None:
        _check_scattered(k, call, view, value, axis, indices)
    if atomic and value.type.dtype not in ("i32", "u32", "f32", "f64"):
        hint = "accumulate in f32: declare `Acc[f32, ...]`"
        raise fault("atomic-dtype", f"`atomic_add` on {value.type.dtype} does not exist", call.node, hint)
    k.block.append(ir.Scatter(view, start, axis, indices, value, atomic, k.origin(call.node)))
    return ()


def _check_scattered(k: Context, call: Call, view: ir.View, value: ir.Value, axis: int, indices: ir.Value) -> None:
    if value.type.shape[axis] != indices.type.shape[0]:
        text = f"value {shape_text(value.type.shape)} at axis {axis}, indices {shape_text(indices.type.shape)}"
        raise fault("shape-mismatch", text, call.at("value"), "give both the same extent", shapes=text)
    check_gathered(k, view, axis, indices, call.at("position"))
    if call.word.name == "scatter" and not distinct_indices(k, indices):
        hint = "write `assume(distinct(idx))` for the array that the indices come from, or `atomic_add` into an Acc"
        message = "two live indices may be equal, so an element may be stored twice"
        raise fault("scatter-duplicates", message, call.at("position"), hint)


# Checks ------------------------------------------------------------------------------------------


def _view(call: Call) -> ir.View:
    view = call["view"]
    if isinstance(view, ir.View):
        return view
    at = call.at("view")
    hint = f"the first argument of `{call.word.name}` is an array parameter or a view of one"
    raise fault("not-a-view", f"`{source_text(at)}` is {describe(view)}, not an array", at, hint)


def _readable(k: Context, call: Call) -> ir.View:
    view = _view(call)
    role = k.arrays[view.array].role
    if role in ("Out", "Acc"):
        hint = "keep the value in a name; or declare the array InOut; or read it in a second kernel of a `@program`"
        raise fault("load-of-output", f"`{view.array}` is {role} and cannot be loaded", call.at("view"), hint)
    return view


def _writable(k: Context, call: Call) -> ir.View:
    view, word = _view(call), call.word.name
    role = k.arrays[view.array].role
    if role == "In":
        hint = f"declare it `{view.array}: Out[...]`, or store to an output"
        raise fault("store-to-input", f"`{view.array}` is an In array", call.at("view"), hint)
    if role not in _WRITES[word]:
        hint = "write an Acc with `atomic_add`" if role == "Acc" else f"declare it `{view.array}: Acc[f32, ...]`"
        raise fault("role", f"`{word}` does not write {role} arrays", call.at("view"), hint, role=role)
    if any(axis.lo != index(0) or axis.hi != axis.length for axis in view.axes):
        raise fault("store-window", "a window cannot be stored to", call.at("view"), "store to a slice of the array")
    return view


def _start(k: Context, call: Call) -> Shape:
    at = call.at("position")
    parts = call["position"] if isinstance(call["position"], tuple) else (call["position"],)
    if any(isinstance(p, ir.Value) and p.type.shape for p in parts):
        word = "gather" if call.word.name == "load" else "scatter"
        hint = f"write `{word}(...)` to use a tile of indices as a position"
        raise fault("position-not-index", f"`{source_text(at)}` holds a tile", at, hint)
    start = integers(call, "position")
    _note_positions(k, start, at)
    return start


def _note_positions(k: Context, start: Shape, at: ast.expr) -> None:
    nodes = at.elts if isinstance(at, ast.Tuple) and len(at.elts) == len(start) else [at] * len(start)
    for position, node in zip(start, nodes, strict=True):
        note_position(k, position, node)


def note_position(k: Context, position: Index, node: ast.expr) -> None:
    """Mark loop variables as used for positions; report `i * BM` where i already counts elements."""
    for frame in k.loops:
        for variable, step in zip(frame.variables, frame.step, strict=True):
            if variable not in position.symbols():
                continue
            frame.positions.add(variable.name)
            if _scaled(position, variable, step):
                message = f"{variable} already counts elements (0, {step}, 2 * {step} ...); it is scaled again here"
                hint = f"write `{variable}` where it says `{source_text(node)}`"
                raise fault("position-scaled", message, node, hint, step=str(step))


def _scaled(position: Index, variable: Symbol, step: Index) -> bool:
    """Whether the coefficient of the variable is a multiple of its own (symbolic) step."""
    parts = position.affine(variable)
    if parts is None or step.constant is not None:
        return False
    return parts[0] != index(0) and parts[0] % step == index(0)


def _indirect(k: Context, call: Call, view: ir.View) -> tuple[Shape, int | None, ir.Value | None]:
    """Start positions, with the axis whose position is a tile of indices (its start is 0)."""
    found = call["position"]
    parts = found if isinstance(found, tuple) else (found,)
    tiles = [(n, p) for n, p in enumerate(parts) if isinstance(p, ir.Value)]
    if not tiles:
        return _start(k, call), None, None
    at = call.at("position")
    axis, indices = tiles[0]
    if len(tiles) > 1:
        raise fault("gather-position", "only one position may be a tile", at, "combine the indices into one tile")
    if indices.type.rank != 1 or not dtypes.is_integer(indices.type.dtype):
        hint = "the indices must be a rank-1 integer tile: `load(idx, (i,), (BM,))`"
        raise fault("gather-position", f"the position is {type_text(indices.type)}", at, hint)
    call.operands["position"] = tuple(index(0) if n == axis else p for n, p in enumerate(parts))
    return _start(k, call), axis, indices


def _check_ranks(call: Call, view: ir.View, start: Shape, shape: Shape) -> None:
    rank = len(view.axes)
    if len(start) == rank == len(shape):
        return
    what = "position" if len(start) != rank else "shape" if call.word.name in ("load", "gather") else "value"
    at = call.at(what)
    message = (
        f"`{view.array}` here is {view_text(view)} of rank {rank}, but the position has {len(start)} "
        f"and the {'shape' if what != 'value' else 'value'} {shape_text(shape)} has {len(shape)} entries"
    )
    hint = f"give {rank} entries each" if rank else "write `()` for the position of a rank-0 array"
    raise fault("index-rank", message, at, hint, rank=rank)


def _fill(call: Call, dtype: str) -> float | int | None:
    if not call.given("fill"):
        return None
    at = call.at("fill")
    value = literal_value(call["fill"])
    if value is None or (isinstance(value, bool) and dtype != "bool"):
        raise fault("fill-literal", f"`fill={source_text(at)}` is not a literal number", at, "write `fill=0`")
    if (isinstance(value, float) and not dtypes.may_be_float(dtype)) or not dtypes.represents(value, dtype):
        hint = f"choose a value that {dtype} holds"
        raise fault("literal-range", f"fill={value!r} does not fit in {dtype}", at, hint, dtype=dtype, value=value)
    return float(value) if dtypes.is_float(dtype) else value


def _stored(k: Context, call: Call, view: ir.View) -> ir.Value:
    """The value to write: it must have the array's dtype already."""
    operand, at = call["value"], call.at("value")
    if isinstance(operand, Index | Number) and not view.axes:
        return as_value(k, operand, view.dtype, at)
    value = need_value(operand, at, call.word.name)
    if value.type.dtype == view.dtype:
        return value
    reason = _why_dtype(k, value)
    message = f"the value is {value.type.dtype}{reason}, but `{view.array}` is {view.dtype}; stores never convert"
    hint = f"write `cast({source_text(at)}, {view.dtype})`"
    raise fault("dtype", message, at, hint, value=value.type.dtype, array=view.dtype)


def _why_dtype(k: Context, value: ir.Value) -> str:
    operation = k.definitions.get(value.number)
    if value.type.dtype == "f32" and isinstance(operation, ir.Binary | ir.Unary | ir.Reduce | ir.Mma):
        return f" (arithmetic at line {value.origin.span.line} widened it)"
    return ""
