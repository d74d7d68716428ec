"""Rules about accesses: views and positions, widths and runs, guards, stages of shared memory."""

from __future__ import annotations

from math import prod
from typing import Any

from kernelagent.dsl import device as dev
from kernelagent.dsl import dtypes as types
from kernelagent.dsl import ir
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.lanes import Distribution, drop
from kernelagent.dsl.level2.normal import tidy
from kernelagent.dsl.level2.rules import (
    Broken,
    Machine,
    Shape,
    Type,
    layout_hint,
    run_along,
    same_layout,
    shape_text,
    type_of,
)

ACCESS_BYTES = (1, 2, 4, 8, 16)
ASYNC_BYTES = (4, 8, 16)


def check_width(vector: int, dtype: str, legal: tuple[int, ...], run: int, what: str) -> None:
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


def check_view(m: Machine, view: ir.View, start: tuple[Any, ...], shape: Shape, roles: tuple[str, ...]) -> None:
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


def check_global_vector(m: Machine, view: ir.View, vector: int, layout: Distribution | None) -> None:
    if vector == 1:
        return
    axis = memory_axis(view)
    run = run_along(layout, axis) if layout is not None and axis is not None else 1
    what = f"axis {axis}" if axis is not None else "the array's last axis, which the view does not keep"
    check_width(vector, view.dtype, ACCESS_BYTES, run, what)


def check_guards(kernel: dev.DeviceKernel, view: ir.View, vector: int) -> None:
    """Wide accesses rely on what dispatch has checked about the array's address."""
    needed = vector * types.bits(view.dtype) // 8
    if vector == 1:
        return
    known = [g.value for g in kernel.shape_class.guards if g.kind == "aligned" and g.subject == view.array]
    if max(known, default=0) < needed:
        name = kernel.shape_class.name
        message = f"an access of {needed} bytes to `{view.array}`, which shape class `{name}` does not align"
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


def check_shared_tile(m: Machine, s: dev.Shared, tile: Type, part: str) -> None:
    buffer, shape = buffer_of(m, s, part), shared_shape(m, s, part)
    if shape != tile.shape:
        message = f"the stage of `{buffer.name}` is {shape_text(shape)}, the tile {shape_text(tile.shape)}"
        hint = "use the buffer's shape, or `.T` for the transposed one"
        raise Broken("buffer-shape", message, hint, part, buffer=list(shape), tile=list(tile.shape))
    if buffer.dtype != tile.dtype:
        message = f"`{buffer.name}` holds {buffer.dtype}, the tile is {tile.dtype}"
        raise Broken("operand-dtype", message, f"`cast` to {buffer.dtype}, or change the buffer", part)


def merged_shape(shape: Shape, axes: tuple[int, ...], buffer: dev.SharedBuffer) -> Shape:
    """A copied tile's shape; its leading axes are one axis of a rank-2 buffer."""
    merge = len(shape) > 2 == len(buffer.shape) and axes == (0, 1)
    return (prod(shape[:-1]), shape[-1]) if merge else shape


def check_shared_vector(m: Machine, s: dev.Shared, vector: int, layout: Distribution | None, part: str) -> None:
    buffer = buffer_of(m, s, part)
    if vector == 1:
        return
    axis = s.axes.index(len(buffer.shape) - 1)
    check_width(vector, buffer.dtype, ACCESS_BYTES, run_along(layout, axis) if layout else 1, f"axis {axis}")
    check_shared_rows(buffer, vector)


def check_shared_rows(buffer: dev.SharedBuffer, vector: int) -> None:
    """Pieces of `vector` elements stay together under the buffer's padding and swizzle."""
    row = buffer.panel or buffer.shape[-1] + buffer.pad
    if len(buffer.shape) > 1 and row % vector:
        message = f"rows of `{buffer.name}` are {row} elements apart, which vector={vector} does not divide"
        hint = f"let shape[-1] + pad, or panel, be a multiple of {vector}"
        raise Broken("shared-width", message, hint, "vector", row=row, vector=vector)
    if buffer.swizzle is not None and vector > 1 << buffer.swizzle.base:
        piece = 1 << buffer.swizzle.base
        message = f"the swizzle of `{buffer.name}` moves pieces of {piece} elements, vector={vector} is wider"
        hint = f"write vector={piece}, or a swizzle with a larger base"
        raise Broken("shared-width", message, hint, "vector", piece=piece, vector=vector)


def check_indices(axis: int, indices: dev.Fragment, tile: Type, vector: int, view: ir.View) -> None:
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
        raise Broken("operand-layout", message, layout_hint(tidy(d)), "position")
