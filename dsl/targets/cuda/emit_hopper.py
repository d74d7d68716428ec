"""Barriers with phases, bulk copies and stores through tensor maps, warpgroup products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from kernelagent.dsl import device as dev
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.atoms.shared_operand import Descriptor, Major, Side, descriptor, majors
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.index import Index
from kernelagent.dsl.ir import Array, View, position
from kernelagent.dsl.targets.cuda.accumulate import accumulate_into
from kernelagent.dsl.targets.cuda.body import Body
from kernelagent.dsl.targets.cuda.emit_words import element_bits
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch
from kernelagent.dsl.tensor_map import LARGEST_BOX, TensorMapSpec

BARRIER_BYTES = 8


def emit_hopper(body: Body, statement: dev.Statement) -> None:
    """Statements of sm_90a that make no fragment."""
    put = body.out.put
    match statement:
        case dev.BarrierInit(name):
            barrier = body.kernel.barrier(name)
            with body.out.block("if (tid == 0)"):
                for stage in range(barrier.stages):
                    put(f"ka_mbar_init({barrier.offset + BARRIER_BYTES * stage}, {barrier.arrivals});")
        case dev.FenceInit():
            put("if (tid == 0) ka_mbar_fence_init();")
        case dev.Expect(name, stage, count):
            put(f"if (tid == 0) ka_mbar_expect({barrier_at(body, name, stage)}, {count});")
        case dev.Arrive(name, stage, _, everywhere):
            if id(statement) in body.unordered:
                put("ka_warp_barrier();")
            _arrive(body, barrier_at(body, name, stage), everywhere)
        case dev.WaitPhase(name, stage, parity):
            put(f"ka_mbar_wait({barrier_at(body, name, stage)}, {body.texts.text(parity)});")
        case dev.CopyBulk():
            _copy(body, statement)
        case dev.StoreBulk():
            _store(body, statement)
        case dev.CommitBulk():
            put("if (tid == 0) ka_tma_commit();")
        case dev.WaitBulk(pending):
            put(f"if (tid == 0) ka_tma_wait_read<{pending}>();")
        case dev.FenceAsync():
            put("ka_fence_async();")
        case dev.RoleBarrier(number):
            put(f"ka_named_barrier<{number}>({body.kernel.threads});")
        case dev.Turn(number, begins):
            _turn(body, number, begins)
        case dev.ClusterBarrier():
            put("ka_cluster_barrier();")
        case dev.WgmmaFence():
            for let in body.fenced.get(id(statement), []):
                _prepare(body, let)
            put("ka_wgmma_fence();")
        case dev.WgmmaCommit():
            put("ka_wgmma_commit();")
            body.groups.append(body.flying)
            body.flying = []
        case dev.WgmmaWait(pending):
            put(f"ka_wgmma_wait<{pending}>();")
            _settle(body, pending)
        case _:
            raise AssertionError(statement)


def barrier_at(body: Body, name: str, stage: Index) -> str:
    """The byte offset of one stage's barrier."""
    first = body.kernel.barrier(name).offset
    if stage.constant is not None:
        return str(first + BARRIER_BYTES * stage.constant)
    return f"{first} + {body.texts.text(stage)} * {BARRIER_BYTES}"


def _arrive(body: Body, at: str, everywhere: bool) -> None:
    if everywhere:
        body.out.put(f"if ((tid & 31) < {body.kernel.cluster}) ka_mbar_arrive_at({at}, tid & 31);")
    else:
        body.out.put(f"if ((tid & 31) == 0) ka_mbar_arrive({at});")


def _turn(body: Body, number: int, begins: bool) -> None:
    """A warpgroup waits at its own barrier, and ends its turn by arriving at the other's: all threads of both meet."""
    word = "barrier" if begins else "arrive"
    first, second = (number, number + 1) if begins else (number + 1, number)
    threads = body.kernel.threads
    own = body.hoisted("ka_shfl(tid >> 7, 0)")
    body.out.put(f"if ({own} == 0) ka_named_{word}<{first}>({threads}); else ka_named_{word}<{second}>({threads});")


# Tensor maps -------------------------------------------------------------------------------------------------


def maps(kernel: dev.DeviceKernel) -> tuple[TensorMapSpec, ...]:
    """The tensor maps of a kernel, in the order of its parameters."""
    found = [_spec(kernel, s) for s in dev.statements(kernel) if isinstance(s, (dev.CopyBulk, dev.StoreBulk))]
    return tuple(dict.fromkeys(found))


def map_parameters(kernel: dev.DeviceKernel) -> list[str]:
    return [f"KA_MAP map_{k}" for k in range(len(maps(kernel)))]


def _spec(kernel: dev.DeviceKernel, statement: dev.CopyBulk | dev.StoreBulk) -> TensorMapSpec:
    array = next(a for a in kernel.arrays if a.name == statement.view.array)
    buffer = kernel.buffer(_shared(statement).buffer)
    spec = box_spec(array, statement.view, statement.shape, buffer)
    if not isinstance(statement, dev.CopyBulk) or not _by_rows(statement, buffer):
        return spec
    own = _row_axis(statement)
    return replace(spec, box=tuple(n // statement.shared_by if k == own else n for k, n in enumerate(spec.box)))


def box_spec(array: Array, view: View, shape: Sequence[int], buffer: dev.SharedBuffer) -> TensorMapSpec:
    """Boxes of one panel's columns and at most 256 rows; axes of the array innermost first. Raises KernelError."""
    axes = tuple(reversed(range(len(array.dims))))
    box, steps = _box(array, view, shape, buffer)
    return TensorMapSpec(array.name, array.dtype, axes, box, swizzle_bytes(buffer), element_strides=steps)


def _shared(statement: dev.CopyBulk | dev.StoreBulk) -> dev.Shared:
    return statement.target if isinstance(statement, dev.CopyBulk) else statement.source


def swizzle_bytes(buffer: dev.SharedBuffer) -> int:
    """The span of a buffer's swizzle as tensor maps and descriptors name it. Raises LayoutMismatch."""
    if buffer.swizzle is None:
        return 0
    swizzle, size = buffer.swizzle, element_bits(buffer.dtype) // 8
    span = {3: 128, 2: 64, 1: 32}.get(swizzle.bits)
    if span is None or swizzle.shift != 3 or size << swizzle.base != 16 or buffer.panel * size != span:
        raise LayoutMismatch(f"{buffer.name}: {swizzle} over panels of {buffer.panel} is no swizzle of boxes")
    return span


def _box(
    array: Array, view: View, shape: Sequence[int], buffer: dev.SharedBuffer
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Extents along the array's axes, innermost first, 1 where the tile does not move; the steps of its elements."""
    found: list[int] = []
    steps: list[int] = []
    for d in reversed(range(len(array.dims))):
        moving = [a for a in range(len(shape)) if position(a) in view.coordinates[d].symbols()]
        steps.append(_step(view.coordinates[d], moving[0]) if moving else 1)
        extent = (shape[moving[0]] - 1) * steps[-1] + 1 if moving else 1
        found.append(buffer.panel if d == len(array.dims) - 1 else min(extent, LARGEST_BOX))
    return tuple(found), tuple(steps)


def _step(coordinate: Index, axis: int) -> int:
    """Elements of the array from one position of a tile's axis to the next."""
    affine = coordinate.affine(position(axis))
    return (affine[0].constant if affine else None) or 1


def _pieces(buffer: dev.SharedBuffer) -> list[tuple[int, int]]:
    """First column of each panel, and its byte offset in a stage."""
    rows, columns = buffer.shape
    size = element_bits(buffer.dtype) // 8
    return [(p, p * rows * size) for p in range(0, columns, buffer.panel)]


def _coordinates(
    body: Body, view: View, start: Sequence[Index], column: int, moved: Mapping[int, str] | None = None
) -> str:
    """Array coordinates of a box's first element, innermost first. `moved`: what is added along an array axis."""
    origin = {position(k).name: s for k, s in enumerate(start)}
    texts: list[str] = []
    for d, coordinate in enumerate(view.coordinates):
        at = coordinate.substitute(origin)
        if d == len(view.coordinates) - 1:
            at = at + column
        text = f"(int)({body.texts.text(at)})" if body.texts.wide(at) else body.texts.text(at)
        texts.insert(0, f"{text} + {moved[d]}" if moved and d in moved else text)
    return ", ".join(texts)


def _stage_at(body: Body, buffer: dev.SharedBuffer, stage: Index) -> str:
    if stage.constant is not None:
        return str(buffer.offset + stage.constant * dev.stage_bytes(buffer))
    return body.const("ka_u32", "s", f"{buffer.offset} + {body.texts.text(stage)} * {dev.stage_bytes(buffer)}")


def _plus(base: str, offset: int) -> str:
    return base if offset == 0 else str(int(base) + offset) if base.isdigit() else f"{base} + {offset}"


def _by_rows(copy: dev.CopyBulk, buffer: dev.SharedBuffer) -> bool:
    """Whether blocks of a cluster share a copy by rows of each panel, not by panels."""
    return copy.shared_by > 1 and len(_pieces(buffer)) % copy.shared_by != 0


def _row_axis(copy: dev.CopyBulk) -> int:
    """The box axis, innermost first, along which the buffer's rows run."""
    last = len(copy.view.coordinates) - 1
    tile = {position(a) for a in range(len(copy.shape))}
    moving = [d for d in range(last) if tile & copy.view.coordinates[d].symbols()]
    return last - moving[-1]


def _copy_shared(body: Body, copy: dev.CopyBulk, buffer: dev.SharedBuffer, number: int) -> None:
    """This block's part of a copy, to all blocks of the cluster: whole panels, or rows of every panel."""
    rank, mask = len(copy.view.coordinates), (1 << copy.shared_by) - 1
    part = body.hoisted("(int)ka_cluster_rank()")
    base = _stage_at(body, buffer, copy.target.stage)
    bar = barrier_at(body, copy.barrier, copy.stage)
    pieces = _pieces(buffer)
    size = element_bits(buffer.dtype) // 8
    if _by_rows(copy, buffer):
        rows = buffer.shape[0] // copy.shared_by
        moved = {last_row(copy): f"{part} * {rows}"}
        for column, offset in pieces:
            at = _coordinates(body, copy.view, copy.start, column, moved)
            to = f"{_plus(base, offset)} + {part} * {rows * buffer.panel * size}"
            body.out.put(f"ka_tma_load_multicast<{rank}>({to}, map_{number}, {bar}, {mask}, {at});")
        return
    each = len(pieces) // copy.shared_by
    for column, offset in pieces[:each]:
        moved = {rank - 1: f"{part} * {each * buffer.panel}"}
        at = _coordinates(body, copy.view, copy.start, column, moved)
        to = f"{_plus(base, offset)} + {part} * {each * buffer.shape[0] * buffer.panel * size}"
        body.out.put(f"ka_tma_load_multicast<{rank}>({to}, map_{number}, {bar}, {mask}, {at});")


def last_row(copy: dev.CopyBulk) -> int:
    """The array axis behind the buffer's rows."""
    return len(copy.view.coordinates) - 1 - _row_axis(copy)


def _copy(body: Body, copy: dev.CopyBulk) -> None:
    buffer = body.kernel.buffer(copy.target.buffer)
    number = maps(body.whole).index(_spec(body.whole, copy))
    rank = len(copy.view.coordinates)
    with body.out.block("if (tid == 0)"):
        if copy.shared_by > 1:
            _copy_shared(body, copy, buffer, number)
            return
        base = _stage_at(body, buffer, copy.target.stage)
        bar = barrier_at(body, copy.barrier, copy.stage)
        for column, offset in _pieces(buffer):
            at = _coordinates(body, copy.view, copy.start, column)
            body.out.put(f"ka_tma_load<{rank}>({_plus(base, offset)}, map_{number}, {bar}, {at});")


def _store(body: Body, store: dev.StoreBulk) -> None:
    buffer = body.kernel.buffer(store.source.buffer)
    number = maps(body.whole).index(_spec(body.whole, store))
    rank = len(store.view.coordinates)
    with body.out.block("if (tid == 0)"):
        base = _stage_at(body, buffer, store.source.stage)
        for column, offset in _pieces(buffer):
            at = _coordinates(body, store.view, store.start, column)
            body.out.put(f"ka_tma_store<{rank}>(map_{number}, {_plus(base, offset)}, {at});")


# Products ------------------------------------------------------------------------------------------------------


def emit_wgmma(body: Body, operation: dev.Mma, fragment: dev.Fragment, result: str) -> None:
    """All k steps and repetitions of one product, asynchronous; `result` is the accumulator's array."""
    chosen = atom(operation.atom)
    m, n, step = (int(e) for e in chosen.shape)
    assert fragment.layout is not None
    rows, columns = fragment.layout.shape
    groups = body.kernel.threads // 128
    repeats = (rows // groups // m, columns // n)
    depth = _depth(body, operation)
    right = _Descriptor(body, operation.atom, "b", operation.b, 0, groups)
    left: _Descriptor | str
    turns = len(majors(chosen)) > 1
    if isinstance(operation.a, dev.Fragment):
        if operation.a.number not in body.packed:
            _pack(body, operation)
        left = body.packed[operation.a.number]
    else:
        left = _Descriptor(body, operation.atom, "a", operation.a, rows // groups, groups)
    for k, i, j in product(range(depth // step), range(repeats[0]), range(repeats[1])):
        begins = [0] if k == 0 and fragment.number in body.begun else []  # else the usual scale-d: add
        d = f"{result} + {(i * repeats[1] + j) * (n // 2)}"
        b = right.at(k, j * n)
        if isinstance(left, str):
            arguments = _immediates([right.turn] if turns else [], begins)
            a = f"{left} + {(i * (depth // step) + k) * 4}"
            body.out.put(f"ka_{operation.atom}_ra{arguments}({d}, {a}, {b});")
        else:
            arguments = _immediates([left.turn, right.turn] if turns else [], begins)
            body.out.put(f"ka_{operation.atom}{arguments}({d}, {left.at(k, i * m)}, {b});")
    if isinstance(left, str):
        body.flying.append((left, rows // groups // m * (depth // step) * 4))
    body.flying.append((result, fragment.layout.registers))


def _immediates(turns: list[int], begins: list[int]) -> str:
    """Template arguments of a product: how its operands are turned, and whether it begins the sum."""
    given = [*turns, *begins]
    return f"<{', '.join(map(str, given))}>" if given else ""


def _depth(body: Body, operation: dev.Mma) -> int:
    if isinstance(operation.a, dev.Fragment):
        return operation.a.shape[1]
    return body.kernel.buffer(operation.a.buffer).shape[operation.a.axes[1]]


def fenced_products(statements: Sequence[dev.Statement]) -> dict[int, list[dev.Let]]:
    """The products that follow each fence in a statement list: their registers are written in front of it."""
    found: dict[int, list[dev.Let]] = {}
    current: list[dev.Let] = []
    for statement in statements:
        if isinstance(statement, dev.WgmmaFence):
            current = found.setdefault(id(statement), [])
        elif isinstance(statement, dev.Let) and isinstance(statement.operation, dev.Mma):
            current.append(statement)
    return found


def _prepare(body: Body, let: dev.Let) -> None:
    """What a product adds to and takes from registers, written in front of the fence."""
    assert isinstance(let.operation, dev.Mma)
    assert let.fragment.layout is not None
    name = accumulate_into(body, let)
    if name not in body.steady and let.fragment.number not in body.begun:
        body.out.put(f"ka_wgmma_settle<{let.fragment.layout.registers}>({name});")
    _pack(body, let.operation)


def _pack(body: Body, operation: dev.Mma) -> None:
    """The left operand's registers, 32 bits each: they must rest until the product is waited for."""
    a = operation.a
    if not isinstance(a, dev.Fragment):
        return
    held = body.held(a)
    each = 32 // bits(a.dtype)
    name = body.fresh("a")
    assert a.layout is not None
    count = a.layout.registers // each
    body.out.put(f"ka_u32 {name}[{count}];")
    with body.out.block(f"KA_UNROLL for (int x = 0; x < {count}; ++x)"):
        parts = ", ".join(f"{held}[x * {each} + {e}]" for e in range(each))
        packed = f"ka_raw({parts})" if each == 1 else f"ka_pack{'4' if each == 4 else ''}({parts})"
        body.out.put(f"{name}[x] = {packed};")
    body.out.put(f"ka_wgmma_settle<{count}>({name});")
    body.packed[a.number] = name


class _Descriptor:
    """The descriptor of one operand in shared memory; `per_group` rows of it belong to each warpgroup."""

    def __init__(
        self, body: Body, name: str, side: Side, source: dev.Fragment | dev.Shared, per_group: int, groups: int
    ) -> None:
        if isinstance(source, dev.Fragment):
            raise LayoutMismatch(f"{name}: operand {side} in registers")
        buffer = body.kernel.buffer(source.buffer)
        tile = (buffer.shape[source.axes[0]], buffer.shape[source.axes[1]])
        k_axis = 1 if side == "a" else 0
        major: Major = "K" if source.axes[k_axis] == 1 else "MN"
        self.form: Descriptor = descriptor(atom(name), side, tile, major, swizzle_bytes(buffer))
        self.turn = self.form.turn
        base = _stage_at(body, buffer, source.stage)
        if per_group and groups > 1:
            # a shuffle tells the compiler that a warp's lanes agree: descriptors stay in uniform registers
            base = f"{base} + {body.hoisted('ka_shfl(tid >> 7, 0)')} * {self.form.start(0, per_group)}"
        text = f"ka_descriptor<{self.form.swizzle}>({base}, {self.form.lbo}, {self.form.sbo})"
        self.name = body.const("ka_u64", f"d{side}", text)

    def at(self, step: int, mn: int) -> str:
        """The descriptor of a k step, for rows or columns from `mn` on: addresses count 16 bytes."""
        offset = self.form.start(step, mn)
        return self.name if offset == 0 else f"{self.name} + {offset // 16}"


def settle_before(body: Body, loop: dev.For, names: Sequence[str]) -> None:
    """Sums of a loop's asynchronous products are pinned before it: else the compiler, which moves their first values
    about, runs the products one by one (note C7515 of ptxas)."""
    made = {s.fragment.number for s in loop.body if isinstance(s, dev.Let) and is_asynchronous(s.operation)}
    for carried, name in zip(loop.carried, names, strict=True):
        if carried.end.number in made and carried.end.layout is not None:
            body.out.put(f"ka_wgmma_settle<{carried.end.layout.registers}>({name});")
            body.steady.add(name)


def is_asynchronous(operation: dev.Operation) -> bool:
    return isinstance(operation, dev.Mma) and operation.atom.startswith("wgmma")


def _settle(body: Body, pending: int) -> None:
    """The compiler does not know that the wait completes registers: those of groups that are done are pinned here."""
    groups = [*body.groups, body.flying] if pending == 0 else body.groups
    done = max(len(groups) - pending, 0)
    for name, count in (held for group in groups[:done] for held in group):
        body.out.put(f"ka_wgmma_settle<{count}>({name});")
    body.groups = body.groups[done:]
    if pending == 0:
        body.flying = []


__all__ = [
    "emit_hopper",
    "emit_wgmma",
    "fenced_products",
    "is_asynchronous",
    "map_parameters",
    "maps",
    "settle_before",
    "swizzle_bytes",
]
