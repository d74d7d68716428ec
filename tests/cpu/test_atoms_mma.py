"""Packing and products: every ragged size around the register tile, both layouts, guard zones, all storage types."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.targets.cpu import atoms
from numpy.typing import NDArray
from support.c_atoms import LEVELS, at, build, guarded

Array = NDArray[Any]

TEXT = """
#include "mma.h"
#include "mma_half.h"
#include "mma_int.h"
int mr(void) { return KA_MR; }
int nr(void) { return KA_NR; }
long a_size(long M, long K) { return ka_pack_a_size(M, K); }
long b_size(long N, long K) { return ka_pack_b_size(N, K); }
#define PACK(name, type)                                                                            \\
    void pack_a##name(float *d, const type *a, long M, long K, long rs, long cs) {                  \\
        ka_pack_a##name(d, a, M, K, rs, cs);                                                        \\
    }                                                                                               \\
    void pack_b##name(float *d, const type *b, long K, long N, long rs, long cs) {                  \\
        ka_pack_b##name(d, b, K, N, rs, cs);                                                        \\
    }
PACK(, float)
PACK(_bf16, uint16_t)
PACK(_f16, uint16_t)
void mma(long M, long N, long K, const float *a, const float *b, float *c, long ldc, int beta) {
    ka_mma(M, N, K, a, b, c, ldc, beta);
}
void mma_a_rows(long M, long N, long K, const float *a, long lda, const float *b, float *c, long ldc, int beta) {
    ka_mma_a_rows(M, N, K, a, lda, b, c, ldc, beta);
}
void mma_b_rows(long M, long N, long K, const float *a, const float *b, long ldb, float *c, long ldc, int beta) {
    ka_mma_b_rows(M, N, K, a, b, ldb, c, ldc, beta);
}
void mma_rows(long M, long N, long K, const float *a, long lda, const float *b, long ldb, float *c, long ldc,
              int beta) {
    ka_mma_rows(M, N, K, a, lda, b, ldb, c, ldc, beta);
}
void mma_i8(long M, long N, long K, const int8_t *a, long lda, const int8_t *b, long ldb, int32_t *c, long ldc,
            int beta) {
    ka_mma_i8(M, N, K, a, lda, b, ldb, c, ldc, beta);
}
"""
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70), st.integers(1, 140))
VARIANTS = ("mma", "mma_a_rows", "mma_b_rows", "mma_rows")


def longs(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(value) for value in values]


@pytest.fixture(params=LEVELS, scope="module")
def library(request: pytest.FixtureRequest) -> ctypes.CDLL:
    return build(TEXT, request.param)


@pytest.fixture(
    params=[(level, rows) for level in LEVELS for rows in (1, 3, atoms.REGISTER_ROWS[level] - 1)], scope="module"
)
def narrower(request: pytest.FixtureRequest) -> ctypes.CDLL:
    """With other register tiles."""
    level, rows = request.param
    return build(f"#define KA_MR {rows}\n{TEXT}", level)


def strides(matrix: Array) -> list[ctypes.c_long]:
    return longs(*(s // matrix.itemsize for s in matrix.strides))


def stored(matrix: Array, order: str, gap: int) -> Array:
    """The same matrix in memory of another layout: row-major, column-major, or strided both ways, with gaps."""
    rows, cols = matrix.shape
    if order == "rows":
        view = np.zeros((rows, cols + gap), matrix.dtype)[:, :cols]
    elif order == "columns":
        view = np.zeros((cols, rows + gap), matrix.dtype)[:, :rows].T
    else:
        view = np.zeros((rows, 2, cols, 3), matrix.dtype)[:, 0, :, 1]
    view[:] = matrix
    return view


def pack(library: ctypes.CDLL, side: str, matrix: Array, suffix: str = "") -> Array:
    """A (M, K) or B (K, N) as panels."""
    rows, cols = matrix.shape
    size = library.a_size(*longs(rows, cols)) if side == "a" else library.b_size(*longs(cols, rows))
    packed = guarded(size)
    getattr(library, f"pack_{side}{suffix}")(at(packed.array), at(matrix), *longs(rows, cols), *strides(matrix))
    packed.check()
    return packed.array


def test_sizes_agree_with_the_table(library: ctypes.CDLL, request: pytest.FixtureRequest) -> None:
    level = request.node.callspec.params["library"]
    assert (library.mr(), library.nr()) == (atoms.REGISTER_ROWS[level], atoms.register_columns(level))
    for rows in range(1, 40):
        for depth in (1, 17):
            assert library.a_size(*longs(rows, depth)) == atoms.packed_a_floats(level, rows, depth)
            assert library.b_size(*longs(rows, depth)) == atoms.packed_b_floats(level, rows, depth)


@settings(max_examples=60)
@given(
    rows=st.integers(1, 70),
    depth=st.integers(1, 50),
    order=st.sampled_from(["rows", "columns", "both"]),
    gap=st.integers(0, 3),
)
def check_packing(library: ctypes.CDLL, rows: int, depth: int, order: str, gap: int) -> None:
    matrix = np.random.default_rng(rows * 100 + depth).standard_normal((rows, depth)).astype(np.float32)
    mr, nr = library.mr(), library.nr()
    expected = atoms.pack_panels(matrix, mr)
    np.testing.assert_array_equal(pack(library, "a", stored(matrix, order, gap))[: expected.size], expected.ravel())
    expected = atoms.pack_panels(matrix, nr)
    np.testing.assert_array_equal(pack(library, "b", stored(matrix, order, gap).T), expected.ravel())


def test_packing(library: ctypes.CDLL) -> None:
    check_packing(library)


def test_packing_with_other_tiles(narrower: ctypes.CDLL) -> None:
    check_packing(narrower)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
@pytest.mark.parametrize("order", ["rows", "columns", "both"])
def test_packing_halves(library: ctypes.CDLL, dtype: str, order: str) -> None:
    to, back = (atoms.to_bf16, atoms.from_bf16) if dtype == "bf16" else (atoms.to_f16, atoms.from_f16)
    bits = to(np.random.default_rng(3).standard_normal((37, 29)).astype(np.float32))
    expected = atoms.pack_panels(back(bits), library.mr())
    packed = pack(library, "a", stored(bits, order, 1), f"_{dtype}")
    np.testing.assert_array_equal(packed[: expected.size], expected.ravel())
    expected = atoms.pack_panels(back(bits), library.nr())
    np.testing.assert_array_equal(pack(library, "b", stored(bits, order, 1).T, f"_{dtype}"), expected.ravel())


def product(library: ctypes.CDLL, variant: str, a: Array, b: Array, start: Array | None) -> Array:
    """start + A B, or A B over poison, by one of the variants; checks what lies around the accumulator."""
    (rows, depth), cols = a.shape, b.shape[1]
    nr = library.nr()
    width = -(-cols // nr) * nr
    acc = guarded((rows, width))
    acc.array[:] = np.nan
    if start is not None:
        acc.array[:] = 0
        acc.array[:, :cols] = start
    ends = [at(acc.array), *longs(width), int(start is not None)]
    packed_a, packed_b = pack(library, "a", a), pack(library, "b", b)
    left = [at(a), *strides(a)[:1]] if variant in ("mma_a_rows", "mma_rows") else [at(packed_a)]
    right = [at(b), *strides(b)[:1]] if variant in ("mma_b_rows", "mma_rows") else [at(packed_b)]
    getattr(library, variant)(*longs(rows, cols, depth), *left, *right, *ends)
    acc.check()
    return acc.array[:, :cols]


@settings(max_examples=40)
@given(size=SIZES, accumulate=st.booleans(), gap=st.integers(0, 2))
def check_product(library: ctypes.CDLL, variant: str, size: tuple[int, int, int], accumulate: bool, gap: int) -> None:
    rows, cols, depth = size
    random = np.random.default_rng(rows + 100 * cols + 10000 * depth)
    a, b = (stored(random.integers(-8, 9, s).astype(np.float32), "rows", gap) for s in ((rows, depth), (depth, cols)))
    start = random.integers(-8, 9, (rows, cols)).astype(np.float32) if accumulate else None
    expected = atoms.ATOMS[variant].reference(a, b) + (0 if start is None else start)
    np.testing.assert_array_equal(product(library, variant, a, b, start), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_products_are_exact_on_small_integers(library: ctypes.CDLL, variant: str) -> None:
    check_product(library, variant)


@pytest.mark.parametrize("variant", ["mma", "mma_rows"])
def test_products_with_other_tiles(narrower: ctypes.CDLL, variant: str) -> None:
    check_product(narrower, variant)


def test_nothing_is_read_beyond_unpacked_operands(library: ctypes.CDLL) -> None:
    """Poison around A and B: a NaN read and multiplied by anything would show."""
    random = np.random.default_rng(5)
    for rows, cols, depth in ((1, 1, 1), (15, 33, 7), (13, 31, 65), (29, 5, 130)):
        a, b = (np.full((s[0] + 2, s[1] + 5), np.nan, np.float32)[1:-1, 2:-3] for s in ((rows, depth), (depth, cols)))
        a[:], b[:] = random.integers(-4, 5, a.shape), random.integers(-4, 5, b.shape)
        expected = atoms.ATOMS["mma_rows"].reference(a, b)
        np.testing.assert_array_equal(product(library, "mma_rows", a, b, None), expected)


def test_nan_and_infinity_reach_their_own_elements_only(library: ctypes.CDLL) -> None:
    a, b = np.ones((20, 9), np.float32), np.ones((9, 40), np.float32)
    a[3, 4], b[2, 7] = np.nan, np.inf
    got = product(library, "mma", a, b, None)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, a @ b)


@settings(max_examples=30)
@given(size=SIZES, accumulate=st.booleans())
def check_bytes(library: ctypes.CDLL, size: tuple[int, int, int], accumulate: bool) -> None:
    rows, cols, depth = size
    random = np.random.default_rng(depth)
    a, b = (random.integers(-128, 128, s).astype(np.int8) for s in ((rows, depth), (depth, cols)))
    acc = np.full((rows, cols), 5, np.int32)
    library.mma_i8(
        *longs(rows, cols, depth), at(a), *longs(depth), at(b), *longs(cols), at(acc), *longs(cols), int(accumulate)
    )
    np.testing.assert_array_equal(acc, atoms.ATOMS["mma_i8"].reference(a, b) + (5 if accumulate else 0))


def test_byte_product(library: ctypes.CDLL) -> None:
    check_bytes(library)


@given(level=st.sampled_from(["avx512", "avx2", "neon", "portable"]), rows=st.integers(1, 600))
def test_register_rows_waste_little(level: str, rows: int) -> None:
    tile = atoms.register_rows(level, rows)
    most = atoms.REGISTER_ROWS[level]
    panels = -(-rows // tile)
    assert 1 <= tile <= most
    assert panels == -(-rows // most)
    assert panels * tile - rows < panels
