"""C types of the language's dtypes: as stored in memory, and as computed with."""

from __future__ import annotations

STORED = {
    "f64": "double", "f32": "float", "f16": "uint16_t", "bf16": "uint16_t", "i64": "int64_t", "i32": "int32_t",
    "i16": "int16_t", "i8": "int8_t", "u32": "uint32_t", "u8": "uint8_t", "bool": "uint8_t",
}  # fmt: skip
"""C type of an element in an array or a buffer. Other dtypes (u4, 8-bit floats) do not run on this target."""

COMPUTED = STORED | {"f16": "float", "bf16": "float", "bool": "int"}
"""C type of one value: 16-bit floats are held widened, and rounded wherever their dtype asks for it."""

BYTES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "i64": 8, "i32": 4, "i16": 2, "i8": 1, "u32": 4, "u8": 1, "bool": 1}

FLOATS = frozenset({"f64", "f32", "f16", "bf16"})
LANE_FLOATS = frozenset({"f32", "f16", "bf16"})
"""dtypes that a vector of floats holds."""
LANE_INTEGERS = frozenset({"i32", "i16", "i8", "u8"})
"""dtypes that a vector of int32 holds."""


def literal(value: float | int | bool, dtype: str) -> str:
    """A C literal of the computed type of `dtype`."""
    if dtype == "bool":
        return "1" if value else "0"
    if dtype in FLOATS:
        return _float_literal(float(value), dtype)
    number = int(value)
    if dtype == "i64" and number == -(2**63):
        return "(-9223372036854775807L - 1)"
    return f"(({STORED[dtype]}){number}L)" if dtype != "i64" else f"{number}L"


def _float_literal(value: float, dtype: str) -> str:
    kind = "" if dtype == "f64" else "f"
    if value != value:
        return f'__builtin_nan{kind}("")'
    if value in (float("inf"), float("-inf")):
        return f"({'-' if value < 0 else ''}__builtin_inf{kind}())"
    return f"{value.hex()}{kind}" if value >= 0 else f"({value.hex()}{kind})"
