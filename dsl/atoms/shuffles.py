"""Shuffles: every lane of a warp reads a register of another lane.

`reference(x, by)` takes the 32 lanes' values and returns them moved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand, Reference
from numpy.typing import NDArray

Lanes = NDArray[Any]

_LANE = np.arange(32)


def _shuffle(name: str, mode: str, clamp: str, opcode: str, source: Reference) -> Atom:
    return Atom(
        name=name,
        kind="shuffle",
        archs=("sm_80",),
        shape=(32,),
        operands=(Operand("d", "u32", direction="out"), Operand("x", "u32"), Operand("by", "i32")),
        reference=lambda x, by: np.asarray(x)[source(by)],
        source="PTX ISA 9.0, shfl.sync",
        scope="warp",
        ptx=f"shfl.sync.{mode}.b32 $d, $x, $by, {clamp}, 0xffffffff;",
        sass=(("sm_80", rf"SHFL\.{opcode}$"),),
    )


ATOMS: tuple[Atom, ...] = (
    _shuffle("shfl_xor", "bfly", "0x1f", "BFLY", lambda by: _LANE ^ by),
    _shuffle("shfl_up", "up", "0x0", "UP", lambda by: _LANE - by * (by <= _LANE)),
    _shuffle("shfl", "idx", "0x1f", "IDX", lambda lane: np.full(32, lane % 32)),
)
