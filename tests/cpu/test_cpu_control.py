"""Loops, carried names, branches, products, programs and ragged grids, compiled, against the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.targets.cpu import features
from numpy.typing import NDArray

from tests.support.compiled import assert_same

Array = NDArray[Any]
LEVELS = features.detect().levels
KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def zeros(*shape: int, dtype: Any = np.float32) -> Array:
    return np.zeros(shape, dtype)


def kernel(name: str) -> str:
    return (KERNELS / f"{name}.tile").read_text()


SIZES = st.integers(1, 70)


@settings(max_examples=20)
@given(SIZES, SIZES, SIZES, st.sampled_from(LEVELS))
def test_gemm_of_any_size(m: int, n: int, k: int, level: str) -> None:
    tunables = {"BM": 32, "BN": 48, "BK": 24}
    arrays = {"a": floats(m, k), "b": floats(k, n, seed=1), "c": zeros(m, n)}
    assert_same(kernel("gemm"), arrays, tunables=tunables, level=level, **CLOSE)


@settings(max_examples=15)
@given(SIZES, SIZES, SIZES)
def test_linear_gelu_of_any_size(m: int, n: int, k: int) -> None:
    arrays = {"x": floats(m, k), "w": floats(n, k, seed=1), "b": floats(n, seed=2), "y": zeros(m, n)}
    assert_same(kernel("linear_gelu"), arrays, tunables={"BM": 32, "BN": 48, "BK": 24}, **CLOSE)


@settings(max_examples=20)
@given(st.integers(1, 9), st.integers(1, 300), st.sampled_from(LEVELS))
def test_row_kernels_of_any_size(m: int, n: int, level: str) -> None:
    x, y = floats(m, n), zeros(m, n)
    assert_same(kernel("softmax"), {"x": x, "y": y}, level=level, tunables={"BN": 300}, **CLOSE)
    assert_same(kernel("rmsnorm"), {"x": x, "w": floats(n), "y": y}, level=level, tunables={"BN": 300}, **CLOSE)


@settings(max_examples=20)
@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from(LEVELS))
def test_transpose_of_any_size(m: int, n: int, level: str) -> None:
    arrays = {"x": floats(m, n), "y": zeros(n, m)}
    assert_same(kernel("transpose"), arrays, level=level, tunables={"BM": 32, "BN": 32}, rtol=0, atol=0)


@settings(max_examples=12)
@given(st.integers(1, 40), st.integers(0, 40), st.sampled_from([(1, 1), (4, 2)]), st.sampled_from(LEVELS))
def test_causal_attention_of_any_size(m: int, more: int, heads: tuple[int, int], level: str) -> None:
    h, g = heads
    n = m + more
    arrays = {"q": floats(2, h, m, 64), "k": floats(2, g, n, 64, seed=1), "v": floats(2, g, n, 64, seed=2)}
    choices: dict[str, Any] = {"tunables": {"BM": 16, "BN": 16}, "dims": {"D": 64}, "level": level}
    assert_same(kernel("attention_causal"), arrays | {"o": zeros(2, h, m, 64)}, {"scale": 0.125}, **choices, **CLOSE)


@pytest.mark.parametrize("dtype", ["bf16", "f16"])
def test_half_precision_gemm(dtype: str) -> None:
    kind = {"bf16": ml_dtypes.bfloat16, "f16": np.float16}[dtype]
    arrays = {"a": floats(33, 70, dtype=kind), "b": floats(70, 45, seed=1, dtype=kind), "c": zeros(33, 45, dtype=kind)}
    tunables = {"BM": 32, "BN": 32, "BK": 32}
    assert_same(kernel("gemm"), arrays, dtypes={"T": dtype}, tunables=tunables, rtol=1e-2, atol=1e-2)


def test_integer_product() -> None:
    text = """edition(1)

@kernel
def gemm_i8(a: In[i8, M, K], b: In[i8, K, N], c: Out[i32, M, N], BM=16, BN=32, BK=32):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), i32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (k, j), (BK, BN)))
        store(c, (i, j), acc)
"""
    values = (
        np.random.default_rng(0).integers(-128, 128, (33, 70)),
        np.random.default_rng(1).integers(-128, 128, (70, 45)),
    )
    arrays = {"a": values[0].astype(np.int8), "b": values[1].astype(np.int8), "c": zeros(33, 45, dtype=np.int32)}
    assert_same(text, arrays)


def test_product_of_computed_operands_and_plain_product() -> None:
    text = """edition(1)

@kernel
def chain(a: In[f32, M, K], b: In[f32, N, K], y: Out[f32, M, N], z: Out[f32, M, N], BM=16, BN=32, BK=16):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        last = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            x = exp(load(a, (i, k), (BM, BK)) * 0.1)
            w = load(b, (j, k), (BN, BK)).T
            last = mma(x, w) * 0.5 + last
            acc = acc * 0.9 + mma(x, w)
        store(y, (i, j), acc)
        store(z, (i, j), last)
"""
    arrays = {"a": floats(21, 37), "b": floats(45, 37, seed=1), "y": zeros(21, 45), "z": zeros(21, 45)}
    assert_same(text, arrays, **CLOSE)


def test_carried_names_swap() -> None:
    text = """edition(1)

@kernel
def fibonacci(x: In[f32, N], y: Out[f32, N], z: Out[f32, N], B=32):
    for i in tiles((N,), (B,)):
        a, b = load(x, (i,), (B,)), load(x, (i,), (B,)) * 2.0
        for t in range(0, 5, 1):
            a, b = b, a + b
        for t in range(0, 3, 1):
            a, b = b, a
        store(y, (i,), a)
        store(z, (i,), b)
"""
    x = floats(77)
    assert_same(text, {"x": x, "y": zeros(77), "z": zeros(77)}, **CLOSE)


def test_branches_on_sizes_and_on_data() -> None:
    text = """edition(1)

@kernel
def choose(x: In[f32, M, N], y: Out[f32, M, N], BM=1, BN=64):
    assume(N <= BN)
    for i in tiles((M,), (BM,)):
        v = load(x, (i, 0), (BM, BN))
        if i < 3:
            w = v * 2.0
        else:
            w = exp(v)
        if sum(v) > 0.0:
            u = w + 1.0
        else:
            u = w - 1.0
        store(y, (i, 0), u)
"""
    x = floats(9, 37)
    assert_same(text, {"x": x, "y": np.zeros_like(x)}, **CLOSE)


def test_column_tiles_carry_between_loops() -> None:
    """Row softmax in two passes over column tiles, with an online maximum."""
    text = """edition(1)

@kernel
def softmax_tiled(x: In[f32, M, N], y: Out[f32, M, N], BM=2, BN=64):
    for i in tiles((M,), (BM,)):
        m, s = full((BM,), -1e30, f32), zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN))
            m_new = maximum(m, max(v, axis=1))
            s = s * exp(m - m_new) + sum(exp(v - m_new[:, None]), axis=1)
            m = m_new
        for j in pipeline(0, N, BN):
            store(y, (i, j), exp(load(x, (i, j), (BM, BN)) - m[:, None]) / s[:, None])
"""
    x = floats(7, 203)
    assert_same(text, {"x": x, "y": np.zeros_like(x)}, **CLOSE)


def test_ragged_groups() -> None:
    text = """edition(1)

@kernel
def grouped(x: In[f32, M, K], w: In[f32, E, N, K], offsets: In[i32, E + 1], y: Out[f32, M, N], BM=16, BN=32, BK=16):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i, j in tiles((hi - lo, N), (BM, BN)):
            acc = zeros((BM, BN), f32)
            for k in pipeline(0, K, BK):
                acc += mma(load(x[lo:hi], (i, k), (BM, BK)), load(w[e], (j, k), (BN, BK)).T)
            store(y[lo:hi], (i, j), acc)
"""
    offsets = np.array([0, 5, 5, 40, 61], np.int32)
    arrays = {"x": floats(61, 37), "w": floats(4, 45, 37, seed=1), "offsets": offsets, "y": zeros(61, 45)}
    assert_same(text, arrays, **CLOSE)


def test_program_with_a_temporary() -> None:
    text = """edition(1)

@kernel
def partial(a: In[f32, M, K], w: In[f32, N, K], part: Out[f32, S, M, N], BM=16, BN=32, BK=16):
    for s, i, j in tiles((S, M, N), (1, BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(s * K // S, (s + 1) * K // S, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        store(part[s], (i, j), acc)

@kernel
def total(part: In[f32, S, M, N], y: Out[f32, M, N], scale: f32, BM=8, BN=32):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for s in range(0, S, 1):
            acc += load(part[s], (i, j), (BM, BN))
        store(y, (i, j), acc * scale)

@program
def splitk(a: In[f32, M, K], w: In[f32, N, K], y: Out[f32, M, N], scale: f32, S=3):
    part = temp(f32, (S, M, N))
    partial(a, w, part)
    total(part, y, scale=scale)
"""
    arrays = {"a": floats(21, 37), "w": floats(45, 37, seed=1), "y": zeros(21, 45)}
    assert_same(text, arrays, {"scale": 0.5}, **CLOSE)


def test_convolution_through_window_and_reshape() -> None:
    text = """edition(1)

@kernel
def conv(x: In[f32, B, H, W, C], w: In[f32, F, 3, 3, C], y: Out[f32, B, P, Q, F], BP=2, BQ=4, BF=16, BC=8):
    assume(P == (H + 1) // 2, Q == (W + 1) // 2)
    for b, p, q, f in tiles((B, P, Q, F), (1, BP, BQ, BF)):
        acc = zeros((BP * BQ, BF), f32)
        for r, s, c in pipeline((0, 0, 0), (3, 3, C), (1, 1, BC)):
            xw = window(x[b], offset=(r - 1, s - 1, 0), stride=(2, 2, 1), shape=(P, Q, C))
            xt = reshape(load(xw, (p, q, c), (BP, BQ, BC), fill=0), (BP * BQ, BC))
            acc += mma(xt, reshape(load(w, (f, r, s, c), (BF, 1, 1, BC), fill=0), (BF, BC)).T)
        store(y[b], (p, q, f), reshape(acc, (BP, BQ, BF)))
"""
    arrays = {"x": floats(2, 7, 9, 11), "w": floats(18, 3, 3, 11, seed=1), "y": zeros(2, 4, 5, 18)}
    assert_same(text, arrays, **CLOSE)


def test_optional_array_and_constant() -> None:
    text = """edition(1)

@kernel
def norm(x: In[f32, M, N], y: Out[f32, M, N], res: In[f32, M, N] = None, twice: const = False, BN=64):
    assume(N <= BN)
    for i in tiles((M,), (1,)):
        v = load(x, (i, 0), (1, BN))
        if res is not None:
            v = v + load(res, (i, 0), (1, BN))
        mean = sum(v, axis=1) / N
        d = v - mean[:, None]
        out = d * rsqrt(sum(d * d, axis=1) / N + 1e-5)[:, None]
        if twice:
            out = out * 2.0
        store(y, (i, 0), out)
"""
    x = floats(7, 37)
    assert_same(text, {"x": x, "y": np.zeros_like(x)}, consts={"twice": True}, **CLOSE)
    assert_same(text, {"x": x, "y": np.zeros_like(x), "res": floats(7, 37, seed=3)}, consts={"twice": False}, **CLOSE)


def test_any_strides() -> None:
    x = floats(50, 40).T[::2, ::3]
    y = np.zeros(x.shape, np.float32)
    from tests.support.compiled import loaded

    text = kernel("softmax")
    run = loaded(text, {"x": x, "y": y}, strides="any")
    run({"x": x, "y": y})
    e = np.exp(x - x.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)


def test_zero_sizes_run_and_write_nothing() -> None:
    for m, n in ((0, 5), (5, 0), (0, 0)):
        assert_same(kernel("softmax"), {"x": zeros(m, n), "y": zeros(m, n)})
    assert_same(kernel("gemm"), {"a": zeros(5, 0), "b": zeros(0, 7), "c": zeros(5, 7)})


@pytest.mark.parametrize("policy", ["unroll=3", 'raster="column"', "stages=3", 'via="stream"', "unroll=1, stages=1"])
def test_policy_does_not_change_results(policy: str) -> None:
    for name in ("softmax", "bias_gelu_residual"):
        text = kernel(name).replace("    for", f"    on(cpu, {policy})\n    for", 1)
        x = floats(11, 203)
        arrays = {"x": x, "y": np.zeros_like(x)}
        if name != "softmax":
            arrays |= {"b": floats(203, seed=1), "r": floats(11, 203, seed=2)}
        assert_same(text, arrays, **CLOSE)
