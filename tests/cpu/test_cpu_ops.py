"""Every operation of the tile IR, compiled, against the interpreter on ragged shapes."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl.targets.cpu import features
from numpy.typing import NDArray

from tests.support.compiled import assert_same

Array = NDArray[Any]
LEVELS = features.detect().levels
BF16 = ml_dtypes.bfloat16


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32, scale: float = 1.0) -> Array:
    values = np.random.default_rng(seed).standard_normal(shape) * scale
    return values.astype(dtype)


def integers(*shape: int, low: int = -50, high: int = 50, seed: int = 0, dtype: Any = np.int32) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def elementwise(body: str, dtype: str = "f32", out: str | None = None, inputs: str = "x") -> str:
    arrays = ", ".join(f"{n}: In[{dtype}, M, N]" for n in inputs)
    loads = "\n".join(f"        v{n} = load({n}, (i, j), (BM, BN))" for n in inputs)
    return f"""edition(1)

@kernel
def kernel_under_test({arrays}, y: Out[{out or dtype}, M, N], BM=4, BN=32):
    for i, j in tiles((M, N), (BM, BN)):
{loads}
        store(y, (i, j), {body})
"""


UNARY = ["exp", "exp2", "tanh", "erf", "sin", "cos", "sigmoid", "abs", "floor", "ceil", "round"]


@pytest.mark.parametrize("level", LEVELS)
def test_unary_words_in_one_kernel(level: str) -> None:
    """Every word on values and on special values; the sum of few, so that each shows."""
    rows = "".join(f"        store(y{k}, (i,), {word}(v))\n" for k, word in enumerate(UNARY))
    arrays = ", ".join(f"y{k}: Out[f32, N]" for k in range(len(UNARY)))
    text = f"edition(1)\n\n@kernel\ndef unary(x: In[f32, N], {arrays}, B=64):\n    for i in tiles((N,), (B,)):\n"
    text += "        v = load(x, (i,), (B,))\n" + rows
    x = np.concatenate([floats(120, scale=3.0), np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 2.5, -3.5], np.float32)])
    x = np.where(np.isinf(x), np.sign(x) * 20, x).astype(np.float32)  # sin(inf) raises in the interpreter's numpy
    given = {"x": x} | {f"y{k}": np.zeros_like(x) for k in range(len(UNARY))}
    assert_same(text, given, level=level, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("word", ["log", "log2", "sqrt", "rsqrt"])
def test_words_of_positive_numbers(word: str) -> None:
    x = np.abs(floats(7, 37)) + np.float32(0.01)
    assert_same(elementwise(f"{word}(vx)"), {"x": x, "y": np.zeros_like(x)}, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "body",
    [
        "va + vb * 2.0 - va / (vb * vb + 1.0)",
        "maximum(va, vb) * minimum(va, 0.5)",
        "where(va > vb, va, -vb)",
        "va * va * va",
    ],
)
def test_binary_arithmetic(body: str, level: str) -> None:
    a, b = floats(7, 37), floats(7, 37, seed=1)
    a[2, 3] = b[3, 4] = np.nan
    assert_same(elementwise(body, inputs="ab"), {"a": a, "b": b, "y": np.zeros_like(a)}, level=level)


@pytest.mark.parametrize("dtype", ["i32", "i64", "u32", "i16", "i8", "u8"])
def test_integer_arithmetic_floors_and_wraps(dtype: str) -> None:
    numpy_dtype = np.dtype(
        {"i32": "int32", "i64": "int64", "u32": "uint32", "i16": "int16", "i8": "int8", "u8": "uint8"}[dtype]
    )
    info = np.iinfo(numpy_dtype)
    a, b = (integers(5, 37, low=info.min, high=info.max, seed=s, dtype=numpy_dtype) for s in (0, 1))
    b[0, :4] = [0, 1, 2, 3]
    b[1, :9] = 0
    if info.min < 0:
        a[0, 5], b[0, 5], b[0, 6], b[0, 7] = info.min, -1, -1, -3
    body = "(va // vb) + (va % vb) * 3 + (va & vb) - (va ^ vb) + maximum(va, vb) * (va | vb)"
    assert_same(elementwise(body, dtype, inputs="ab"), {"a": a, "b": b, "y": np.zeros_like(a)})


def test_shifts_of_any_amount() -> None:
    a, b = integers(5, 37, low=-(2**31), high=2**31 - 1), integers(5, 37, low=0, high=40, seed=1)
    assert_same(elementwise("(va << vb) ^ (va >> vb)", "i32", inputs="ab"), {"a": a, "b": b, "y": np.zeros_like(a)})


def test_comparisons_and_bool_algebra() -> None:
    a, b = floats(7, 37), floats(7, 37, seed=1)
    a[0, 0] = np.nan
    body = "((va < vb) & (va >= 0.0)) | ((va != vb) ^ (vb <= 0.25)) & ~(va == vb)"
    assert_same(elementwise(body, out="bool", inputs="ab"), {"a": a, "b": b, "y": np.zeros(a.shape, bool)})


def test_stored_bools_count_any_nonzero_byte() -> None:
    x = np.array([[0, 1, 2, 255] * 10] * 3, np.uint8).view(np.bool_)
    text = elementwise("where(vx, 1.5, 0.0)", "bool", "f32")
    assert_same(text, {"x": x, "y": np.zeros(x.shape, np.float32)})


CASTS = [
    ("f32", "i32"), ("f32", "i8"), ("f32", "u8"), ("f32", "bf16"), ("f32", "f16"), ("f32", "f64"), ("i32", "f32"),
    ("i32", "i8"), ("bf16", "f32"), ("f16", "f32"), ("f64", "f32"), ("i64", "f64"), ("bool", "f32"), ("u8", "i32"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), CASTS)
def test_casts(source: str, target: str) -> None:
    from kernelagent.dsl.dtypes import is_float, numpy_dtype

    kind = numpy_dtype(source)
    x = floats(5, 37, scale=100.0).astype(kind) if is_float(source) else integers(5, 37, low=0, high=100).astype(kind)
    if source == "f32":
        x[0, :6] = [3e9, -3e9, np.nan, np.inf, -np.inf, 2.5]
    if source == "bool":
        x = integers(5, 37, low=0, high=2).astype(bool)
    text = elementwise(f"cast(vx, {target})", source, target)
    assert_same(text, {"x": x, "y": np.zeros(x.shape, numpy_dtype(target))}, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f64"])
def test_other_floats_compute_and_store(dtype: str) -> None:
    from kernelagent.dsl.dtypes import numpy_dtype

    a, b = (floats(5, 77, seed=s).astype(numpy_dtype(dtype)) for s in (0, 1))
    body = "va * vb + exp(va)" if dtype == "f64" else f"cast(va * vb + exp(va), {dtype})"
    rtol = {"bf16": 1e-2, "f16": 1e-3, "f64": 1e-13}[dtype]
    assert_same(elementwise(body, dtype, inputs="ab"), {"a": a, "b": b, "y": np.zeros_like(a)}, rtol=rtol, atol=rtol)


REDUCE = """edition(1)

@kernel
def reduce(x: In[f32, M, N], y: Out[f32, {kept}], BM={BM}, BN={BN}):
    assume({other} <= {block})
    for i in tiles(({kept},), ({step},)):
        v = load(x, {start}, (BM, BN))
        store(y, (i,), {word}(v, axis={axis}))
"""


def reduce_text(word: str, axis: int) -> str:
    if axis == 1:
        return REDUCE.format(
            kept="M", BM=4, BN=256, other="N", block="BN", step="BM", start="(i, 0)", word=word, axis=1
        )
    return REDUCE.format(kept="N", BM=64, BN=32, other="M", block="BM", step="BN", start="(0, i)", word=word, axis=0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("word", ["sum", "max", "min", "prod"])
def test_float_reductions(word: str, axis: int, level: str) -> None:
    x = floats(37, 203)
    x[3, 5] = np.nan
    shape = (37,) if axis == 1 else (203,)
    assert_same(reduce_text(word, axis), {"x": x, "y": np.zeros(shape, np.float32)}, level=level, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("word", ["sum", "max", "min", "prod"])
def test_integer_reductions(word: str, axis: int) -> None:
    shape = (37,) if axis == 1 else (203,)
    given = {"x": integers(37, 203), "y": np.zeros(shape, np.int32)}
    assert_same(reduce_text(word, axis).replace("f32", "i32"), given)


@pytest.mark.parametrize("word", ["any", "all"])
def test_bool_reductions(word: str) -> None:
    text = reduce_text(word, 1).replace("f32", "bool")
    x = integers(37, 203, low=0, high=30) > 1
    assert_same(text, {"x": x, "y": np.zeros(37, bool)})


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("word", ["argmax", "argmin"])
def test_arg_reductions_take_the_first_and_nan_wins(word: str, axis: int) -> None:
    x = np.round(floats(37, 203))
    x[4, 7] = x[4, 9] = np.nan
    shape = (37,) if axis == 1 else (203,)
    text = reduce_text(word, axis).replace("y: Out[f32", "y: Out[i32")
    assert_same(text, {"x": x, "y": np.zeros(shape, np.int32)})


@pytest.mark.parametrize("op", ["sum", "max", "min", "prod"])
def test_scans_of_both_axes(op: str) -> None:
    text = f"""edition(1)

@kernel
def scans(x: In[f32, M, N], y: Out[f32, M, N], z: Out[f32, M, N], BM=64, BN=64):
    assume(M <= BM, N <= BN)
    for i in tiles((1,), (1,)):
        v = load(x, (0, 0), (BM, BN))
        store(y, (0, 0), scan(v, axis=1, op={op}))
        store(z, (0, 0), scan(v * 0.5, axis=0, op={op}))
"""
    x = floats(19, 37)
    assert_same(text, {"x": x, "y": np.zeros_like(x), "z": np.zeros_like(x)}, rtol=1e-5, atol=1e-5)


def test_empty_tiles_give_identities() -> None:
    """A reduction over the columns from N on: nothing is live."""
    text = """edition(1)

@kernel
def empty(x: In[f32, M, N], s: Out[f32, M], t: Out[f32, M], a: Out[i32, M], BM=8, BN=32):
    for i in tiles((M,), (BM,)):
        v = load(x, (i, N), (BM, BN))
        store(s, (i,), sum(v, axis=1))
        store(t, (i,), max(v, axis=1))
        store(a, (i,), argmax(v, axis=1))
"""
    m = 11
    given = {"x": floats(m, 37), "s": np.ones(m, np.float32), "t": np.ones(m, np.float32), "a": np.ones(m, np.int32)}
    assert_same(text, given)


def test_moves_stack_take_permute_reshape() -> None:
    text = """edition(1)

@kernel
def rotate(x: In[f32, M, N, 2], y: Out[f32, M, N, 2], z: Out[f32, N, M], BM=4, BN=16):
    for i, j in tiles((M, N), (BM, BN)):
        v = load(x, (i, j, 0), (BM, BN, 2))
        a, b = v[:, :, 0], v[:, :, 1]
        store(y, (i, j, 0), stack(a - b, a + b))
        store(z, (j, i), permute(a * b, (1, 0)))
"""
    x = floats(7, 37, 2)
    assert_same(text, {"x": x, "y": np.zeros_like(x), "z": np.zeros((37, 7), np.float32)})


def test_reshape_merges_and_splits() -> None:
    text = """edition(1)

@kernel
def merge(x: In[f32, 8, 16], y: Out[f32, 8, 16], s: Out[f32, 8, 4]):
    for i in tiles((1,), (1,)):
        v = load(x, (0, 0), (8, 16))
        flat = reshape(v * 2.0, (128,))
        store(y, (0, 0), reshape(exp(flat), (8, 16)))
        store(s, (0, 0), sum(reshape(flat, (8, 4, 4)), axis=2))
"""
    x = floats(8, 16)
    assert_same(text, {"x": x, "y": np.zeros_like(x), "s": np.zeros((8, 4), np.float32)}, rtol=1e-5)


def test_fill_revives_computed_values() -> None:
    text = """edition(1)

@kernel
def fills(x: In[f32, M, N], s: Out[f32, M], t: Out[f32, M], BM=4, BN=64):
    assume(N <= BN)
    for i in tiles((M,), (BM,)):
        v = load(x, (i, 0), (BM, BN))
        store(s, (i,), sum(fill(exp(v), 1.0), axis=1))
        store(t, (i,), sum(load(x, (i, -3), (BM, BN), fill=2.0), axis=1))
"""
    given = {"x": floats(7, 37), "s": np.zeros(7, np.float32), "t": np.zeros(7, np.float32)}
    assert_same(text, given, rtol=1e-5)


def test_window_reads_void_outside() -> None:
    text = """edition(1)

@kernel
def blur(x: In[f32, H, W], y: Out[f32, H, W], BH=4, BW=32):
    for i, j in tiles((H, W), (BH, BW)):
        acc = zeros((BH, BW), f32)
        for r, s in pipeline((0, 0), (3, 3), (1, 1)):
            v = window(x, offset=(r - 1, s - 1), stride=(1, 1), shape=(H, W))
            acc += load(v, (i, j), (BH, BW), fill=0)
        store(y, (i, j), acc)
"""
    x = floats(9, 37)
    assert_same(text, {"x": x, "y": np.zeros_like(x)}, rtol=1e-5, atol=1e-5)


def test_gather_rows_and_columns() -> None:
    text = """edition(1)

@kernel
def look_up(x: In[f32, P, N], rows: In[i32, M], y: Out[f32, M, N], z: Out[f32, N, M], BM=4, BN=32):
    assume(0 <= rows < P, P == N)
    for i, j in tiles((M, N), (BM, BN)):
        at = load(rows, (i,), (BM,))
        store(y, (i, j), gather(x, (at, j), (BM, BN)))
        store(z, (j, i), gather(x, (j, at), (BN, BM)))
"""
    x, rows = floats(37, 37), integers(11, low=0, high=37)
    given = {"x": x, "rows": rows, "y": np.zeros((11, 37), np.float32), "z": np.zeros((37, 11), np.float32)}
    assert_same(text, given)


def test_scatter_and_atomic_add() -> None:
    text = """edition(1)

@kernel
def spread(x: In[f32, M, N], at: In[i32, M], y: Out[f32, M, N], h: Acc[f32, M], c: Acc[i32, N], BM=4, BN=16):
    assume(0 <= at < M, distinct(at))
    for i, j in tiles((M, N), (BM, BN)):
        v = load(x, (i, j), (BM, BN))
        where_to = load(at, (i,), (BM,))
        scatter(y, (where_to, j), v)
        atomic_add(h, (where_to,), sum(v, axis=1))
        atomic_add(c, (j,), sum(cast(v > 0.0, i32), axis=0))
"""
    m, n = 13, 37
    at = np.random.default_rng(0).permutation(m).astype(np.int32)
    given = {"x": floats(m, n), "at": at, "y": np.zeros((m, n), np.float32), "h": np.ones(m, np.float32)}
    assert_same(text, given | {"c": np.ones(n, np.int32)}, rtol=1e-5, atol=1e-5)


def test_in_out_loads_before_it_stores() -> None:
    text = """edition(1)

@kernel
def update(x: InOut[f32, M, N], s: Out[f32, M], BM=4, BN=64):
    assume(N <= BN)
    for i in tiles((M,), (BM,)):
        v = load(x, (i, 0), (BM, BN))
        store(x, (i, 0), v * 2.0)
        store(s, (i,), sum(v, axis=1))
"""
    assert_same(text, {"x": floats(7, 37), "s": np.zeros(7, np.float32)}, rtol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("pairs", [5, 16, 37])
def test_rotary_pairs_interleave(pairs: int, level: str) -> None:
    text = """edition(1)

@kernel
def rope(x: In[f32, S, 2 * P], c: In[f32, S, P], s: In[f32, S, P], y: Out[f32, S, 2 * P], BS=4, BP=16):
    for i, j in tiles((S, P), (BS, BP)):
        pair = reshape(load(x, (i, 2 * j), (BS, 2 * BP), fill=0), (BS, BP, 2))
        ci, si = load(c, (i, j), (BS, BP), fill=0), load(s, (i, j), (BS, BP), fill=0)
        even, odd = pair[:, :, 0], pair[:, :, 1]
        turned = stack(even * ci - odd * si, even * si + odd * ci)
        store(y, (i, 2 * j), reshape(turned, (BS, 2 * BP)))
"""
    x, c, s = floats(7, 2 * pairs), floats(7, pairs, seed=1), floats(7, pairs, seed=2)
    assert_same(text, {"x": x, "c": c, "s": s, "y": np.zeros_like(x)}, level=level)
