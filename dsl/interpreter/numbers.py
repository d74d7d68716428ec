"""What each arithmetic word does to numbers; void is the caller's business.

Math words are evaluated in f64 and rounded once to the operand's dtype, so the oracle does not depend
on the vector library that numpy was built with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from kernelagent.dsl.dtypes import DTYPES, bits, identity, is_float
from kernelagent.dsl.interpreter.held import Array, held_dtype, integer_range

_erf = np.frompyfunc(math.erf, 1, 1)


def _rounded(function: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def apply(x: Array) -> Array:
        return np.asarray(function(x.astype(np.float64))).astype(x.dtype)

    return apply


def _invert(x: Array) -> Array:
    return np.logical_not(x) if x.dtype == np.bool_ else np.invert(x)


UNARY: dict[str, Callable[[Array], Array]] = {
    "neg": np.negative,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "not": _invert,
    "sqrt": _rounded(np.sqrt),
    "rsqrt": _rounded(lambda x: 1.0 / np.sqrt(x)),
    "exp": _rounded(np.exp),
    "exp2": _rounded(np.exp2),
    "log": _rounded(np.log),
    "log2": _rounded(np.log2),
    "tanh": _rounded(np.tanh),
    "erf": _rounded(lambda x: np.asarray(_erf(x)).astype(np.float64)),
    "sin": _rounded(np.sin),
    "cos": _rounded(np.cos),
    "sigmoid": _rounded(lambda x: 1.0 / (1.0 + np.exp(-x))),
}

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floordiv": np.floor_divide, "mod": np.mod, "pow": np.power,
    "maximum": np.maximum, "minimum": np.minimum,
    "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "shl": np.left_shift, "shr": np.right_shift,
}  # fmt: skip

_SCAN: dict[str, Any] = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum}
_REDUCE: dict[str, Any] = {**_SCAN, "any": np.logical_or, "all": np.logical_and}


def reduce(word: str, x: Array, axis: int, dtype: str) -> Array:
    """Reduce one axis, in x's own dtype (the text's promotion rule has already widened it)."""
    if x.shape[axis] == 0:
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        return np.full(shape, identity(word, dtype), x.dtype)
    dense = np.ascontiguousarray(x)  # numpy's order of summation depends on the memory order
    return wrap(np.asarray(_REDUCE[word].reduce(dense, axis=axis, dtype=x.dtype)), dtype)


def scan(word: str, x: Array, axis: int, dtype: str) -> Array:
    """Inclusive prefix along one axis, in x's own dtype."""
    if x.shape[axis] == 0:
        return x
    return wrap(np.asarray(_SCAN[word].accumulate(x, axis=axis, dtype=x.dtype)), dtype)


def mma(a: Array, b: Array, dtype: str, precision: str, widen: bool) -> Array:
    """a (m, k) times b (k, n), accumulated in `dtype` (integers exactly, modulo 2**32)."""
    if not is_float(dtype):
        # |a|, |b| <= 255 and k < 2**37: f64 holds the sum exactly and BLAS is fast
        exact = product(a.astype(np.float64), b.astype(np.float64))
        return exact.astype(np.int64).astype(held_dtype(dtype))
    accumulator = held_dtype(dtype, widen)
    if precision == "tf32" and not widen:
        a, b = to_tf32(a), to_tf32(b)
    # dense operands: which BLAS routine runs, hence the order of summation, depends on the memory order
    return product(a.astype(accumulator, order="C"), b.astype(accumulator, order="C"))


_ONE_THREAD = 200_000
"""Multiply-adds of one BLAS call: OpenBLAS keeps calls of up to 2**18 on one thread, which is much quicker for the
small products of tiles, above all on a busy machine."""


def product(a: Array, b: Array) -> Array:
    """a @ b on one thread."""
    rows = max(1, _ONE_THREAD // max(1, b.size))
    if a.shape[0] <= rows:
        return np.asarray(a @ b)
    return np.concatenate([a[i : i + rows] @ b for i in range(0, a.shape[0], rows)])


def to_tf32(x: Array) -> Array:
    """Round f32 to the 10 stored mantissa bits of tf32, nearest even; NaN and infinity stay."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    kept = (rounded & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), kept, x)


def cast(x: Array, source: str, target: str, widen: bool = False) -> Array:
    """Convert between dtypes: floats to nearest even, 8-bit floats saturating; float to integer towards zero,
    saturating, NaN to 0; integer to integer modulo 2**bits. With `widen` floats are not rounded."""
    out = held_dtype(target, widen)
    if source == target:
        return x
    if target == "bool":
        return np.asarray(x != 0)
    if is_float(target):
        return _to_float(x, target, out, widen)
    if is_float(source):
        return _to_integer(x, target, out)
    return wrap(x.astype(out), target)


def wrap(x: Array, dtype: str) -> Array:
    """Reduce a held value to the range of its dtype: only u4 is held in more bits than it has."""
    return x & np.uint8(15) if dtype == "u4" else x


def _to_float(x: Array, target: str, out: np.dtype[Any], widen: bool) -> Array:
    if bits(target) == 8:
        limit = DTYPES[target].largest
        x = np.clip(x.astype(np.float64), -limit, limit)
    if not widen and (target == "bf16" or bits(target) == 8) and x.dtype.itemsize == 8:
        x = _to_odd_f32(x.astype(np.float64))
    return x.astype(out)


def _to_odd_f32(x: Array) -> Array:
    """f64 to f32 rounding to odd, so that a second rounding to fewer bits equals a single one."""
    near = x.astype(np.float32)
    back = near.astype(np.float64)
    inexact = np.isfinite(back) & (back != x)
    even = (near.view(np.uint32) & np.uint32(1)) == 0
    towards = np.where(back < x, np.float32(np.inf), np.float32(-np.inf))
    return np.where(inexact & even, np.nextafter(near, towards), near)


def _to_integer(x: Array, target: str, out: np.dtype[Any]) -> Array:
    low, high = integer_range(target)
    wide = np.trunc(np.nan_to_num(x.astype(np.float64), nan=0.0, posinf=math.inf, neginf=-math.inf))
    inside = (wide >= float(low)) & (wide < float(high) + (1.0 if high < 2**53 else 0.0))
    result = np.where(inside, wide, 0.0).astype(out)
    return np.where(inside, result, np.where(wide < 0, out.type(low), out.type(high)))
