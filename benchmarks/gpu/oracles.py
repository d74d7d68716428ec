"""What each kernel should give, in fp64 on its rounded inputs, and how far f32 arithmetic may be off from that.

An oracle takes the inputs by name (floats as f64, integers as int64) and the scalars, and returns an `Answer` for each
output. Bounds follow N. J. Higham, Accuracy and Stability of Numerical Algorithms, chapters 3 and 4: a sum is off by
the number of roundings times the sum of magnitudes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

F32 = 2.0**-24
"""Unit roundoff of f32."""
FP8_UNIT = 2.0**-13
"""fp8 matrix instructions keep about 14 bits of a sum (DeepSeek-V3 technical report, section 3.3.2)."""

Array: TypeAlias = NDArray[Any]
Arrays: TypeAlias = dict[str, Array]
Scalars: TypeAlias = Mapping[str, float | int | bool]

NUMPY: Mapping[str, Any] = {
    "f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "f8e4m3": ml_dtypes.float8_e4m3fn,
    "i32": np.int32, "i8": np.int8, "u8": np.uint8, "u4": ml_dtypes.uint4,
}  # fmt: skip
ROUNDOFF: Mapping[str, float] = {"f32": F32, "f16": 2.0**-11, "bf16": 2.0**-8, "i32": 0.0}
"""Largest relative error of rounding to nearest."""
SMALLEST: Mapping[str, float] = {"f32": 2.0**-126, "f16": 2.0**-25, "bf16": 2.0**-126, "i32": 0.0}
"""Absolute error near zero: half the smallest f16; f32 subnormals may be flushed."""


@dataclass(frozen=True)
class Answer:
    """`value` in f64; `error`: allowed absolute error before rounding; not `rounded`: the output only moves values."""

    value: Array
    error: Array
    rounded: bool = True

    def allowed(self, dtype: str) -> Array:
        """Allowed absolute error of an output of this dtype, element by element."""
        if not self.rounded:
            return self.error
        return np.asarray(self.error + ROUNDOFF[dtype] * (np.abs(self.value) + self.error) + SMALLEST[dtype])


Oracle: TypeAlias = Callable[[Arrays, Scalars], dict[str, Answer]]


def _steps(terms: int) -> float:
    """Roundings that a product's sum of so many terms may suffer, in units of F32 times the sum of magnitudes.

    Matrix instructions truncate rather than round, 8 or 16 terms at a time, so errors need not cancel.
    """
    return min(terms, 8 + terms / 8)


def _roundings(terms: int) -> float:
    """The same for sums that round to nearest: errors of random signs grow with the root (Higham, section 2.8)."""
    return min(terms, 4 * math.sqrt(terms))


def product(a: Array, b: Array, unit: float = 0.0) -> Answer:
    """a @ b over the last two axes. `unit`: relative error of each product (operands rounded further)."""
    magnitude = np.abs(a) @ np.abs(b)
    return Answer(a @ b, (_steps(a.shape[-1]) * F32 + unit) * magnitude)


def _turned(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def gemm(a_turned: bool, b_turned: bool, unit: float = 0.0) -> Oracle:
    def oracle(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
        a = _turned(x["a"]) if a_turned else x["a"]
        b = _turned(x["b"]) if b_turned else x["b"]
        return {"c": product(a, b, unit)}

    return oracle


def gemm_epilogue(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    plain = product(x["x"], x["w"].T)
    h = plain.value + x["bias"]
    half = np.frompyfunc(lambda v: 0.5 * (1.0 + math.erf(v * math.sqrt(0.5))), 1, 1)(h).astype(np.float64)
    slope = 1.13  # the steepest slope of gelu
    error = slope * plain.error + F32 * (8 * np.abs(h) + np.abs(x["bias"]) + np.abs(x["res"]))
    return {"y": Answer(h * half + x["res"], error)}


def gemm_swiglu(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    g, u = product(x["x"], x["wg"].T), product(x["x"], x["wu"].T)
    sigmoid = 1 / (1 + np.exp(-g.value))
    silu, slope = g.value * sigmoid, 1.1  # the steepest slope of g * sigmoid(g)
    error = slope * g.error * (np.abs(u.value) + u.error) + np.abs(silu) * u.error
    return {"y": Answer(silu * u.value, error + 8 * F32 * np.abs(silu * u.value))}


def gemm_int8(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    value = (x["a"].astype(np.float64) @ x["w"].T.astype(np.float64)).astype(np.int64)
    return {"c": Answer(value, np.zeros(value.shape))}


def gemm_int8_scaled(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    value = gemm_int8(x, scalars)["c"].value * x["sa"][:, None] * x["sw"][None, :]
    return {"c": Answer(value, 3 * F32 * np.abs(value))}


def gemm_fp8(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    plain, scale = product(x["a"], x["w"].T, FP8_UNIT), float(scalars["scale"])
    return {"c": Answer(plain.value * scale, plain.error * scale + F32 * np.abs(plain.value * scale))}


def gemm_fp8_blocks(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    """Blocks of 128 along k, each multiplied by its scales, of a row of a and of 128 columns of c, and added in f32."""
    m, n = x["a"].shape[0], x["w"].shape[0]
    value, error, size = (np.zeros((m, n)) for _ in range(3))
    for block, rows in enumerate(x["sa"]):
        k = slice(128 * block, 128 * block + 128)
        scale = rows[:, None] * np.repeat(x["sw"][:, block], 128)[None, :n]
        part = product(x["a"][:, k], x["w"][:, k].T, FP8_UNIT)
        value, error, size = value + part.value * scale, error + part.error * scale, size + np.abs(part.value * scale)
    return {"c": Answer(value, error + F32 * (len(x["sa"]) + 3) * size)}


def gemm_grouped(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    """Rows offsets[e] to offsets[e + 1] by the weights of group e."""
    return gemm_moe(x | {"rows": np.arange(len(x["x"]))}, scalars)


def gemm_moe(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    group = np.searchsorted(x["offsets"], np.arange(len(x["rows"])), side="right") - 1
    parts = [product(x["x"][row][None, :], x["w"][e].T) for row, e in zip(x["rows"], group, strict=True)]
    return {"y": Answer(np.concatenate([p.value for p in parts]), np.concatenate([p.error for p in parts]))}


def gemm_int4(dtype: str) -> Oracle:
    """(q - zero) * scale is exact in f32, so rounding it to the operand's dtype is part of the definition."""

    def oracle(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
        zero, scale = (np.repeat(x[name], 128, axis=1) for name in ("points", "scales"))
        w = ((x["wq"] - zero) * scale).astype(np.float32).astype(NUMPY[dtype]).astype(np.float64)
        return {"c": product(x["a"], w.T)}

    return oracle


def conv3x3_s2(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    padded, w = np.pad(x["x"], ((0, 0), (1, 1), (1, 1), (0, 0))), x["w"]
    p, q = ((n + 1) // 2 for n in x["x"].shape[1:3])
    taps = [padded[:, r : r + 2 * p - 1 : 2, s : s + 2 * q - 1 : 2] for r in range(3) for s in range(3)]
    return {"y": product(np.concatenate(taps, axis=-1), w.reshape(len(w), -1).T)}


def attention(dtype: str) -> Oracle:
    """The probabilities are rounded to the operands' dtype before they meet v, relative to a running maximum."""

    def oracle(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
        q, k, v = x["q"], *(np.repeat(x[n], x["q"].shape[1] // x[n].shape[1], axis=1) for n in ("k", "v"))
        m, n = q.shape[2], k.shape[2]
        scale = float(scalars["scale"])
        scores = product(q, _turned(k))
        seen = (np.arange(m)[:, None] + n - m >= np.arange(n)) if scalars["causal"] else np.ones((m, n), bool)
        s = np.where(seen, scores.value * scale, -np.inf)
        top = s.max(axis=-1, keepdims=True)
        p = np.exp(s - top)
        total = p.sum(axis=-1, keepdims=True)
        bend = 2 * scores.error * scale + F32 * (4 * np.abs(scores.value * scale) + 4 * np.abs(top) + 16)
        worst = np.where(seen, bend, 0.0).max(axis=-1, keepdims=True)  # relative error of p and of its sum
        relative = ROUNDOFF[dtype] + 2 * worst + 2 * (_roundings(n) + _steps(n)) * F32
        error = relative * ((p / total) @ np.abs(v)) + SMALLEST[dtype] * (seen / total) @ np.abs(v)
        return {"o": Answer((p / total) @ v, error)}

    return oracle


def _exponentials(x: Array) -> tuple[Array, Array, Array, Array]:
    """Row maximum, exp(x - maximum), its sum, and the relative error of each exponential and of the sum."""
    top = x.max(axis=1, keepdims=True)
    e = np.exp(x - top)
    error = F32 * (2 * (top - x) + 8 + _roundings(x.shape[1]))
    return top, e, e.sum(axis=1, keepdims=True), error


def softmax(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    _, e, total, error = _exponentials(x["x"])
    spread = (e * error).sum(axis=1, keepdims=True) / total
    return {"y": Answer(e / total, (error + spread) * e / total)}


def cross_entropy(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    top, e, total, error = _exponentials(x["x"])
    picked = np.take_along_axis(x["x"], x["labels"][:, None], axis=1)
    log = np.log(total)
    slack = (e * error).sum(axis=1, keepdims=True) / total + F32 * (4 * log + 2 * np.abs(top) + 2 * np.abs(picked) + 4)
    return {"loss": Answer((log + top - picked)[:, 0], slack[:, 0])}


def layernorm(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    rows, n = x["x"], x["x"].shape[1]
    mean = rows.mean(axis=1, keepdims=True)
    d = rows - mean
    r = 1 / np.sqrt((d * d).mean(axis=1, keepdims=True) + float(scalars["eps"]))
    value = d * r * x["w"] + x["b"]
    shift = F32 * (_roundings(n) * np.abs(rows).mean(axis=1, keepdims=True) + np.abs(rows))
    error = np.abs(r * x["w"]) * shift * 2 + F32 * (_roundings(n) + 8) * np.abs(d * r * x["w"]) + F32 * np.abs(value)
    return {"y": Answer(value, error)}


def rmsnorm_residual(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    h, n = x["x"] + x["res"], x["x"].shape[1]
    r = 1 / np.sqrt((h * h).mean(axis=1, keepdims=True) + float(scalars["eps"]))
    value = h * r * x["w"]
    return {"h": Answer(h, F32 * np.abs(h)), "y": Answer(value, F32 * (_roundings(n) + 8) * np.abs(value))}


def transpose(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    return {"y": Answer(x["x"].T, np.zeros(x["x"].T.shape), rounded=False)}


def rope(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    even, odd, c, s = x["x"][..., 0::2], x["x"][..., 1::2], x["c"], x["s"]
    value = np.stack([even * c - odd * s, even * s + odd * c], axis=-1)
    magnitude = np.stack([np.abs(even * c) + np.abs(odd * s), np.abs(even * s) + np.abs(odd * c)], axis=-1)
    return {"y": Answer(value.reshape(x["x"].shape), 2 * F32 * magnitude.reshape(x["x"].shape))}


def column_sums(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    return {"y": Answer(x["x"].sum(axis=0), _roundings(len(x["x"])) * F32 * np.abs(x["x"]).sum(axis=0))}


def cumsum(x: Arrays, scalars: Scalars) -> dict[str, Answer]:
    error = _roundings(x["x"].shape[1]) * F32 * np.cumsum(np.abs(x["x"]), axis=1)
    return {"y": Answer(np.cumsum(x["x"], axis=1), error)}
