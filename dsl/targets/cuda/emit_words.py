"""Types, literals and words of the tile IR as C++ expressions of single elements."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Sequence

from kernelagent.dsl.dtypes import DTYPES, identity, is_float

CTYPES = {name: f"ka_{name}" for name in DTYPES} | {"u4": "ka_u8"}
"""C++ type of an element; two elements of u4 share a byte in memory, but have one each in registers."""

NARROW_FLOATS = frozenset({"f16", "bf16", "f8e4m3", "f8e5m2"})
"""Floats without arithmetic of their own: structs of raw bits."""

_COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
_UNSIGNED = {"i32": "ka_u32", "i64": "ka_u64"}
_RENAMED = {"maximum": "ka_max", "minimum": "ka_min"}

COMBINE = {"sum": "add", "prod": "mul", "max": "maximum", "min": "minimum", "any": "or", "all": "and"}
"""The word that a reduction repeats."""


def element_bits(dtype: str) -> int:
    return DTYPES[dtype].bits


def literal(value: float | int | bool, dtype: str) -> str:
    """A C++ expression of exactly the type of `dtype`."""
    if dtype == "bool":
        return "true" if value else "false"
    if dtype in NARROW_FLOATS:
        return f"ka_cast<{CTYPES[dtype]}>({_float(float(value), 'f32')})"
    if is_float(dtype):
        return _float(float(value), dtype)
    number = int(value)
    if dtype == "i32":
        return str(number) if number > -(2**31) else "(-2147483647 - 1)"
    if dtype == "i64" and number == -(2**63):
        return "(ka_i64)(-9223372036854775807ll - 1)"
    suffix = "ll" if dtype == "i64" else "u" if dtype == "u32" else ""
    return f"({CTYPES[dtype]}){number}{suffix}"


def _float(value: float, dtype: str) -> str:
    """Decimal where that is short and exact, else hexadecimal."""
    if math.isnan(value) or math.isinf(value):
        bits = 0x7FC00000 if math.isnan(value) else 0x7F800000 if value > 0 else 0xFF800000
        text = f"ka_bits<ka_f32>(0x{bits:08x}u)"
        return text if dtype == "f32" else f"(ka_f64){text}"
    if dtype == "f32":
        value = rounded_f32(value)
    shown = repr(value)
    text = shown if len(shown) <= 8 and "e" not in shown else re.sub(r"\.?0+p", "p", value.hex())
    return f"{text}{'f' if dtype == 'f32' else ''}"


def rounded_f32(value: float) -> float:
    """The nearest f32, infinities beyond the largest."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def identity_literal(word: str, dtype: str) -> str:
    """What a reduction by `word` starts from."""
    return literal(identity(word, dtype), dtype)


def cast(text: str, source: str, target: str) -> str:
    if source == target:
        return text
    if target == "bool":
        return f"({widened(text, source)} != 0)"
    if target == "u4":
        if is_float(source):
            clamped = f"ka_min(ka_max(ka_cast<ka_i32>({text}), 0), 15)"
            return f"(ka_u8){clamped}"
        return f"(ka_u8)({text} & 15)"
    return f"ka_cast<{CTYPES[target]}>({text})"


def widened(text: str, dtype: str) -> str:
    """A value in the type that its arithmetic is done in."""
    return f"ka_cast<ka_f32>({text})" if dtype in NARROW_FLOATS else text


def word_text(word: str, arguments: Sequence[str], dtypes: Sequence[str], result: str) -> str:
    """A unary or binary word, "where" or "cast" on elements of `dtypes`."""
    if word == "cast":
        return cast(arguments[0], dtypes[0], result)
    if word == "where":
        return f"({arguments[0]} ? {arguments[1]} : {arguments[2]})"
    dtype = "f32" if dtypes[0] in NARROW_FLOATS else dtypes[0]
    values = [widened(a, d) for a, d in zip(arguments, dtypes, strict=True)]
    if word in _COMPARISONS:
        return f"({values[0]} {_COMPARISONS[word]} {values[1]})"
    text = _unary(word, values[0], dtype) if len(values) == 1 else _binary(word, values[0], values[1], dtype)
    return cast(text, dtype, result)


def _unary(word: str, a: str, dtype: str) -> str:
    if is_float(dtype):
        return f"(-{a})" if word == "neg" else f"ka_{word}({a})"
    if dtype == "bool":
        return f"(!{a})"
    if word == "abs":
        return a if DTYPES[dtype].kind == "uint" else f"({a} < 0 ? {_wrapped('-', '0', a, dtype)} : {a})"
    if word == "not":
        return _narrowed(f"~{a}", dtype)
    return _wrapped("-", "0", a, dtype)


def _binary(word: str, a: str, b: str, dtype: str) -> str:
    if is_float(dtype):
        return (
            f"({a} {_OPERATORS[word]} {b})" if word in _OPERATORS else f"{_RENAMED.get(word, f'ka_{word}')}({a}, {b})"
        )
    if dtype == "bool":
        return f"(ka_bool)({a} {_OPERATORS[word]} {b})" if word in _OPERATORS else _extremum(word, a, b)
    if word in ("maximum", "minimum"):
        return _extremum(word, a, b)
    if word in ("shl", "shr"):
        return _shift(word, a, b, dtype)
    if word in ("floordiv", "mod"):
        return _divided(word, a, b, dtype)
    if word == "pow":
        return _narrowed(f"ka_pow({a}, {b})", dtype)
    return _wrapped(_OPERATORS[word], a, b, dtype)


def _divided(word: str, a: str, b: str, dtype: str) -> str:
    """Elements may be divided by 0, which gives 0, and the lowest number by -1, which wraps: C++ defines neither."""
    text = _narrowed(f"ka_{word}({a}, {b})", dtype)
    if DTYPES[dtype].kind == "int":
        wrapped = _wrapped("-", "0", a, dtype) if word == "floordiv" else "0"
        text = f"({b} == -1 ? {wrapped} : {text})"
    return f"({b} == 0 ? 0 : {text})"


def _extremum(word: str, a: str, b: str) -> str:
    return f"({a} {'>' if word == 'maximum' else '<'} {b} ? {a} : {b})"


def _wrapped(operator: str, a: str, b: str, dtype: str) -> str:
    """Signed overflow is undefined in C++: wide types go through their unsigned ones, narrow ones through int."""
    unsigned = _UNSIGNED.get(dtype)
    if unsigned and operator in "+-*":
        return f"({CTYPES[dtype]})(({unsigned}){a} {operator} ({unsigned}){b})"
    return _narrowed(f"{a} {operator} {b}", dtype)


def _narrowed(text: str, dtype: str) -> str:
    return f"(ka_u8)(({text}) & 15)" if dtype == "u4" else f"({CTYPES[dtype]})({text})"


def _shift(word: str, a: str, b: str, dtype: str) -> str:
    """Shifts by the width or more give 0, or -1 for a negative number to the right."""
    width = max(element_bits(dtype), 8)
    inside = f"(ka_u64){b} < {width}u"
    if word == "shl":
        return _narrowed(f"{inside} ? (ka_u64){a} << ({b} & 63) : 0u", dtype)
    beyond = f"({a} < 0 ? -1 : 0)" if DTYPES[dtype].kind == "int" else "0"
    return _narrowed(f"{inside} ? {a} >> {b} : {beyond}", dtype)
