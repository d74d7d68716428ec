"""Element types of the tile language: widths, ranges, and their numpy counterparts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy

Kind = Literal["float", "int", "uint", "bool"]


@dataclass(frozen=True)
class DTypeInfo:
    """`bits` is the width of one element in memory; `largest` the largest finite value."""

    name: str
    kind: Kind
    bits: int
    largest: float
    numpy_name: str
    infinite: bool = True  # has an encoding of infinity


def _float(name: str, bits: int, largest: float, numpy_name: str, infinite: bool = True) -> DTypeInfo:
    return DTypeInfo(name, "float", bits, largest, numpy_name, infinite)


def _integer(name: str, kind: Literal["int", "uint"], bits: int, numpy_name: str) -> DTypeInfo:
    return DTypeInfo(name, kind, bits, 2 ** (bits - (kind == "int")) - 1, numpy_name, False)


DTYPES: dict[str, DTypeInfo] = {
    d.name: d
    for d in (
        _float("f64", 64, 1.7976931348623157e308, "float64"),
        _float("f32", 32, 3.4028234663852886e38, "float32"),
        _float("f16", 16, 65504.0, "float16"),
        _float("bf16", 16, 3.3895313892515355e38, "bfloat16"),
        _float("f8e4m3", 8, 448.0, "float8_e4m3fn", infinite=False),
        _float("f8e5m2", 8, 57344.0, "float8_e5m2"),
        _integer("i64", "int", 64, "int64"),
        _integer("i32", "int", 32, "int32"),
        _integer("i16", "int", 16, "int16"),
        _integer("i8", "int", 8, "int8"),
        _integer("u32", "uint", 32, "uint32"),
        _integer("u8", "uint", 8, "uint8"),
        _integer("u4", "uint", 4, "uint4"),
        DTypeInfo("bool", "bool", 8, 1, "bool", False),
    )
}
"""Every concrete dtype. Any other dtype in the IR is the name of a dtype variable."""

STEPS = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7, "f8e4m3": 2.0**-3, "f8e5m2": 2.0**-2}
"""The relative distance of a float to the next one; rounding is half of it."""

HABITS = {
    "float32": "f32", "float": "f32", "fp32": "f32", "float64": "f64", "double": "f64", "float16": "f16", "half": "f16",
    "fp16": "f16", "bfloat16": "bf16", "float8_e4m3": "f8e4m3", "float8_e4m3fn": "f8e4m3", "fp8": "f8e4m3",
    "float8_e5m2": "f8e5m2", "int64": "i64", "int32": "i32", "int": "i32", "int16": "i16", "int8": "i8",
    "uint32": "u32", "uint8": "u8", "uint4": "u4", "boolean": "bool", "bool_": "bool", "i1": "bool",
}  # fmt: skip
"""Names other languages use for our dtypes."""


def is_concrete(dtype: str) -> bool:
    return dtype in DTYPES


def is_float(dtype: str) -> bool:
    return dtype in DTYPES and DTYPES[dtype].kind == "float"


def is_integer(dtype: str) -> bool:
    return dtype in DTYPES and DTYPES[dtype].kind in ("int", "uint")


def may_be_float(dtype: str) -> bool:
    """A float, or a dtype variable that may stand for one."""
    return dtype not in DTYPES or DTYPES[dtype].kind == "float"


def bits(dtype: str) -> int:
    return DTYPES[dtype].bits


def arithmetic(dtype: str) -> str:
    """The dtype in which arithmetic on `dtype` is done: floats below 32 bits and variables widen to f32."""
    if dtype not in DTYPES:
        return "f32"
    return "f32" if is_float(dtype) and bits(dtype) < 32 else dtype


def fits_need(dtype: str, need: str) -> bool:
    """Whether a concrete dtype may stand for a variable with this need.

    "float" means at most 32 bits: arithmetic on a variable is done in f32, which would lose bits of f64.
    """
    return need != "float" or (is_float(dtype) and bits(dtype) <= 32)


def represents(value: float | int | bool, dtype: str) -> bool:
    """Whether a literal may become `dtype`: integers must be exact and in range, floats may round but not overflow."""
    info = DTYPES.get(dtype)
    if info is None:  # a dtype variable: judged again when it is known
        return not isinstance(value, bool)
    if info.kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    if info.kind == "float":
        if value in (float("inf"), float("-inf")):
            return info.infinite
        return value != value or abs(value) <= info.largest
    lowest = -info.largest - 1 if info.kind == "int" else 0
    return isinstance(value, int) and lowest <= value <= info.largest


def identity(word: str, dtype: str) -> float | int | bool:
    """What a reduction by `word` (sum, prod, any, all, max, min) of nothing gives."""
    if word in _NOTHING:
        return _NOTHING[word]
    info, down = DTYPES[dtype], word == "max"
    if info.kind == "float":
        return float("-inf") if down else float("inf")
    if info.kind == "bool":
        return not down
    largest = int(info.largest)
    if down:
        return -largest - 1 if info.kind == "int" else 0
    return largest


_NOTHING: dict[str, int | bool] = {"sum": 0, "prod": 1, "any": False, "all": True}


def numpy_dtype(dtype: str) -> numpy.dtype[Any]:
    """The numpy dtype (from ml_dtypes where numpy has none). Raises KeyError for a dtype variable."""
    import ml_dtypes
    import numpy

    name = DTYPES[dtype].numpy_name
    return numpy.dtype(getattr(ml_dtypes, name, name))


def from_numpy(dtype: object) -> str:
    """Our name of a dtype given as our own name, a numpy (or torch) dtype, or its name. Raises KeyError."""
    name = getattr(dtype, "name", None) or getattr(dtype, "__name__", None) or str(dtype).rpartition(".")[2]
    if name in DTYPES:
        return name
    known = {info.numpy_name: info.name for info in DTYPES.values()} | {"float8_e4m3": "f8e4m3"}
    return known[name]
