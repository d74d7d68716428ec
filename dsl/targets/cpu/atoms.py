"""The CPU's atoms as data: what the prelude's functions compute, on what, and how well.

The lowering chooses atoms from this table and the emitter writes their names; the tests run every atom against its
numpy reference. Contracts in words are in `prelude/README.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from kernelagent.dsl.targets.cpu.features import LANES
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Reference: TypeAlias = Callable[..., Array]

EVERY_LEVEL: tuple[str, ...] = ("avx512", "avx2", "neon", "portable")

REGISTER_ROWS: dict[str, int] = {"avx512": 14, "avx2": 6, "neon": 8, "portable": 4}
"""Greatest number of rows of the register tile (`KA_MR_MAX`)."""


@dataclass(frozen=True)
class Operand:
    """One operand: where it lies (`register`, `arena`, `global`: any memory), how, and its alignment in bytes."""

    name: str
    dtype: str
    space: str
    layout: str
    alignment: int


@dataclass(frozen=True)
class Atom:
    """One instruction of the CPU target.

    `shape` gives extents, symbols for those that are free. `ulp` is the greatest error against float64, in units of the
    last place of the float result, None where the result is exact or follows from the accumulator.
    """

    name: str
    kind: str
    shape: tuple[str, ...]
    operands: tuple[Operand, ...]
    accumulator: str | None
    levels: tuple[str, ...]
    header: str
    function: str
    reference: Reference
    ulp: float | None = None


def register_columns(level: str) -> int:
    """Columns of the register tile (`KA_NR`): two vectors."""
    return 2 * LANES[level]


def register_rows(level: str, rows: int) -> int:
    """Rows of the register tile (`KA_MR`) for products with `rows` rows: the fewest panels, then the least padding."""
    most = REGISTER_ROWS[level]
    panels = -(-rows // most)
    return max(1, min(most, -(-rows // panels)))


def packed_a_floats(level: str, rows: int, depth: int, tile_rows: int | None = None) -> int:
    """Floats that packing A writes (`ka_pack_a_size`), slack included; `tile_rows` is KA_MR."""
    step = tile_rows or REGISTER_ROWS[level]
    return -(-rows // step) * step * depth + LANES[level]


def packed_b_floats(level: str, columns: int, depth: int) -> int:
    """Floats that packing B writes (`ka_pack_b_size`)."""
    step = register_columns(level)
    return -(-columns // step) * step * depth


# References ---------------------------------------------------------------------------------------------------------


def _float64(function: Callable[[Array], Array]) -> Reference:
    def reference(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return function(np.asarray(x, np.float64))

    return reference


def _erf(x: Array) -> Array:
    return np.asarray(np.vectorize(math.erf, otypes=[np.float64])(x))


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1.0) / (1.0 + e))


def pack_panels(matrix: Array, width: int) -> Array:
    """Reference of packing: (rows, K) -> (panels, K, width), zero beyond the rows."""
    rows, depth = matrix.shape
    panels = -(-rows // width)
    padded = np.zeros((panels * width, depth), np.float32)
    padded[:rows] = matrix
    return np.ascontiguousarray(padded.reshape(panels, width, depth).transpose(0, 2, 1))


def _product(a: Array, b: Array) -> Array:
    return np.asarray(a.astype(np.float64) @ b.astype(np.float64))


def _product_i32(a: Array, b: Array) -> Array:
    return np.asarray(a.astype(np.int32) @ b.astype(np.int32))


def to_bf16(x: Array) -> Array:
    """float32 -> uint16 bits of bfloat16, to nearest even; NaN stays NaN (quiet)."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return np.asarray(np.where(np.isnan(x), (bits >> 16) | 0x40, rounded).astype(np.uint16))


def from_bf16(u: Array) -> Array:
    return np.asarray((u.astype(np.uint32) << 16).view(np.float32))


def to_f16(x: Array) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(x, np.float32).astype(np.float16).view(np.uint16)


def from_f16(u: Array) -> Array:
    return np.asarray(u, np.uint16).view(np.float16).astype(np.float32)


def to_i32(x: Array) -> Array:
    """Toward zero, saturating, NaN -> 0."""
    with np.errstate(invalid="ignore"):
        wide = np.nan_to_num(np.trunc(np.asarray(x).astype(np.float64)), posinf=2.0**31 - 1, neginf=-(2.0**31))
    return np.asarray(np.clip(wide, -(2.0**31), 2.0**31 - 1).astype(np.int32))


# The table ------------------------------------------------------------------------------------------------------------


def _unary(name: str, reference: Reference, ulp: float | None, header: str = "elementary.h") -> Atom:
    lane = Operand("x", "f32", "register", "lanes", 0)
    return Atom(name, "elementwise", ("KA_LANES",), (lane,), None, EVERY_LEVEL, header, f"vf_{name}", reference, ulp)


_ELEMENTWISE = (
    _unary("exp", _float64(np.exp), 1.2),
    _unary("exp2", _float64(np.exp2), 1.2),
    _unary("log", _float64(np.log), 1.0),
    _unary("log2", _float64(np.log2), 2.5),
    _unary("tanh", _float64(np.tanh), 2.6),
    _unary("erf", _float64(_erf), 2.6),
    _unary("sin", _float64(np.sin), 1.6),
    _unary("cos", _float64(np.cos), 1.6),
    _unary("sigmoid", _float64(_sigmoid), 2.6),
    _unary("rsqrt", _float64(lambda x: 1.0 / np.sqrt(x)), 1.5),
    _unary("recip", _float64(lambda x: 1.0 / x), 0.5),
    _unary("sqrt", _float64(np.sqrt), 0.5, "vector.h"),
    _unary("abs", _float64(np.abs), None, "vector.h"),
    _unary("floor", _float64(np.floor), None, "vector.h"),
    _unary("ceil", _float64(np.ceil), None, "vector.h"),
    _unary("round", _float64(np.rint), None, "vector.h"),
)


def _binary(name: str, reference: Reference) -> Atom:
    operands = tuple(Operand(n, "f32", "register", "lanes", 0) for n in "ab")
    return Atom(name, "elementwise", ("KA_LANES",), operands, None, EVERY_LEVEL, "vector.h", f"vf_{name}", reference)


def _reduce(name: str, reference: Reference) -> Atom:
    lane = Operand("x", "f32", "register", "lanes", 0)
    return Atom(name, "reduce", ("KA_LANES",), (lane,), "f32", EVERY_LEVEL, "reduce.h", f"vf_{name}", reference)


_REDUCTIONS = (
    _binary("max", np.maximum),
    _binary("min", np.minimum),
    _reduce("hsum", np.sum),
    _reduce("hprod", np.prod),
    _reduce("hmax", np.max),
    _reduce("hmin", np.min),
)


def _convert(name: str, source: str, function: str, reference: Reference) -> Atom:
    lane = Operand("x", source, "register", "lanes", 0)
    return Atom(name, "convert", ("KA_LANES",), (lane,), None, EVERY_LEVEL, "convert.h", function, reference)


_CONVERSIONS = (
    _convert("f32_to_bf16", "f32", "bf16_from_vf", to_bf16),
    _convert("bf16_to_f32", "bf16", "vf_from_bf16", from_bf16),
    _convert("f32_to_f16", "f32", "f16_from_vf", to_f16),
    _convert("f16_to_f32", "f16", "vf_from_f16", from_f16),
    _convert("f32_to_i32", "f32", "vi_from_vf", to_i32),
    _convert("i32_to_f32", "i32", "vf_from_vi", lambda x: np.asarray(x).astype(np.float32)),
)

_A_PACKED = Operand("a", "f32", "arena", "panels[M/KA_MR][K][KA_MR]", 4)
_B_PACKED = Operand("b", "f32", "arena", "panels[N/KA_NR][K][KA_NR]", 4)
_A_ROWS = Operand("a", "f32", "global", "rows[M][lda]", 4)
_B_ROWS = Operand("b", "f32", "global", "rows[K][ldb]", 4)
_ACC = Operand("acc", "f32", "arena", "rows[M][ldacc >= round_up(N, KA_NR)]", 4)


def _mma(name: str, a: Operand, b: Operand) -> Atom:
    return Atom(name, "mma", ("M", "N", "K"), (a, b, _ACC), "f32", EVERY_LEVEL, "mma.h", f"ka_{name}", _product)


def _pack(side: str, dtype: str) -> Atom:
    suffix, header = ("", "mma.h") if dtype == "f32" else (f"_{dtype}", "mma_half.h")
    extents = ("M", "K") if side == "a" else ("K", "N")
    operands = (
        Operand("dst", "f32", "arena", _A_PACKED.layout if side == "a" else _B_PACKED.layout, 4),
        Operand(side, dtype, "global", "strided", 2 if suffix else 4),
    )
    name = f"pack_{side}{suffix}"
    return Atom(name, "pack", extents, operands, None, EVERY_LEVEL, header, f"ka_{name}", pack_panels)


_I8 = (
    Operand("a", "i8", "global", "rows[M][lda]", 1),
    Operand("b", "i8", "global", "rows[K][ldb]", 1),
    Operand("acc", "i32", "arena", "rows[M][ldacc]", 4),
)
_PRODUCTS = (
    _mma("mma", _A_PACKED, _B_PACKED),
    _mma("mma_a_rows", _A_ROWS, _B_PACKED),
    _mma("mma_b_rows", _A_PACKED, _B_ROWS),
    _mma("mma_rows", _A_ROWS, _B_ROWS),
    Atom("mma_i8", "mma", ("M", "N", "K"), _I8, "i32", EVERY_LEVEL, "mma_int.h", "ka_mma_i8", _product_i32),
    *(_pack(side, dtype) for side in "ab" for dtype in ("f32", "bf16", "f16")),
)

_TILE_OPERANDS = (
    Operand("dst", "f32", "global", "rows[cols][ldd]", 4),
    Operand("src", "f32", "global", "rows[rows][lds]", 4),
)
_BYTES = (Operand("dst", "u8", "global", "bytes", 1), Operand("src", "u8", "global", "bytes", 1))
_MOVES = (
    Atom(
        "transpose",
        "transpose",
        ("rows", "cols"),
        _TILE_OPERANDS,
        None,
        EVERY_LEVEL,
        "transpose.h",
        "ka_transpose",
        np.transpose,
    ),
    Atom("copy", "copy", ("bytes",), _BYTES, None, EVERY_LEVEL, "copy.h", "ka_copy", np.copy),
)

ATOMS: dict[str, Atom] = {atom.name: atom for atom in (*_ELEMENTWISE, *_REDUCTIONS, *_CONVERSIONS, *_PRODUCTS, *_MOVES)}
"""Every atom by name."""
