"""Elementwise, conversion and reduction atoms of every level that this machine runs, against numpy."""

from __future__ import annotations

import ctypes
import re
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl.targets.cpu.atoms import ATOMS, Atom
from numpy.typing import NDArray
from support.c_atoms import LEVELS, at, build

Array = NDArray[Any]

SPECIAL_TEXT = """
0 -0 inf -inf nan 1 -1 .5 -.5 1.5 2.5 -2.5 1e-45 -1e-45 1e-40 1.1754944e-38 88.722839 88.72284 -103.97 -103.98 -87.4
127.99 128 -149.5 -150.5 3.4028235e38 -3.4028235e38 8388609 1e6 1e9 .99999994 1.0000001 .75 9.01 3.92 65504
65519.996 65520 6.1e-5 5.96e-8 2.98e-8 2147483648 -2147483648
"""
SPECIAL = np.array(SPECIAL_TEXT.split(), np.float32)
SWEEP_STEP = 4093

UNARY = [atom for atom in ATOMS.values() if atom.kind == "elementwise" and len(atom.operands) == 1]
BINARY = [atom for atom in ATOMS.values() if atom.kind == "elementwise" and len(atom.operands) == 2]
CONVERT = [atom for atom in ATOMS.values() if atom.kind == "convert"]
REDUCE = [atom for atom in ATOMS.values() if atom.kind == "reduce"]

C_TYPES = {"f32": "float", "bf16": "uint16_t", "f16": "uint16_t", "i32": "int32_t"}
VECTORS = {"f32": "vf", "bf16": "vh", "f16": "vh", "i32": "vi"}
NUMPY_TYPES = {"f32": np.float32, "bf16": np.uint16, "f16": np.uint16, "i32": np.int32}


def sweep() -> Array:
    """Every SWEEP_STEP-th float32 bit pattern and the special values, in whole vectors."""
    bits = np.arange(0, 2**32, SWEEP_STEP, dtype=np.uint64).astype(np.uint32)
    x = np.concatenate([SPECIAL, bits.view(np.float32)])
    return np.ascontiguousarray(x[: len(x) // 16 * 16])


def source(atoms: list[Atom], body: str) -> str:
    headers = sorted({atom.header for atom in atoms} | {"convert.h"})
    includes = "".join(f'#include "{header}"\n' for header in headers)
    return includes + "".join(body.replace("FUNCTION", atom.function).replace("NAME", atom.name) for atom in atoms)


UNARY_BODY = """
void t_NAME(const float *x, float *y, long n) {
    for (long i = 0; i < n; i += KA_LANES) vf_store(y + i, FUNCTION(vf_load(x + i)));
}
"""
BINARY_BODY = """
void t_NAME(const float *a, const float *b, float *y, long n) {
    for (long i = 0; i < n; i += KA_LANES) vf_store(y + i, FUNCTION(vf_load(a + i), vf_load(b + i)));
}
"""
SCALAR_BODY = """
void t_NAME(const float *x, float *y, long n) {
    for (long i = 0; i < n; ++i) y[i] = f32_NAME(x[i]);
}
"""
REDUCE_BODY = """
void t_NAME(const float *x, float *y, long n) {
    for (long i = 0; i < n; i += KA_LANES) y[i / KA_LANES] = FUNCTION(vf_load(x + i));
}
"""


def ulps(y: Array, exact: Array) -> Array:
    """Error of float32 y in units of the last place of the rounded exact value; inf where specials disagree."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(np.float32)
        error = np.abs(y.astype(np.float64) - exact) / np.spacing(np.abs(rounded)).astype(np.float64)
    same = (np.isnan(rounded) & np.isnan(y)) | (rounded == y)
    return np.where(same & ~np.isfinite(rounded), 0.0, np.where(np.isnan(error), np.inf, error))


def run_unary(level: str, atom: Atom, x: Array) -> Array:
    y = np.empty_like(x)
    getattr(build(source(UNARY, UNARY_BODY), level), f"t_{atom.name}")(at(x), at(y), ctypes.c_long(len(x)))
    return y


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("atom", UNARY, ids=lambda atom: atom.name)
def test_elementwise_error(level: str, atom: Atom) -> None:
    x = sweep()
    y = run_unary(level, atom, x)
    error = ulps(y, atom.reference(x))
    worst = int(error.argmax())
    assert error[worst] <= (atom.ulp or 0.0) + 1e-9, (x[worst], y[worst], error[worst])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["sin", "tanh", "erf", "floor", "ceil", "round", "sqrt"])
def test_sign_of_zero(level: str, name: str) -> None:
    y = run_unary(level, ATOMS[name], np.array([0.0, -0.0] * 8, np.float32))
    assert np.signbit(y).tolist() == [False, True] * 8


@pytest.mark.parametrize("level", LEVELS)
def test_scalar_forms_give_the_lanes_bits(level: str) -> None:
    x, named = sweep()[:4096], [atom for atom in UNARY if atom.header == "elementary.h"]
    library = build(source(named, SCALAR_BODY), level)
    for atom in named:
        y = np.empty_like(x)
        getattr(library, f"t_{atom.name}")(at(x), at(y), ctypes.c_long(len(x)))
        np.testing.assert_array_equal(y, run_unary(level, atom, x))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("atom", BINARY, ids=lambda atom: atom.name)
def test_extrema_propagate_nan(level: str, atom: Atom) -> None:
    a, b = (np.ascontiguousarray(m.ravel()) for m in np.meshgrid(SPECIAL[:32], SPECIAL[:32]))
    y = np.empty_like(a)
    getattr(build(source(BINARY, BINARY_BODY), level), f"t_{atom.name}")(at(a), at(b), at(y), ctypes.c_long(len(a)))
    np.testing.assert_array_equal(y, atom.reference(a, b))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("atom", REDUCE, ids=lambda atom: atom.name)
def test_horizontal_reductions(level: str, atom: Atom) -> None:
    library = build(source(REDUCE, REDUCE_BODY) + "int lanes(void) { return KA_LANES; }", level)
    lanes = library.lanes()
    x = np.random.default_rng(0).uniform(-2, 2, (64, lanes)).astype(np.float32)
    for lane in range(lanes):
        x[lane, lane] = np.nan
        x[16 + lane, lane] = np.inf
        x[32 + lane, lane] = -np.inf
    y = np.empty(64, np.float32)
    getattr(library, f"t_{atom.name}")(at(x), at(y), ctypes.c_long(x.size))
    expected = np.array([atom.reference(row.astype(np.float64)) for row in x])
    np.testing.assert_allclose(y, expected, rtol=2e-6, atol=2e-6)


def conversion_source(atom: Atom) -> tuple[str, str, str]:
    wanted, given = re.fullmatch(r"(\w+)_to_(\w+)", atom.name).groups()[::-1]  # type: ignore[union-attr]
    text = f"""
#include "convert.h"
void t(const {C_TYPES[given]} *x, {C_TYPES[wanted]} *y, long n) {{
    for (long i = 0; i < n; i += KA_LANES) {{
        {VECTORS[given]} v;
        __builtin_memcpy(&v, x + i, sizeof v);
        {VECTORS[wanted]} w = {atom.function}(v);
        __builtin_memcpy(y + i, &w, sizeof w);
    }}
}}
"""
    return text, given, wanted


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("atom", CONVERT, ids=lambda atom: atom.name)
def test_conversions(level: str, atom: Atom) -> None:
    """Exhaustive over 16-bit sources, swept over float32."""
    text, given, wanted = conversion_source(atom)
    x = sweep() if given == "f32" else np.arange(2**16, dtype=np.uint16)
    if given == "i32":
        x = sweep().view(np.int32)
    y = np.empty(len(x), NUMPY_TYPES[wanted])
    build(text, level).t(at(x), at(y), ctypes.c_long(len(x)))
    expected = atom.reference(x)
    if wanted in ("bf16", "f16"):
        exponent = 0x7F80 if wanted == "bf16" else 0x7C00
        nan = np.isnan(x)
        assert ((y[nan] & 0x7FFF) > exponent).all()
        y, expected = y[~nan], expected[~nan]
    np.testing.assert_array_equal(y, expected)
