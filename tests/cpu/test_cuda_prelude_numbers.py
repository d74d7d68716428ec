"""The arithmetic that the CUDA prelude does itself (conversions, range reduction, flooring), run on the host.

The instructions it calls are replaced by host code; what is compared with the interpreter's numbers is the rest.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.dtypes import DTYPES, bits, is_float, numpy_dtype
from kernelagent.dsl.interpreter.numbers import BINARY, cast
from kernelagent.dsl.targets.cuda import prelude as text_of
from numpy.typing import NDArray

Values = NDArray[Any]

SHIM = Path(__file__).parents[1] / "support" / "prelude_host.h"
TYPES = tuple(name for name in DTYPES if name != "u4")
FUNCTIONS = ("sin", "cos", "sigmoid")
DIVIDED = ("f32", "f64", "i64", "i32", "i16", "i8", "u32", "u8")


def _loops() -> str:
    """One C function a case, over arrays."""
    lines = []
    for source in TYPES:
        for target in TYPES:
            head = f"void cast_{source}_{target}(const ka_{source}* x, ka_{target}* y, long n)"
            lines.append(f"{head} {{ for (long i = 0; i < n; ++i) y[i] = ka_cast<ka_{target}>(x[i]); }}")
    for name in FUNCTIONS:
        head = f"void {name}_f32(const ka_f32* x, ka_f32* y, long n)"
        lines.append(f"{head} {{ for (long i = 0; i < n; ++i) y[i] = ka_{name}(x[i]); }}")
    for dtype in DIVIDED:
        for name in ("floordiv", "mod"):
            head = f"void {name}_{dtype}(const ka_{dtype}* a, const ka_{dtype}* b, ka_{dtype}* y, long n)"
            lines.append(f"{head} {{ for (long i = 0; i < n; ++i) y[i] = ka_{name}(a[i], b[i]); }}")
    return 'extern "C" {\n' + "\n".join(lines) + "\n}\n"


@cache
def library() -> ctypes.CDLL:
    parts = [text_of._part(name) for name in ("types", "registers", "convert", "math")]
    source = "\n".join((SHIM.read_text(), "#define KA_HAS_F8 0", *parts, _loops()))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "host.cpp")
        path.write_text(source)
        command = [os.environ.get("CXX", "g++"), "-std=c++17", "-O1", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
        subprocess.run([*command, str(path), "-o", str(path.with_suffix(".so"))], check=True, timeout=120)
        return ctypes.CDLL(str(path.with_suffix(".so")))


def call(name: str, out: Values, *inputs: Values) -> Values:
    held = [np.ascontiguousarray(x) for x in inputs]
    function = getattr(library(), name)
    function(*(ctypes.c_void_p(x.ctypes.data) for x in (*held, out)), ctypes.c_long(out.size))
    return out


@cache
def samples(dtype: str) -> Values:
    """All values of up to 16 bits; of wider ones random bit patterns, small numbers, and the neighbourhoods of ties."""
    kind = numpy_dtype(dtype)
    if dtype == "bool":
        return np.array([False, True])
    if bits(dtype) <= 16:
        return np.arange(2 ** bits(dtype), dtype=np.uint32).astype(f"u{kind.itemsize}").view(kind)
    numbers = np.random.default_rng(4)
    raw = numbers.integers(0, 256, 60_000 * kind.itemsize, np.uint8).view(kind)
    if not is_float(dtype):
        small = np.arange(-70_000 if DTYPES[dtype].kind == "int" else 0, 70_000).astype(kind)
        powers = np.array([2**k + d for k in range(5, bits(dtype) - 1) for d in (-1, 0, 1)], kind)
        return np.concatenate([raw, small, powers])
    magnitudes = numbers.choice([-1.0, 1.0], 60_000) * 2.0 ** numbers.uniform(-30, 66, 60_000)
    with np.errstate(invalid="ignore"):
        halves = np.concatenate([samples(d).astype(np.float64) for d in ("f16", "bf16", "f8e4m3", "f8e5m2")])
    finite = np.sort(halves[np.isfinite(halves)])
    ties = (finite[1:] + finite[:-1]) / 2
    near = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf)])
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([raw, magnitudes.astype(kind), near.astype(kind), halves.astype(kind)])


@pytest.mark.parametrize("target", TYPES)
@pytest.mark.parametrize("source", TYPES)
def test_casts_are_the_interpreters(source: str, target: str) -> None:
    x = samples(source)
    with np.errstate(all="ignore"):
        # numpy rounds i32 twice on its way to bf16; f64 holds it exactly
        detour = (source, target) == ("i32", "bf16")
        expected = cast(x.astype(np.float64), "f64", target) if detour else cast(x, source, target)
    found = call(f"cast_{source}_{target}", np.zeros(x.shape, numpy_dtype(target)), x)
    if not is_float(target):
        assert np.array_equal(found, expected)
        return
    with np.errstate(invalid="ignore"):
        nan = np.isnan(expected.astype(np.float64))
        assert np.array_equal(np.isnan(found.astype(np.float64)), nan)
    whole = f"u{found.itemsize}"
    assert np.array_equal(found.view(whole)[~nan], expected.view(whole)[~nan])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_keep_their_bound(name: str) -> None:
    """4 ulp and 2^-22 relative, for arguments of every size: beyond 48000 the long reduction serves."""
    x = np.arange(0, 2**32, 4099, dtype=np.uint32).view(np.float32)
    x = np.concatenate([x[np.isfinite(x)], np.linspace(-60, 60, 60_001, dtype=np.float32), _near_quarter_turns()])
    reference = atom(name).reference
    assert reference is not None
    expected = reference(x)
    found = call(f"{name}_f32", np.zeros_like(x), x).astype(np.float64)
    ulp = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    error = np.abs(found - expected)
    allowed = 4 * ulp + 2.0**-22 * np.abs(expected) + 2.0**-126
    assert (error <= allowed).all(), (x[error > allowed][:5], (error / ulp).max())


def _near_quarter_turns() -> Values:
    """The floats that come nearest to multiples of pi/2, where reductions lose most."""
    turns = np.concatenate([np.arange(-40_000, 40_000), 2.0 ** np.arange(15, 100) // 3])
    return (turns * (np.pi / 2)).astype(np.float32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_what_is_no_number(name: str) -> None:
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], np.float32)
    reference = atom(name).reference
    assert reference is not None
    found = call(f"{name}_f32", np.zeros_like(x), x)
    expected = reference(x).astype(np.float32)
    assert np.array_equal(found, expected, equal_nan=True)
    assert np.array_equal(np.signbit(found)[3:], np.signbit(expected)[3:])


@pytest.mark.parametrize("dtype", DIVIDED)
@pytest.mark.parametrize("name", ["floordiv", "mod"])
def test_division_floors(name: str, dtype: str) -> None:
    numbers = np.random.default_rng(5)
    a, b = numbers.choice(samples(dtype), 40_000), numbers.choice(samples(dtype), 40_000)
    keep = b != 0
    if is_float(dtype):  # larger quotients have no units to round to
        with np.errstate(all="ignore"):
            keep &= np.isfinite(a) & np.isfinite(b) & (np.abs(a / b) < 2.0**22)
    elif DTYPES[dtype].kind == "int":  # the quotient of the lowest number by -1 does not exist
        keep &= (a != np.iinfo(a.dtype).min) | (b != -1)
    a, b = a[keep], b[keep]
    assert a.size > 1000
    found = call(f"{name}_{dtype}", np.zeros_like(a), a, b)
    assert np.array_equal(found, BINARY[name](a, b))
