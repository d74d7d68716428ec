"""How many blocks of a kernel share a multiprocessor, and what stops the next one.

The rule is that of the CUDA Programming Guide ("Occupancy Calculator") and of cuda_occupancy.h: the smallest of the
limits from threads, block slots, registers, shared memory and barriers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from kernelagent.dsl.lanes import WARP
from kernelagent.dsl.targets.cuda.archs import Arch


@dataclass(frozen=True)
class Occupancy:
    """`limits` are blocks per multiprocessor by resource; `limiter` names the smallest, the first of equals.

    `blocks` is 0 for what cannot be launched at all.
    """

    blocks: int
    warps: int
    fraction: float
    limiter: str
    limits: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def occupancy(arch: Arch, threads: int, registers: int, shared_bytes: int = 0, barriers: int = 1) -> Occupancy:
    """Occupancy of blocks of `threads`, each thread with `registers`, each block with `shared_bytes` (static and
    dynamic together) and `barriers` named barriers."""
    warps = _divide_up(threads, WARP)
    limits = {
        "threads": arch.warps_per_sm // warps if threads <= arch.threads_per_block else 0,
        "registers": _by_registers(arch, warps, registers),
        "shared memory": _by_shared(arch, shared_bytes),
        "block slots": arch.blocks_per_sm,
    }
    if arch.barriers_per_sm is not None and barriers:
        limits["barriers"] = arch.barriers_per_sm // barriers
    limiter = min(limits, key=limits.__getitem__)
    blocks = limits[limiter]
    return Occupancy(blocks, blocks * warps, blocks * warps / arch.warps_per_sm, limiter, limits)


def _by_registers(arch: Arch, warps: int, registers: int) -> int:
    """Warps get registers in whole units, each from one partition; a launch is checked as if partitions filled up
    evenly."""
    per_warp = _round_up(max(registers, 1) * WARP, arch.register_unit)
    checked = per_warp * _round_up(warps, arch.register_partitions)
    if registers > arch.registers_per_thread or checked > arch.registers_per_block:
        return 0
    per_partition = arch.registers_per_sm // arch.register_partitions // per_warp
    return per_partition * arch.register_partitions // warps


def _by_shared(arch: Arch, shared_bytes: int) -> int:
    if shared_bytes > arch.shared_per_block:
        return 0
    taken = _round_up(shared_bytes + arch.shared_reserved_per_block, arch.shared_unit)
    return arch.shared_per_sm // taken


def _divide_up(value: int, unit: int) -> int:
    return -(-value // unit)


def _round_up(value: int, unit: int) -> int:
    return _divide_up(value, unit) * unit
