"""Rules about the whole block: threads, shared memory, and buffers that share bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TypeAlias

from kernelagent.dsl import device as dev
from kernelagent.dsl import dtypes as types
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate.habits import nearest
from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.level2.effects import touched
from kernelagent.dsl.level2.rules import Broken, shape_text
from kernelagent.dsl.level2.traverse import parts
from kernelagent.dsl.targets.cuda.archs import Arch, arch, archs

_Use: TypeAlias = tuple[str, int]
SHARED_ALIGNMENT = 16
"""Bytes: the widest access."""
CLUSTERED = (9, 0)
"""The first compute capability with clusters."""
LARGEST_CLUSTER = 8
"""Blocks that run together on every such chip (CUDA C++ Programming Guide 13.0, "Thread Block Clusters")."""


def check_schedule(kernel: dev.DeviceKernel) -> Arch:
    """The architecture, if it exists and takes so many threads. Raises Broken."""
    try:
        machine = arch(kernel.target)
    except KernelError as error:
        first = error.diagnostics[0]
        close = nearest(kernel.target, list(archs()))
        raise Broken("unknown-target", first.message, first.hint or "", "target", nearest=close) from None
    if kernel.threads % WARP or not WARP <= kernel.threads <= machine.threads_per_block:
        legal = min(max(round(kernel.threads / WARP), 1) * WARP, machine.threads_per_block)
        message = f"{kernel.threads} threads are no whole warps of {WARP}, at most {machine.threads_per_block}"
        raise Broken("threads", message, f"write threads={legal}", "threads", threads=kernel.threads, legal=legal)
    if kernel.cluster != 1:
        _check_cluster(kernel, machine)
    return machine


def _check_cluster(kernel: dev.DeviceKernel, machine: Arch) -> None:
    if machine.capability < CLUSTERED:
        raise Broken("cluster", f"{machine.name} has no clusters", "delete `cluster=`", "cluster")
    if not 1 <= kernel.cluster <= LARGEST_CLUSTER:
        message = f"{kernel.cluster} blocks in a cluster; every chip with clusters takes 1 to {LARGEST_CLUSTER}"
        raise Broken("cluster", message, f"write cluster={LARGEST_CLUSTER if kernel.cluster > 1 else 1}", "cluster")


def check_together(kernel: dev.DeviceKernel) -> None:
    """The blocks of a cluster compute neighbouring tiles. Raises Broken."""
    grid = kernel.grid
    down, right = grid.together
    if down * right != kernel.cluster or (kernel.cluster > 1 and (grid.inner is not None or len(grid.variables) < 2)):
        message = f"{kernel.cluster} blocks in a cluster, {down}x{right} tiles next to each other in the grid"
        raise Broken("cluster", message, "clusters need one grid of two variables or more", "cluster")


def check_buffer(buffer: dev.SharedBuffer) -> None:
    """One buffer by itself. Raises Broken."""
    if buffer.stages < 1 or buffer.pad < 0 or buffer.offset < 0 or any(e < 1 for e in buffer.shape) or not buffer.shape:
        message = f"`{buffer.name}`: shape {shape_text(buffer.shape)}, {buffer.stages} stages, pad {buffer.pad}"
        raise Broken("shared-buffer", message, "extents and stages are 1 or more, pad and offset 0 or more")
    if buffer.offset % SHARED_ALIGNMENT:
        close = -(-buffer.offset // SHARED_ALIGNMENT) * SHARED_ALIGNMENT
        message = f"`{buffer.name}` starts at byte {buffer.offset}, no multiple of {SHARED_ALIGNMENT}"
        raise Broken("shared-buffer", message, f"write offset={close}", "offset", offset=buffer.offset)
    if buffer.panel and (len(buffer.shape) != 2 or buffer.pad or buffer.panel < 0 or buffer.shape[1] % buffer.panel):
        message = (
            f"`{buffer.name}`, {shape_text(buffer.shape)} and pad {buffer.pad}, in panels of {buffer.panel} columns"
        )
        raise Broken("panel", message, "rank 2, no pad, and panels that divide the columns", "panel")
    if buffer.swizzle is not None:
        _check_swizzle(buffer, buffer.swizzle)


def swizzle(bits: int, base: int, shift: int) -> dev.Swizzle:
    """The permutation of these numbers. Raises Broken where it is not one to one."""
    if bits < 1 or base < 0 or shift < bits:
        message = f"swizzle ({bits}, {base}, {shift}) is not one to one"
        raise Broken("swizzle", message, "bits are 1 or more, and shift is at least bits", "swizzle")
    return dev.Swizzle(bits, base, shift)


def _check_swizzle(buffer: dev.SharedBuffer, s: dev.Swizzle) -> None:
    """A swizzle permutes the elements of a stage."""
    block = 1 << (s.bits + s.base)
    room = dev.stage_bytes(buffer) * 8 // types.bits(buffer.dtype)
    if -(-dev.stage_elements(buffer) // block) * block > room:
        count = dev.stage_elements(buffer)
        message = f"a stage of `{buffer.name}` has {count} elements, but the swizzle permutes {block} at a time"
        raise Broken("swizzle", message, "use fewer bits, or a stage of whole blocks", "swizzle", block=block)


def check_shared_limit(kernel: dev.DeviceKernel, machine: Arch) -> None:
    """The block's shared memory fits, and `min_blocks` blocks fit side by side. Raises Broken."""
    used, limit = kernel.shared_bytes, machine.shared_per_block
    if used > limit:
        message = f"the block uses {used} bytes of shared memory; {machine.name} has at most {limit} for a block"
        raise Broken("shared-limit", message, _smaller(kernel, limit), "", used=used, limit=limit)
    together = kernel.min_blocks * (used + machine.shared_reserved_per_block)
    if kernel.min_blocks > 1 and together > machine.shared_per_sm:
        fitting = machine.shared_per_sm // (used + machine.shared_reserved_per_block)
        message = (
            f"{kernel.min_blocks} blocks of {used} bytes need {together} bytes of shared memory, the driver's part "
            f"included; a multiprocessor of {machine.name} has {machine.shared_per_sm}"
        )
        raise Broken("min-blocks", message, f"write min_blocks={max(fitting, 1)}, or less shared memory", "min_blocks")
    if kernel.min_blocks < 1 or kernel.min_blocks * kernel.threads > machine.threads_per_sm:
        fitting = max(machine.threads_per_sm // kernel.threads, 1)
        message = (
            f"{kernel.min_blocks} blocks of {kernel.threads} threads; a multiprocessor has {machine.threads_per_sm}"
        )
        raise Broken("min-blocks", message, f"write min_blocks={fitting}", "min_blocks")


def _smaller(kernel: dev.DeviceKernel, limit: int) -> str:
    """The nearest legal choice: fewer stages of the buffer that has most bytes in stages."""
    ring = [b for b in kernel.buffers if b.stages > 1]
    if ring:
        stages = max(b.stages for b in ring)
        for fewer in range(stages - 1, 0, -1):
            total = sum(dev.stage_bytes(b) * min(b.stages, fewer) for b in kernel.buffers)
            if total <= limit:
                return f"stages={fewer} takes {total} bytes and fits; or use smaller tiles"
    largest = max(kernel.buffers, key=lambda b: dev.stage_bytes(b) * b.stages)
    return f"at most {limit} bytes: halve `{largest.name}`, which takes {dev.stage_bytes(largest) * largest.stages}"


# Overlap -----------------------------------------------------------------------------------------------


def overlapping(kernel: dev.DeviceKernel) -> Iterator[tuple[dev.SharedBuffer, dev.SharedBuffer]]:
    """Pairs of buffers that share bytes."""
    for n, a in enumerate(kernel.buffers):
        for b in kernel.buffers[n + 1 :]:
            end = {x.name: x.offset + dev.stage_bytes(x) * x.stages for x in (a, b)}
            if a.offset < end[b.name] and b.offset < end[a.name]:
                yield a, b


def check_overlap(kernel: dev.DeviceKernel, a: dev.SharedBuffer, b: dev.SharedBuffer) -> None:
    """Buffers that share bytes are used in turns, with a barrier between. Raises Broken."""
    for part in parts(kernel):
        again = part.grid is not None and (part.grid.persistent or part.grid.inner is not None)  # further tiles
        _check_turns(kernel, a, b, [t for block in part.blocks for t in _trace(block)] * (1 + again))


def _check_turns(kernel: dev.DeviceKernel, a: dev.SharedBuffer, b: dev.SharedBuffer, trace: list[_Use | None]) -> None:
    last: _Use | None = None
    barrier = True
    for use in trace:
        if use is None:
            barrier = True
        elif use[0] in (a.name, b.name):
            if last is not None and last[0] != use[0] and not barrier:
                lines = last[1], use[1]
                message = f"`{a.name}` and `{b.name}` share bytes, and no barrier lies between their uses"
                hint = f"put `barrier()` between lines {lines[0]} and {lines[1]}, "
                hint += f"or give `{b.name}` an offset of its own: {_behind(kernel, b)}"
                raise Broken("shared-overlap", message, hint, "offset", first=a.name, second=b.name, lines=lines)
            last, barrier = use, False


def _behind(kernel: dev.DeviceKernel, b: dev.SharedBuffer) -> int:
    others = replace(kernel, buffers=tuple(x for x in kernel.buffers if x.name != b.name))
    return -(-others.shared_bytes // 128) * 128


def _trace(body: tuple[dev.Statement, ...]) -> Iterator[_Use | None]:
    """Buffers and lines in the order of their uses, None for a barrier; loops run twice."""
    for statement in body:
        origin = statement.fragment.origin if isinstance(statement, dev.Let) else statement.origin
        yield from ((name, origin.span.line) for name in touched(statement))
        match statement:
            case dev.BlockBarrier() | dev.RoleBarrier():
                yield None
            case dev.For(body=inner):
                yield from _trace(inner)
                yield from _trace(inner)
            case dev.If(then=then, otherwise=otherwise):
                yield from _trace(then)
                yield from _trace(otherwise)
            case _:
                pass
