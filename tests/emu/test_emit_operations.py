"""Operations on fragments under several distributions, emulated, against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import index
from kernelagent.dsl.ir import View
from kernelagent.dsl.lanes import Distribution, Mode, drop, insert, permuted, striped, tiled, unit
from kernelagent.dsl.targets.cuda.emit import emit, entry_name
from kernelagent.dsl.targets.cuda.registers import LayoutMismatch
from kernelagent.dsl.targets.emulator import ArrayArgument, run
from numpy.typing import NDArray
from support.device_kernels import Maker, blank, correct

SHAPE = (16, 32)
C = Distribution((16, 8), (Mode(4, 1, 2), Mode(8, 0, 1)), (Mode(2, 1, 1), Mode(2, 0, 8)))
LAYOUTS = {
    "rows": striped(SHAPE, 32, 4),
    "columns": striped(SHAPE, 32, 2, first=0),
    "matrix": tiled(C, SHAPE, (1, 1)),
    "spread": Distribution(
        SHAPE, (Mode(4, 0, 2), Mode(2, -1, 0), Mode(4, 1, 8)), (Mode(2, 0, 1), Mode(8, 1, 1), Mode(2, 0, 8))
    ),
}  # fmt: skip
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def sample(dtype: str = "f32", shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    x = np.random.default_rng(5).integers(-20, 20, shape)
    return x.astype(bool) if dtype == "bool" else x.astype({"f32": "f4", "i32": "i4", "i8": "i1"}[dtype])


def inputs(maker: Maker, layout: Distribution, dtype: str = "f32") -> dev.Fragment:
    return maker.load(maker.array("x", dtype, SHAPE), layout)


def output(maker: Maker, value: dev.Fragment, dtype: str | None = None) -> None:
    maker.store(maker.array("y", dtype or value.dtype, value.shape, "Out"), value)


REDUCTIONS = {"sum": np.sum, "max": np.max, "min": np.min, "prod": np.prod, "any": np.any, "all": np.all}


@each_layout
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(
    ("word", "dtype"), [("sum", "f32"), ("max", "f32"), ("min", "i8"), ("sum", "i32"), ("any", "bool")]
)
def test_reductions(layout: Distribution, axis: int, word: str, dtype: str) -> None:
    maker, x = Maker(), sample(dtype)
    value = inputs(maker, layout, dtype)
    output(maker, maker.let(dev.Reduce(word, value, axis), dtype, drop(layout, axis)))  # type: ignore[arg-type]
    y = blank(dtype, SHAPE[1 - axis])
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, REDUCTIONS[word](x, axis=axis))


def test_a_whole_tile_reduces_to_a_scalar_that_is_stored_once() -> None:
    maker, x = Maker(), sample()
    rows = maker.let(dev.Reduce("sum", inputs(maker, LAYOUTS["rows"]), 1), "f32", drop(LAYOUTS["rows"], 1))
    total = maker.let(dev.Reduce("sum", rows, 0), "f32", None)
    output(maker, total)
    y = np.zeros((1,), "f4")
    kernel = maker.kernel()
    arrays = [ArrayArgument("x", x, "in"), ArrayArgument("y", y, "out")]
    assert run(emit(kernel), entry_name(kernel), 32, 1, 0, arrays).ok
    assert y[0] == x.sum()


@each_layout
@pytest.mark.parametrize("word", ["argmax", "argmin"])
@pytest.mark.parametrize("axis", [0, 1])
def test_positions_of_extrema(layout: Distribution, word: str, axis: int) -> None:
    """Ties go to the lowest position, the first NaN wins, a row of the worst value has position 0."""
    maker, x = Maker(), sample()
    x[3, 7] = x[3, 5] = x[9, 30] = np.nan
    x[6, :] = -np.inf if word == "argmax" else np.inf
    x[:, 11] = x[:, 12]
    result = drop(layout, axis)
    output(maker, maker.let(dev.ArgReduce(word, inputs(maker, layout), axis), "i32", result))  # type: ignore[arg-type]
    y = blank("i32", SHAPE[1 - axis])
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, getattr(np, word)(x, axis=axis))


SCANS = {
    "registers": (Distribution((4, 64), (Mode(4, 0, 1), Mode(8, -1, 0)), (Mode(64, 1, 1),)), 1),
    "lanes": (Distribution((4, 64), (Mode(32, 1, 1),), (Mode(2, 1, 32), Mode(4, 0, 1))), 1),
    "both": (Distribution((4, 64), (Mode(2, 0, 1), Mode(8, 1, 2), Mode(2, 0, 2)), (Mode(2, 1, 1), Mode(4, 1, 16))), 1),
    "turned": (Distribution((64, 4), (Mode(4, 1, 1), Mode(8, 0, 4)), (Mode(4, 0, 1), Mode(2, 0, 32))), 0),
}


@pytest.mark.parametrize("case", SCANS.values(), ids=SCANS)
@pytest.mark.parametrize(("word", "function"), [("sum", np.cumsum), ("max", np.maximum.accumulate)])
def test_scans(case: tuple[Distribution, int], word: str, function: Any) -> None:
    layout, axis = case
    maker, x = Maker(), sample("f32", layout.shape)
    value = maker.load(maker.array("x", "f32", layout.shape), layout)
    output(maker, maker.let(dev.Scan(word, value, axis), "f32", layout))  # type: ignore[arg-type]
    y = blank("f32", *layout.shape)
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, function(x, axis=axis))


def test_scans_and_reductions_that_shuffles_cannot_do_are_refused() -> None:
    strided = Distribution((64,), (Mode(32, 0, 1),), (Mode(2, 0, 32),))
    swapped = Distribution((64,), (Mode(32, 0, 2),), (Mode(2, 0, 1),))
    backwards = Distribution((64,), (Mode(2, 0, 32), Mode(16, 0, 2)), (Mode(2, 0, 1),))
    for layout, fine in ((strided, True), (swapped, True), (backwards, False)):
        maker = Maker()
        value = maker.load(maker.array("x", "f32", [64]), layout)
        maker.let(dev.Scan("sum", value, 0), "f32", layout)
        if fine:
            emit(maker.kernel())
        else:
            with pytest.raises(LayoutMismatch, match="neighbours"):
                emit(maker.kernel())
    maker = Maker(64)
    value = maker.load(maker.array("x", "f32", [64]), striped((64,), 64, 1))
    maker.let(dev.Reduce("sum", value, 0), "f32", None)
    with pytest.raises(LayoutMismatch, match="do not reach"):
        emit(maker.kernel())


@each_layout
@pytest.mark.parametrize("axis", [0, 1])
def test_a_reduced_row_is_stretched_and_subtracted(layout: Distribution, axis: int) -> None:
    maker, x = Maker(), sample()
    value = inputs(maker, layout)
    most = maker.let(dev.Reduce("max", value, axis), "f32", drop(layout, axis))
    column = maker.let(dev.Reindex("expand", (most,), (axis,)), "f32", unit(layout, axis))
    wide = maker.let(dev.Stretch(column), "f32", layout)
    output(maker, maker.word("sub", value, wide))
    y = blank("f32", *SHAPE)
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, x - x.max(axis=axis, keepdims=True))


@each_layout
def test_a_transposed_fragment_is_read_after_it_is_made(layout: Distribution) -> None:
    """The group of pointwise statements must not read registers that it has not written yet."""
    maker, x = Maker(), sample()
    twice = maker.word("add", *[inputs(maker, layout)] * 2)
    other = permuted(layout, (1, 0))
    other = Distribution(other.shape, other.lanes, other.values[::-1])  # the same threads, registers in another order
    turned = maker.let(dev.Reindex("permute", (twice,), (1, 0)), "f32", other)
    output(maker, maker.word("neg", turned))
    y = blank("f32", SHAPE[1], SHAPE[0])
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, -2 * x.T)


def test_pairs_are_split_taken_and_stacked() -> None:
    """rope's shape: a row as pairs, each member by itself, stacked the other way round."""
    maker, x = Maker(), sample()
    flat = LAYOUTS["rows"]
    pairs = Distribution(
        (16, 16, 2), tuple(_halved(m) for m in flat.lanes), (Mode(2, 2, 1), Mode(2, 1, 1), Mode(4, 0, 4))
    )
    held = maker.let(dev.Reindex("reshape", (inputs(maker, flat),)), "f32", pairs)
    even, odd = (maker.let(dev.Reindex("take", (held,), (k,)), "f32", drop(pairs, 2)) for k in (0, 1))
    both = maker.let(dev.Reindex("stack", (maker.word("neg", odd), even)), "f32", pairs)
    output(maker, maker.let(dev.Reindex("reshape", (both,)), "f32", flat))
    y = blank("f32", *SHAPE)
    correct(maker.kernel(), {"x": x, "y": y})
    swapped = np.stack([-x[:, 1::2], x[:, ::2]], axis=-1).reshape(SHAPE)
    np.testing.assert_array_equal(y, swapped)


def _halved(mode: Mode) -> Mode:
    return Mode(mode.extent, 1, mode.stride // 2) if mode.axis == 1 else mode


def test_reshapes_that_move_elements_are_refused() -> None:
    maker = Maker()
    flat = striped((512,), 32, 1)
    maker.let(dev.Reindex("reshape", (inputs(maker, LAYOUTS["rows"]),)), "f32", flat)
    with pytest.raises(LayoutMismatch, match="reshape"):
        emit(maker.kernel())


def test_scalars_of_a_tile_of_one_element() -> None:
    maker, x = Maker(), sample()
    one = Distribution((1,), (Mode(32, -1, 0),), ())
    value = maker.load(maker.array("x", "f32", [1]), one)
    scalar = maker.let(dev.Reindex("reshape", (value,)), "f32", None)
    output(
        maker, maker.word("add", maker.load(maker.array("z", "f32", [64]), striped((64,), 32, 2)), _wide(maker, scalar))
    )
    y, z = blank("f32", 64), sample("f32", (64,))
    correct(maker.kernel(), {"x": x[0, :1].copy(), "z": z, "y": y})
    np.testing.assert_array_equal(y, z + x[0, 0])


def _wide(maker: Maker, scalar: dev.Fragment) -> dev.Fragment:
    return maker.let(dev.Stretch(scalar), "f32", striped((64,), 32, 2))


@each_layout
@pytest.mark.parametrize("axis", [0, 1])
def test_gathered_and_scattered_rows(layout: Distribution, axis: int) -> None:
    """Positions outside the array give the fill and store nothing."""
    maker = Maker()
    source, extent = maker.array("x", "f32", (40, 40)), SHAPE[axis]
    rows = np.random.default_rng(2).permutation(40)[:extent].astype("i4")
    rows[3], rows[5] = -1, 40
    where = maker.load(maker.array("rows", "i32", [extent]), drop(layout, 1 - axis))
    start = (index(0), index(0))
    value = maker.let(dev.Gather(source, start, axis, where, 7), "f32", layout)
    output(maker, value)
    spread = maker.array("out", "f32", (40, 40), "InOut")
    maker.add(dev.Scatter(spread, start, axis, where, value, maker.here()))
    x, y, out = (
        np.random.default_rng(1).standard_normal((40, 40)).astype("f4"),
        blank("f32", *SHAPE),
        blank("f32", 40, 40),
    )
    correct(maker.kernel(), {"x": x, "rows": rows, "y": y, "out": out})
    inside = (rows >= 0) & (rows < 40)
    cut = x[: SHAPE[0], : SHAPE[1]] if axis else x[:, : SHAPE[1]]
    right = np.full(SHAPE, 7, "f4")
    expected = np.zeros((40, 40), "f4")
    if axis == 0:
        right[inside] = cut[rows[inside]]
        expected[rows[inside], : SHAPE[1]] = right[inside]
    else:
        right[:, inside] = x[: SHAPE[0]][:, rows[inside]]
        expected[: SHAPE[0], rows[inside]] = right[:, inside]
    np.testing.assert_array_equal(y, right)
    np.testing.assert_array_equal(out, expected)


def test_atomic_stores_add() -> None:
    maker, x = Maker(), sample()
    target: View = maker.array("y", "f32", SHAPE, "Acc")
    value = inputs(maker, LAYOUTS["spread"])
    for _ in range(2):
        maker.add(dev.Store(target, (index(0), index(0)), value, maker.here(), atomic=True))
    y = blank("f32", *SHAPE)
    correct(maker.kernel(), {"x": x, "y": y})
    np.testing.assert_array_equal(y, 2 * x)


def test_expanded_axes_count_positions() -> None:
    maker = Maker()
    layout = LAYOUTS["matrix"]
    columns = maker.let(dev.Positions(index(100)), "i32", drop(layout, 0))
    row = maker.let(dev.Reindex("expand", (columns,), (0,)), "i32", insert(drop(layout, 0), 0))
    output(maker, maker.word("add", *[maker.let(dev.Stretch(row), "i32", layout)] * 2))
    y = blank("i32", *SHAPE)
    correct(maker.kernel(), {"y": y})
    np.testing.assert_array_equal(y, np.broadcast_to(2 * (100 + np.arange(32)), SHAPE))
