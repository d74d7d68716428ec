"""One small kernel for each rule of the language: result against numpy on whole arrays, NaN planted in every void."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter.fault import RunError, WorkLimit
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute, interpret
from kernelagent.dsl.verify.trials import same_bits

F32 = np.float32
Arrays = dict[str, Any]


def run(body: str, arrays: Arrays, scalars: dict[str, Any] | None = None, **tunables: int) -> Arrays:
    """Interpret plainly; then with garbage in void, shuffled, and types checked: the bits must be the same."""
    module = parse("edition(1)\n" + body)
    plain = execute(module, arrays, scalars or {}, tunables, Options()).outputs
    for order in ("forward", "reverse", "shuffle"):
        options = Options(plant_nan=True, order=order, check_types=True, log=True)  # type: ignore[arg-type]
        planted = execute(module, arrays, scalars or {}, tunables, options).outputs
        for name, data in plain.items():
            assert same_bits(data, planted[name]), f"{name} differs with NaN planted, order {order}"
    return plain


def normal(*shape: int, dtype: Any = F32, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def like(*shape: int, dtype: Any = F32) -> Any:
    return np.zeros(shape, dtype)


# Live and void -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 11])
def test_elementwise_stores_only_what_is_live(n: int) -> None:
    x = normal(n)
    text = """
@kernel
def double(x: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        store(y, (i,), load(x, (i,), (B,)) * 2.0 + 1.0)
"""
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(n)})["y"], x * F32(2) + F32(1))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 9), (4, 8), (6, 7)])
def test_row_reduction_counts_live_positions_only(m: int, n: int) -> None:
    x = normal(m, n)
    text = """
@kernel
def rows(x: In[f32, M, N], s: Out[f32, M], t: Out[f32, M], BM=4, BN=16):
    for i in tiles((M,), (BM,)):
        v = load(x, (i, 0), (BM, BN))
        store(s, (i,), sum(v, axis=1))
        store(t, (i,), max(v, axis=1))
"""
    out = run(text, {"x": x, "s": like(m), "t": like(m)})
    np.testing.assert_allclose(out["s"], x.sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(out["t"], x.max(1))


def test_reductions_of_nothing_give_identities() -> None:
    text = """
@kernel
def none(x: In[f32, M, N], s: Out[f32, M], p: Out[f32, M], t: Out[f32, M], u: Out[f32, M], a: Out[i32, M], B=4):
    for i in tiles((M,), (B,)):
        v = load(x[:, 0:0], (i, 0), (B, 8))
        store(s, (i,), sum(v, axis=1))
        store(p, (i,), prod(v, axis=1))
        store(t, (i,), max(v, axis=1))
        store(u, (i,), min(v, axis=1))
        store(a, (i,), argmax(v, axis=1))
"""
    m = 5
    outs = {n: like(m) for n in "sptu"} | {"a": like(m, dtype=np.int32)}
    out = run(text, {"x": normal(m, 3), **outs})
    for name, value in {"s": 0, "p": 1, "t": -np.inf, "u": np.inf, "a": -1}.items():
        assert (out[name] == value).all(), name


def test_reducing_rows_then_columns_does_not_see_void_rows() -> None:
    """A row past M must not enter the column maximum as the identity of an empty row."""
    x = -np.abs(normal(5, 6)) - 1
    text = """
@kernel
def both(x: In[f32, M, N], y: Out[f32, 1]):
    for i in tiles((1,), (1,)):
        v = load(x, (0, 0), (8, 8))
        store(y, (i,), full((1,), 0.0, f32) + sum(max(v, axis=1), axis=0))
"""
    np.testing.assert_allclose(run(text, {"x": x, "y": like(1)})["y"][0], x.max(1).sum(), rtol=1e-6)


def test_load_fill_and_fill_make_void_live() -> None:
    x = normal(5)
    text = """
@kernel
def filled(x: In[f32, N], y: Out[f32, 8], z: Out[f32, 8]):
    for i in tiles((1,), (1,)):
        store(y, (0,), load(x, (0,), (8,), fill=7))
        store(z, (0,), fill(load(x, (0,), (8,)), 3.0))
"""
    out = run(text, {"x": x, "y": like(8), "z": like(8)})
    np.testing.assert_array_equal(out["y"], [*x, 7, 7, 7])
    np.testing.assert_array_equal(out["z"], [*x, 3, 3, 3])


def test_where_is_live_where_all_three_operands_are() -> None:
    text = """
@kernel
def pick(x: In[f32, N], y: Out[f32, 8]):
    for i in tiles((1,), (1,)):
        v = where(coords(0, 8) < 3, load(x[0:5], (0,), (8,)), load(x[0:6], (0,), (8,)))
        store(y, (0,), fill(v, -1.0))
"""
    x = normal(8)
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(8)})["y"], [*x[:5], -1, -1, -1])


def test_a_comparison_with_void_is_void() -> None:
    text = """
@kernel
def count(x: In[f32, N], y: Out[f32, 1]):
    for i in tiles((1,), (1,)):
        v = load(x, (0,), (8,))
        store(y, (0,), full((1,), 0.0, f32) + sum(where(v > -1e30, 1.0, 5.0), axis=0))
"""
    assert run(text, {"x": normal(5), "y": like(1)})["y"][0] == 5


def test_mma_counts_a_k_only_if_live_in_both() -> None:
    a, b = normal(3, 6), normal(6, 5, seed=1)
    b[4] = np.inf
    text = """
@kernel
def product(a: In[f32, M, K], b: In[f32, K, N], y: Out[f32, M, N]):
    for i in tiles((1,), (1,)):
        store(y, (0, 0), mma(load(a[:, 0:4], (0, 0), (4, 8)), load(b, (0, 0), (8, 8))))
"""
    out = run(text, {"a": a, "b": b, "y": like(3, 5)})["y"]
    np.testing.assert_allclose(out, a[:, :4] @ b[:4], rtol=1e-5, atol=1e-6)


def test_scan_skips_void_and_leaves_it_void() -> None:
    text = """
@kernel
def prefix(x: In[f32, N], y: Out[f32, 8]):
    for i in tiles((1,), (1,)):
        v = scan(load(x, (i - 2,), (8,)), axis=0, op=sum)
        store(y, (0,), fill(v, -1.0))
"""
    x = np.array([1, 2, 3, 4], F32)
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(8)})["y"], [-1, -1, 1, 3, 6, 10, -1, -1])


@pytest.mark.parametrize("n", [1, 4, 6, 9])
def test_a_view_off_the_low_end_is_void(n: int) -> None:
    x = normal(n)
    text = """
@kernel
def previous(x: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        store(y, (i,), load(x, (i - 1,), (B,), fill=0) + load(x, (i + 1,), (B,), fill=0))
"""
    right = np.append(x[1:], F32(0)) + np.insert(x[:-1], 0, F32(0))
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(n)})["y"], right)


@pytest.mark.parametrize(("lo", "hi"), [(2, 5), (2, 100), (5, 3), (9, 12), (0, 7)])
def test_slices_clamp_as_numpy_does(lo: int, hi: int) -> None:
    text = """
@kernel
def cut(x: In[f32, N], y: Out[f32, 8], lo: i32, hi: i32):
    for i in tiles((1,), (1,)):
        store(y, (0,), load(x[lo:hi], (0,), (8,), fill=-1))
"""
    x = normal(7)
    part = x[lo:hi]
    out = run(text, {"x": x, "y": like(8)}, {"lo": lo, "hi": hi})["y"]
    np.testing.assert_array_equal(out, np.pad(part, (0, 8 - len(part)), constant_values=-1))


def test_arg_reductions_lowest_index_first_nan_and_tile_positions() -> None:
    x = np.array([[1, 3, 3, 0], [2, np.nan, 5, np.nan], [-1, -1, -1, -1]], F32)
    text = """
@kernel
def arg(x: In[f32, M, N], hi: Out[i32, M], lo: Out[i32, M], B=4):
    for i in tiles((M,), (B,)):
        v = load(x, (i, 0), (B, 8))
        store(hi, (i,), argmax(v, axis=1))
        store(lo, (i,), argmin(v, axis=1))
"""
    out = run(text, {"x": x, "hi": like(3, dtype=np.int32), "lo": like(3, dtype=np.int32)})
    np.testing.assert_array_equal(out["hi"], x.argmax(1))
    np.testing.assert_array_equal(out["lo"], x.argmin(1))


def test_nan_propagates_through_maximum_and_reductions() -> None:
    x, y = np.array([1, np.nan, 3], F32), np.array([np.nan, 2, 2], F32)
    text = """
@kernel
def larger(x: In[f32, N], y: In[f32, N], a: Out[f32, N]):
    for i in tiles((N,), (4,)):
        store(a, (i,), maximum(load(x, (i,), (4,)), load(y, (i,), (4,))))
"""
    out = run(text, {"x": x, "y": y, "a": like(3)})
    np.testing.assert_array_equal(out["a"], [np.nan, np.nan, 3])


# Shapes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n"), [(3, 5), (4, 8), (9, 2)])
def test_transpose(m: int, n: int) -> None:
    x = normal(m, n)
    text = """
@kernel
def transpose(x: In[f32, M, N], y: Out[f32, N, M], BM=4, BN=4):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (j, i), load(x, (i, j), (BM, BN)).T)
"""
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(n, m)})["y"], x.T)


def test_views_compose_and_integers_drop_axes() -> None:
    x = normal(2, 3, 4, 5)
    text = """
@kernel
def part(x: In[f32, A, B, C, D], y: Out[f32, A, B, D, 2]):
    for a, b in tiles((A, B), (1, 1)):
        store(y[a, b], (0, 0), load(x[a][b][1:3].T, (0, 0), (5, 2)))
"""
    out = run(text.replace("(5, 2)", "(8, 2)"), {"x": x, "y": like(2, 3, 5, 2)})["y"]
    np.testing.assert_array_equal(out, x[:, :, 1:3].transpose(0, 1, 3, 2))


def test_dropping_a_unit_axis_keeps_live_positions() -> None:
    x = normal(3, 5)
    text = """
@kernel
def row(x: In[f32, M, N], y: Out[f32, M, N]):
    for i in tiles((M,), (1,)):
        v = reshape(load(x, (i, 0), (1, 8)), (8,))
        store(y[i], (0,), v * 2.0)
"""
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(3, 5)})["y"], x * 2)


def test_stack_and_constant_subscripts_rotate_pairs() -> None:
    x, c, s = normal(3, 4, 2), normal(3, 4, seed=1), normal(3, 4, seed=2)
    text = """
@kernel
def rope(x: In[f32, M, D, 2], c: In[f32, M, D], s: In[f32, M, D], y: Out[f32, M, D, 2], B=2):
    for i in tiles((M,), (B,)):
        v = load(x, (i, 0, 0), (B, 4, 2))
        a, b = v[:, :, 0], v[:, :, 1]
        ct, st = load(c, (i, 0), (B, 4)), load(s, (i, 0), (B, 4))
        store(y, (i, 0, 0), stack(a * ct - b * st, a * st + b * ct))
"""
    out = run(text, {"x": x, "c": c, "s": s, "y": like(3, 4, 2)})["y"]
    a, b = x[..., 0], x[..., 1]
    np.testing.assert_allclose(out, np.stack([a * c - b * s, a * s + b * c], -1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("h", "w"), [(4, 4), (5, 7)])
def test_window_reads_void_outside_its_source(h: int, w: int) -> None:
    p, q = (h + 1) // 2, (w + 1) // 2
    x = normal(h, w)
    text = """
@kernel
def every_second(x: In[f32, H, W], y: Out[f32, P, Q], BP=2, BQ=4):
    assume(P == (H + 1) // 2, Q == (W + 1) // 2)
    for i, j in tiles((P, Q), (BP, BQ)):
        acc = zeros((BP, BQ), f32)
        for r, s in pipeline((0, 0), (3, 3), (1, 1)):
            v = window(x, offset=(r - 1, s - 1), stride=(2, 2), shape=(P, Q))
            acc += load(v, (i, j), (BP, BQ), fill=0)
        store(y, (i, j), acc)
"""
    padded = np.pad(x, 2)
    right = sum(padded[1 + r : 1 + r + 2 * p : 2, 1 + s : 1 + s + 2 * q : 2] for r in range(3) for s in range(3))
    out = run(text, {"x": x, "y": like(p, q)})["y"]
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-5)


# Loops and names -----------------------------------------------------------------------------


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 5), (3, 5, 0), (4, 4, 4), (5, 9, 7), (1, 1, 1)])
def test_carried_accumulator_and_zero_trip_loops(m: int, n: int, k: int) -> None:
    a, b = normal(m, k), normal(k, n, seed=1)
    text = """
@kernel
def gemm(a: In[f32, M, K], b: In[f32, K, N], y: Out[f32, M, N], BM=4, BN=4, BK=4):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (k, j), (BK, BN)))
        store(y, (i, j), acc)
"""
    out = run(text, {"a": a, "b": b, "y": like(m, n)})["y"]
    np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-5)
    small = run(text, {"a": a, "b": b, "y": like(m, n)}, BM=2, BN=8, BK=1)["y"]
    np.testing.assert_allclose(small, a @ b, rtol=1e-5, atol=1e-5)


def test_two_carried_names_are_rebound_together() -> None:
    text = """
@kernel
def fibonacci(y: Out[f32, 1], n: i32):
    for i in tiles((1,), (1,)):
        a, b = full((1,), 0.0, f32), full((1,), 1.0, f32)
        for k in range(n):
            a, b = b, a + b
        store(y, (0,), a)
"""
    for n, right in ((0, 0), (1, 1), (10, 55)):
        assert run(text, {"y": like(1)}, {"n": n})["y"][0] == right


def test_if_takes_one_arm_and_merges_names() -> None:
    text = """
@kernel
def halves(x: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        v = load(x, (i,), (B,))
        if i < N // 2:
            r = v * 2.0
        else:
            r = v * 3.0
        store(y, (i,), r)
"""
    x = normal(9)
    factor = np.where(np.arange(9) // 4 * 4 < 4, F32(2), F32(3))
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(9)})["y"], x * factor)


def test_ragged_groups() -> None:
    offsets = np.array([0, 3, 3, 8], np.int32)
    x, w = normal(8, 5), normal(3, 6, 5, seed=1)
    text = """
@kernel
def grouped(x: In[f32, M, K], w: In[f32, E, N, K], offsets: In[i32, E + 1], y: Out[f32, M, N], BM=2, BN=4, BK=4):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i, j in tiles((hi - lo, N), (BM, BN)):
            acc = zeros((BM, BN), f32)
            for k in pipeline(0, K, BK):
                acc += mma(load(x[lo:hi], (i, k), (BM, BK)), load(w[e], (j, k), (BN, BK)).T)
            store(y[lo:hi], (i, j), acc)
"""
    out = run(text, {"x": x, "w": w, "offsets": offsets, "y": like(8, 6)})["y"]
    right = np.concatenate([x[a:b] @ w[e].T for e, (a, b) in enumerate(itertools.pairwise(offsets))])
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-5)


def test_inline_functions_are_hygienic() -> None:
    text = """
@inline
def scaled(v, c):
    t = v * c
    return t + 1.0

@kernel
def twice(x: In[f32, N], y: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        t = load(x, (i,), (B,))
        u = scaled(t, 2.0)
        store(y, (i,), u + t)
"""
    x = normal(6)
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(6)})["y"], (x * F32(2) + F32(1)) + x)


# Numbers -------------------------------------------------------------------------------------


def test_bf16_arithmetic_is_done_in_f32() -> None:
    x = normal(9, dtype=ml_dtypes.bfloat16)
    text = """
@kernel
def cube(x: In[T, N], y: Out[T, N], z: Out[f32, N], B=4):
    for i in tiles((N,), (B,)):
        v = load(x, (i,), (B,))
        store(z, (i,), v * v * v)
        store(y, (i,), cast(v * v * v, T))
"""
    out = run(text, {"x": x, "y": like(9, dtype=ml_dtypes.bfloat16), "z": like(9)})
    wide = x.astype(F32) ** 2 * x.astype(F32)
    np.testing.assert_array_equal(out["z"], wide)
    np.testing.assert_array_equal(out["y"], wide.astype(ml_dtypes.bfloat16))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("f16", np.float16), ("bf16", ml_dtypes.bfloat16), ("f8e4m3", ml_dtypes.float8_e4m3fn), ("i8", np.int8)],
)
def test_mma_accumulates_in_32_bits(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 8, s).astype(dtype) for s in ((3, 40), (40, 5)))
    acc = "i32" if dtype == np.int8 else "f32"
    text = f"""
@kernel
def product(a: In[{name}, M, K], b: In[{name}, K, N], y: Out[{acc}, M, N]):
    for i in tiles((M,), (4,)):
        store(y, (i, 0), mma(load(a, (i, 0), (4, 64)), load(b, (0, 0), (64, 8))))
"""
    held = np.int32 if dtype == np.int8 else F32
    out = run(text, {"a": a, "b": b, "y": like(3, 5, dtype=held)})["y"]
    np.testing.assert_array_equal(out, a.astype(np.int64) @ b.astype(np.int64))


def test_integer_division_floors_and_by_zero_gives_zero() -> None:
    lowest = np.iinfo(np.int32).min
    x = np.array([7, -7, 7, -7, 5, lowest], np.int32)
    y = np.array([2, 2, -2, -2, 0, -1], np.int32)
    text = """
@kernel
def divide(x: In[i32, N], y: In[i32, N], q: Out[i32, N], r: Out[i32, N]):
    for i in tiles((N,), (4,)):
        a, b = load(x, (i,), (4,)), load(y, (i,), (4,))
        store(q, (i,), a // b)
        store(r, (i,), a % b)
"""
    out = run(text, {"x": x, "y": y, "q": like(6, dtype=np.int32), "r": like(6, dtype=np.int32)})
    np.testing.assert_array_equal(out["q"], [3, -4, -4, 3, 0, lowest])
    np.testing.assert_array_equal(out["r"], [1, 1, -1, -1, 0, 0])


def test_tile_integers_wrap() -> None:
    x = np.array([2**31 - 1, -(2**31), 12], np.int32)
    text = """
@kernel
def more(x: In[i32, N], y: Out[i32, N], z: Out[i32, N]):
    for i in tiles((N,), (4,)):
        v = load(x, (i,), (4,))
        store(y, (i,), v + 1)
        store(z, (i,), v * v)
"""
    out = run(text, {"x": x, "y": like(3, dtype=np.int32), "z": like(3, dtype=np.int32)})
    np.testing.assert_array_equal(out["y"], [-(2**31), -(2**31) + 1, 13])
    np.testing.assert_array_equal(out["z"], [1, 0, 144])


@pytest.mark.parametrize(
    ("name", "dtype", "limit"), [("f8e4m3", ml_dtypes.float8_e4m3fn, 448), ("f8e5m2", ml_dtypes.float8_e5m2, 57344)]
)
def test_casts_to_8_bit_floats_saturate(name: str, dtype: Any, limit: float) -> None:
    x = np.array([1.0, limit * 1.02, 1e9, -1e9, np.inf, np.nan, 0.3], F32)
    text = f"""
@kernel
def narrow(x: In[f32, N], y: Out[{name}, N]):
    for i in tiles((N,), (4,)):
        store(y, (i,), cast(load(x, (i,), (4,)), {name}))
"""
    out = run(text, {"x": x, "y": like(7, dtype=dtype)})["y"].astype(F32)
    np.testing.assert_array_equal(out[:6], [1, limit, limit, -limit, limit, np.nan])
    assert out[6] == F32(0.3).astype(dtype).astype(F32)


def test_casts_from_float_to_integer_saturate_and_nan_is_zero() -> None:
    x = np.array([2.0, -3.0, 1e20, -1e20, np.inf, -np.inf, np.nan, 2147483520.0], F32)
    text = """
@kernel
def whole(x: In[f32, N], y: Out[i32, N], z: Out[u8, N]):
    for i in tiles((N,), (4,)):
        v = load(x, (i,), (4,))
        store(y, (i,), cast(v, i32))
        store(z, (i,), cast(v, u8))
"""
    out = run(text, {"x": x, "y": like(8, dtype=np.int32), "z": like(8, dtype=np.uint8)})
    top, bottom = 2**31 - 1, -(2**31)
    np.testing.assert_array_equal(out["y"], [2, -3, top, bottom, top, bottom, 0, 2147483520])
    np.testing.assert_array_equal(out["z"], [2, 0, 255, 0, 255, 0, 0, 255])


def test_f32_to_f16_overflows_to_infinity_and_rounds_to_even() -> None:
    x = np.array([70000.0, -70000.0, 1 + 2**-11, 1 + 3 * 2**-11], F32)
    right = np.array([np.inf, -np.inf, 1, 1 + 2**-9], np.float16)
    text = """
@kernel
def half(x: In[f32, N], y: Out[f16, N]):
    for i in tiles((N,), (4,)):
        store(y, (i,), cast(load(x, (i,), (4,)), f16))
"""
    np.testing.assert_array_equal(run(text, {"x": x, "y": like(4, dtype=np.float16)})["y"], right)


def test_runtime_scalars_and_dims_as_numbers() -> None:
    x = normal(3, 6)
    text = """
@kernel
def scale(x: In[f32, M, N], y: Out[f32, M], s: f32, B=2):
    for i in tiles((M,), (B,)):
        store(y, (i,), sum(load(x, (i, 0), (B, 8)), axis=1) * s / N)
"""
    out = run(text, {"x": x, "y": like(3)}, {"s": 0.25})["y"]
    np.testing.assert_allclose(out, x.sum(1) * 0.25 / 6, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("word", ["exp", "log", "sqrt", "rsqrt", "tanh", "sin", "cos", "sigmoid", "exp2", "log2"])
def test_math_words(word: str) -> None:
    x = np.abs(normal(9)) + F32(0.1)
    functions: dict[str, Any] = {
        "rsqrt": lambda v: 1 / np.sqrt(v), "sigmoid": lambda v: 1 / (1 + np.exp(-v)), "exp": np.exp, "log": np.log,
        "sqrt": np.sqrt, "tanh": np.tanh, "sin": np.sin, "cos": np.cos, "exp2": np.exp2, "log2": np.log2,
    }  # fmt: skip
    text = f"""
@kernel
def apply(x: In[f32, N], y: Out[f32, N]):
    for i in tiles((N,), (4,)):
        store(y, (i,), {word}(load(x, (i,), (4,))))
"""
    right = functions[word](x.astype(np.float64))
    np.testing.assert_allclose(run(text, {"x": x, "y": like(9)})["y"], right, rtol=1e-6)


# Arrays and programs -------------------------------------------------------------------------


def test_acc_is_zeroed_and_summed_atomically() -> None:
    x = np.random.default_rng(0).integers(-3, 4, (7, 5)).astype(F32)
    text = """
@kernel
def columns(x: In[f32, M, N], y: Acc[f32, N], BM=2, BN=4):
    for i, j in tiles((M, N), (BM, BN)):
        atomic_add(y, (j,), sum(load(x, (i, j), (BM, BN)), axis=0))
"""
    np.testing.assert_array_equal(run(text, {"x": x, "y": np.full(5, 9, F32)})["y"], x.sum(0))


def test_inout_is_read_before_it_is_written() -> None:
    x = normal(7)
    text = """
@kernel
def grow(x: InOut[f32, N], B=4):
    for i in tiles((N,), (B,)):
        store(x, (i,), load(x, (i,), (B,)) + 1.0)
"""
    given = x.copy()
    np.testing.assert_array_equal(run(text, {"x": given})["x"], x + 1)
    np.testing.assert_array_equal(given, x)


def test_program_with_a_temporary() -> None:
    a, w = normal(5, 11), normal(6, 11, seed=1)
    text = """
@kernel
def partial(a: In[f32, M, K], w: In[f32, N, K], part: Out[f32, S, M, N], BM=4, BN=4, BK=2):
    for s, i, j in tiles((S, M, N), (1, BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(s * K // S, (s + 1) * K // S, BK):
            ak = load(a[:, 0:(s + 1) * K // S], (i, k), (BM, BK))
            acc += mma(ak, load(w, (j, k), (BN, BK)).T)
        store(part[s], (i, j), acc)

@kernel
def total(part: In[f32, S, M, N], y: Out[f32, M, N], BM=4, BN=4):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for s in range(S):
            acc += load(part[s], (i, j), (BM, BN), fill=0)
        store(y, (i, j), acc)

@program
def splitk(a: In[f32, M, K], w: In[f32, N, K], y: Out[f32, M, N], S=3):
    part = temp(f32, (S, M, N))
    partial(a, w, part)
    total(part, y)
"""
    out = run(text, {"a": a, "w": w, "y": like(5, 6)})["y"]
    np.testing.assert_allclose(out, a @ w.T, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run(text, {"a": a, "w": w, "y": like(5, 6)}, S=2)["y"], a @ w.T, rtol=1e-5, atol=1e-5)


GATHER = """
@kernel
def look_up(x: In[f32, V, D], ids: In[i32, N], y: Out[f32, N, D], B=4):
    assume(0 <= ids < V)
    for i in tiles((N,), (B,)):
        rows = load(ids, (i,), (B,))
        store(y, (i, 0), gather(x, (rows, 0), (B, 8)))
"""


def test_gather_rows() -> None:
    x, ids = normal(6, 5), np.array([5, 0, 3, 3, 1], np.int32)
    out = run(GATHER, {"x": x, "ids": ids, "y": like(5, 5)})["y"]
    np.testing.assert_array_equal(out, x[ids])


def test_data_that_breaks_an_assumption_is_reported_with_its_line() -> None:
    module = parse("edition(1)\n" + GATHER)
    arrays = {"x": normal(6, 5), "ids": np.array([9], np.int32), "y": like(1, 5)}
    with pytest.raises(RunError) as caught:
        interpret(module, arrays)
    assert caught.value.code == "assume-violated"
    span = caught.value.diagnostics[0].span
    assert span is not None
    assert span.line == 5


def test_scatter_rows() -> None:
    x, ids = normal(4, 5), np.array([3, 0, 2, 1], np.int32)
    text = """
@kernel
def place(x: In[f32, N, D], ids: In[i32, N], y: Out[f32, N, D], B=2):
    assume(0 <= ids < N, distinct(ids), D in (5, 8))
    for i in tiles((N,), (B,)):
        scatter(y, (load(ids, (i,), (B,)), 0), load(x, (i, 0), (B, D)))
"""
    out = run(text, {"x": x, "ids": ids, "y": like(4, 5)})["y"]
    np.testing.assert_array_equal(out[ids], x)


def test_atomic_add_at_listed_rows_counts_duplicates() -> None:
    ids = np.array([3, 0, 3, 3, 1], np.int32)
    text = """
@kernel
def histogram(ids: In[i32, N], y: Acc[i32, V], B=2):
    assume(0 <= ids < V)
    for i in tiles((N,), (B,)):
        atomic_add(y, (load(ids, (i,), (B,)),), full((B,), 1, i32))
"""
    out = run(text, {"ids": ids, "y": like(4, dtype=np.int32)})["y"]
    np.testing.assert_array_equal(out, np.bincount(ids, minlength=4))


# What a run refuses --------------------------------------------------------------------------


def failure(body: str, arrays: Arrays, scalars: dict[str, Any] | None = None) -> RunError:
    with pytest.raises(RunError) as caught:
        execute(parse("edition(1)\n" + body), arrays, scalars or {}, {}, Options(log=True))
    return caught.value


def test_a_position_out_of_range_is_named_with_its_values() -> None:
    text = """
@kernel
def next_row(x: In[f32, M, N], y: Out[f32, M, N]):
    for i in tiles((M,), (1,)):
        store(y[i], (0,), load(x[i + 1], (0,), (8,)) + 1.0)
"""
    error = failure(text, {"x": normal(3, 5), "y": like(3, 5)})
    assert error.code == "index-range"
    assert error.facts == {"array": "x", "axis": 0, "index": 3, "extent": 3}
    assert "i=2" in error.message
    assert error.diagnostics[0].span is not None


def test_a_zero_divisor_is_named() -> None:
    text = """
@kernel
def f(y: Out[f32, N], n: i32):
    for i in tiles((N,), (1,)):
        store(y, (i,), full((1,), 1.0, f32) * (N // n))
"""
    assert failure(text, {"y": like(3)}, {"n": 0}).code == "division-by-zero"


def test_inout_elements_of_another_iteration_are_refused() -> None:
    text = """
@kernel
def shift(x: InOut[f32, N], B=4):
    for i in tiles((N,), (B,)):
        store(x, (i,), load(x, (i + 1,), (B,), fill=0))
"""
    assert failure(text, {"x": normal(9)}).code in ("inout-shared", "inout-after-store")


# Options -------------------------------------------------------------------------------------

SUM = """edition(1)
@kernel
def rows(x: In[f32, M, N], y: Out[f32, M], BM=2, BN=4):
    for i in tiles((M,), (BM,)):
        acc = zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            acc += sum(load(x, (i, j), (BM, BN), fill=0), axis=1)
        store(y, (i,), acc)
"""


def test_widened_runs_are_done_in_f64() -> None:
    x = normal(3, 1000)
    out = interpret(parse(SUM), {"x": x, "y": like(3)}, widen=True)["y"]
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, x.astype(np.float64).sum(1), rtol=1e-13)


def test_work_limit_stops_a_run_with_a_diagnostic() -> None:
    with pytest.raises(WorkLimit) as caught:
        interpret(parse(SUM), {"x": normal(50, 50), "y": like(50)}, options=Options(work_limit=1000))
    assert caught.value.diagnostics[0].code == "work-limit"


def test_the_log_names_the_iteration_and_line_of_each_store() -> None:
    run_ = execute(parse(SUM), {"x": normal(5, 3), "y": like(5)}, {}, {}, Options(log=True))
    (call,) = run_.calls
    log = call.cells["y"].log
    assert log is not None
    assert (log.count == 1).all()
    assert (log.line == 8).all()
    assert [call.iterations[n]["i"] for n in log.iteration] == [0, 0, 2, 2, 4]


def test_arrays_that_do_not_fit_are_a_kernel_error() -> None:
    with pytest.raises(KernelError):
        interpret(parse(SUM), {"x": normal(5), "y": like(5)})


def test_inputs_are_not_changed() -> None:
    x = normal(5, 7)
    before = x.copy()
    interpret(parse(SUM), {"x": x, "y": like(5)}, plant_nan=True)
    np.testing.assert_array_equal(x, before)
