"""What each operation gives, and what it asks of its operands."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import dtypes as types
from kernelagent.dsl.lanes import WARP, Distribution, Mode, drop, permuted
from kernelagent.dsl.level2.accesses import (
    buffer_of,
    check_global_vector,
    check_indices,
    check_shared_tile,
    check_shared_vector,
    check_view,
)
from kernelagent.dsl.level2.expectations import tagged
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.products import multiply
from kernelagent.dsl.level2.rules import (
    Broken,
    Machine,
    Type,
    expanded,
    flat_digits,
    layout_hint,
    same_layout,
    shape_text,
    stretch_source,
    type_of,
)
from kernelagent.dsl.level2.words import FLOAT_WORDS

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
BITWISE = ("and", "or", "xor")

Rule = Callable[[Machine, Any, str | None, Distribution | None], Type]


def result_type(m: Machine, operation: dev.Operation, dtype: str | None, layout: Distribution | None) -> Type:
    """The type that the operation gives; `dtype` and `layout` are what the text says. Raises Broken."""
    return RULES[type(operation)](m, operation, dtype, tidy(layout))


def _given(dtype: str | None, layout: Distribution | None) -> Type:
    assert dtype is not None  # the words that make these operations take it
    return Type(dtype, layout.shape if layout else (), layout)


def _constant(m: Machine, o: dev.Constant, dtype: str | None, layout: Distribution | None) -> Type:
    made = _given(dtype, layout)
    check_literal(o.value, made.dtype, "value")
    return made


def _number(m: Machine, o: dev.FromIndex, dtype: str | None, layout: Distribution | None) -> Type:
    if dtype == "bool":
        raise Broken("operand-dtype", "an index integer is no bool", "write `truth(i > 0)`", "dtype")
    return _given(dtype, None)


def _truth(m: Machine, o: dev.FromCondition, dtype: str | None, layout: Distribution | None) -> Type:
    return Type("bool", (), None)


def _parameter(m: Machine, o: dev.Parameter, dtype: str | None, layout: Distribution | None) -> Type:
    if o.name not in m.scalars:
        raise Broken("unknown-word", f"`{o.name}` is not a runtime scalar", "declare it: `scale: f32`")
    return Type(m.scalars[o.name].dtype, (), None)


def _positions(m: Machine, o: dev.Positions, dtype: str | None, layout: Distribution | None) -> Type:
    if layout is None or len(layout.shape) != 1:
        rank = len(layout.shape) if layout else 0
        raise Broken(
            "index-rank", f"positions have rank 1, not {rank}", "use a rank-1 distribution", "layout", rank=rank
        )
    return Type("i32", layout.shape, layout)


def _load(m: Machine, o: dev.Load | dev.Gather, dtype: str | None, layout: Distribution | None) -> Type:
    made = Type(o.view.dtype, layout.shape if layout else (), layout)
    check_view(m, o.view, o.start, made.shape, ("In", "InOut"))
    check_literal(o.fill, made.dtype, "fill")
    check_global_vector(m, o.view, o.vector, layout)
    if isinstance(o, dev.Gather):
        check_indices(o.axis, o.indices, made, o.vector, o.view)
    return made


def _load_shared(m: Machine, o: dev.LoadShared, dtype: str | None, layout: Distribution | None) -> Type:
    made = Type(buffer_of(m, o.source, "source").dtype, layout.shape if layout else (), layout)
    check_shared_tile(m, o.source, made, "source")
    check_shared_vector(m, o.source, o.vector, layout, "source")
    return made


def _pointwise(m: Machine, o: dev.Pointwise, dtype: str | None, layout: Distribution | None) -> Type:
    tiles = [type_of(a) for a in o.arguments]
    shaped = [t for t in tiles if t.shape]
    first = shaped[0] if shaped else tiles[0]
    for t in shaped:
        if t.shape != first.shape:
            message = f"operands of shapes {shape_text(first.shape)} and {shape_text(t.shape)}"
            raise Broken("shape-mismatch", message, "write `stretch(x, layout)` for extent-1 axes")
        if not same_layout(t.layout, first.layout):
            message = f"operands of `{o.word}` lie in different threads or registers"
            raise Broken("operand-layout", message, layout_hint(first.layout))
    return Type(_pointwise_dtype(o.word, tiles, dtype), first.shape, first.layout)


def _pointwise_dtype(word: str, tiles: list[Type], dtype: str | None) -> str:
    if word == "cast":
        assert dtype is not None
        return dtype
    values = tiles[1:] if word == "where" else tiles
    if word == "where" and tiles[0].dtype != "bool":
        raise Broken("operand-dtype", f"the condition is {tiles[0].dtype}", "compare: `x > 0`", "condition")
    found = values[0].dtype
    if any(t.dtype != found for t in values):
        names = " and ".join(dict.fromkeys(t.dtype for t in values))
        raise Broken("operand-dtype", f"operands of `{word}` are {names}", "`cast` one of them")
    if word not in ("where", "not", *BITWISE, *COMPARISONS) and types.arithmetic(found) != found:
        raise Broken("operand-dtype", f"`{word}` of {found}: arithmetic is done in f32", "`cast` to f32 first")
    if (word in FLOAT_WORDS or word == "div") and not types.is_float(found):
        raise Broken("operand-dtype", f"`{word}` needs floats, not {found}", "`cast` to f32 first")
    return "bool" if word in COMPARISONS else found


def _stretch(m: Machine, o: dev.Stretch, dtype: str | None, layout: Distribution | None) -> Type:
    x = type_of(o.x)
    if layout is None:
        raise Broken("not-a-layout", "a stretched tile needs a distribution", "write `stretch(x, layout)`", "layout")
    made = Type(x.dtype, layout.shape, layout)
    if not x.shape:
        return made
    if len(x.shape) != len(layout.shape) or any(a not in (1, b) for a, b in zip(x.shape, layout.shape, strict=True)):
        message = f"{shape_text(x.shape)} does not stretch to {shape_text(layout.shape)}"
        raise Broken("shape-mismatch", message, "equal ranks, and extent 1 where it stretches", "x")
    needed = tidy(stretch_source(layout, x.shape))
    if not same_layout(x.layout, needed):
        raise Broken("operand-layout", "the tile does not lie where its copies are needed", layout_hint(needed), "x")
    return made


def _reindex(m: Machine, o: dev.Reindex, dtype: str | None, layout: Distribution | None) -> Type:
    x = type_of(o.parts[0])
    made = {
        "expand": _expand, "permute": _permute, "reshape": _reshape, "stack": _stack, "take": _take
    }[o.kind](o, x, layout)  # fmt: skip
    return _settled(made, layout)


def _settled(made: Type, layout: Distribution | None) -> Type:
    """The derived type; a layout that the text gives must say the same."""
    if layout is not None and not same_layout(layout, made.layout):
        raise Broken("operand-layout", "the registers do not move here", layout_hint(made.layout), "layout")
    return made


def _of(x: Type, d: Distribution) -> Type:
    d2 = tidy(d)
    return Type(x.dtype, d.shape, d2)


def _expand(o: dev.Reindex, x: Type, layout: Distribution | None) -> Type:
    rank = len(x.shape) + len(o.arguments)
    if x.layout is None:
        raise Broken("index-rank", "a rank-0 value has no axes", "write `stretch(x, layout)`", "x")
    if sorted(set(o.arguments)) != sorted(o.arguments) or any(not 0 <= a < rank for a in o.arguments):
        raise Broken("axis", f"{o.arguments} are not new axes of rank {rank}", "count axes of the result", "axes")
    return _of(x, expanded(x.layout, o.arguments))


def _permute(o: dev.Reindex, x: Type, layout: Distribution | None) -> Type:
    if x.layout is None or sorted(o.arguments) != list(range(len(x.shape))):
        raise Broken("axis", f"{o.arguments} is no order of {len(x.shape)} axes", "name each axis once", "axes")
    return _of(x, permuted(x.layout, o.arguments))


def _reshape(o: dev.Reindex, x: Type, layout: Distribution | None) -> Type:
    shape = layout.shape if layout else ()
    if prod(shape) != prod(x.shape):
        message = f"{shape_text(x.shape)} and {shape_text(shape)} have different numbers of elements"
        raise Broken("shape-mismatch", message, "use a distribution of as many elements", "layout")
    if x.layout is not None and layout is not None and flat_digits(x.layout) != flat_digits(layout):
        message = "the new shape would move elements between registers or threads"
        raise Broken("operand-layout", message, "keep the row-major position of every register", "layout")
    return Type(x.dtype, shape, layout)


def _stack(o: dev.Reindex, x: Type, layout: Distribution | None) -> Type:
    if x.layout is None or any(type_of(p) != x for p in o.parts):
        raise Broken("shape-mismatch", "stacked tiles have one dtype, shape and distribution", "convert them first")
    axis, count = len(x.shape), len(o.parts)
    return _of(x, Distribution((*x.shape, count), x.layout.lanes, (Mode(count, axis, 1), *x.layout.values)))


def _take(o: dev.Reindex, x: Type, layout: Distribution | None) -> Type:
    if x.layout is None or len(o.arguments) != 1 or not 0 <= o.arguments[0] < x.shape[-1]:
        extent = x.shape[-1] if x.shape else 0
        message = f"{o.arguments} is no position of a last axis of {extent}"
        raise Broken("axis", message, f"write 0 to {extent - 1}", "position")
    last = len(x.shape) - 1
    if any(mode.axis == last for mode in x.layout.lanes):
        message = "the last axis is spread over threads"
        raise Broken("operand-layout", message, "take from an axis that each thread holds in registers", "x")
    return _of(x, drop(x.layout, last))


def _reduce(m: Machine, o: dev.Reduce | dev.ArgReduce, dtype: str | None, layout: Distribution | None) -> Type:
    x = type_of(o.x)
    d = _line(x, o.axis)
    if isinstance(o, dev.Reduce) and (o.word in ("any", "all")) != (x.dtype == "bool"):
        raise Broken("operand-dtype", f"`{o.word}` of {x.dtype}", "`any` and `all` take bools, the others numbers", "x")
    made = _of(x, drop(d, o.axis))
    return _settled(Type("i32", made.shape, made.layout) if isinstance(o, dev.ArgReduce) else made, layout)


def _line(x: Type, axis: int) -> Distribution:
    """The layout, if a reduction or prefix along `axis` stays within warps."""
    if x.layout is None or not 0 <= axis < len(x.shape):
        message = f"axis {axis} of {x}"
        raise Broken("axis", message, f"axes are 0 to {len(x.shape) - 1}" if x.shape else "rank 0 has no axis", "axis")
    before = 1
    for mode in x.layout.lanes:
        before *= mode.extent
        if mode.axis == axis and before > WARP:
            message = f"axis {axis} is spread over several warps of the {x.layout.threads} threads"
            hint = "reduce each warp's part, put the parts into shared memory, and reduce those"
            raise Broken("reduce-warps", message, hint, "x", axis=axis)
    return x.layout


def _scan(m: Machine, o: dev.Scan, dtype: str | None, layout: Distribution | None) -> Type:
    x = type_of(o.x)
    return _settled(_of(x, _line(x, o.axis)), layout)


def check_literal(value: float | int | bool, dtype: str, part: str) -> None:
    if not types.represents(value, dtype) or (isinstance(value, float) and not types.is_float(dtype)):
        message = f"{value!r} does not fit in {dtype}"
        raise Broken("literal-range", message, f"write a literal that {dtype} holds", part, value=value)


RULES: dict[type, Rule] = {
    dev.Constant: _constant, dev.FromIndex: _number, dev.FromCondition: _truth, dev.Parameter: _parameter,
    dev.Positions: _positions, dev.Load: _load, dev.Gather: _load, dev.LoadShared: _load_shared,
    dev.Pointwise: _pointwise, dev.Stretch: _stretch, dev.Reindex: _reindex, dev.Reduce: _reduce,
    dev.ArgReduce: _reduce, dev.Scan: _scan, dev.Mma: multiply, dev.Tag: tagged,
}  # fmt: skip
