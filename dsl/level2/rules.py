"""The rules of level two, each stated once: the parser reports them with a place, `spec.verify` as text.

`result_type` infers what an operation gives; `check_statement` and `check_kernel` judge effects and resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.lanes import WARP, Distribution, Mode, covers, drop, insert, normal, permuted, same, tiled, unit
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.words import FLOAT_WORDS

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")
BITWISE = ("and", "or", "xor")
ACCESS_BYTES = (1, 2, 4, 8, 16)
ASYNC_BYTES = (4, 8, 16)
FMA = "fma"
"""Prefix of products without a matrix instruction: each thread multiplies and adds its own elements."""

Shape = tuple[int, ...]


class Broken(Exception):
    """A broken rule. `part` names the argument at fault; `facts` are the values of the message."""

    def __init__(self, code: str, message: str, hint: str, part: str = "", **facts: object) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.part, self.facts = code, message, hint, part, facts


@dataclass(frozen=True)
class Type:
    """What a fragment is, without its name."""

    dtype: str
    shape: Shape
    layout: Distribution | None

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}" if self.shape else self.dtype


@dataclass(frozen=True)
class Machine:
    """What statements are judged against."""

    target: str
    threads: int
    arrays: Mapping[str, ir.Array]
    buffers: Mapping[str, dev.SharedBuffer]
    scalars: Mapping[str, ir.Scalar]


def machine_of(kernel: dev.DeviceKernel) -> Machine:
    return Machine(
        kernel.target,
        kernel.threads,
        {a.name: a for a in kernel.arrays},
        {b.name: b for b in kernel.buffers},
        {s.name: s for s in kernel.scalars},
    )


def type_of(x: dev.Fragment) -> Type:
    return Type(x.dtype, x.shape, tidy(x.layout))


def shape_text(shape: Shape) -> str:
    return f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"


def same_layout(a: Distribution | None, b: Distribution | None) -> bool:
    return same(a, b) if a and b else a is b


# Distributions -----------------------------------------------------------------------------------------


def check_layout(m: Machine, d: Distribution) -> None:
    """A distribution covers its tile and has the block's threads."""
    for mode in (*d.lanes, *d.values):
        if mode.extent < 1 or not -1 <= mode.axis < len(d.shape) or (mode.axis >= 0 and mode.stride < 1):
            message = f"the mode {mode} does not fit the shape {shape_text(d.shape)}"
            raise Broken(
                "layout-mode", message, "modes are (extent, axis, stride); axis -1 holds copies", mode=str(mode)
            )
    if d.threads != m.threads:
        message = f"the lanes make {d.threads} threads, but the block has {m.threads}"
        hint = "let the lane extents multiply to the threads; add (n, -1, 0) where n threads hold copies"
        raise Broken("layout-threads", message, hint, "lanes", lanes=d.threads, threads=m.threads)
    if any(mode.axis < 0 for mode in d.values) or not covers(d):
        held = d.threads // d.copies * d.registers
        message = (
            f"{d.threads} threads with {d.registers} registers ({held} places without copies) do not hold each of the "
            f"{prod(d.shape)} elements of {shape_text(d.shape)} once"
        )
        hint = "along each axis the extents multiply to the axis, each stride being the product of the smaller ones"
        raise Broken("layout-cover", message, hint, places=held, elements=prod(d.shape))


def run_along(d: Distribution, axis: int) -> int:
    """Consecutive registers that hold consecutive elements along `axis`."""
    run = 1
    for mode in normal(d.values):
        if mode.axis != axis or mode.stride != run:
            break
        run *= mode.extent
    return run


def stretch_source(d: Distribution, shape: Shape) -> Distribution:
    """What a tile of this shape must be to stretch to `d`."""
    for axis, (narrow, wide) in enumerate(zip(shape, d.shape, strict=True)):
        if narrow != wide:
            d = unit(d, axis)
    return d


def expanded(d: Distribution, axes: tuple[int, ...]) -> Distribution:
    for axis in sorted(axes):
        d = insert(d, axis)
    return d


def _flat(d: Distribution) -> tuple[tuple[Mode, ...], tuple[Mode, ...]]:
    """Thread and register digits as steps in the row-major tile."""

    def steps(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
        return normal(Mode(m.extent, min(m.axis, 0), m.stride * prod(d.shape[m.axis + 1 :])) for m in modes)

    return steps(d.lanes), steps(d.values)


# Accesses ----------------------------------------------------------------------------------------------


def _check_width(vector: int, dtype: str, legal: tuple[int, ...], run: int, what: str) -> None:
    """`vector` elements are one access, and each thread holds them side by side."""
    bits = types.bits(dtype)
    possible = [v for v in (1, 2, 4, 8, 16, 32) if v * bits // 8 in legal or (v == 1 and 1 in legal)]
    if vector not in possible:
        close = max((v for v in possible if v <= max(vector, 1)), default=min(possible))
        text = f"vector={vector} of {dtype} is {vector * bits / 8:g} bytes; an access has {_listing(legal)} bytes"
        raise Broken("access-width", text, f"write vector={close}", "vector", vector=vector, legal=list(possible))
    if run % vector:
        close = max((v for v in possible if run % v == 0), default=1)
        text = f"vector={vector}, but each thread holds runs of {run} elements along {what}"
        hint = f"write vector={close}, or a distribution whose first value mode is ({vector}, axis, 1)"
        raise Broken("access-run", text, hint, "vector", vector=vector, run=run)


def _listing(numbers: tuple[int, ...]) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} or {last}"


def memory_axis(view: ir.View) -> int | None:
    """The view axis along which memory is contiguous."""
    for axis in reversed(range(len(view.axes))):
        parts = view.coordinates[-1].affine(ir.position(axis)) if view.coordinates else None
        others = any(ir.position(axis) in c.symbols() for c in view.coordinates[:-1])
        if parts and parts[0].constant == 1 and not others:
            return axis
    return None


def _check_view(m: Machine, view: ir.View, start: tuple[Any, ...], shape: Shape, roles: tuple[str, ...]) -> None:
    array = m.arrays.get(view.array)
    if array is None:
        raise Broken("unknown-word", f"`{view.array}` is not an array of the kernel", "name a parameter", "view")
    if array.role not in roles:
        raise _wrong_role(array, roles)
    if view.dtype != array.dtype:
        raise Broken("operand-dtype", f"the view is {view.dtype}, the array {array.dtype}", "use one dtype", "view")
    if len(start) != len(view.axes) or len(shape) != len(view.axes):
        message = (
            f"the view of `{view.array}` has rank {len(view.axes)}, the position {len(start)}, the tile {len(shape)}"
        )
        raise Broken("index-rank", message, f"give {len(view.axes)} entries each", "position", rank=len(view.axes))


def _wrong_role(array: ir.Array, roles: tuple[str, ...]) -> Broken:
    if "In" in roles:
        hint = "read inputs only: what a block wrote is not read back from global memory"
        return Broken("load-of-output", f"`{array.name}` is {array.role} and cannot be read", hint, "view")
    if array.role == "In":
        hint = f"declare `{array.name}: Out[...]`, or store to an output"
        return Broken("store-to-input", f"`{array.name}` is an In array and cannot be written", hint, "view")
    word = "atomic_add" if array.role == "Acc" else "store"
    return Broken("role", f"`{array.name}` is {array.role}", f"write `{word}({array.name}, ...)`", "view")


def _check_global_vector(m: Machine, view: ir.View, vector: int, layout: Distribution | None) -> None:
    if vector == 1:
        return
    axis = memory_axis(view)
    run = run_along(layout, axis) if layout is not None and axis is not None else 1
    what = f"axis {axis}" if axis is not None else "the array's last axis, which the view does not keep"
    _check_width(vector, view.dtype, ACCESS_BYTES, run, what)


def check_guards(kernel: dev.DeviceKernel, view: ir.View, vector: int) -> None:
    """Wide accesses rely on what dispatch has checked about the array's address."""
    needed = vector * types.bits(view.dtype) // 8
    if vector == 1:
        return
    known = [g.value for g in kernel.shape_class.guards if g.kind == "aligned" and g.subject == view.array]
    if max(known, default=0) < needed:
        message = f"an access of {needed} bytes to `{view.array}`, which shape class `{kernel.shape_class.name}` does not align"
        hint = f"add `aligned({view.array}, {needed})` to shape_class, or write vector=1"
        raise Broken("access-alignment", message, hint, "vector", bytes=needed, known=max(known, default=0))


def buffer_of(m: Machine, s: dev.Shared, part: str) -> dev.SharedBuffer:
    """The buffer of a reference, whose stage is checked where it is constant."""
    buffer = m.buffers.get(s.buffer)
    if buffer is None:
        close = nearest(s.buffer, list(m.buffers))
        hint = f"did you mean `{close}`?" if close else "declare it: `name = shared(dtype, shape)`"
        raise Broken("unknown-word", f"`{s.buffer}` is not a shared buffer", hint, part)
    stage = s.stage.constant
    if stage is not None and not 0 <= stage < buffer.stages:
        message = f"stage {stage} of `{buffer.name}`, which has {buffer.stages}"
        raise Broken("stage", message, f"stages are 0 to {buffer.stages - 1}", part, stage=stage, stages=buffer.stages)
    if sorted(s.axes) != list(range(len(buffer.shape))):
        raise Broken("axis", f"{s.axes} is no order of {len(buffer.shape)} axes", "name each axis once", part)
    return buffer


def shared_shape(m: Machine, s: dev.Shared, part: str) -> Shape:
    shape = buffer_of(m, s, part).shape
    return tuple(shape[a] for a in s.axes)


def _check_shared_tile(m: Machine, s: dev.Shared, tile: Type, part: str) -> None:
    buffer, shape = buffer_of(m, s, part), shared_shape(m, s, part)
    if shape != tile.shape:
        message = f"the stage of `{buffer.name}` is {shape_text(shape)}, the tile {shape_text(tile.shape)}"
        hint = "use the buffer's shape, or `.T` for the transposed one"
        raise Broken("buffer-shape", message, hint, part, buffer=list(shape), tile=list(tile.shape))
    if buffer.dtype != tile.dtype:
        message = f"`{buffer.name}` holds {buffer.dtype}, the tile is {tile.dtype}"
        raise Broken("operand-dtype", message, f"`cast` to {buffer.dtype}, or change the buffer", part)


def _check_shared_vector(m: Machine, s: dev.Shared, vector: int, layout: Distribution | None, part: str) -> None:
    buffer = buffer_of(m, s, part)
    if vector == 1:
        return
    axis = s.axes.index(len(buffer.shape) - 1)
    _check_width(vector, buffer.dtype, ACCESS_BYTES, run_along(layout, axis) if layout else 1, f"axis {axis}")
    _check_shared_rows(buffer, vector)


def _check_shared_rows(buffer: dev.SharedBuffer, vector: int) -> None:
    """Pieces of `vector` elements stay together under the buffer's padding and swizzle."""
    row = buffer.shape[-1] + buffer.pad
    if len(buffer.shape) > 1 and row % vector:
        message = f"rows of `{buffer.name}` are {row} elements apart, which vector={vector} does not divide"
        hint = f"let shape[-1] + pad be a multiple of {vector}"
        raise Broken("shared-width", message, hint, "vector", row=row, vector=vector)
    if buffer.swizzle is not None and vector > 1 << buffer.swizzle.base:
        message = f"the swizzle of `{buffer.name}` moves pieces of {1 << buffer.swizzle.base} elements, vector={vector} is wider"
        hint = f"write vector={1 << buffer.swizzle.base}, or a swizzle with a larger base"
        raise Broken("shared-width", message, hint, "vector", piece=1 << buffer.swizzle.base, vector=vector)


# Operations --------------------------------------------------------------------------------------------

Rule = Callable[[Machine, Any, str | None, Distribution | None], Type]


def result_type(m: Machine, operation: dev.Operation, dtype: str | None, layout: Distribution | None) -> Type:
    """The type that the operation gives; `dtype` and `layout` are what the text says. Raises Broken."""
    return RULES[type(operation)](m, operation, dtype, tidy(layout))


def _given(dtype: str | None, layout: Distribution | None) -> Type:
    assert dtype is not None  # the words that make these operations take it
    return Type(dtype, layout.shape if layout else (), layout)


def _constant(m: Machine, o: dev.Constant, dtype: str | None, layout: Distribution | None) -> Type:
    made = _given(dtype, layout)
    _check_literal(o.value, made.dtype, "value")
    return made


def _check_literal(value: float | int | bool, dtype: str, part: str) -> None:
    if not types.represents(value, dtype) or (isinstance(value, float) and not types.is_float(dtype)):
        message = f"{value!r} does not fit in {dtype}"
        raise Broken("literal-range", message, f"write a literal that {dtype} holds", part, value=value)


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
    _check_view(m, o.view, o.start, made.shape, ("In", "InOut"))
    _check_literal(o.fill, made.dtype, "fill")
    _check_global_vector(m, o.view, o.vector, layout)
    if isinstance(o, dev.Gather):
        _check_indices(o.axis, o.indices, made, o.vector, o.view)
    return made


def _check_indices(axis: int, indices: dev.Fragment, tile: Type, vector: int, view: ir.View) -> None:
    """Indices lie where the tile's axis lies, so that each thread has those it needs."""
    if not types.is_integer(indices.dtype) or len(indices.shape) != 1:
        message = f"the position is {type_of(indices)}"
        raise Broken("gather-position", message, "indices are a rank-1 integer fragment", "position")
    if vector > 1 and axis == memory_axis(view):
        raise Broken(
            "access-run", f"axis {axis} is gathered, so nothing lies side by side there", "write vector=1", "vector"
        )
    assert tile.layout is not None  # the rank is that of the view, which has an axis
    d = tile.layout
    for other in reversed(range(len(d.shape))):
        d = d if other == axis else drop(d, other)
    if not same_layout(tidy(indices.layout), tidy(d)):
        message = f"the indices are not distributed as axis {axis} of the tile"
        raise Broken("operand-layout", message, _layout_hint(tidy(d)), "position")


def _load_shared(m: Machine, o: dev.LoadShared, dtype: str | None, layout: Distribution | None) -> Type:
    made = Type(buffer_of(m, o.source, "source").dtype, layout.shape if layout else (), layout)
    _check_shared_tile(m, o.source, made, "source")
    _check_shared_vector(m, o.source, o.vector, layout, "source")
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
            raise Broken("operand-layout", message, _layout_hint(first.layout))
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


def _layout_hint(d: Distribution | None) -> str:
    return (
        "give both the same distribution, or exchange through shared memory"
        if d is None
        else (f"needed: lanes={_modes(d.lanes)}, values={_modes(d.values)}; or exchange through shared memory")
    )


def _modes(modes: tuple[Mode, ...]) -> str:
    return f"({', '.join(map(str, modes))}{',' if len(modes) == 1 else ''})"


def _stretch(m: Machine, o: dev.Stretch, dtype: str | None, layout: Distribution | None) -> Type:
    x = type_of(o.x)
    if layout is None:
        raise Broken("layout-needed", "a stretched tile needs a distribution", "write `stretch(x, layout)`", "layout")
    made = Type(x.dtype, layout.shape, layout)
    if not x.shape:
        return made
    if len(x.shape) != len(layout.shape) or any(a not in (1, b) for a, b in zip(x.shape, layout.shape, strict=True)):
        message = f"{shape_text(x.shape)} does not stretch to {shape_text(layout.shape)}"
        raise Broken("shape-mismatch", message, "equal ranks, and extent 1 where it stretches", "x")
    needed = tidy(stretch_source(layout, x.shape))
    if not same_layout(x.layout, needed):
        raise Broken("operand-layout", "the tile does not lie where its copies are needed", _layout_hint(needed), "x")
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
        raise Broken("operand-layout", "the registers do not move here", _layout_hint(made.layout), "layout")
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
    if x.layout is not None and layout is not None and _flat(x.layout) != _flat(layout):
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


def _mma(m: Machine, o: dev.Mma, dtype: str | None, layout: Distribution | None) -> Type:
    a, b, acc = _matrix(m, o.a, "a"), _matrix(m, o.b, "b"), type_of(o.acc)
    shapes = a.shape, b.shape, acc.shape
    if [len(s) for s in shapes] != [2, 2, 2] or a.shape[1] != b.shape[0] or acc.shape != (a.shape[0], b.shape[1]):
        message = f"a {shape_text(a.shape)}, b {shape_text(b.shape)} and acc {shape_text(acc.shape)}"
        raise Broken(
            "mma-shape", f"{message} are not (m, k), (k, n) and (m, n)", "write `.T` on a transposed stage", "b"
        )
    if not o.atom.startswith(FMA):
        _check_atom(m, o, a, b, acc)
    return acc


def _matrix(m: Machine, x: dev.Fragment | dev.Shared, part: str) -> Type:
    if isinstance(x, dev.Fragment):
        return type_of(x)
    return Type(buffer_of(m, x, part).dtype, shared_shape(m, x, part), None)


def _check_atom(m: Machine, o: dev.Mma, a: Type, b: Type, acc: Type) -> None:
    """Shapes divide, dtypes agree, fragments lie as the atom wants them."""
    from kernelagent.dsl.atoms import Atom, atoms

    known: dict[str, Atom] = {x.name: x for x in atoms("mma", m.target)}
    atom = known.get(o.atom)
    if atom is None:
        close = nearest(o.atom, list(known))
        hint = f"did you mean `{close}`?" if close else f"{m.target} has {', '.join(known)}"
        raise Broken("mma-atom", f"`{o.atom}` is no matrix atom of {m.target}", hint, "atom", nearest=close)
    for x, name, part in ((a, "a", "a"), (b, "b", "b"), (acc, "d", "acc")):
        wanted = atom.operand(name).dtype
        if x.dtype != wanted and (x.dtype, wanted) != ("f32", "tf32"):
            message = f"`{part}` is {x.dtype}, but {atom.name} takes {wanted}"
            raise Broken("mma-dtype", message, f"`cast` to {wanted}, or use another atom", part, nearest=wanted)
    extents = {"m": acc.shape[0], "n": acc.shape[1], "k": a.shape[1]}
    for (letter, extent), each in zip(extents.items(), atom.shape, strict=True):
        if not isinstance(each, int) or extent % each:
            message = f"{letter} = {extent} is no multiple of the atom's {each}"
            raise Broken("mma-shape", message, f"use tiles whose {letter} is a multiple of {each}", "atom")
    grid = _warp_grid(m, atom, acc)
    _check_register_operand(atom, a, "a", (grid[0], 1) if grid[1] == 1 else None)
    _check_register_operand(atom, b, "b", (1, grid[1]) if grid[0] == 1 else None)


def _warp_grid(m: Machine, atom: Any, acc: Type) -> tuple[int, int]:
    """How the accumulator's layout splits the tile over warps."""
    warps = m.threads // WARP
    for rows in range(1, warps + 1):
        grid = (rows, warps // rows)
        fits = warps % rows == 0 and acc.shape[0] % (rows * atom.shape[0]) == 0
        if fits and acc.shape[1] % (grid[1] * atom.shape[1]) == 0:
            if same_layout(acc.layout, tidy(tiled(atom.operand("d").layout, acc.shape, grid))):
                return grid
    legal = (
        tidy(tiled(atom.operand("d").layout, acc.shape, (warps, 1)))
        if acc.shape[0] % (warps * atom.shape[0]) == 0
        else None
    )
    message = f"`acc` does not lie as {atom.name} leaves it, repeated over {warps} warps"
    raise Broken("mma-layout", message, _layout_hint(legal), "acc", warps=warps)


def _check_register_operand(atom: Any, x: Type, part: str, warps: tuple[int, int] | None) -> None:
    if x.layout is None:
        return
    if warps is None:
        message = f"`{part}` lies in registers, but its rows or columns are needed by several warps"
        raise Broken("mma-layout", message, "put it into shared memory, or give each warp whole lines", part)
    needed = tidy(tiled(atom.operand(part).layout, x.shape, warps))
    if not same_layout(x.layout, needed):
        message = f"`{part}` does not lie as {atom.name} takes it"
        raise Broken("mma-layout", message, _layout_hint(needed), part)


RULES: dict[type, Rule] = {
    dev.Constant: _constant, dev.FromIndex: _number, dev.FromCondition: _truth, dev.Parameter: _parameter,
    dev.Positions: _positions, dev.Load: _load, dev.Gather: _load, dev.LoadShared: _load_shared,
    dev.Pointwise: _pointwise, dev.Stretch: _stretch, dev.Reindex: _reindex, dev.Reduce: _reduce,
    dev.ArgReduce: _reduce, dev.Scan: _scan, dev.Mma: _mma,
}  # fmt: skip


# Statements --------------------------------------------------------------------------------------------


def check_statement(m: Machine, statement: dev.Statement) -> None:
    """Effects and joins, without the statements inside. Raises Broken."""
    match statement:
        case dev.Store():
            _store(m, statement)
        case dev.Scatter():
            _scatter(m, statement)
        case dev.StoreShared(target=target, value=value, vector=vector):
            _check_shared_tile(m, target, type_of(value), "target")
            _check_shared_vector(m, target, vector, value.layout, "target")
        case dev.Copy():
            _copy(m, statement)
        case dev.WaitGroup(pending=pending) if pending < 0:
            raise Broken(
                "wait-count", f"{pending} groups cannot be in flight", "write 0 or more", "pending", pending=pending
            )
        case dev.For():
            _loop(statement)
        case dev.If(condition=dev.Fragment() as condition) if type_of(condition) != Type("bool", (), None):
            message = f"the condition is {type_of(condition)}, not one bool"
            raise Broken("not-a-condition", message, "compare rank-0 values, or write `any(x, axis=0)`", "condition")
        case dev.If(merged=merged):
            for join in merged:
                _check_join((join.then, join.otherwise, join.result), "both arms of the `if`")
        case _:
            pass


def _roles(atomic: bool) -> tuple[str, ...]:
    return ("Acc",) if atomic else ("Out", "InOut")


def _store(m: Machine, s: dev.Store) -> None:
    _check_view(m, s.view, s.start, s.value.shape, _roles(s.atomic))
    _check_stored_dtype(s.view, s.value)
    _check_global_vector(m, s.view, s.vector, s.value.layout)


def _scatter(m: Machine, s: dev.Scatter) -> None:
    _check_view(m, s.view, s.start, s.value.shape, _roles(s.atomic))
    _check_stored_dtype(s.view, s.value)
    _check_indices(s.axis, s.indices, type_of(s.value), 1, s.view)


def _check_stored_dtype(view: ir.View, value: dev.Fragment) -> None:
    if value.dtype != view.dtype:
        message = f"the value is {value.dtype}, but `{view.array}` is {view.dtype}; stores never convert"
        raise Broken("dtype", message, f"write `cast(x, {view.dtype})`", "value", value=value.dtype, array=view.dtype)


def _copy(m: Machine, c: dev.Copy) -> None:
    tile = Type(c.view.dtype, c.layout.shape, None)
    _check_view(m, c.view, c.start, tile.shape, ("In", "InOut"))
    _check_shared_tile(m, c.target, tile, "target")
    buffer = buffer_of(m, c.target, "target")
    axis = c.target.axes.index(len(buffer.shape) - 1)
    legal = ASYNC_BYTES if c.asynchronous else ACCESS_BYTES
    if c.vector > 1 and memory_axis(c.view) != axis:
        message = f"the view of `{c.view.array}` is not contiguous along axis {axis}, the buffer's last"
        raise Broken("access-run", message, "write vector=1, or transpose the buffer", "vector", axis=axis)
    _check_width(c.vector, c.view.dtype, legal, run_along(c.layout, axis) if c.vector > 1 else 1, f"axis {axis}")
    _check_shared_rows(buffer, c.vector)


def _loop(loop: dev.For) -> None:
    if loop.unroll < 1:
        raise Broken("unroll-bound", f"unroll={loop.unroll}", "write a literal of 1 or more", "unroll")
    _check_steps(loop.step)
    for c in loop.carried:
        _check_join((c.initial, c.inside, c.end, c.result), "the loop's start and end")


def _check_steps(steps: tuple[Any, ...]) -> None:
    for step in steps:
        if step.constant is None or step.constant < 1:
            raise Broken(
                "loop-step", f"the step {step} is not a positive constant", "write a literal of 1 or more", "step"
            )


def _check_join(parts: tuple[dev.Fragment, ...], where: str) -> None:
    first = type_of(parts[0])
    for x in parts[1:]:
        if type_of(x) != first:
            kind = "distribution" if (x.dtype, x.shape) == (first.dtype, first.shape) else "type"
            message = f"`{parts[-1].name}` changes its {kind} between {where}: {first}, then {type_of(x)}"
            hint = "convert it to the same dtype, shape and distribution, or use another name"
            raise Broken("carried-layout" if kind == "distribution" else "carried-type", message, hint, "carried")


def check_grid(grid: dev.Grid) -> None:
    _check_steps(grid.step)
    if grid.inner is not None and grid.raster != "row":
        raise Broken("grid", "only a plain grid has a raster", "delete `raster=`", "raster")
    if grid.inner is not None:
        for statement in grid.body:
            if not (isinstance(statement, dev.Let) and not statement.fragment.shape):
                raise Broken("grid", "work between nested grids", "only scalars are computed between nested `tiles`")
    if grid.group < 1:
        raise Broken("grid", f"group={grid.group}", "write 1 or more", "group")


# Reads of shared memory and copies, for the kernel rules -------------------------------------------------


def touched(statement: dev.Statement) -> Iterator[str]:
    """Buffers that the statement itself reads or writes."""
    match statement:
        case dev.StoreShared(target=target) | dev.Copy(target=target):
            yield target.buffer
        case dev.Let(operation=dev.LoadShared(source=source)):
            yield source.buffer
        case dev.Let(operation=dev.Mma(a=a, b=b)):
            yield from (x.buffer for x in (a, b) if isinstance(x, dev.Shared))
        case _:
            pass
