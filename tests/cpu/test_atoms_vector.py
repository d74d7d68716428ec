"""Partial loads and stores, masks, selection and small integers, with guard zones around the memory."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np
import pytest
from support.c_atoms import LEVELS, at, build, guarded

TEXT = """
#include "convert.h"
#include "elementary.h"
int lanes(void) { return KA_LANES; }
void load_n(const float *x, float *y, long n, float fill) { vf_store(y, vf_load_n(x, n, fill)); }
void load_range(const float *x, float *y, long lo, long hi, float fill) {
    vf_store(y, vf_load_range(x, lo, hi, fill));
}
void store_n(const float *x, float *y, long n) { vf_store_n(y, vf_load(x), n); }
void store_range(const float *x, float *y, long lo, long hi) { vf_store_range(y, vf_load(x), lo, hi); }
void stream(const float *x, float *y) { vf_stream(y, vf_load(x)); ka_fence(); }
void strided(const float *x, long sx, float *y, long sy, long n) {
    vf_store_strided_n(y, sy, vf_load_strided_n(x, sx, n, 0.0f), n);
}
void strided_whole(const float *x, long sx, float *y, long sy) {
    vf_store_strided(y, sy, vf_load_strided(x, sx));
}
void gather(const float *x, const int32_t *at, float *y) { vf_store(y, vf_gather(x, vi_load(at))); }
void compare(const float *a, const float *b, int32_t *y) {
    vf u = vf_load(a), v = vf_load(b);
    vi r = vi_from_mask(vf_lt(u, v)) | vi_from_mask(vf_le(u, v)) << 1 | vi_from_mask(vf_gt(u, v)) << 2 |
           vi_from_mask(vf_ge(u, v)) << 3 | vi_from_mask(vf_eq(u, v)) << 4 | vi_from_mask(vf_ne(u, v)) << 5;
    vi_store(y, r);
}
void choose(const float *a, const float *b, long lo, long hi, float *y) {
    vf_store(y, vf_select(vm_range(lo, hi), vf_load(a), vf_load(b)));
}
int any(long lo, long hi) { return vm_any(vm_range(lo, hi)) | vm_all(vm_range(lo, hi)) << 1; }
void bf16_n(const uint16_t *x, uint16_t *y, long n) { vf_store_bf16_n(y, vf_load_bf16_n(x, n, 0.0f), n); }
void f16_n(const uint16_t *x, uint16_t *y, long n) { vf_store_f16_n(y, vf_load_f16_n(x, n, 0.0f), n); }
void i8_n(const int8_t *x, int8_t *y, long n, int32_t *wide) {
    vi v = vi_load_i8_n(x, n, 7);
    vi_store(wide, v);
    vi_store_i8_n(y, v, n);
}
void u8(const uint8_t *x, int32_t *wide) { vi_store(wide, vi_load_u8(x)); }
void i16(const int16_t *x, int16_t *y, int32_t *wide) {
    vi v = vi_load_i16(x);
    vi_store(wide, v);
    vi_store_i16(y, v);
}
void scalar_extrema(const float *a, const float *b, float *y) {
    y[0] = f32_max(a[0], b[0]);
    y[1] = f32_min(a[0], b[0]);
}
"""
COUNTS = (-1, 0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17)


def longs(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(value) for value in values]


@pytest.fixture(params=LEVELS)
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return build(TEXT, request.param)


def test_partial_loads_fill(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    x, y = np.arange(1, lanes + 1, dtype=np.float32), np.zeros(lanes, np.float32)
    for n in COUNTS:
        library.load_n(at(x), at(y), *longs(n), ctypes.c_float(-3.0))
        np.testing.assert_array_equal(y, np.where(np.arange(lanes) < n, x, -3.0))
        for lo in COUNTS:
            library.load_range(at(x), at(y), *longs(lo, n), ctypes.c_float(-3.0))
            inside = (np.arange(lanes) < n) & (np.arange(lanes) >= lo)
            np.testing.assert_array_equal(y, np.where(inside, x, -3.0))


def test_partial_stores_touch_nothing_else(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    x = np.arange(1, lanes + 1, dtype=np.float32)
    for n in COUNTS:
        y = guarded(lanes)
        library.store_n(at(x), at(y.array), *longs(n))
        np.testing.assert_array_equal(y.array, np.where(np.arange(lanes) < n, x, y.fill))
        y.check()
        y = guarded(lanes)
        library.store_range(at(x), at(y.array), *longs(2, n))
        inside = (np.arange(lanes) < n) & (np.arange(lanes) >= 2)
        np.testing.assert_array_equal(y.array, np.where(inside, x, y.fill))
        y.check()


def test_partial_loads_do_not_fault_at_the_end_of_memory(library: ctypes.CDLL) -> None:
    """The last floats of a page whose successor may not be read."""
    page, lanes = mmap.PAGESIZE, library.lanes()
    libc = ctypes.CDLL(None, use_errno=True)
    with mmap.mmap(-1, 2 * page) as memory:
        view = np.frombuffer(memory, np.float32)
        base = view.ctypes.data
        view[: page // 4] = 5.0
        assert libc.mprotect(ctypes.c_void_p(base + page), ctypes.c_size_t(page), 0) == 0
        y = np.zeros(lanes, np.float32)
        for n in range(lanes):
            last = ctypes.c_void_p(base + page - 4 * n)
            library.load_n(last, at(y), *longs(n), ctypes.c_float(0.0))
            library.store_n(at(y), last, *longs(n))
            assert y.sum() == 5.0 * n
        assert libc.mprotect(ctypes.c_void_p(base + page), ctypes.c_size_t(page), 3) == 0
        del view


def test_streaming_any_alignment(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    x = np.arange(lanes, dtype=np.float32)
    for offset in range(17):
        y = guarded(lanes, before=offset)
        library.stream(at(x), at(y.array))
        np.testing.assert_array_equal(y.array, x)
        y.check()


def test_strided_and_gathered(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    x, y = np.arange(200, dtype=np.float32), np.full(200, -1, np.float32)
    library.strided_whole(at(x), ctypes.c_long(7), at(y), ctypes.c_long(3))
    np.testing.assert_array_equal(y[: 3 * lanes : 3], x[: 7 * lanes : 7])
    y[:] = -1
    library.strided(at(x), *longs(7), at(y), *longs(3, 3))
    np.testing.assert_array_equal(y[:12], [0, -1, -1, 7, -1, -1, 14, -1, -1, -1, -1, -1])
    index = np.random.default_rng(1).integers(0, 200, lanes).astype(np.int32)
    library.gather(at(x), at(index), at(y))
    np.testing.assert_array_equal(y[:lanes], x[index])


def test_comparisons_follow_ieee(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 2.0] * (lanes // 4), np.float32)[:lanes]
    got = np.empty(lanes, np.int32)
    for shift in range(8):
        other = np.roll(np.resize(np.array([0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2], np.float32), 16), shift)[
            :lanes
        ]
        other = np.ascontiguousarray(other)
        library.compare(at(values), at(other), at(got))
        tests = [values < other, values <= other, values > other, values >= other, values == other, values != other]
        np.testing.assert_array_equal(got, sum(test.astype(np.int32) << bit for bit, test in enumerate(tests)))


def test_masks(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    a, b = np.ones(lanes, np.float32), np.zeros(lanes, np.float32)
    y = np.empty(lanes, np.float32)
    library.choose(at(a), at(b), *longs(1, 3), at(y))
    assert y.tolist() == [0, 1, 1] + [0] * (lanes - 3)
    assert [library.any(*longs(*r)) for r in ((0, 0), (1, 2), (lanes - 1, lanes), (0, lanes))] == [0, 1, 1, 3]


def test_narrow_types(library: ctypes.CDLL) -> None:
    lanes = library.lanes()
    halves = np.arange(0x3C00, 0x3C00 + lanes, dtype=np.uint16)
    small = np.arange(-3, lanes - 3, dtype=np.int8)
    for n in COUNTS:
        live = np.arange(lanes) < n
        for move in (library.bf16_n, library.f16_n):
            y = np.full(lanes + 8, 99, np.uint16)
            move(at(halves), at(y), *longs(n))
            np.testing.assert_array_equal(y, np.append(np.where(live, halves, 99), [99] * 8))
        narrow, wide = np.full(lanes + 8, 99, np.int8), np.zeros(lanes, np.int32)
        library.i8_n(at(small), at(narrow), *longs(n), at(wide))
        np.testing.assert_array_equal(wide, np.where(live, small, 7))
        np.testing.assert_array_equal(narrow, np.append(np.where(live, small, 99), [99] * 8))
    wide = np.zeros(lanes, np.int32)
    library.u8(at(small.view(np.uint8)), at(wide))
    np.testing.assert_array_equal(wide, small.view(np.uint8))
    sixteen = np.linspace(-32768, 32767, lanes).astype(np.int16)
    back = np.zeros(lanes, np.int16)
    library.i16(at(sixteen), at(back), at(wide))
    np.testing.assert_array_equal(wide, sixteen)
    np.testing.assert_array_equal(back, sixteen)


def test_scalar_extrema_propagate_nan(library: ctypes.CDLL) -> None:
    y = np.zeros(2, np.float32)
    for a, b in ((np.nan, 1), (1, np.nan), (2, 1), (-np.inf, 1)):
        left, right = np.array([a], np.float32), np.array([b], np.float32)
        library.scalar_extrema(at(left), at(right), at(y))
        np.testing.assert_array_equal(y, [np.maximum(left, right)[0], np.minimum(left, right)[0]])
