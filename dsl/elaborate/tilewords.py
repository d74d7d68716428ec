"""Words on tiles: making, moving, reducing, multiplying."""

from __future__ import annotations

import ast
from typing import Literal, get_args

from kernelagent.dsl import dtypes, ir
from kernelagent.dsl.elaborate import live
from kernelagent.dsl.elaborate.arithmetic import (
    as_value,
    binary,
    broadcast,
    cast,
    common_shape,
    need_value,
    promote,
    unary,
    widened,
)
from kernelagent.dsl.elaborate.context import Context, literal_value
from kernelagent.dsl.elaborate.extents import extent, extents
from kernelagent.dsl.elaborate.memory import note_position
from kernelagent.dsl.elaborate.operands import (
    DTypeName,
    Number,
    Operand,
    Word,
    as_condition,
    describe,
    is_condition,
    shape_text,
    source_text,
    type_text,
)
from kernelagent.dsl.elaborate.slips import warn_redundant_mask
from kernelagent.dsl.elaborate.views import Evaluate, integers, permuted, reshaped
from kernelagent.dsl.elaborate.words import Call, handles
from kernelagent.dsl.index import Index, cdiv, decide, index
from kernelagent.dsl.syntax import fault

_MATH = tuple(w for w in get_args(ir.UnaryWord) if w not in ("neg", "not"))


def dtype_of(call: Call, name: str = "dtype") -> str:
    found = call[name]
    if isinstance(found, DTypeName):
        return found.name
    at = call.at(name)
    hint = "write a dtype: f32, bf16, i32 ..., or a dtype variable of the signature"
    raise fault("dtype-expected", f"`{source_text(at)}` is {describe(found)}, not a dtype", at, hint)


# Making ------------------------------------------------------------------------------------------


@handles("zeros")
def zeros(k: Context, call: Call) -> Operand:
    dtype, shape = dtype_of(call), extents(k, call["shape"], call.at("shape"))
    value: float | int | bool = False if dtype == "bool" else 0.0 if dtypes.is_float(dtype) else 0
    return k.emit(ir.Full(value), dtype, shape, call.node)


@handles("full")
def full(k: Context, call: Call) -> Operand:
    dtype, shape = dtype_of(call), extents(k, call["shape"], call.at("shape"))
    at = call.at("value")
    value = call["value"]
    if isinstance(value, ir.Value) and value.type.shape:
        hint = "`full` repeats one scalar; tiles stretch by themselves where extents are 1"
        raise fault("not-a-scalar", f"`{source_text(at)}` is {describe(value)}", at, hint)
    scalar = as_value(k, value, dtype, at)
    operation = k.definitions[scalar.number]
    if isinstance(operation, ir.Full):
        k.block.pop()
        return k.emit(operation, dtype, shape, call.node)
    return broadcast(k, scalar, shape, call.node)


@handles("iota")
def iota(k: Context, call: Call) -> Operand:
    return k.emit(ir.Iota(index(0)), "i32", (extent(k, call["extent"], call.at("extent")),), call.node)


@handles("coords")
def coords(k: Context, call: Call) -> Operand:
    at = call.at("start")
    start = call["start"]
    if isinstance(start, ir.Value):
        hint = "write `coords(i, BM)`: the positions i, i+1, ... i+BM-1"
        raise fault("position-not-index", f"`{source_text(at)}` is {describe(start)}", at, hint)
    (first,) = integers(call, "start", 1)
    note_position(k, first, at)
    return k.emit(ir.Iota(first), "i32", (extent(k, call["extent"], call.at("extent")),), call.node)


@handles("cast")
def cast_word(k: Context, call: Call) -> Operand:
    dtype, x = dtype_of(call), call["x"]
    if isinstance(x, Number | Index) or is_condition(x):
        if is_condition(x):
            return cast(k, as_value(k, x, "bool", call.at("x")), dtype, call.node)
        return as_value(k, x, dtype, call.at("x"))
    return cast(k, need_value(x, call.at("x"), "cast"), dtype, call.node)


@handles("fill")
def fill(k: Context, call: Call) -> Operand:
    x, at = need_value(call["x"], call.at("x"), "fill"), call.at("value")
    value = literal_value(call["value"])
    if value is None:
        raise fault("fill-literal", f"`{source_text(at)}` is not a literal", at, "write `fill(x, 0)`")
    fits = dtypes.represents(value, x.type.dtype)
    if not fits or (isinstance(value, float) and not dtypes.may_be_float(x.type.dtype)):
        hint = f"choose a value that {x.type.dtype} holds"
        raise fault("literal-range", f"{value!r} does not fit in {x.type.dtype}", at, hint, dtype=x.type.dtype)
    return k.emit(ir.Fill(x, value), x.type.dtype, x.type.shape, call.node)


@handles("where")
def where(k: Context, call: Call) -> Operand:
    """Moves: equal dtypes stay; floats of several widths become f32."""
    condition, a, b = call["condition"], call["a"], call["b"]
    chosen = as_condition(condition)
    if chosen is not None and isinstance(a, Index) and isinstance(b, Index):
        from kernelagent.dsl.index import select

        return select(chosen, a, b)
    return choose(k, condition, call.at("condition"), a, b, call.node)


def choose(k: Context, condition: Operand, at: ast.expr, a: Operand, b: Operand, node: ast.expr) -> Operand:
    """`where`, and `a if c else b` on values."""
    mask = as_value(k, condition, "bool", at) if is_condition(condition) else need_value(condition, at, "where")
    if mask.type.dtype != "bool":
        hint = "compare: `x > 0`"
        raise fault("dtype", f"`{source_text(at)}` is {type_text(mask.type)}, not bool", at, hint)
    left, right = promote(k, a, b, node, "where")
    warn_redundant_mask(k, mask, left, at)
    shape = common_shape([mask, left, right], node, "where")
    mask, left, right = (broadcast(k, v, shape, node) for v in (mask, left, right))
    return k.emit(ir.Where(mask, left, right), left.type.dtype, shape, node)


# Elementwise -------------------------------------------------------------------------------------


@handles("maximum", "minimum")
def extremum(k: Context, call: Call) -> Operand:
    return binary(k, call.word.name, call["a"], call["b"], call.node)  # type: ignore[arg-type]


@handles(*_MATH)
def mathematical(k: Context, call: Call) -> Operand:
    return unary(k, call.word.name, call["x"], call.node, call.at("x"))  # type: ignore[arg-type]


@handles("cdiv")
def cdiv_word(k: Context, call: Call) -> Operand:
    (a,), (b,) = integers(call, "a", 1), integers(call, "b", 1)
    if b.constant == 0:
        raise fault("division-by-zero", "`cdiv` by zero", call.at("b"), "divide by a nonzero integer")
    return cdiv(a, b)


# Reductions --------------------------------------------------------------------------------------


def _axes(call: Call, rank: int) -> tuple[int, ...]:
    """The axes to reduce, non-negative, last first. Without `axis` all of them."""
    if not call.given("axis"):
        return tuple(reversed(range(rank)))
    at = call.at("axis")
    axes = []
    for found in integers(call, "axis"):
        n = found.constant
        if n is None or not (-rank <= n < rank):
            hint = f"axes are literals from 0 to {rank - 1}" if rank else "a scalar has no axes"
            raise fault("axis", f"axis {found} does not exist in rank {rank}", at, hint, axis=str(found), rank=rank)
        axes.append(n % rank)
    if len(set(axes)) != len(axes):
        raise fault("axis", "an axis is named twice", at, "name each axis once")
    return tuple(sorted(axes, reverse=True))


@handles("sum", "prod", "max", "min", "any", "all")
def reduction(k: Context, call: Call) -> Operand:
    x = _reducible(k, call)
    axes = _axes(call, x.type.rank)
    for axis in axes:
        shape = x.type.shape[:axis] + x.type.shape[axis + 1 :]
        x = k.emit(ir.Reduce(call.word.name, x, axis), x.type.dtype, shape, call.node)  # type: ignore[arg-type]
    if call.given("keepdims") and decide_literal(call, "keepdims"):
        kept = tuple(sorted(axes))
        x = k.emit(ir.ExpandDims(x, kept), x.type.dtype, _with_units(x.type.shape, kept), call.node)
    return x


def _with_units(shape: live.Shape, axes: tuple[int, ...]) -> live.Shape:
    rest = list(shape)
    return tuple(index(1) if a in axes else rest.pop(0) for a in range(len(shape) + len(axes)))


def decide_literal(call: Call, name: str) -> bool:
    condition = as_condition(call[name])
    known = decide(condition) if condition is not None else None
    if known is None:
        at = call.at(name)
        raise fault("not-a-literal", f"`{name}` must be True or False", at, f"write `{name}=True`")
    return known


def _reducible(k: Context, call: Call) -> ir.Value:
    """The operand of a reduction in the dtype it is reduced in."""
    word, at = call.word.name, call.at("x")
    x = need_value(call["x"], at, word)
    if not x.type.shape:
        raise fault("not-a-tile", f"`{source_text(at)}` is a scalar; there is nothing to reduce", at, "use it as it is")
    dtype = x.type.dtype
    if word in ("any", "all"):
        if dtype != "bool":
            raise fault("dtype", f"`{word}` needs bools, not {dtype}", at, f"compare: `{word}({source_text(at)} != 0)`")
        return x
    if dtype == "bool":
        hint = f"write `{word}(cast({source_text(at)}, i32))`, or `any` / `all`"
        raise fault("bool-arithmetic", f"`{word}` is not defined on bool", at, hint)
    if word in ("sum", "prod") and dtypes.is_integer(dtype) and dtypes.bits(dtype) < 32:
        hint = f"write `{word}(cast({source_text(at)}, i32), ...)`"
        raise fault("narrow-sum", f"`{word}` of {dtype} would overflow", at, hint, dtype=dtype)
    return widened(k, x, at)


@handles("argmax", "argmin")
def arg_reduction(k: Context, call: Call) -> Operand:
    at = call.at("x")
    x = need_value(call["x"], at, call.word.name)
    axes = _axes(call, x.type.rank)
    if len(axes) != 1:
        hint = f"write `{call.word.name}({source_text(at)}, axis={max(x.type.rank - 1, 0)})`"
        raise fault("axis", f"`{call.word.name}` needs one axis of a rank-{x.type.rank} tile", call.node, hint)
    shape = x.type.shape[: axes[0]] + x.type.shape[axes[0] + 1 :]
    return k.emit(ir.ArgReduce(call.word.name, x, axes[0]), "i32", shape, call.node)  # type: ignore[arg-type]


@handles("scan")
def scan(k: Context, call: Call) -> Operand:
    op, at = call["op"], call.at("op")
    if not isinstance(op, Word) or op.name not in ("sum", "prod", "max", "min"):
        raise fault("scan-op", f"`op={source_text(at)}` is not a scan operation", at, "write op=sum, prod, max or min")
    x = need_value(call["x"], call.at("x"), "scan")
    axes = _axes(call, x.type.rank)
    if len(axes) != 1:
        raise fault("axis", "`scan` runs along one axis", call.at("axis"), "name one axis")
    x = _reducible(k, call)
    return k.emit(ir.Scan(op.name, x, axes[0]), x.type.dtype, x.type.shape, call.node)  # type: ignore[arg-type]


# Matrices ----------------------------------------------------------------------------------------


@handles("mma")
def mma(k: Context, call: Call) -> Operand:
    a, b = need_value(call["a"], call.at("a"), "mma"), need_value(call["b"], call.at("b"), "mma")
    for x, name in ((a, "a"), (b, "b")):
        if x.type.rank != 2:
            hint = "drop unit axes with `reshape`, or add one with `x[:, None]`"
            message = f"`mma` needs rank 2, but `{source_text(call.at(name))}` is {type_text(x.type)}"
            raise fault("mma-rank", message, call.at(name), hint, shape=shape_text(x.type.shape))
    (m, ka), (kb, n) = a.type.shape, b.type.shape
    if ka != kb:
        text = f"{shape_text(a.type.shape)} x {shape_text(b.type.shape)}"
        transposable = f"; did you mean `{source_text(call.at('b'))}.T`?" if ka == n else ""
        hint = f"mma is (m, k) x (k, n): the inner extents must be the same expression{transposable}"
        raise fault("mma-shape", f"{text}: inner extents {ka} and {kb} differ", call.node, hint, shapes=text)
    dtype = _mma_dtype(k, call, a, b)
    return k.emit(ir.Mma(a, b, _precision(call, a)), dtype, (m, n), call.node)


def _mma_dtype(k: Context, call: Call, a: ir.Value, b: ir.Value) -> str:
    left, right = a.type.dtype, b.type.dtype
    if left != right:
        wide, other = ("a", right) if left == "f32" else ("b", left)
        hint = f"write `cast({source_text(call.at(wide))}, {other})`"
        raise fault("mma-dtype", f"mma operands are {left} and {right}", call.node, hint, dtypes=[left, right])
    k.need_float(left)
    if not dtypes.is_concrete(left) or dtypes.is_float(left):
        return "f64" if left == "f64" else "f32"
    if left in ("i8", "u8"):
        return "i32"
    raise fault("mma-dtype", f"mma of {left} does not exist", call.node, "`cast` to f32, bf16 or i8 first")


def _precision(call: Call, a: ir.Value) -> Literal["exact", "tf32"]:
    if not call.given("precision"):
        return "exact"
    found, at = call["precision"], call.at("precision")
    if isinstance(found, Word) and found.name == "tf32" and a.type.dtype == "f32":
        return "tf32"
    raise fault("mma-precision", f"`precision={source_text(at)}` is not known", at, "write precision=tf32 (f32 only)")


# Shapes ------------------------------------------------------------------------------------------


@handles("reshape")
def reshape(k: Context, call: Call) -> Operand:
    x, at = call["x"], call.at("shape")
    if isinstance(x, ir.View):
        return reshaped(k, x, integers(call, "shape"), call.node)
    value = need_value(x, call.at("x"), "reshape")
    shape = extents(k, call["shape"], at)
    if shape == value.type.shape:
        return value
    if live.axis_groups(value.type.shape, shape, k.facts) is None:
        text = f"{shape_text(value.type.shape)} to {shape_text(shape)}"
        hint = "the products of the extents must be the same expression"
        raise fault("reshape-size", f"reshape of {text} changes the number of elements", at, hint, shapes=text)
    return k.emit(ir.Reshape(value), value.type.dtype, shape, call.node)


@handles("permute")
def permute(k: Context, call: Call) -> Operand:
    x, at = call["x"], call.at("axes")
    rank = len(x.axes) if isinstance(x, ir.View) else need_value(x, call.at("x"), "permute").type.rank
    axes = tuple(a.constant for a in integers(call, "axes"))
    if sorted(a for a in axes if a is not None) != list(range(rank)) or len(axes) != rank:
        message = f"`{source_text(at)}` is not an order of {rank} axes"
        hint = f"write each of {', '.join(map(str, range(rank)))} once"
        raise fault("axis", message, at, hint, rank=rank)
    return permute_value(k, x, tuple(a for a in axes if a is not None), call.node)


def permute_value(k: Context, x: Operand, axes: tuple[int, ...], node: ast.AST) -> Operand:
    if isinstance(x, ir.View):
        return permuted(x, axes)
    assert isinstance(x, ir.Value)
    return k.emit(ir.Permute(x, axes), x.type.dtype, tuple(x.type.shape[a] for a in axes), node)


@handles("stack")
def stack(k: Context, call: Call) -> Operand:
    """`stack(a, b)` or `stack((a, b))`: equal tiles along a new last axis."""
    parts, nodes = call.rest, call.rest_nodes
    if len(parts) == 1 and isinstance(parts[0], tuple):
        nodes = tuple(nodes[0].elts) if isinstance(nodes[0], ast.Tuple) else nodes * len(parts[0])
        parts = parts[0]
    values = [need_value(p, n, "stack") for p, n in zip(parts, nodes, strict=True)]
    if not values or len({v.type.shape for v in values}) > 1 or len({v.type.dtype for v in values}) > 1:
        text = ", ".join(type_text(v.type) for v in values) or "nothing"
        hint = "give two or more tiles of one dtype and shape"
        raise fault("stack", f"`stack` of {text}: the parts must be alike", call.node, hint, shapes=text)
    shape = (*values[0].type.shape, index(len(values)))
    return k.emit(ir.Stack(tuple(values)), values[0].type.dtype, shape, call.node)


def subscript_tile(k: Context, x: ir.Value, node: ast.Subscript, evaluate: Evaluate) -> Operand:
    """`x[:, None]` adds unit axes; `x[:, 0]` takes a constant position of the last axis."""
    entries = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    for entry in entries:
        if isinstance(entry, ast.Slice) and (entry.lower or entry.upper):
            hint = "load the parts as two tiles: `load(x, (i, 0), (BM, 64))` and `load(x, (i, 64), (BM, 64))`"
            raise fault("tile-slice", f"`{source_text(node)}` slices a tile", node, hint)
    kept = [e for e in entries if not (isinstance(e, ast.Constant) and e.value is None)]
    if len(kept) > x.type.rank:
        message = f"`{source_text(node)}` has {len(kept)} positions, but {type_text(x.type)} has rank {x.type.rank}"
        raise fault("index-rank", message, node, f"give {x.type.rank} `:`", rank=x.type.rank)
    x = _taken(k, x, kept, node, evaluate)
    axes = [e for e in entries if e not in kept or isinstance(e, ast.Slice)]
    added = tuple(n for n, e in enumerate(axes) if e not in kept)
    if not added:
        return x
    return k.emit(ir.ExpandDims(x, added), x.type.dtype, _with_units(x.type.shape, added), node)


def _taken(k: Context, x: ir.Value, kept: list[ast.expr], node: ast.Subscript, evaluate: Evaluate) -> ir.Value:
    positions = [n for n, e in enumerate(kept) if not isinstance(e, ast.Slice)]
    if not positions:
        return x
    found: Operand = evaluate(k, kept[positions[0]])
    position = found.constant if isinstance(found, Index) else None
    if positions != [x.type.rank - 1] or position is None:
        hint = "only a constant position of the last axis can be taken: `x[:, 0]`; load a view for the rest"
        raise fault("tile-index", f"`{source_text(node)}` indexes a tile", node, hint)
    size = x.type.shape[-1].constant
    if position < 0 or (size is not None and position >= size):
        hint = f"write a position from 0 to {size - 1 if size else 'the extent - 1'}"
        raise fault("tile-index", f"position {position} is outside {x.type.shape[-1]}", node, hint)
    return k.emit(ir.Take(x, position), x.type.dtype, x.type.shape[:-1], node)
