"""Shared memory: byte addresses with stages, padding and swizzles; loads, stores and copies from global memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from kernelagent.dsl import device as dev
from kernelagent.dsl.lanes import Distribution, Mode, permuted
from kernelagent.dsl.lower.device.place_values import reshaped
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets.cuda.body import Body, registers
from kernelagent.dsl.targets.cuda.emit_global import SCALAR, Access, readable, require_run
from kernelagent.dsl.targets.cuda.emit_words import CTYPES, element_bits, literal
from kernelagent.dsl.targets.cuda.registers import (
    LayoutMismatch,
    Loops,
    Part,
    Term,
    Terms,
    coordinate_terms,
    identity,
    merged,
    plus,
    sum_text,
)


@dataclass(frozen=True)
class ByteSwizzle:
    """x ^ ((x >> shift) & mask) on byte offsets of a stage; from `top` on bits neither move nor are looked at."""

    shift: int
    mask: int

    @property
    def top(self) -> int:
        return self.mask.bit_length() + self.shift

    @property
    def looked_at(self) -> int:
        return self.mask << self.shift

    def text(self, x: str) -> str:
        return f"({x} ^ ({x} >> {self.shift} & {self.mask}))"


def byte_swizzle(buffer: dev.SharedBuffer) -> ByteSwizzle | None:
    swizzle = buffer.swizzle
    if swizzle is None or swizzle.bits == 0:
        return None
    size = element_bits(buffer.dtype) // 8
    return ByteSwizzle(swizzle.shift, ((1 << swizzle.bits) - 1 << swizzle.base) * size)


def pitches(buffer: dev.SharedBuffer, axes: tuple[int, ...], shape: tuple[int, ...] | None = None) -> dict[int, int]:
    """Bytes that one step along each axis of a reference moves, swizzle aside.

    `shape`, if given, may split the buffer's rows differently (a row-major reshape of all axes but the last).
    Raises LayoutMismatch for other shapes.
    """
    referred = tuple(buffer.shape[a] for a in axes)
    if shape is None or shape == referred:
        steps = _row_major(buffer, buffer.shape)
        return {j: steps[axis] for j, axis in enumerate(axes)}
    if prod(shape) != prod(referred) or shape[-1] != buffer.shape[-1] or axes != tuple(range(len(axes))):
        raise LayoutMismatch(f"a tile of {shape} in {buffer.name}, which is {referred} there")
    return dict(enumerate(_row_major(buffer, shape)))


def _row_major(buffer: dev.SharedBuffer, shape: tuple[int, ...]) -> list[int]:
    steps: list[int] = []
    step = element_bits(buffer.dtype) // 8
    for axis in reversed(range(len(shape))):
        steps.insert(0, step)
        step *= shape[axis] + (buffer.pad if axis == len(shape) - 1 else 0)
    return steps


class SharedAddress:
    """Byte addresses of `shared` for threads that start at `lanes` of the tile and then move by parts.

    Making it emits what does not depend on the parts. Swizzling is linear over bits: where digits of threads and of
    parts touch different bits, the thread's address is swizzled once and the parts enter it by exclusive or; what
    lies above all swizzled bits is added; otherwise the whole address is swizzled at each access.
    """

    def __init__(
        self,
        body: Body,
        shared: dev.Shared,
        lanes: Iterable[Mode],
        parts: Sequence[Part],
        shape: tuple[int, ...] | None = None,
        buffer: dev.SharedBuffer | None = None,
    ) -> None:
        buffer = buffer or body.kernel.buffer(shared.buffer)
        if buffer.dtype == "u4":
            raise Unsupported(f"u4 in shared memory ({buffer.name}): cast it first")
        self.swizzle = byte_swizzle(buffer)
        self.weights = pitches(buffer, shared.axes, shape)
        lanes = tuple(lanes)
        self.split = self.swizzle is None or self._splits(body, lanes, parts)
        lane = body.lane_sum(lanes, self.weights) if lanes else "0"
        if self.swizzle is not None and self.split:
            lane = body.hoisted(self.swizzle.text(lane)) if lane != "0" else lane
        self.base = self._base(body, buffer, shared)
        self.lane = lane
        if self.swizzle is None:
            self.base, self.lane = body.const("ka_u32", "s", plus(self.base, lane)), "0"

    def _base(self, body: Body, buffer: dev.SharedBuffer, shared: dev.Shared) -> str:
        stage = shared.stage.constant
        if stage is not None:
            return str(buffer.offset + stage * dev.stage_bytes(buffer))
        moved = f"{body.texts.text(shared.stage)} * {dev.stage_bytes(buffer)}"
        return body.const("ka_u32", "s", plus(moved, str(buffer.offset)))

    def _splits(self, body: Body, lanes: tuple[Mode, ...], parts: Sequence[Part]) -> bool:
        """Whether all digits below the top touch bits of their own."""
        assert self.swizzle is not None
        digits = [(m.extent, m.stride * self.weights[m.axis]) for _, m in body.digits(lanes) if m.axis >= 0]
        seen = 0
        for extent, weight in [*digits, *((p.extent, p.weight) for p in parts)]:
            if weight % (1 << self.swizzle.top) == 0:
                continue
            bits = (extent - 1) * weight
            if extent & (extent - 1) or weight & (weight - 1) or seen & bits:
                return False
            seen |= bits
        return True

    def at(self, parts: Sequence[Part]) -> str:
        """The byte address `parts` beyond the thread's first."""
        if self.swizzle is None:
            return plus(self.base, sum_text(parts))
        if not self.split:
            return plus(self.base, self.swizzle.text(f"({plus(self.lane, sum_text(parts))})"))
        touched = self.swizzle.mask | self.swizzle.looked_at
        turned = [p for p in parts if self._bits(p) & touched and p.weight % (1 << self.swizzle.top)]
        added = [p for p in parts if p not in turned]
        lane = " ^ ".join([*([] if self.lane == "0" else [self.lane]), *map(self._turned, turned)]) or "0"
        lane = f"({lane})" if " " in lane else lane
        return plus(plus(self.base, lane), sum_text(added))

    def _bits(self, part: Part) -> int:
        return (part.extent - 1) * part.weight

    def _turned(self, part: Part) -> str:
        assert self.swizzle is not None
        text = sum_text([part])
        looked = self._bits(part) & self.swizzle.looked_at
        return self.swizzle.text(f"({text})") if looked else f"({text})" if " " in text else text


def tile_terms(layout: Distribution, weights: dict[int, int]) -> Terms:
    """Bytes from the thread's first element to that of each register, swizzle aside."""
    return merged(t for axis, w in weights.items() for t in coordinate_terms(layout, axis, w))


def _last_axis(buffer: dev.SharedBuffer, shared: dev.Shared, rank: int) -> int:
    """The axis of a tile of this rank that runs along the buffer's own last."""
    return shared.axes.index(len(buffer.shape) - 1) if rank == len(buffer.shape) > 0 else max(rank - 1, 0)


def _require_vector(body: Body, shared: dev.Shared, layout: Distribution | None, vector: int) -> None:
    buffer = body.kernel.buffer(shared.buffer)
    axis = _last_axis(buffer, shared, len(layout.shape) if layout else 0)
    require_run(layout, axis, vector, f"access to {buffer.name}")
    if buffer.swizzle is not None and vector > 1 << buffer.swizzle.base:
        raise LayoutMismatch(f"{buffer.name}: the swizzle cuts accesses of {vector} elements")


def _address(
    body: Body, shared: dev.Shared, layout: Distribution | None, vector: int, others: Sequence[Terms]
) -> tuple[SharedAddress, Loops, Terms]:
    _require_vector(body, shared, layout, vector)
    buffer, shared, held = by_panels(body.kernel.buffer(shared.buffer), shared, layout or SCALAR)
    terms = tile_terms(held, pitches(buffer, shared.axes, held.shape or None))
    loops = Loops(held.registers, [*others, terms], vector)
    return SharedAddress(body, shared, held.lanes, loops.parts(terms), held.shape or None, buffer), loops, terms


def by_panels(
    buffer: dev.SharedBuffer, shared: dev.Shared, layout: Distribution
) -> tuple[dev.SharedBuffer, dev.Shared, Distribution]:
    """A buffer of several panels as what it is in memory: (panels, rows, columns of a panel)."""
    if not buffer.panel or buffer.panel == buffer.shape[-1]:
        return buffer, shared, layout
    rows, columns = buffer.shape
    straight = permuted(layout, (shared.axes.index(0), shared.axes.index(1)))
    split = reshaped(straight, (rows, columns // buffer.panel, buffer.panel))
    if split is None:
        raise LayoutMismatch(f"{buffer.name}: panels of {buffer.panel} columns cut registers of {layout}")
    stacked = replace(buffer, shape=(columns // buffer.panel, rows, buffer.panel), panel=0)
    return stacked, replace(shared, axes=(0, 1, 2)), permuted(split, (1, 0, 2))


def emit_load_shared(body: Body, let: dev.Let) -> None:
    fragment, operation = let.fragment, let.operation
    assert isinstance(operation, dev.LoadShared)
    own = identity(registers(fragment))
    address, loops, terms = _address(body, operation.source, fragment.layout, operation.vector, [own])
    body.declare(fragment)
    with body.out.loops(loops.heads()):
        target = body.place(fragment).address(loops)
        body.out.put(f"ka_lds<{operation.vector}>({target}, {address.at(loops.parts(terms))});")


def emit_store_shared(body: Body, store: dev.StoreShared) -> None:
    """Of threads that hold copies the first writes."""
    value = store.value
    place = readable(body, value, store.vector)
    address, loops, terms = _address(body, store.target, value.layout, store.vector, [place.terms or ()])
    owner = body.owns(value.layout)
    with body.out.loops([*([f"if ({owner})"] if owner else []), *loops.heads()]):
        body.out.put(f"ka_sts<{store.vector}>({address.at(loops.parts(terms))}, {place.address(loops)});")


IN_FLIGHT = 16
"""Loads of one thread that a copy through registers has under way: enough to hide latency, few enough to hold."""


def emit_copy(body: Body, copy: dev.Copy) -> None:
    """Global to shared: asynchronous, or through registers with several loads in front of their stores."""
    require_run(copy.layout, len(copy.layout.shape) - 1, copy.vector, f"copy to {copy.target.buffer}")
    access = Access(body, copy.view, copy.start, copy.layout)
    own = identity(copy.layout.registers)
    others = [*access.functions(), own]
    batch = copy.vector * IN_FLIGHT
    if not copy.asynchronous and copy.layout.registers > batch and copy.layout.registers % batch == 0:
        others.append((Term(batch, copy.layout.registers // batch, 1),))
    address, loops, terms = _address(body, copy.target, copy.layout, copy.vector, others)
    owner = body.owns(copy.layout)
    with body.out.loops([f"if ({owner})"] if owner else []):
        if copy.asynchronous:
            size = copy.vector * element_bits(copy.view.dtype) // 8
            with body.out.loops(loops.heads()):
                to = address.at(loops.parts(terms))
                body.out.put(f"ka_cp_async<{size}>({to}, {access.at(loops)}, {access.inside(loops)});")
        else:
            _through_registers(body, copy, access, (address, loops, terms))


def _through_registers(body: Body, copy: dev.Copy, access: Access, to: tuple[SharedAddress, Loops, Terms]) -> None:
    address, loops, terms = to
    dtype, vector = copy.view.dtype, copy.vector
    outer, inner = loops.split(vector * IN_FLIGHT)
    count = loops.count(inner) * vector
    name = body.fresh("c")
    held = f"{name} + {loops.sum(identity(count))}"
    # batches are not unrolled: a compiler that sees all addresses keeps them all in registers
    with body.out.loops([head.replace("KA_UNROLL ", "") for head in outer], "#pragma unroll 1"):
        body.out.put(f"{CTYPES[dtype]} {name}[{count}];")
        with body.out.loops(inner):
            inside = access.inside(loops)
            body.out.put(f"ka_ldg<{vector}>({held}, {access.at(loops)}, {inside}, {literal(0, dtype)});")
        with body.out.loops(inner):
            body.out.put(f"ka_sts<{vector}>({address.at(loops.parts(terms))}, {held});")
