"""Views and live positions, checked against numpy on concrete sizes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import ir, parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate.checks import walk
from kernelagent.dsl.index import Index
from kernelagent.dsl.spec import violations

TEXT = """edition(1)

@kernel
def k(x: In[f32, {dims}], t: In[i32, R], y: Out[f32, M], n: i32 = 0, BM=4, BN=8):
    assume({assume})
    for i in tiles((M,), (BM,)):
        w = load({view}, {position}, {shape})
        store(y, (i,), zeros((BM,), f32))
"""


def loaded(
    view: str, position: str, shape: str, dims: str = "M, N", assume: str = "0 <= t < M"
) -> tuple[ir.View, ir.Load, ir.Value]:
    text = TEXT.format(view=view, position=position, shape=shape, dims=dims, assume=assume)
    (kernel,) = parse(text).kernels
    assert violations(kernel) == []
    found = [s for s in walk(kernel.body) if isinstance(s, ir.Let) and isinstance(s.operation, ir.Load)][-1]
    assert isinstance(found.operation, ir.Load)
    return found.operation.view, found.operation, found.value


def code(view: str, position: str, shape: str, dims: str = "M, N") -> str:
    with pytest.raises(KernelError) as caught:
        loaded(view, position, shape, dims)
    return caught.value.diagnostics[0].code


def gathered(view: ir.View, source: np.ndarray, environment: dict[str, int]) -> np.ndarray:
    """The view's elements by its coordinates; NaN where a position lies outside [lo, hi)."""
    lengths = [a.length.evaluate(environment) for a in view.axes]
    result = np.full(lengths, np.nan)
    for place in itertools.product(*(range(n) for n in lengths)):
        bounds = [(a.lo.evaluate(environment), a.hi.evaluate(environment)) for a in view.axes]
        if all(lo <= p < hi for p, (lo, hi) in zip(place, bounds, strict=True)):
            at = environment | {ir.position(n).name: p for n, p in enumerate(place)}
            result[place] = source[tuple(c.evaluate(at) for c in view.coordinates)]
    return result


VIEWS = [
    ("x[2]", lambda x: x[2], 2),
    ("x[2, 1:]", lambda x: x[2, 1:], 2),
    ("x[1:4]", lambda x: x[1:4], 2),
    ("x[1:4][1:9]", lambda x: x[1:4][1:9], 2),
    ("x[:, 2:5]", lambda x: x[:, 2:5], 2),
    ("x[:, 2:5][3]", lambda x: x[:, 2:5][3], 2),
    ("x[4:2]", lambda x: x[4:2], 2),
    ("x.T", lambda x: x.T, 2),
    ("x.T[1:3]", lambda x: x.T[1:3], 2),
    ("x[1:4].T", lambda x: x[1:4].T, 2),
    ("reshape(x, (M * N,))", lambda x: x.reshape(-1), 2),
    ("reshape(x, (M, 1, N))", lambda x: x[:, None], 2),
    ("permute(x, (2, 0, 1))", lambda x: x.transpose(2, 0, 1), 3),
    ("permute(x, (2, 0, 1))[1]", lambda x: x.transpose(2, 0, 1)[1], 3),
    ("reshape(x, (M * N, K))", lambda x: x.reshape(-1, x.shape[2]), 3),
    ("reshape(x, (M, N * K))", lambda x: x.reshape(x.shape[0], -1), 3),
    ("reshape(x[2], (N * K,))", lambda x: x[2].reshape(-1), 3),
    ("reshape(reshape(x, (M * N * K,)), (M * N * K,))", lambda x: x.reshape(-1), 3),
]
SIZES = {"M": 6, "N": 7, "K": 4}


@pytest.mark.parametrize(("view", "numpy_view", "rank"), VIEWS, ids=[v[0] for v in VIEWS])
def test_views_mean_what_numpy_means(view: str, numpy_view: object, rank: int) -> None:
    names = ["M", "N", "K"][:rank]
    source = np.arange(float(np.prod([SIZES[n] for n in names]))).reshape([SIZES[n] for n in names])
    expected = numpy_view(source)  # type: ignore[operator]
    zeros = "(" + "0, " * expected.ndim + ")"
    ones = "(" + "1, " * expected.ndim + ")"
    found, _, _ = loaded(view, zeros, ones, ", ".join(names))
    np.testing.assert_array_equal(gathered(found, source, SIZES), expected)


def test_a_split_needs_a_proved_divisor() -> None:
    source = np.arange(6.0 * 8).reshape(6, 8)
    found, _, _ = loaded("reshape(x, (M, N // 4, 4))", "(0, 0, 0)", "(1, 1, 4)", assume="N % 4 == 0, 0 <= t < M")
    np.testing.assert_array_equal(gathered(found, source, {"M": 6, "N": 8}), source.reshape(6, 2, 4))
    assert code("reshape(x, (M, N // 4, 4))", "(0, 0, 0)", "(1, 1, 4)") == "reshape-size"


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        ("reshape(x.T, (M * N,))", "view-reshape"),
        ("reshape(x[:, 1:3], (M * minimum(2, N),))", "reshape-size"),
        ("x[:, 0]", "index-after-slice"),
        ("x[0:4:2]", "slice-step"),
        ("x[-1]", "negative-index"),
        ("x[0:-1]", "negative-index"),
        ("x[0, 0, 0]", "index-rank"),
        ("x[None]", "view-none"),
        ("permute(x, (0, 0))", "axis"),
        ("window(x, offset=(0,), stride=(1, 1), shape=(M, N))", "index-rank"),
    ],
)
def test_refused_views(view: str, expected: str) -> None:
    assert code(view, "(0,)", "(1,)") == expected


@settings(max_examples=60)
@given(
    st.integers(-3, 3), st.integers(1, 3), st.integers(0, 9), st.integers(0, 8), st.integers(0, 9), st.integers(0, 9)
)
def test_windows_and_slices_by_numpy(offset: int, stride: int, shape: int, size: int, lo: int, hi: int) -> None:
    source = np.arange(float(size))
    places = offset + stride * np.arange(shape)
    inside = (places >= 0) & (places < size)
    expected = np.where(inside, source[np.clip(places, 0, max(size - 1, 0))] if size else np.nan, np.nan)
    view = f"window(x, offset=({offset},), stride=({stride},), shape=({shape},))"
    found, _, _ = loaded(view, "(0,)", "(1,)", "M", "0 <= t < M")
    np.testing.assert_array_equal(gathered(found, source, {"M": size}), expected)
    cut, _, _ = loaded(f"{view}[{lo}:{hi}]", "(0,)", "(1,)", "M", "0 <= t < M")
    np.testing.assert_array_equal(gathered(cut, source, {"M": size}), expected[lo:hi])


@settings(max_examples=60)
@given(st.integers(0, 9), st.integers(-3, 9), st.integers(1, 6), st.integers(0, 9), st.integers(0, 12))
def test_live_positions_are_those_inside_the_view(size: int, start: int, extent: int, lo: int, hi: int) -> None:
    text = TEXT.format(view=f"x[{lo}:{hi}]", position="(n,)", shape=f"({extent},)", dims="M", assume="0 <= t < M")
    (kernel,) = parse(text).kernels
    found = next(s.value for s in walk(kernel.body) if isinstance(s, ir.Let) and s.value.name == "w")
    length = len(range(size)[lo:hi])
    environment = {"M": size, "n": start}
    interval = found.type.live[0]
    live = set(range(interval.lo.evaluate(environment), interval.hi.evaluate(environment)))
    assert live == {p for p in range(extent) if 0 <= start + p < length}


@pytest.mark.parametrize(
    ("view", "position", "shape", "live"),
    [
        ("x", "(i, 0)", "(BM, BN)", [("0", "min(BM, M - i)"), ("0", "min(BN, N)")]),
        ("x", "(i - 1, 0)", "(BM, BN)", [("max(-i + 1, 0)", "min(BM, M - i + 1)"), ("0", "min(BN, N)")]),
        ("x[i]", "(n,)", "(BN,)", [("max(-n, 0)", "min(BN, N - n)")]),
        ("x[t[i]]", "(0,)", "(BN,)", [("0", "min(BN, N)")]),
        ("x", "(t[i], 0)", "(1, BN)", [("0", "1"), ("0", "min(BN, N)")]),
    ],
)
def test_live_intervals_are_simplified(view: str, position: str, shape: str, live: list[tuple[str, str]]) -> None:
    text = TEXT.format(view=view, position=position, shape=shape, dims="M, N", assume="0 <= t < M")
    if "[i]" in view + position:
        text = text.replace("tiles((M,), (BM,))", "tiles((M,), (1,))").replace("zeros((BM,)", "zeros((1,)")
    (kernel,) = parse(text).kernels
    found = next(s.value for s in walk(kernel.body) if isinstance(s, ir.Let) and s.value.name == "w")
    assert [(str(x.lo), str(x.hi)) for x in found.type.live] == live


def test_one_row_of_a_unit_step_is_wholly_live() -> None:
    text = TEXT.format(view="x", position="(i, 0)", shape="(1, BN)", dims="M, N", assume="0 <= t < M")
    (kernel,) = parse(text.replace("(M,), (BM,)", "(M,), (1,)").replace("zeros((BM,)", "zeros((1,)")).kernels
    found = next(s.value for s in walk(kernel.body) if isinstance(s, ir.Let) and s.value.name == "w")
    assert found.type.live[0].hi == found.type.shape[0]


def test_partitions_order_their_elements() -> None:
    text = """edition(1)

@kernel
def k(x: In[f32, M], offsets: In[i32, E + 1], z: In[f32, E], y: Out[f32, M], BM=4):
    assume(partition(offsets, M))
    for e in tiles((E,), (1,)):
        lo, hi = offsets[e], offsets[e + 1]
        for i in tiles((hi - lo,), (BM,)):
            store(y[lo:hi], (i,), load(x[lo:hi], (i,), (BM,)))
"""
    (kernel,) = parse(text).kernels
    store = next(s for s in walk(kernel.body) if isinstance(s, ir.Store))
    length: Index = store.view.axes[0].length
    assert str(length) == "offsets[e + 1] - offsets[e]"
    assert str(store.value.type.live[0].hi) == "min(-i + offsets[e + 1] - offsets[e], BM)"
