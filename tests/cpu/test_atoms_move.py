"""Transposes and copies: all ragged sizes, alignments and modes, with guard zones."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.c_atoms import LEVELS, at, build, build_runtime, guarded

TEXT = """
#include "copy.h"
#include "transpose.h"
int lanes(void) { return KA_LANES; }
void transpose(float *d, long ldd, const float *s, long lds, long rows, long cols, int stream) {
    ka_transpose(d, ldd, s, lds, rows, cols, stream);
    ka_fence();
}
void block(const float *s, long lds, float *d, long ldd) { ka_transpose_lanes(s, lds, d, ldd); }
void copy(void *d, const void *s, size_t bytes, int stream) { ka_copy(d, s, bytes, stream); }
"""


def longs(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(value) for value in values]


@pytest.fixture(params=LEVELS, scope="module")
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return build(TEXT, request.param)


@settings(max_examples=60)
@given(rows=st.integers(1, 70), cols=st.integers(1, 70), stream=st.booleans(), offset=st.integers(0, 5))
def check_transpose(library: ctypes.CDLL, rows: int, cols: int, stream: bool, offset: int) -> None:
    source = np.random.default_rng(rows + 71 * cols).standard_normal((rows, cols + 3)).astype(np.float32)[:, :cols]
    target = guarded((cols, rows), before=16 + offset)
    library.transpose(at(target.array), *longs(rows), at(source), *longs(cols + 3, rows, cols), int(stream))
    np.testing.assert_array_equal(target.array, source.T)
    target.check()


def test_transpose(library: ctypes.CDLL) -> None:
    check_transpose(library)


def test_transpose_moves_bits(library: ctypes.CDLL) -> None:
    """NaN payloads, negative zeros and subnormals pass unchanged, and gaps of the target stay."""
    lanes = library.lanes()
    bits = np.random.default_rng(2).integers(0, 2**32, (lanes, lanes), dtype=np.uint32)
    target = np.full((lanes, lanes + 5), 7, np.uint32)
    library.block(at(bits), *longs(lanes), at(target), *longs(lanes + 5))
    np.testing.assert_array_equal(target[:, :lanes], bits.T)
    assert (target[:, lanes:] == 7).all()


@settings(max_examples=60)
@given(size=st.integers(0, 3000), stream=st.booleans(), to=st.integers(0, 70), start=st.integers(0, 70))
def check_copy(library: ctypes.CDLL, size: int, stream: bool, to: int, start: int) -> None:
    source = np.random.default_rng(size).integers(0, 255, start + size, dtype=np.uint8)
    target = np.full(to + size + 64, 255, np.uint8)
    library.copy(at(target, to), at(source, start), ctypes.c_size_t(size), int(stream))
    np.testing.assert_array_equal(target[to : to + size], source[start:])
    assert (target[:to] == 255).all()
    assert (target[to + size :] == 255).all()


def test_copy(library: ctypes.CDLL) -> None:
    check_copy(library)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("stream", [0, 1])
def test_parallel_copy(level: str, stream: int) -> None:
    runtime = build_runtime(level)
    for size in (0, 1, 255, 256 << 10, (1 << 20) + 3):
        source = np.random.default_rng(size).integers(0, 255, size, dtype=np.uint8)
        target = np.full(size + 64, 255, np.uint8)
        runtime.ka_copy_parallel(target.ctypes.data, source.ctypes.data, size, stream, 2)
        np.testing.assert_array_equal(target[:size], source)
        assert (target[size:] == 255).all()
