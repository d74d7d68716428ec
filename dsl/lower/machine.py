"""What a pass may know about the machine that it lowers for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """`lanes` 32-bit lanes a vector; `tile_rows(M)` x `tile_columns` is the register tile of the mma atom.

    `pack_size_a(M, K)` and `pack_size_b(N, K)` are floats of packed operands, slack included.
    """

    name: str
    lanes: int
    tile_columns: int
    tile_rows: Callable[[int], int]
    pack_size_a: Callable[[int, int], int]
    pack_size_b: Callable[[int, int], int]
    l1_bytes: int = 32 * 1024
    l2_bytes: int = 1024 * 1024

    def pad_row(self, extent: int) -> int:
        return -(-extent // self.lanes) * self.lanes
