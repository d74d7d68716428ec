"""How the interpreter holds numbers, and the garbage that stands for "nobody wrote this"."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from kernelagent.dsl import dtypes

Array = np.ndarray[Any, np.dtype[Any]]

GARBAGE_BYTE = 0x5A


@cache
def held_dtype(name: str, widen: bool = False) -> np.dtype[Any]:
    """The numpy dtype that holds values of dtype `name`; with `widen` every float is held in f64.

    A u4 is held in a byte of its own (0..15), for numpy has no arithmetic on it.
    """
    if widen and dtypes.is_float(name):
        return np.dtype(np.float64)
    return np.dtype(np.uint8) if name == "u4" else dtypes.numpy_dtype(name)


@cache
def integer_range(name: str) -> tuple[int, int]:
    """Smallest and largest value of an integer dtype."""
    info = dtypes.DTYPES[name]
    return (-int(info.largest) - 1 if info.kind == "int" else 0), int(info.largest)


@cache
def garbage(name: str, widen: bool = False) -> Any:
    """A value that should never reach an output: NaN for floats, a repeated byte for integers, True for bool."""
    dtype = held_dtype(name, widen)
    if dtypes.is_float(name):
        return dtype.type(np.nan)
    if name == "bool":
        return np.True_
    if name == "u4":
        return dtype.type(GARBAGE_BYTE & 15)
    return np.frombuffer(bytes([GARBAGE_BYTE] * dtype.itemsize), dtype)[0]
