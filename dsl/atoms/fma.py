"""Fused multiply-add of one lane: the product of matrices where no matrix unit keeps the precision asked for.

`reference(a, b, c)` rounds once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand


def fused(a: Any, b: Any, c: Any, dtype: str) -> Any:
    """a * b + c rounded once: exact in f64 for f32 but for one rounding to f64, in extended precision for f64."""
    wide = np.float64 if dtype == "f32" else np.longdouble
    narrow = np.float32 if dtype == "f32" else np.float64
    return (np.asarray(a, wide) * np.asarray(b, wide) + np.asarray(c, wide)).astype(narrow)


def _fma(dtype: str, opcode: str) -> Atom:
    return Atom(
        name=f"fma_{dtype}",
        kind="fma",
        archs=("sm_80",),
        shape=(1, 1, 1),
        operands=(
            Operand("d", dtype, direction="out"),
            Operand("a", dtype),
            Operand("b", dtype),
            Operand("c", dtype),
        ),
        reference=lambda a, b, c: fused(a, b, c, dtype),
        source="PTX ISA 9.0, fma",
        accumulator=dtype,
        precision="one rounding a multiply-add",
        ptx=f"fma.rn.{dtype} $d, $a, $b, $c;",
        sass=(("sm_80", opcode),),
    )


ATOMS: tuple[Atom, ...] = (_fma("f32", "FFMA"), _fma("f64", "DFMA"))
