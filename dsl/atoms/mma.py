"""Warp-wide matrix products `mma.sync`: d += a (m, k) @ b (k, n), fragments spread over 32 lanes.

Layouts with g = lane / 4 and t = lane % 4; a register holds 32 bits, so 1, 2 or 4 neighbouring k.
`reference(a, b, c)` takes registers as arrays (32 lanes, values) and returns d the same way; it is written from the
manual's per-lane formulas, not from the distributions, which the tests prove against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from kernelagent.dsl.atoms.record import Atom, Operand
from kernelagent.dsl.dtypes import bits, is_integer
from kernelagent.dsl.lanes import Distribution, Mode
from numpy.typing import NDArray

Registers = NDArray[Any]

M, N = 16, 8
ROW, COLUMN = 0, 1


def a_layout(k: int, packed: int) -> Distribution:
    """A over (m, k): row g (+ 8), k = packed * t + (0 .. packed - 1) (+ half of k)."""
    lanes = (Mode(4, COLUMN, packed), Mode(8, ROW, 1))
    values = (Mode(packed, COLUMN, 1), Mode(2, ROW, 8), Mode(k // (4 * packed), COLUMN, 4 * packed))
    return Distribution((M, k), lanes, tuple(m for m in values if m.extent > 1))


def b_layout(k: int, packed: int) -> Distribution:
    """B over (k, n): column g, k = packed * t + (0 .. packed - 1) (+ half of k)."""
    lanes = (Mode(4, ROW, packed), Mode(8, COLUMN, 1))
    values = (Mode(packed, ROW, 1), Mode(k // (4 * packed), ROW, 4 * packed))
    return Distribution((k, N), lanes, tuple(m for m in values if m.extent > 1))


def c_layout() -> Distribution:
    """C and D over (m, n): rows g and g + 8, columns 2t and 2t + 1."""
    return Distribution((M, N), (Mode(4, COLUMN, 2), Mode(8, ROW, 1)), (Mode(2, COLUMN, 1), Mode(2, ROW, 8)))


def multiply(a: Registers, b: Registers, c: Registers, packed: int) -> Registers:
    """The reference: every lane's results from every lane's registers, by the manual's formulas."""
    group, member = np.arange(32) // 4, np.arange(32) % 4
    k = 8 * packed
    rows = np.zeros((M, k), c.dtype)
    columns = np.zeros((k, N), c.dtype)
    for i in range(a.shape[1]):
        register, within = divmod(i, packed)
        row = group + 8 * (register % 2)
        rows[row, packed * member + within + 4 * packed * (register // 2)] = a[:, i]
    for i in range(b.shape[1]):
        register, within = divmod(i, packed)
        columns[packed * member + within + 4 * packed * register, group] = b[:, i]
    product = rows @ columns
    gathered = [product[group + 8 * (i // 2), 2 * member + i % 2] for i in range(4)]
    return np.asarray(c + np.stack(gathered, axis=1))


def _mma(
    name: str,
    dtype: str,
    k: int,
    ptx_type: str,
    sass: tuple[tuple[str, str], ...],
    precision: str,
    arch: str = "sm_80",
) -> Atom:
    width = bits(dtype)
    packed = 32 // width
    acc, ptx_acc = ("i32", "s32") if is_integer(dtype) else ("f32", "f32")
    shape = f"m{M}n{N}k{k}"
    return Atom(
        name=f"mma_{shape}_{name}",
        kind="mma",
        archs=(arch,),
        shape=(M, N, k),
        operands=(
            Operand("d", acc, direction="inout", layout=c_layout(), count=4),
            Operand("a", dtype, layout=a_layout(k, packed), count=M * k * width // 1024, carrier="u32"),
            Operand("b", dtype, layout=b_layout(k, packed), count=N * k * width // 1024, carrier="u32"),
        ),
        reference=lambda a, b, c: multiply(a, b, c, packed),
        source=f"PTX ISA 9.0, matrix multiply-accumulate with mma: fragments for .{shape}",
        scope="warp",
        accumulator=acc,
        precision=precision,
        ptx=f"mma.sync.aligned.{shape}.row.col.{ptx_acc}.{ptx_type}.{ptx_type}.{ptx_acc} $d, $a, $b, $d;",
        sass=sass,
    )


_EXACT_PRODUCTS = "products exact; sums in f32, low bits truncated, order unspecified"
_TF32 = "operands as rounded to 10 mantissa bits by to_tf32; products exact; sums in f32, low bits truncated"
_INTEGER = "exact modulo 2**32"
_EIGHT_BIT = "products exact; sums in f32 where the unit widens to f16, possibly in fewer bits where it is native"


def _qmma(kind: str) -> tuple[tuple[str, str], ...]:
    """Hopper has 8-bit floats in its warpgroup products only: here it widens to f16."""
    return (("sm_89", rf"QMMA\.16832\.F32\.{kind}"), ("sm_90a", r"HMMA\.16816\.F32$"))


ATOMS: tuple[Atom, ...] = (
    _mma("f16", "f16", 16, "f16", (("sm_80", r"HMMA\.16816\.F32$"),), _EXACT_PRODUCTS),
    _mma("bf16", "bf16", 16, "bf16", (("sm_80", r"HMMA\.16816\.F32\.BF16"),), _EXACT_PRODUCTS),
    _mma("tf32", "f32", 8, "tf32", (("sm_80", r"HMMA\.1688\.F32\.TF32"),), _TF32),
    _mma("s8", "i8", 32, "s8", (("sm_80", r"IMMA\.16832\.S8\.S8"),), _INTEGER),
    _mma("u8", "u8", 32, "u8", (("sm_80", r"IMMA\.16832\.U8\.U8"),), _INTEGER),
    _mma("e4m3", "f8e4m3", 32, "e4m3", _qmma("E4M3"), _EIGHT_BIT, "sm_89"),
    _mma("e5m2", "f8e5m2", 32, "e5m2", _qmma("E5M2"), _EIGHT_BIT, "sm_89"),
)
