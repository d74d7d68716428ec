"""Reductions and prefixes over an axis that several warps hold: per warp first, then over shared memory."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import identity
from kernelagent.dsl.index import index
from kernelagent.dsl.lanes import WARP, Distribution, Mode, drop, insert, normal, permuted, unit
from kernelagent.dsl.lower.device.place_values import contiguous_rows
from kernelagent.dsl.lower.unsupported import Unsupported

if TYPE_CHECKING:
    from kernelagent.dsl.lower.device.build import Builder


def crosses_warps(layout: Distribution, axis: int) -> bool:
    """Whether threads of different warps hold parts of one line along `axis`."""
    return any(m.axis == axis for m in _split(layout)[1])


def reduce(b: Builder, value: ir.Value, word: str, x: dev.Fragment, axis: int) -> dev.Fragment:
    """A reduction of whole tiles; the result's layout is `drop(x.layout, axis)`."""
    layout = x.layout
    assert layout is not None
    if not crosses_warps(layout, axis):
        return b.let(dev.Reduce(word, x, axis), value, drop(layout, axis))  # type: ignore[arg-type]
    inner, x3 = by_warps(b, x, axis)
    partial = x3
    for _ in range(inner):
        held = partial.layout
        assert held is not None
        partial = b.let(dev.Reduce(word, partial, axis + 1), value, drop(held, axis + 1))  # type: ignore[arg-type]
    whole = exchange(b, partial, axis)
    held = whole.layout
    assert held is not None
    result = b.let(dev.Reduce(word, whole, axis), value, drop(held, axis))  # type: ignore[arg-type]
    return b.adapt(result, drop(layout, axis))


def by_warps(b: Builder, x: dev.Fragment, axis: int) -> tuple[int, dev.Fragment]:
    """The axis split into (warps, rest...): the rest may need two axes. Returns how many, and the reshaped tile.

    Registers and threads stay as they are; the part that distinguishes warps comes first, so the axis is permuted.
    """
    layout = x.layout
    assert layout is not None
    lanes, warps = _split(layout)
    across = [m for m in warps if m.axis == axis]
    if len(normal(across)) != 1:
        raise Unsupported("a reduction over warps that are not side by side")
    mode = normal(across)[0]
    extent = layout.shape[axis]
    factors = [extent // (mode.stride * mode.extent), mode.extent, mode.stride]
    kept = [k for k, f in enumerate(factors) if f > 1]
    shape = (*layout.shape[:axis], *(factors[k] for k in kept), *layout.shape[axis + 1 :])
    place = {k: axis + n for n, k in enumerate(kept)}
    split = Distribution(
        shape,
        normal(_moved((*lanes, *warps), axis, factors, place)),
        normal(_moved(layout.values, axis, factors, place)),
    )
    made = b.let(dev.Reindex("reshape", (x,)), x, split)
    if place[1] == axis:
        return len(kept) - 1, made
    order = list(range(len(shape)))
    order[axis], order[axis + 1] = axis + 1, axis
    return len(kept) - 1, b.let(dev.Reindex("permute", (made,), tuple(order)), made, permuted(split, tuple(order)))


def exchange(b: Builder, partial: dev.Fragment, axis: int) -> dev.Fragment:
    """Each warp's part through shared memory; afterwards every thread holds all of them along `axis`."""
    held = partial.layout
    assert held is not None
    name = b.buffer(f"{partial.name}_parts", partial.dtype, held.shape, partial.origin)
    here = dev.Shared(name, index(0), tuple(range(len(held.shape))))
    b.emit(dev.StoreShared(here, partial, partial.origin))
    lanes = tuple(Mode(m.extent, -1, 0) if m.axis == axis else m for m in held.lanes)
    values = (Mode(held.shape[axis], axis, 1), *(m for m in held.values if m.axis != axis))
    everywhere = Distribution(held.shape, normal(lanes), normal(values))
    return b.let(dev.LoadShared(here), partial, everywhere)


def scan(b: Builder, value: ir.Value, operation: ir.Scan, x: dev.Fragment) -> dev.Fragment:
    """Inclusive prefix, in the value's layout; x is converted first where no lane holds neighbours in order."""
    layout = x.layout
    assert layout is not None
    if not scannable(layout, operation.axis):
        layout = scan_layout(layout, operation.axis)
        x = b.convert(x, layout)
    if crosses_warps(layout, operation.axis):
        made = scan_over_warps(b, value, operation, x)
    else:
        made = b.let(dev.Scan(operation.word, x, operation.axis), value, layout)
    return b.adapt(made, b.home(value))


def scannable(layout: Distribution, axis: int) -> bool:
    """Along `axis` in memory order: registers, then the lanes of one digit, then registers again or warps."""
    lanes, warps = _split(layout)
    kinds = [("registers", m) for m in normal(layout.values) if m.axis == axis]
    kinds += [("lanes", m) for m in normal(lanes) if m.axis == axis]
    kinds += [("warps", m) for m in normal(warps) if m.axis == axis]
    order = [kind for kind, _ in sorted(kinds, key=lambda item: item[1].stride)]
    if order[:1] == ["registers"]:
        order = order[1:]
        if order == ["warps"]:
            return True
    return order in ([], ["lanes"], ["lanes", "registers"], ["lanes", "warps"])


def scan_layout(layout: Distribution, axis: int) -> Distribution:
    """Each lane holds consecutive elements along `axis`; warps take other lines, or the next runs of one line."""
    others = tuple(k for k in range(len(layout.shape)) if k != axis)
    order = (*others, axis)
    turned = contiguous_rows(tuple(layout.shape[k] for k in order), layout.threads)
    return permuted(turned, tuple(order.index(k) for k in range(len(order))))


def scan_over_warps(b: Builder, value: ir.Value, operation: ir.Scan, x: dev.Fragment) -> dev.Fragment:
    """Within each warp's run, then combined with the totals of the warps before."""
    layout, axis = x.layout, operation.axis
    assert layout is not None
    inner, split = by_warps(b, x, axis)
    wide = split.layout
    assert wide is not None
    assert inner == 1, layout  # what `scannable` says of warps
    local = b.let(dev.Scan(operation.word, split, axis + 1), value, wide)
    total = b.let(dev.Reduce(operation.word, split, axis + 1), value, drop(wide, axis + 1))
    before = totals_before(b, value, operation.word, total, axis)
    shifted = before.layout
    assert shifted is not None
    stretched = insert(shifted, axis + 1)
    one = b.let(dev.Reindex("expand", (before,), (axis + 1,)), value, stretched)
    everywhere = b.let(dev.Stretch(one), value, wide)
    word = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum"}[operation.word]
    joined = b.let(dev.Pointwise(word, (local, everywhere)), value, wide)
    return b.let(dev.Reindex("reshape", (joined,)), value, layout)


def totals_before(b: Builder, value: ir.Value, word: str, total: dev.Fragment, axis: int) -> dev.Fragment:
    """For each warp the combined totals of the warps in front of it, distributed as `total`."""
    held = total.layout
    assert held is not None
    parts = exchange(b, total, axis)
    all_parts = parts.layout
    assert all_parts is not None
    warps = held.shape[axis]
    wide = Distribution(
        (*held.shape[: axis + 1], warps, *held.shape[axis + 1 :]),
        insert(held, axis + 1).lanes,
        normal((Mode(warps, axis + 1, 1), *(m for m in insert(held, axis + 1).values))),
    )
    source = unit(wide, axis)
    spread = b.let(dev.Reindex("expand", (parts,), (axis,)), parts, insert(all_parts, axis))
    assert source.shape == insert(all_parts, axis).shape
    tile = b.let(dev.Stretch(spread), parts, wide)
    rank = len(wide.shape)
    own = _line(b, value, wide, axis, rank)
    other = _line(b, value, wide, axis + 1, rank)
    earlier = b.let(dev.Pointwise("lt", (other, own)), value, wide, "bool", "earlier")
    nothing = b.let(dev.Constant(identity(word, total.dtype)), value, None, name="nothing")
    kept = b.let(dev.Pointwise("where", (earlier, tile, nothing)), value, wide)
    return b.let(dev.Reduce(word, kept, axis + 1), value, drop(wide, axis + 1))  # type: ignore[arg-type]


def arg_reduce(b: Builder, value: ir.Value, operation: ir.ArgReduce, x: dev.Fragment, live: ir.Live) -> dev.Fragment:
    """Position of the extremum; -1 where nothing is live."""
    layout = x.layout
    assert layout is not None
    if crosses_warps(layout, operation.axis):
        layout = one_warp(layout, operation.axis)
        x = b.convert(x, layout)
    made = b.let(dev.ArgReduce(operation.word, x, operation.axis), value, drop(layout, operation.axis))
    extent = index(layout.shape[operation.axis])
    if live.hi == extent and live.lo.constant == 0:
        return b.adapt(made, b.home(value))
    count = b.let(dev.FromIndex(live.hi - live.lo), value, None, "i32", "count")
    zero = b.let(dev.Constant(0), value, None, "i32", "zero")
    some = b.let(dev.Pointwise("gt", (count, zero)), value, None, "bool", "some")
    none = b.let(dev.Constant(-1), value, None, name="none")
    return b.adapt(b.let(dev.Pointwise("where", (some, made, none)), value, made.layout), b.home(value))


def one_warp(layout: Distribution, axis: int) -> Distribution:
    """The lane digits of other warps along `axis` become registers."""
    lanes, warps = _split(layout)
    moved = [m for m in warps if m.axis == axis]
    kept = tuple(Mode(m.extent, -1, 0) if m.axis == axis else m for m in warps)
    return Distribution(layout.shape, normal((*lanes, *kept)), normal((*layout.values, *moved)))


def _line(b: Builder, value: ir.Value, wide: Distribution, axis: int, rank: int) -> dev.Fragment:
    """Own position along `axis`, over the whole tile."""
    from kernelagent.dsl.lower.device.place_values import expanded, only

    line = only(wide, axis)
    at = b.let(dev.Positions(index(0)), value, line, "i32", "warp")
    others = tuple(k for k in range(rank) if k != axis)
    spread = b.let(dev.Reindex("expand", (at,), others), value, expanded(line, others), "i32", "warp")
    return b.let(dev.Stretch(spread), value, wide, "i32", "warp")


def _split(layout: Distribution) -> tuple[tuple[Mode, ...], tuple[Mode, ...]]:
    """Lane modes within a warp, and those between warps; a mode across the border is cut."""
    inside: list[Mode] = []
    outside: list[Mode] = []
    seen = 1
    for mode in layout.lanes:
        room = max(1, WARP // seen)
        part = min(mode.extent, room)
        if mode.extent % part:
            raise Unsupported(f"{mode.extent} threads along an axis do not fill whole warps")
        inside.append(Mode(part, mode.axis, mode.stride))
        outside.append(Mode(mode.extent // part, mode.axis, mode.stride * part))
        seen *= mode.extent
    return tuple(m for m in inside if m.extent > 1), tuple(m for m in outside if m.extent > 1)


def _moved(modes: tuple[Mode, ...], axis: int, factors: list[int], place: dict[int, int]) -> list[Mode]:
    """Digits along `axis` as digits of its factors (outer, warps, inner); later axes shift."""
    shift = len(place) - 1
    moved: list[Mode] = []
    for mode in modes:
        if mode.axis != axis:
            moved.append(Mode(mode.extent, mode.axis + shift, mode.stride) if mode.axis > axis else mode)
            continue
        moved += _cut(mode, factors, place)
    return moved


def _cut(mode: Mode, factors: list[int], place: dict[int, int]) -> list[Mode]:
    pieces: list[Mode] = []
    stride, left = mode.stride, mode.extent
    for k in (2, 1, 0):
        inner = prod(factors[k + 1 :])
        room = inner * factors[k]
        if left == 1 or stride >= room:
            continue
        count = min(left, room // stride)
        if left % count or room % stride:
            raise Unsupported("a row that its warps do not divide evenly")
        pieces.append(Mode(count, place[k], stride // inner))
        left, stride = left // count, stride * count
    return pieces
