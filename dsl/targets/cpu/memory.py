"""What the tiles of a kernel take of memory: each thread of the pool has an arena of its own for them.

Tiles whose elements pass straight from an array to another take none, however large they are; what is kept between
loops, sums and packed operands do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Severity
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.lower.unsupported import Unsupported
from kernelagent.dsl.targets.calls import ConcreteCall
from kernelagent.dsl.targets.cpu import features
from kernelagent.dsl.targets.cpu.emit_kernel import Unit
from kernelagent.dsl.targets.cpu.units import lowered

MOST_BYTES = 2**30
"""Of a thread: beyond this the kernel is refused."""
LARGE_BYTES = 2**26
"""Beyond this a thread's tiles lie in main memory on any CPU: worth a warning."""


def refuse_memory(units: Sequence[Unit]) -> None:
    """Raises KernelError (`tile-memory`) for kernels whose tiles take more than `MOST_BYTES` a thread."""
    if found := [_said(u, "error") for u in units if u.arena_bytes > MOST_BYTES]:
        raise KernelError(found)


def memory_diagnostics(kernels: Sequence[ir.Kernel]) -> Iterator[Diagnostic]:
    """Errors and warnings of concrete kernels; nothing of those that this machine's CPU cannot run for other reasons,
    which their compilation names."""
    for kernel in kernels:
        if max(map(_bytes, _values(kernel)), default=0) <= LARGE_BYTES:
            continue
        try:
            (unit,) = lowered([ConcreteCall(kernel, None)], features.detect().level, True)
        except (KernelError, Unsupported):
            continue
        if unit.arena_bytes > LARGE_BYTES:
            yield _said(unit, "error" if unit.arena_bytes > MOST_BYTES else "warning")


def _said(unit: Unit, severity: Severity) -> Diagnostic:
    tile = max(_values(unit.kernel), key=_bytes)
    shape = "x".join(str(e) for e in tile.type.shape)
    amount = f"the tiles of `{unit.kernel.name}` take {_size(unit.arena_bytes)} of memory in every thread on the CPU"
    limit = f", of {_size(MOST_BYTES)} at most" if severity == "error" else ": more than its caches hold"
    facts = {"bytes": unit.arena_bytes, "limit": MOST_BYTES, "largest": _bytes(tile)}
    hint = f"use smaller tiles; the largest is this one, {shape} {tile.type.dtype}, {_size(_bytes(tile))}"
    return Diagnostic("tile-memory", amount + limit, tile.origin.span, severity, hint, facts)


def _values(kernel: ir.Kernel) -> list[ir.Value]:
    return [s.value for s in walk_statements(kernel.body) if isinstance(s, ir.Let)]


def _bytes(value: ir.Value) -> int:
    extents = [e.constant for e in value.type.shape]
    if any(e is None for e in extents):
        return 0
    return math.prod(e for e in extents if e is not None) * bits(value.type.dtype) // 8


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


__all__ = ["LARGE_BYTES", "MOST_BYTES", "memory_diagnostics", "refuse_memory"]
