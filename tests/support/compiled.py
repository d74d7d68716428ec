"""Kernel texts run through the interpreter and through the compiled CPU target, on guarded arrays."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from kernelagent.dsl import interpret, parse
from kernelagent.dsl.targets import cpu
from numpy.typing import NDArray

Array = NDArray[Any]

CACHE = Path(tempfile.mkdtemp(prefix="cpu-cache-"))
atexit.register(shutil.rmtree, CACHE, ignore_errors=True)

GUARD = 256
"""Elements before and after each written array that must not change."""


@cache
def _loaded(text: str, choices: tuple[Any, ...], options: cpu.CpuOptions, absent: frozenset[str]) -> cpu.LoadedKernel:
    dtypes, tunables, consts, dims = (dict(c) for c in choices)
    return cpu.load(cpu.compile(parse(text, absent), dtypes, tunables, consts, dims, options))


def loaded(
    text: str,
    arrays: Mapping[str, Array],
    *,
    dtypes: Mapping[str, str] | None = None,
    tunables: Mapping[str, Any] | None = None,
    consts: Mapping[str, Any] | None = None,
    dims: Mapping[str, int] | None = None,
    level: str = "auto",
    strides: str = "dense",
) -> cpu.LoadedKernel:
    """The compiled text; dtype variables default to f32, and arrays that are not given are absent."""
    module = parse(text)
    absent = frozenset(a.name for a in module.entry.arrays if a.optional and a.name not in arrays)
    chosen = {v: "f32" for v in module.entry.dtype_variables} | dict(dtypes or {})
    choices = tuple(tuple(sorted((c or {}).items())) for c in (chosen, tunables, consts, dims))
    return _loaded(text, choices, cpu.CpuOptions(features=level, cache_dir=CACHE, strides=strides), absent)


def run_both(
    text: str,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any] | None = None,
    **choices: Any,
) -> list[tuple[str, Array, Array]]:
    """(output, interpreter's, compiled) for each output. Elements around the compiled outputs are checked too."""
    module = parse(text)
    consts = choices.get("consts") or {}
    absent = frozenset(a.name for a in module.entry.arrays if a.optional and a.name not in arrays)
    tunables = choices.get("tunables") or {}
    expected = interpret(parse(text, absent), arrays, {**(scalars or {}), **consts}, tunables, plant_nan=True)
    mine: dict[str, Array] = dict(arrays)
    zones: dict[str, Array] = {}
    in_out = {a.name for a in module.entry.arrays if a.role == "InOut"}
    for name in expected:
        mine[name], zones[name] = guarded_like(arrays[name], keep=name in in_out)
    kernel = loaded(text, arrays, **choices)
    kernel(mine, {**(scalars or {}), **consts})
    for name, zone in zones.items():
        assert (zone[:GUARD] == 0xA5).all(), f"{name}: written in front of the array"
        assert (zone[-GUARD:] == 0xA5).all(), f"{name}: written behind the array"
    return [(name, expected[name], mine[name]) for name in expected]


def guarded_like(array: Array, keep: bool) -> tuple[Array, Array]:
    """A poisoned (or equal) array of the same shape inside a zone of marked bytes, deliberately unaligned."""
    offset = GUARD + 4 * 3 * (array.itemsize >= 4) + 8 * (array.itemsize == 8)
    zone = np.full(offset + array.nbytes + GUARD, 0xA5, np.uint8)
    inner = zone[offset : offset + array.nbytes].view(array.dtype).reshape(array.shape)
    inner[...] = array if keep else poison(array.dtype)
    return inner, zone


def poison(dtype: np.dtype[Any]) -> Any:
    if dtype.kind == "f" or dtype == ml_dtypes.bfloat16:
        return np.nan
    return True if dtype.kind == "b" else 77


def assert_same(
    text: str,
    arrays: Mapping[str, Array],
    scalars: Mapping[str, Any] | None = None,
    *,
    rtol: float = 2e-6,
    atol: float = 2e-6,
    **choices: Any,
) -> None:
    """Compiled outputs equal the interpreter's: exactly for integers, within tolerance for floats, NaN for NaN."""
    for name, expected, got in run_both(text, arrays, scalars, **choices):
        if expected.dtype.kind in "biu":
            np.testing.assert_array_equal(got, expected, err_msg=name)
        else:
            wide = expected.astype(np.float64), got.astype(np.float64)
            np.testing.assert_allclose(wide[1], wide[0], rtol=rtol, atol=atol, err_msg=name)
