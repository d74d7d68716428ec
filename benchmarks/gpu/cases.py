"""Kernels that must compile to good GPU code: their texts, what they are run on, what must come out.

    for case in CASES:
        for shape in case.shapes:
            inputs = case.inputs(shape.dims)
            found = run(case.text, inputs, case.outputs(shape.dims), case.scalars)
            assert case.verdict(inputs, found).ok

Needs numpy and ml_dtypes only. Oracles are fp64 on the rounded inputs; each gives, beside its value, how far f32
arithmetic may be off before the result is rounded to the output's dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import oracles
from oracles import NUMPY, Answer, Array, Arrays, Oracle, Scalars

KERNELS = Path(__file__).parent / "kernels"

Dims: TypeAlias = Mapping[str, int]
Maker: TypeAlias = Callable[[np.random.Generator, Dims, tuple[int, ...]], Array]
Kind: TypeAlias = Literal["full", "ragged", "tiny"]
Rival: TypeAlias = Literal["cublas", "cudnn", "sdpa", "copy"]

# Records ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """`full`: tiles divide every dim; `ragged`: none does (odd rows, or rows of whole 16 bytes); `tiny`: below one."""

    kind: Kind
    dims: Dims


@dataclass(frozen=True)
class Large:
    """A shape for timing on a device, and what to time beside it. `copy`: a device copy of as many bytes."""

    dims: Dims
    rival: Rival


@dataclass(frozen=True)
class Verdict:
    """`worst`: largest |found - value| / allowed over all elements (inf for NaN), at `element` of `output`."""

    worst: float
    output: str
    element: tuple[int, ...]
    found: float
    expected: float

    @property
    def ok(self) -> bool:
        return self.worst <= 1.0


@dataclass(frozen=True)
class Case:
    """One kernel with its dtypes. `ins` and `outs` give each array as "dtype dim dim ..." in the kernel's order.

    `opcodes` by architecture: what the SASS of the aligned class must hold beside the opcodes of its schedule's atoms,
    as mnemonic and modifiers in any order (see `has_opcode`).
    """

    name: str
    kernel: str
    ins: Mapping[str, str]
    outs: Mapping[str, str]
    shapes: tuple[Shape, ...]
    large: Large
    oracle: Oracle
    opcodes: Mapping[str, tuple[str, ...]]
    dtypes: Mapping[str, str] = field(default_factory=dict)
    scalars: Scalars = field(default_factory=dict)
    makers: Mapping[str, Maker] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return KERNELS / f"{self.kernel}.tile"

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def dtype(self, array: str) -> str:
        """The concrete dtype of an array, e.g. "bf16"."""
        name = {**self.ins, **self.outs}[array].split()[0]
        return self.dtypes.get(name, name)

    def shape(self, array: str, dims: Dims) -> tuple[int, ...]:
        return tuple(_size(entry, dims) for entry in {**self.ins, **self.outs}[array].split()[1:])

    def inputs(self, dims: Dims, seed: int = 0) -> Arrays:
        """The same arrays for the same seed. Integers fill their range; floats are normal unless a maker says more."""
        generator = np.random.default_rng(seed)
        return {name: self._input(name, dims, generator) for name in self.ins}

    def _input(self, name: str, dims: Dims, generator: np.random.Generator) -> Array:
        dtype, shape = self.dtype(name), self.shape(name, dims)
        make = self.makers.get(name, _RANGES.get(dtype, _normal))
        return np.ascontiguousarray(make(generator, dims, shape).astype(NUMPY[dtype]))

    def outputs(self, dims: Dims) -> Arrays:
        """Zeroed arrays of the outputs' shapes and dtypes."""
        return {name: np.zeros(self.shape(name, dims), NUMPY[self.dtype(name)]) for name in self.outs}

    def answers(self, inputs: Arrays) -> dict[str, Answer]:
        """What the outputs should be, from the rounded inputs in fp64 (index arrays as int64)."""
        return self.oracle({name: _widened(a) for name, a in inputs.items()}, self.scalars)

    def verdict(self, inputs: Arrays, found: Arrays) -> Verdict:
        """The worst element of all outputs. Raises KeyError where an output is missing."""
        answers = self.answers(inputs)
        return max((_judge(n, a, self.dtype(n), found[n]) for n, a in answers.items()), key=lambda v: v.worst)


def has_opcode(mnemonics: set[str], wanted: str) -> bool:
    """Whether one of the mnemonics (e.g. "LDGSTS.E.BYPASS.128") has `wanted`'s name and all its modifiers."""
    name, *modifiers = wanted.split(".")
    parts = (m.split(".") for m in mnemonics)
    return any(first == name and set(modifiers) <= set(rest) for first, *rest in parts)


def _judge(name: str, answer: Answer, dtype: str, found: Array) -> Verdict:
    values = found.astype(np.float64)
    assert values.shape == answer.value.shape, f"{name} has shape {values.shape}, not {answer.value.shape}"
    error, allowed = np.abs(values - answer.value), answer.allowed(dtype)
    ratio = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
    ratio = np.where(np.isfinite(values), ratio, np.inf)
    at = np.unravel_index(int(np.argmax(ratio)), ratio.shape)
    element = tuple(int(i) for i in at)
    return Verdict(float(ratio[at]), name, element, float(values[at]), float(answer.value[at]))


def _widened(array: Array) -> Array:
    return array.astype(np.int64 if array.dtype in (np.int32, np.int8) else np.float64)


_OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "+": lambda a, b: a + b,
}


def _size(entry: str, dims: Dims) -> int:
    """`M`, `3`, `2*P`, `K//128`, `E+1`."""
    for sign, operation in _OPERATORS.items():
        left, found, right = entry.partition(sign)
        if found:
            return operation(_size(left, dims), _size(right, dims))
    return dims[entry] if entry in dims else int(entry)


# Inputs -------------------------------------------------------------------------------------------


def _normal(g: np.random.Generator, dims: Dims, shape: tuple[int, ...]) -> Array:
    return g.standard_normal(shape, np.float32)


def _integers(low: int, high: int) -> Maker:
    return lambda g, dims, shape: g.integers(low, high, shape)


def _below(dim: str) -> Maker:
    """Positions along a dim."""
    return lambda g, dims, shape: g.integers(0, dims[dim], shape)


def _uniform(low: float, high: float) -> Maker:
    return lambda g, dims, shape: g.uniform(low, high, shape)


def _scaled(factor: float) -> Maker:
    return lambda g, dims, shape: factor * g.standard_normal(shape, np.float32)


def _offsets(g: np.random.Generator, dims: Dims, shape: tuple[int, ...]) -> Array:
    """Equal groups where whole tiles divide them, else random ones, the second of them empty."""
    total, groups = dims["M"], dims["E"]
    if total % (128 * groups) == 0:
        return np.arange(groups + 1) * (total // groups)
    inner = np.sort(g.integers(0, total + 1, groups - 1))
    inner[1:2] = inner[0:1]
    return np.concatenate([[0], inner, [total]])


_RANGES: Mapping[str, Maker] = {"i8": _integers(-128, 128), "u8": _integers(0, 16), "u4": _integers(0, 16)}


# The table ----------------------------------------------------------------------------------------

ARCHITECTURES = ("sm_80", "sm_89")


def _opcodes(*names: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(ARCHITECTURES, names)


def _shapes(names: str, *sizes: tuple[Kind, tuple[int, ...]]) -> tuple[Shape, ...]:
    return tuple(Shape(kind, _dims(names, *values)) for kind, values in sizes)


def _dims(names: str, *values: int) -> dict[str, int]:
    return dict(zip(names.split(), values, strict=True))


PRODUCTS = _shapes(
    "M N K", ("full", (256, 256, 128)), ("ragged", (131, 77, 93)), ("ragged", (136, 200, 72)), ("tiny", (3, 5, 7))
)
ROWS = _shapes("M N", ("full", (8, 4096)), ("ragged", (5, 5001)), ("tiny", (1, 3)))
LARGE_PRODUCT = _dims("M N K", 4096, 4096, 4096)
LARGE_ROWS = _dims("M N", 16384, 4096)
MATRIX = _opcodes("LDSM")
"""Operands of products come through ldmatrix: emission chooses it, the schedule does not say so."""
STREAM = _opcodes()
"""All follows from the schedule."""


def _products() -> list[Case]:
    """C = op(A) op(B) in all four transpositions, for f16, bf16 and tf32."""
    cases = []
    for which in ("nn", "nt", "tn", "tt"):
        a, b = ("K M" if which[0] == "t" else "M K"), ("N K" if which[1] == "t" else "K N")
        turned = (which[0] == "t", which[1] == "t")
        for dtype in ("bf16", "f16"):
            ins, outs = {"a": f"T {a}", "b": f"T {b}"}, {"c": "T M N"}
            cases.append(
                Case(f"gemm_{which}_{dtype}", f"gemm_{which}", ins, outs, PRODUCTS, Large(LARGE_PRODUCT, "cublas"),
                     oracles.gemm(*turned), MATRIX, {"T": dtype})
            )  # fmt: skip
        # 32-bit elements have no transposing ldmatrix: only operands with k along their rows come through LDSM
        loads = ("LDSM",) if which != "tn" else ()
        ins, outs = {"a": f"f32 {a}", "b": f"f32 {b}"}, {"c": "f32 M N"}
        cases.append(
            Case(f"gemm_{which}_tf32", f"gemm_tf32_{which}", ins, outs, PRODUCTS, Large(LARGE_PRODUCT, "cublas"),
                 oracles.gemm(*turned, unit=2.0**-10), _opcodes(*loads))
        )  # fmt: skip
    return cases


def _attentions() -> list[Case]:
    names = "B H G M N D"
    cases = []
    for causal in (True, False):
        for size, dtype in ((64, "bf16"), (128, "bf16"), (128, "f16"), (256, "bf16")):
            shapes = _shapes(
                names, ("full", (1, 2, 1, 128, 192, size)), ("ragged", (2, 3, 1, 77, 93, size)),
                ("tiny", (1, 2, 2, 1, 3, size)),
            )  # fmt: skip
            large = Large(_dims(names, 4, 32, 8, 4096, 4096, size), "sdpa")
            ins = {"q": "T B H M D", "k": "T B G N D", "v": "T B G N D"}
            cases.append(
                Case(f"attention_{'causal' if causal else 'full'}_d{size}_{dtype}",
                     "attention_wide" if size == 256 else "attention", ins,
                     {"o": "T B H M D"}, shapes, large, oracles.attention(dtype),
                     MATRIX, {"T": dtype},
                     {"scale": size**-0.5, "causal": causal})
            )  # fmt: skip
    return cases


BF16 = {"T": "bf16"}
SPREAD = {"x": _scaled(4.0)}
POSITIVE = _uniform(0.002, 0.02)

CASES: tuple[Case, ...] = (
    *_products(),
    Case(
        "gemm_epilogue", "gemm_epilogue", {"x": "T M K", "w": "T N K", "bias": "T N", "res": "T M N"},
        {"y": "T M N"}, PRODUCTS, Large(LARGE_PRODUCT, "cublas"), oracles.gemm_epilogue, MATRIX, BF16,
        makers={"w": _scaled(0.1)},
    ),
    Case("gemm_swiglu", "gemm_swiglu", {"x": "T M K", "wg": "T N K", "wu": "T N K"}, {"y": "T M N"}, PRODUCTS,
         Large(LARGE_PRODUCT, "cublas"), oracles.gemm_swiglu, MATRIX, BF16,
         makers={"wg": _scaled(0.1), "wu": _scaled(0.1)}),
    *_attentions(),
    Case("softmax_bf16", "softmax", {"x": "T M N"}, {"y": "T M N"}, ROWS, Large(LARGE_ROWS, "copy"), oracles.softmax,
         STREAM, BF16, makers=SPREAD),
    Case("softmax_f32", "softmax", {"x": "T M N"}, {"y": "T M N"}, ROWS, Large(LARGE_ROWS, "copy"), oracles.softmax,
         STREAM, {"T": "f32"}, makers=SPREAD),
    Case("layernorm", "layernorm", {"x": "T M N", "w": "T N", "b": "T N"}, {"y": "T M N"}, ROWS,
         Large(LARGE_ROWS, "copy"), oracles.layernorm, STREAM, {"T": "f16"}, {"eps": 1e-5}),
    Case("rmsnorm_residual", "rmsnorm_residual", {"x": "T M N", "res": "T M N", "w": "T N"},
         {"h": "T M N", "y": "T M N"}, ROWS, Large(LARGE_ROWS, "copy"), oracles.rmsnorm_residual, STREAM, BF16,
         {"eps": 1e-6}),
    Case("cross_entropy", "cross_entropy", {"x": "T M N", "labels": "i32 M"}, {"loss": "f32 M"}, ROWS,
         Large(_dims("M N", 8192, 32000), "copy"), oracles.cross_entropy, STREAM, BF16,
         makers=SPREAD | {"labels": _below("N")}),
    Case("transpose", "transpose", {"x": "T M N"}, {"y": "T N M"},
         _shapes("M N", ("full", (128, 192)), ("ragged", (77, 93)), ("tiny", (3, 5))),
         Large(_dims("M N", 8192, 8192), "copy"), oracles.transpose, STREAM, BF16),
    Case("rope", "rope", {"x": "T B H S 2*P", "c": "T S P", "s": "T S P"}, {"y": "T B H S 2*P"},
         _shapes("B H S P", ("full", (1, 2, 64, 64)), ("ragged", (2, 3, 37, 23)), ("tiny", (1, 1, 3, 1))),
         Large(_dims("B H S P", 4, 32, 4096, 64), "copy"), oracles.rope, STREAM, BF16,
         makers={"c": _uniform(-1, 1), "s": _uniform(-1, 1)}),
    Case("gemm_int8", "gemm_int8", {"a": "i8 M K", "w": "i8 N K"}, {"c": "i32 M N"}, PRODUCTS,
         Large(LARGE_PRODUCT, "cublas"), oracles.gemm_int8, MATRIX),
    Case("gemm_int8_scaled", "gemm_int8_scaled", {"a": "i8 M K", "w": "i8 N K", "sa": "f32 M", "sw": "f32 N"},
         {"c": "T M N"}, PRODUCTS, Large(LARGE_PRODUCT, "cublas"), oracles.gemm_int8_scaled,
         MATRIX, {"T": "f16"}, makers={"sa": POSITIVE, "sw": POSITIVE}),
    Case("gemm_fp8", "gemm_fp8", {"a": "f8e4m3 M K", "w": "f8e4m3 N K"}, {"c": "T M N"},
         _shapes("M N K", ("full", (256, 256, 512)), ("ragged", (131, 77, 93)), ("ragged", (136, 200, 208)),
                 ("tiny", (3, 5, 7))),
         Large(LARGE_PRODUCT, "cublas"), oracles.gemm_fp8, {"sm_89": ("LDSM",)}, BF16,
         {"scale": 0.25}),
    Case("gemm_fp8_blocks", "gemm_fp8_blocks",
         {"a": "f8e4m3 M K", "w": "f8e4m3 N K", "sa": "f32 K//128 M", "sw": "f32 N+127//128 K//128"}, {"c": "T M N"},
         _shapes("M N K", ("full", (256, 256, 512)), ("ragged", (131, 77, 384)), ("ragged", (136, 200, 640)),
                 ("tiny", (3, 5, 128))),
         Large(LARGE_PRODUCT, "cublas"), oracles.gemm_fp8_blocks, {"sm_89": ("LDSM",)}, BF16,
         makers={"sa": POSITIVE, "sw": POSITIVE}),
    Case("gemm_splitk", "gemm_splitk", {"a": "T M K", "b": "T N K"}, {"c": "T M N"},
         _shapes("M N K", ("full", (128, 256, 512)), ("ragged", (131, 77, 333)), ("tiny", (3, 5, 7))),
         Large(_dims("M N K", 512, 512, 16384), "cublas"),
         oracles.gemm(False, True), MATRIX, BF16),
    Case("gemm_batched", "gemm_batched", {"a": "T B M K", "b": "T B K N"}, {"c": "T B M N"},
         _shapes("B M N K", ("full", (2, 128, 256, 64)), ("ragged", (3, 77, 131, 45)), ("tiny", (2, 3, 5, 7))),
         Large(_dims("B M N K", 16, 2048, 2048, 2048), "cublas"), oracles.gemm(False, False), MATRIX, BF16),
    Case("gemm_moe", "gemm_moe", {"x": "T S K", "rows": "i32 M", "offsets": "i32 E+1", "w": "T E N K"},
         {"y": "T M N"},
         _shapes("S M E N K", ("full", (96, 256, 2, 128, 64)), ("ragged", (45, 203, 5, 77, 93)),
                 ("tiny", (2, 3, 2, 5, 7))),
         Large(_dims("S M E N K", 8192, 16384, 8, 4096, 4096), "cublas"), oracles.gemm_moe, MATRIX, BF16,
         makers={"rows": _below("S"), "offsets": _offsets}),
    Case("gemm_grouped", "gemm_grouped", {"x": "T M K", "offsets": "i32 E+1", "w": "T E N K"}, {"y": "T M N"},
         _shapes("M E N K", ("full", (256, 2, 128, 128)), ("ragged", (203, 5, 77, 93)), ("ragged", (520, 4, 136, 72)),
                 ("tiny", (3, 2, 5, 7))),
         Large(_dims("M E N K", 16384, 8, 4096, 4096), "cublas"), oracles.gemm_grouped, MATRIX, BF16,
         makers={"offsets": _offsets}),
    Case("gemm_int4", "gemm_int4", {"a": "T M K", "wq": "u4 N K", "scales": "T N K//128", "points": "u8 N K//128"},
         {"c": "T M N"},
         _shapes("M N K", ("full", (128, 128, 512)), ("ragged", (77, 93, 384)), ("ragged", (136, 72, 384)),
                 ("tiny", (3, 5, 128))),
         Large(LARGE_PRODUCT, "cublas"), oracles.gemm_int4("bf16"), MATRIX, BF16,
         makers={"scales": POSITIVE}),
    Case("column_sums", "column_sums", {"x": "T M N"}, {"y": "f32 N"},
         _shapes("M N", ("full", (2048, 512)), ("ragged", (1001, 77)), ("tiny", (3, 5))),
         Large(_dims("M N", 65536, 1024), "copy"), oracles.column_sums, STREAM, BF16),
    Case("column_sums_atomic", "column_sums_atomic", {"x": "T M N"}, {"y": "f32 N"},
         _shapes("M N", ("full", (1024, 512)), ("ragged", (1001, 77)), ("tiny", (3, 5))),
         Large(_dims("M N", 65536, 1024), "copy"), oracles.column_sums, _opcodes("RED"), BF16),
    Case("cumsum", "cumsum", {"x": "T M N"}, {"y": "T M N"}, ROWS, Large(LARGE_ROWS, "copy"), oracles.cumsum, STREAM,
         {"T": "f32"}),
    Case("conv3x3_s2", "conv3x3_s2", {"x": "T B H W C", "w": "T F 3 3 C"}, {"y": "T B P Q F"},
         _shapes("B H W C F P Q", ("full", (1, 16, 32, 64, 128, 8, 16)), ("ragged", (2, 13, 11, 19, 37, 7, 6)),
                 ("ragged", (2, 13, 22, 72, 40, 7, 11)),
                 ("tiny", (1, 1, 2, 1, 3, 1, 1))),
         Large(_dims("B H W C F P Q", 32, 112, 112, 128, 256, 56, 56), "cudnn"), oracles.conv3x3_s2, MATRIX, BF16),
)  # fmt: skip
