"""Random small kernels against plain numpy on whole arrays, and laws that hold for every kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.interpreter import numbers
from kernelagent.dsl.interpreter.machine import Options
from kernelagent.dsl.interpreter.run import execute, interpret
from kernelagent.dsl.verify.trials import same_bits

F32 = np.float32
SIZE = st.integers(0, 9)
TILE = st.integers(1, 5)
FEW = settings(max_examples=40)

LEAVES = [
    ("x", lambda x, y: x),
    ("y", lambda x, y: y),
    ("0.5", lambda x, y: F32(0.5)),
    ("-1.25", lambda x, y: F32(-1.25)),
]
BINARY: dict[str, Any] = {
    "({} + {})": np.add, "({} - {})": np.subtract, "({} * {})": np.multiply,
    "maximum({}, {})": np.maximum, "minimum({}, {})": np.minimum,
}  # fmt: skip
UNARY: dict[str, Any] = {"abs({})": np.abs, "(-{})": np.negative, "floor({})": np.floor, "sqrt(abs({}))": None}


def _binary(parts: tuple[Any, Any, str]) -> Any:
    (left, f), (right, g), word = parts
    return word.format(left, right), lambda x, y: BINARY[word](f(x, y), g(x, y)).astype(F32)


def _unary(parts: tuple[Any, str]) -> Any:
    (inner, f), word = parts
    function = UNARY[word] or (lambda v: np.sqrt(np.abs(v)))
    return word.format(inner), lambda x, y: np.asarray(function(f(x, y))).astype(F32)


EXPRESSION = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.tuples(inner, inner, st.sampled_from(sorted(BINARY))).map(_binary),
        st.tuples(inner, st.sampled_from(sorted(UNARY))).map(_unary),
    ),
    max_leaves=6,
)


def normal(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(F32)


def planted(text: str, arrays: dict[str, Any], **tunables: int) -> dict[str, Any]:
    """Run plainly and with NaN planted in another order; assert that the bits agree."""
    module = parse(text)
    plain = execute(module, arrays, {}, tunables, Options()).outputs
    options = Options(plant_nan=True, order="shuffle", check_types=True, log=True)
    other = execute(module, arrays, {}, tunables, options)
    assert all(same_bits(plain[name], other.outputs[name]) for name in plain)
    for call in other.calls:
        for cell in call.cells.values():
            assert cell.role != "Out" or cell.log is None or (cell.log.count == 1).all()
    return plain


@FEW
@given(EXPRESSION, SIZE, SIZE, TILE, TILE)
def test_elementwise_kernels(expression: Any, m: int, n: int, bm: int, bn: int) -> None:
    written, function = expression
    x, y = normal(m, m, n), normal(n + 100, m, n)
    text = f"""edition(1)
@kernel
def f(a: In[f32, M, N], b: In[f32, M, N], o: Out[f32, M, N], BM={bm}, BN={bn}):
    for i, j in tiles((M, N), (BM, BN)):
        x, y = load(a, (i, j), (BM, BN)), load(b, (i, j), (BM, BN))
        store(o, (i, j), {written} + 0.0 * x)
"""
    right = np.asarray(function(x, y)) + F32(0) * x
    out = planted(text, {"a": x, "b": y, "o": np.zeros((m, n), F32)})["o"]
    np.testing.assert_allclose(out, right, rtol=1e-6, atol=0)


@FEW
@given(st.sampled_from(["sum", "max", "min", "prod"]), st.integers(0, 1), SIZE, SIZE, TILE, TILE)
def test_reductions_over_tiles(word: str, axis: int, m: int, n: int, bm: int, bn: int) -> None:
    """A reduction in tiles, combined by the matching word, is the reduction of the whole axis."""
    x = normal(m * 10 + n, m, n)
    combine = {"sum": "{} + {}", "prod": "{} * {}", "max": "maximum({}, {})", "min": "minimum({}, {})"}[word]
    start = {"sum": "0.0", "prod": "1.0", "max": "-inf", "min": "inf"}[word]
    outer, inner, extent = (("M", "N", "BM"), ("N", "M", "BN"))[axis == 0][0], "MN"[axis], ("BN", "BM")[axis == 1]
    at = ("(k, i)", "(i, k)")[axis]
    step = ("BM", "BN")[axis]
    part = f"fill({word}(load(x, {at}, (BM, BN)), axis={axis}), {start})"
    text = f"""edition(1)
@kernel
def f(x: In[f32, M, N], o: Out[f32, {outer}], BM={bm}, BN={bn}):
    for i in tiles(({outer},), ({extent},)):
        acc = full(({extent},), {start}, f32)
        for k in pipeline(0, {inner}, {step}):
            acc = {combine.format("acc", part)}
        store(o, (i,), acc)
"""
    out = planted(text, {"x": x, "o": np.zeros((m, n)[1 - axis], F32)})["o"]
    limit = {"max": -np.inf, "min": np.inf}.get(word)
    right = getattr(np, word)(x, axis=axis, **({"initial": limit} if limit is not None else {}))
    np.testing.assert_allclose(out, right, rtol=1e-5, atol=1e-5)


@FEW
@given(SIZE, SIZE, SIZE, TILE, TILE, TILE, st.booleans())
def test_matmul(m: int, n: int, k: int, bm: int, bn: int, bk: int, transposed: bool) -> None:
    a, b = normal(1, m, k), normal(2, k, n)
    dims, load = ("N, K", "load(b, (j, k), (BN, BK)).T") if transposed else ("K, N", "load(b, (k, j), (BK, BN))")
    text = f"""edition(1)
@kernel
def gemm(a: In[f32, M, K], b: In[f32, {dims}], y: Out[f32, M, N], BM={bm}, BN={bn}, BK={bk}):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), {load})
        store(y, (i, j), acc)
"""
    given_b = np.ascontiguousarray(b.T) if transposed else b
    out = planted(text, {"a": a, "b": given_b, "y": np.zeros((m, n), F32)})["y"]
    np.testing.assert_allclose(out, a @ b, rtol=1e-5, atol=1e-5)


@FEW
@given(SIZE, SIZE, TILE, TILE)
def test_tile_sizes_never_change_the_meaning(m: int, n: int, bm: int, bn: int) -> None:
    text = """edition(1)
@kernel
def softmax(x: In[f32, M, N], y: Out[f32, M, N], BM=4, BN=4):
    for i in tiles((M,), (BM,)):
        m, l = full((BM,), -1e30, f32), zeros((BM,), f32)
        for j in pipeline(0, N, BN):
            v = load(x, (i, j), (BM, BN), fill=-inf)
            n = maximum(m, max(v, axis=1))
            l = l * exp(m - n) + sum(exp(v - n[:, None]), axis=1)
            m = n
        for j in pipeline(0, N, BN):
            store(y, (i, j), exp(load(x, (i, j), (BM, BN)) - m[:, None]) / l[:, None])
"""
    x = normal(m, m, n)
    out = planted(text, {"x": x, "y": np.zeros((m, n), F32)}, BM=bm, BN=bn)["y"]
    wide = interpret(parse(text), {"x": x, "y": np.zeros((m, n), F32)}, widen=True)["y"]
    np.testing.assert_allclose(out, wide, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(wide.sum(1), np.ones(m if n else 0) if n else np.zeros(m), rtol=1e-12)


@given(st.floats(width=64, allow_nan=False), st.sampled_from(["f16", "bf16", "f8e4m3", "f8e5m2"]))
def test_casts_round_to_the_nearest_representable(value: float, target: str) -> None:
    """Compare with a search over every value of the small type."""
    from kernelagent.dsl.dtypes import DTYPES, numpy_dtype

    info = DTYPES[target]
    every = np.arange(2**info.bits, dtype=np.uint32).astype(f"u{info.bits // 8}").view(numpy_dtype(target))
    finite = np.unique(every.astype(np.float64)[np.isfinite(every.astype(np.float64))])
    with np.errstate(all="ignore"):
        found = float(numbers.cast(np.array(value), "f64", target).astype(np.float64))
    if info.bits == 8 and abs(value) > info.largest:
        assert found == np.copysign(info.largest, value)
    elif np.isfinite(found):
        assert abs(found - value) == np.abs(finite - value).min()
    else:
        assert abs(value) > info.largest


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**31), 2**31 - 1))
def test_integer_division_is_pythons(a: int, b: int) -> None:
    x, y = np.array([a], np.int32), np.array([b], np.int32)
    with np.errstate(all="ignore"):
        q, r = numbers.BINARY["floordiv"](x, y)[0], numbers.BINARY["mod"](x, y)[0]
    right = (0, 0) if b == 0 else (a // b, a % b)
    wrapped = tuple((v + 2**31) % 2**32 - 2**31 for v in right)
    assert (int(q), int(r)) == wrapped
