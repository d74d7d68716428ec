"""Names of element types and their numpy types; the 16- and 8-bit floats numpy lacks come from ml_dtypes."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMPY = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u32": "uint32",
    "u8": "uint8",
    "bool": "bool",
}
_ML_DTYPES = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}
_MANTISSA = {"f64": 53, "f32": 24, "f16": 11, "bf16": 8, "f8e4m3": 4, "f8e5m2": 3}


def known() -> tuple[str, ...]:
    """Every dtype a tensor of a problem may have."""
    return (*_NUMPY, *_ML_DTYPES)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype called `name`. Raises KeyError for an unknown name."""
    if name in _ML_DTYPES:
        import ml_dtypes

        narrow: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[name]))
        return narrow
    return np.dtype(_NUMPY[name])


def is_float(name: str) -> bool:
    return name in _MANTISSA


def unit_roundoff(name: str) -> float:
    """Largest relative error of rounding to nearest, 2**-p for p bits of significand; 0 for integers."""
    return 2.0 ** -_MANTISSA[name] if name in _MANTISSA else 0.0


def itemsize(name: str) -> int:
    """Bytes of one element."""
    return numpy_dtype(name).itemsize
