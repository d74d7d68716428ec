"""Atomic additions to global memory: relaxed, visible to the whole device, no result.

`reference(old, x)` returns the new element, in the dtype's own arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.dtypes import bits, numpy_dtype

_LOOP = r"ATOM(G)?\.E\.CAS"
"""Machines add single 16-bit floats by a loop that tries to swap the word around them."""


def add(old: Any, x: Any, dtype: str) -> Any:
    """One addition, rounded once to `dtype`; integers wrap."""
    kind = numpy_dtype(dtype)
    with np.errstate(over="ignore"):
        return (np.asarray(old, kind) + np.asarray(x, kind)).astype(kind)


def _add(dtype: str, ptx_type: str, opcode: str, arch: str = "sm_80") -> Atom:
    carrier = "i16" if bits(dtype) == 16 else None
    return Atom(
        name=f"red_add_{dtype}",
        kind="atomic",
        archs=(arch,),
        shape=(1,),
        operands=(
            Operand("at", dtype, space="global", direction="inout"),
            Operand("x", dtype, carrier=carrier),
            Operand("inside", "bool"),
        ),
        reference=lambda old, x: add(old, x, dtype),
        source="PTX ISA 9.0, red",
        precision="one rounding an addition; the order of additions is not fixed",
        alignment=bits(dtype) // 8,
        ptx=f"{{ .reg .pred p; setp.ne.b32 p, $inside, 0; @p red.relaxed.gpu.global.add.{ptx_type} [$at], $x; }}",
        sass=((arch, opcode),),
    )


_SWAP = Atom(
    name="swap_if_16",
    kind="atomic",
    archs=("sm_80",),
    shape=(1,),
    operands=(
        Operand("d", "i16", direction="out"),
        Operand("at", "i16", space="global", direction="inout"),
        Operand("expected", "i16"),
        Operand("desired", "i16"),
    ),
    reference=lambda old, expected, desired: desired if old == expected else old,
    source="PTX ISA 9.0, atom",
    alignment=2,
    ptx="atom.relaxed.gpu.global.cas.b16 $d, [$at], $expected, $desired;",
    sass=(("sm_80", _LOOP),),
)

ATOMS: tuple[Atom, ...] = (
    _add("f32", "f32", r"RED(G)?\.E\.ADD\.F32"),
    _add("f64", "f64", r"RED(G)?\.E\.ADD\.F64"),
    _add("i32", "u32", r"RED(G)?\.E\.ADD"),
    _add("f16", "noftz.f16", _LOOP),
    _add("bf16", "noftz.bf16", _LOOP, "sm_90"),
    _SWAP,
)
