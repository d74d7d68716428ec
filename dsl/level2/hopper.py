"""Rules about single statements of Hopper: barriers with phases, boxes of tensor maps, fences and waits."""

from __future__ import annotations

from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.index import Index, Mod
from kernelagent.dsl.level2.accesses import buffer_of, check_shared_tile, check_view, merged_shape
from kernelagent.dsl.level2.rules import Broken, Machine, Shape, Type, shape_text
from kernelagent.dsl.targets.cuda.archs import arch
from kernelagent.dsl.tensor_map import LARGEST_BOX, alignment_of

HOPPER = (9, 0)
WARPGROUP = 128
LARGEST_EXPECT = (1 << 20) - 1
"""Bytes that one phase counts (PTX ISA 9.0, "mbarrier: tx-count")."""
RECORDS = (
    dev.BarrierInit, dev.FenceInit, dev.Expect, dev.Arrive, dev.WaitPhase, dev.CopyBulk, dev.StoreBulk, dev.CommitBulk,
    dev.WaitBulk, dev.FenceAsync, dev.Turn, dev.ClusterBarrier, dev.WgmmaFence, dev.WgmmaCommit, dev.WgmmaWait,
)  # fmt: skip


def is_hopper(target: str) -> bool:
    return arch(target).capability == HOPPER


def check_hopper(m: Machine, statement: dev.Statement) -> None:
    """One statement by itself. Raises Broken."""
    if isinstance(statement, RECORDS) and not is_hopper(m.target):
        raise Broken("hopper-only", f"{m.target} has no such instruction", "write `schedule(sm_90a, ...)`", "")
    match statement:
        case dev.BlockBarrier() if m.partial:
            message = f"`barrier()` waits for all threads of the block, but only the role `{m.role}` comes here"
            raise Broken("barrier-in-role", message, "write `role_barrier(1)`")
        case dev.BarrierInit(name):
            barrier_of(m, name)
            if m.role:
                hint = "put it in front of the roles, with `fence_init()` and `barrier()` behind it"
                raise Broken("barrier-init", f"`{name}` is initialised inside a role", hint, "barrier")
        case dev.Expect(name, stage, count):
            _check_phase(m, name, stage)
            if not 0 < count <= LARGEST_EXPECT:
                message = f"a phase expects {count} bytes; 1 to {LARGEST_EXPECT} can be counted"
                raise Broken("expect-bytes", message, "announce the bytes of the boxes of this phase", "bytes")
        case dev.Arrive(name, stage, _, everywhere):
            _check_phase(m, name, stage)
            if everywhere:
                _check_cluster(m, "everywhere")
        case dev.WaitPhase(name, stage, parity):
            _check_phase(m, name, stage)
            _check_parity(parity, m.barriers[name].stages)
        case dev.CopyBulk():
            _copy(m, statement)
        case dev.StoreBulk():
            _store(m, statement)
        case dev.WaitBulk(pending) | dev.WgmmaWait(pending):
            if pending < 0:
                message = f"{pending} groups cannot be in flight"
                raise Broken("wait-count", message, "write 0 or more", "pending", pending=pending)
        case dev.RoleBarrier(number):
            _check_role_barrier(m, number)
        case dev.Turn(number):
            _check_turn(m, number)
        case dev.ClusterBarrier():
            _check_cluster(m, "")
        case _:
            pass
    if isinstance(statement, (dev.WgmmaFence, dev.WgmmaCommit, dev.WgmmaWait)):
        check_groups(m)


def check_groups(m: Machine) -> None:
    """Asynchronous products are issued by whole warpgroups."""
    if m.threads % WARPGROUP:
        near = max(round(m.threads / WARPGROUP), 1) * 4
        message = f"products of warpgroups by {m.threads} threads, no multiple of {WARPGROUP}"
        raise Broken("warpgroup", message, f"give the role {near} warps", threads=m.threads)


# Barriers ----------------------------------------------------------------------------------------------


def barrier_of(m: Machine, name: str) -> dev.MBarrier:
    if name not in m.barriers:
        close = nearest(name, list(m.barriers))
        hint = f"did you mean `{close}`?" if close else "declare it: `name = mbarrier(arrivals=1)`"
        raise Broken("unknown-word", f"`{name}` is not a barrier", hint, "barrier")
    return m.barriers[name]


def _check_phase(m: Machine, name: str, stage: Index) -> None:
    count, at = barrier_of(m, name).stages, stage.constant
    if at is not None and not 0 <= at < count:
        message = f"stage {at} of `{name}`, which has {count}"
        raise Broken("stage", message, f"stages are 0 to {count - 1}", "barrier", stage=at, stages=count)


def _check_parity(parity: Index, stages: int) -> None:
    """0, 1, or something modulo 2."""
    match parity.terms:
        case () | (((), 1),):
            return
        case (((Mod(_, b),), 1),) | (((), 1), ((Mod(_, b),), -1)) | (((Mod(_, b),), -1), ((), 1)) if b.constant == 2:
            return
    per_turn = "k_count" if stages == 1 else f"(k_count // {stages})"
    hint = f"the consumer writes `{per_turn} % 2`, the producer, which goes first, the opposite"
    raise Broken("parity", f"the parity {parity} is not 0, 1 or a number modulo 2", hint, "parity")


def _check_role_barrier(m: Machine, number: int) -> None:
    if not m.role:
        raise Broken("role-barrier", "outside of roles all threads wait", "write `barrier()`")
    if not 1 <= number <= 15:
        message = f"barrier {number}; there are 1 to 15, and 0 is the block's"
        raise Broken("role-barrier", message, "take 1, and another number for each role", "number", number=number)


def _check_turn(m: Machine, number: int) -> None:
    if not m.role or m.threads != 2 * WARPGROUP:
        who = f"role `{m.role}` has {m.threads} threads" if m.role else "there is no role"
        message = f"two warpgroups of a role take turns, but {who}"
        raise Broken("turn", message, "give the role 8 warps", threads=m.threads)
    if not 1 <= number <= 14:
        message = f"turns on barriers {number} and {number + 1}; there are 1 to 15, and 0 is the block's"
        raise Broken("turn", message, "take 2, behind the role's `role_barrier(1)`", "number", number=number)


def _check_cluster(m: Machine, part: str) -> None:
    if m.cluster == 1:
        raise Broken("cluster", "the kernel runs without clusters", "write `schedule(..., cluster=2)`", part)


# Boxes -------------------------------------------------------------------------------------------------


def _copy(m: Machine, c: dev.CopyBulk) -> None:
    _check_phase(m, c.barrier, c.stage)
    _check_bulk(m, c.view, c.start, c.shape, c.target, ("In", "InOut"), "target")
    if c.shared_by != 1:
        _check_cluster(m, "shared_by")
        buffer = m.buffers[c.target.buffer]
        rows, panels = buffer.shape[0], buffer.shape[1] // buffer.panel
        if c.shared_by != m.cluster or (rows % (8 * c.shared_by) and panels % c.shared_by):
            message = f"{c.shared_by} blocks of a cluster of {m.cluster} share {panels} panels of {rows} rows"
            hint = f"write shared_by={m.cluster}; each block takes whole panels or a multiple of 8 rows"
            raise Broken("cluster", message, hint, "shared_by")


def _store(m: Machine, s: dev.StoreBulk) -> None:
    _check_bulk(m, s.view, s.start, s.shape, s.source, ("Out", "InOut"), "source")
    array = m.arrays[s.view.array]
    for axis, dim in box_dims(s.view, array, s.shape).items():
        affine = s.view.coordinates[dim].affine(ir.position(axis))
        assert affine is not None  # `box_dims` has seen to it
        bounds = s.view.axes[axis]
        if affine[0].constant != 1:
            message = (
                f"axis {axis} of the view steps by {affine[0]} elements of `{array.name}`; bulk stores step by one"
            )
            raise Broken("bulk-view", message, "store the tile with `store`", "view")
        if bounds.hi + affine[1] != array.dims[dim] or bounds.lo.constant != 0:
            message = f"axis {axis} of the view ends inside `{array.name}`, but a bulk store knows only the array's end"
            raise Broken("bulk-view", message, "store the tile with `store`, or view the whole axis", "view")


def _check_bulk(
    m: Machine, view: ir.View, start: tuple[Index, ...], shape: Shape, shared: dev.Shared, roles: tuple[str, ...],
    part: str,
) -> None:  # fmt: skip
    check_view(m, view, start, shape, roles)
    buffer = buffer_of(m, shared, part)
    check_shared_tile(m, shared, Type(view.dtype, merged_shape(shape, shared.axes, buffer), None), part)
    array = m.arrays[view.array]
    _check_rows(view, array, shape, shared, part)
    check_box_buffer(buffer, part)
    _check_map(view, array, shape, buffer, part)


def box_dims(view: ir.View, array: ir.Array, shape: Shape) -> dict[int, int]:
    """For each axis of the tile the array axis along which it runs with stride 1. Raises Broken."""
    from kernelagent.dsl.lower.device.hopper.choose import Unsuited, box_axes

    try:
        return box_axes(view, array, shape)
    except Unsuited as lack:
        raise Broken("bulk-view", f"no box: {lack}", "use `copy_async`, or `store` for stores", "view") from None


def _check_rows(view: ir.View, array: ir.Array, shape: Shape, shared: dev.Shared, part: str) -> None:
    """Rows of a box run along the array's last axis, and rows of the buffer are rows of the box."""
    where = box_dims(view, array, shape)
    last = len(array.dims) - 1
    along = next((axis for axis, dim in where.items() if dim == last), None)
    column = shared.axes.index(1) if len(shape) == 2 else len(shape) - 1
    if along != column:
        message = f"the buffer's rows run along axis {column} of the tile, those of `{array.name}` along another"
        raise Broken("bulk-view", message, "transpose the stage: `buffer[s].T`", part)
    outer = [where[axis] for axis in range(len(shape)) if axis != column]
    if len(shape) > 2 and outer != sorted(outer):
        raise Broken("bulk-view", "the tile's outer axes are not in the array's order", "permute the view", "view")
    tall = max((shape[axis] for axis in range(len(shape)) if axis != column), default=1)
    if tall > LARGEST_BOX:
        pieces = -(-tall // LARGEST_BOX)
        message = f"a box has {tall} rows; the limit is {LARGEST_BOX}"
        raise Broken("box", message, f"use {pieces} buffers of {-(-tall // pieces)} rows", part, limit=LARGEST_BOX)


def check_box_buffer(buffer: dev.SharedBuffer, part: str) -> None:
    """A buffer as boxes write it and descriptors read it."""
    from kernelagent.dsl.targets.cuda.emit_hopper import swizzle_bytes
    from kernelagent.dsl.targets.cuda.registers import LayoutMismatch

    if len(buffer.shape) != 2 or not buffer.panel:
        message = f"`{buffer.name}` is {shape_text(buffer.shape)} without panels"
        hint = "declare it with `panel=` columns of 128 bytes: for 16-bit elements `swizzle=(3, 3, 3), panel=64`"
        raise Broken("panel", message, hint, part)
    try:
        span = swizzle_bytes(buffer)
    except LayoutMismatch:
        s = buffer.swizzle
        assert s is not None  # no swizzle is never a mismatch
        message = f"`{buffer.name}`: panels of {buffer.panel} columns with swizzle ({s.bits}, {s.base}, {s.shift})"
        hint = "rows of 128, 64 or 32 bytes take (3, b, 3), (2, b, 3), (1, b, 3) with 16 bytes in 2^b elements"
        raise Broken("panel", f"{message} are no boxes", hint, part) from None
    unit = alignment_of(span)
    for count, what in ((buffer.offset, "starts at byte"), (dev.stage_bytes(buffer), "has stages of")):
        if count % unit and (buffer.stages > 1 or what == "starts at byte"):
            message = f"`{buffer.name}` {what} {count}, no multiple of the swizzle's {unit}"
            raise Broken("panel", message, f"write offset={-(-count // unit) * unit}, or whole swizzles", part)


def _check_map(view: ir.View, array: ir.Array, shape: Shape, buffer: dev.SharedBuffer, part: str) -> None:
    """What the driver would refuse."""
    from kernelagent.dsl.targets.cuda.emit_hopper import box_spec

    try:
        box_spec(array, view, shape, buffer)
    except KernelError as error:
        first = error.diagnostics[0]
        raise Broken(first.code, first.message, first.hint or "use other tiles", part, **first.facts) from None
