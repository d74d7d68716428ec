"""Tiles that no thread can hold: told before the compiler is asked, which takes minutes to find the same."""

from __future__ import annotations

from collections.abc import Sequence

from kernelagent.dsl import device as dev
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.fragments import Fragment
from kernelagent.dsl.targets.cuda.archs import arch

FACTOR = 4
"""A tile of more registers than this many times a thread's spills whatever the compiler does: even where each element
only passes through, at twice the registers of a thread there were thousands of bytes of spills."""


def refuse_unheld(kernels: Sequence[dev.DeviceKernel]) -> None:
    """Raises KernelError (`cuda-spills`) for the largest tile that takes more than `FACTOR` times the registers of a
    thread."""
    for kernel in kernels:
        lets = [s for s in dev.statements(kernel) if isinstance(s, dev.Let)]
        largest = max(lets, key=lambda s: _registers(s.fragment), default=None)
        if largest is None:
            continue
        most, taken = arch(kernel.target).registers_per_thread, _registers(largest.fragment)
        if taken > FACTOR * most:
            raise KernelError([_said(kernel, largest, taken, most)])


def _registers(value: Fragment) -> int:
    """Of 32 bits, in each thread that holds a part of the tile."""
    return 0 if value.layout is None else -(-value.layout.registers * bits(value.dtype) // 32)


def _said(kernel: dev.DeviceKernel, let: dev.Let, taken: int, most: int) -> Diagnostic:
    tile = let.fragment
    shape = "x".join(map(str, tile.shape))
    message = (
        f"a tile of {shape} {tile.dtype} takes {taken} registers of each thread of `{kernel.name}`, "
        f"which has {most} on {kernel.target}"
    )
    hint = "use smaller tiles or more warps, so that each thread holds fewer elements"
    facts = {"registers": taken, "limit": most, "class": kernel.shape_class.name}
    return Diagnostic("cuda-spills", message, tile.origin.span, hint=hint, facts=facts)


__all__ = ["FACTOR", "refuse_unheld"]
