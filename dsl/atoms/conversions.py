"""Conversions between floats: one instruction each, to nearest even unless said.

`reference` takes the sources as arrays and returns the raw bits of the result (or f32 for widening).
Where an architecture lacks one, the prelude computes the same bits with integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.dtypes import DTYPES, numpy_dtype
from numpy.typing import NDArray

Array = NDArray[Any]

_PTX_TYPES = {"f8e4m3": "e4m3", "f8e5m2": "e5m2"}
_SOURCE = "PTX ISA 9.0, cvt"


def narrow(x: Array, dtype: str) -> Array:
    """Raw bits of f32 values rounded to `dtype`; 8-bit floats saturate, infinity included."""
    x = np.asarray(x, np.float32)
    if DTYPES[dtype].bits == 8:
        x = np.clip(x, -DTYPES[dtype].largest, DTYPES[dtype].largest)
    with np.errstate(over="ignore"):
        return x.astype(numpy_dtype(dtype)).view(f"u{DTYPES[dtype].bits // 8}")


def pair(low: Array, high: Array, dtype: str) -> Array:
    """Two narrowed values in one register, `low` in the low bits."""
    width = np.uint32(DTYPES[dtype].bits)
    return narrow(low, dtype).astype(np.uint32) | narrow(high, dtype).astype(np.uint32) << width


def widen(raw: Array, dtype: str) -> Array:
    return np.asarray(raw).astype(f"u{DTYPES[dtype].bits // 8}").view(numpy_dtype(dtype)).astype(np.float32)


def tf32(x: Array) -> Array:
    """Bits of f32 values rounded to 10 mantissa bits, ties away from zero; infinity and NaN stay as they are."""
    x = np.asarray(x, np.float32)
    raw = x.view(np.uint32)
    return np.where(np.isfinite(x), (raw + np.uint32(0x1000)) & np.uint32(0xFFFFE000), raw)


def _narrow_one(dtype: str) -> Atom:
    opcode = r"F2FP\.BF16(\.F32)?\.PACK_AB" if dtype == "bf16" else r"F2FP(\.F16\.F32)?\.PACK_AB"
    return Atom(
        name=f"f32_to_{dtype}",
        kind="convert",
        archs=("sm_80",),
        shape=(1,),
        operands=(Operand("d", dtype, direction="out", carrier="i16"), Operand("x", "f32")),
        reference=lambda x: narrow(x, dtype),
        source=_SOURCE,
        ptx=f"cvt.rn.{dtype}.f32 $d, $x;",
        sass=(("sm_80", opcode),),
    )


def _narrow_two(dtype: str) -> Atom:
    return Atom(
        name=f"f32_to_{dtype}x2",
        kind="convert",
        archs=("sm_89",),
        shape=(2,),
        operands=(
            Operand("d", dtype, direction="out", carrier="i16"),
            Operand("low", "f32"),
            Operand("high", "f32"),
        ),
        reference=lambda low, high: pair(low, high, dtype),
        source=_SOURCE,
        ptx=f"cvt.rn.satfinite.{_PTX_TYPES[dtype]}x2.f32 $d, $high, $low;",
        sass=(("sm_89", r"F2FP\."),),
    )


def _widen_f8(dtype: str) -> Atom:
    return Atom(
        name=f"{dtype}x2_to_f16x2",
        kind="convert",
        archs=("sm_89",),
        shape=(2,),
        operands=(Operand("d", "f16", direction="out", carrier="u32"), Operand("x", dtype, carrier="i16")),
        reference=lambda x: widen(x, dtype).astype(np.float16).view(np.uint16),
        source=_SOURCE,
        ptx=f"cvt.rn.f16x2.{_PTX_TYPES[dtype]}x2 $d, $x;",
        sass=(("sm_89", r"F2FP\.F16\.E(4M3|5M2)"),),
    )


_FROM_F16 = Atom(
    name="f16_to_f32",
    kind="convert",
    archs=("sm_80",),
    shape=(1,),
    operands=(Operand("d", "f32", direction="out"), Operand("x", "f16", carrier="i16")),
    reference=lambda x: widen(x, "f16"),
    source=_SOURCE,
    ptx="cvt.f32.f16 $d, $x;",
    sass=(("sm_80", r"HADD2\.F32"),),
)

_TO_TF32 = Atom(
    name="to_tf32",
    kind="convert",
    archs=("sm_80",),
    shape=(1,),
    operands=(Operand("d", "u32", direction="out"), Operand("x", "f32")),
    reference=tf32,
    source=_SOURCE,
    precision="to nearest, ties away from zero",
    ptx="cvt.rna.tf32.f32 $d, $x;",
    sass=(("sm_80", r"F2F.*TF32|IADD3|VIADD|LOP3"),),
)

ATOMS: tuple[Atom, ...] = (
    *(_narrow_one(d) for d in ("f16", "bf16")),
    *(_narrow_two(d) for d in ("f8e4m3", "f8e5m2")),
    *(_widen_f8(d) for d in ("f8e4m3", "f8e5m2")),
    _FROM_F16,
    _TO_TF32,
)
