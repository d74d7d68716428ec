"""Loops, branches and grids as emitted: carried names, joined names, and every tile computed exactly once."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Compare, Index, Symbol, cdiv, element, index, maximum, minimum, select
from kernelagent.dsl.ir import View
from kernelagent.dsl.lanes import striped
from kernelagent.dsl.raster import RASTERS
from kernelagent.dsl.targets.cuda.emit import emit, launch_blocks
from support.device_kernels import Maker, blank, correct, dim, emulated, origin

LAYOUT = striped((64,), 32, 2)
ROW, COLUMN, BATCH = Symbol("i", "loop"), Symbol("j", "loop"), Symbol("b", "loop")


def loop(
    maker: Maker, carried: tuple[dev.Carried, ...], body: list[dev.Statement], hi: Index | int, **more: Any
) -> None:
    maker.add(dev.For((ROW,), (index(0),), (index(hi),), (index(1),), carried, tuple(body), maker.here(), **more))


def carried(maker: Maker, initial: dev.Fragment, end: dev.Fragment, inside: dev.Fragment) -> dev.Carried:
    result = maker.fragment(initial.dtype, initial.layout, "result")
    return dev.Carried(initial, inside, end, result)


@pytest.mark.parametrize("times", [0, 1, 5])
@pytest.mark.parametrize("layout", [LAYOUT, None])
@pytest.mark.parametrize("backwards", [False, True])
def test_two_carried_names_exchange(times: int, layout: Any, backwards: bool) -> None:
    """Fibonacci: a, b = b, a + b reads both old values, whichever is written first."""
    maker = Maker()
    first = [maker.let(dev.Constant(v), "i32", layout) for v in (0, 1)]
    inside = [maker.fragment("i32", layout, n) for n in "ab"]
    maker.bodies.append([])
    total = maker.word("add", *inside)
    body = maker.bodies.pop()
    made = (carried(maker, first[0], inside[1], inside[0]), carried(maker, first[1], total, inside[1]))
    loop(maker, made[::-1] if backwards else made, body, dim("N"))
    maker.dims.append("N")
    for name, c in zip("yz", made, strict=True):
        value = c.result if layout else maker.let(dev.Stretch(c.result), "i32", LAYOUT)
        maker.store(maker.array(name, "i32", [64], "Out"), value)
    y, z = blank("i32", 64), blank("i32", 64)
    correct(maker.kernel(), {"y": y, "z": z}, {"N": times})
    a, b = 0, 1
    for _ in range(times):
        a, b = b, a + b
    assert (y == a).all()
    assert (z == b).all()


def test_the_first_value_survives_a_loop_when_it_is_read_again() -> None:
    maker = Maker()
    x = maker.load(maker.array("x", "i32", [64]), LAYOUT)
    inside = maker.fragment("i32", LAYOUT, "a")
    maker.bodies.append([])
    end = maker.word("add", inside, inside)
    made = carried(maker, x, end, inside)
    body = maker.bodies.pop()
    loop(maker, (made,), body, 3)
    maker.store(maker.array("y", "i32", [64], "Out"), maker.word("sub", made.result, x))
    data, y = np.arange(64, dtype="i4"), blank("i32", 64)
    correct(maker.kernel(), {"x": data, "y": y})
    np.testing.assert_array_equal(y, 7 * data)


def test_nested_loops_run_the_last_variable_fastest() -> None:
    maker = Maker()
    zero = maker.let(dev.Constant(0), "i32", None)
    inside = maker.fragment("i32", None, "a")
    maker.bodies.append([])
    ten = maker.let(dev.Constant(10), "i32", None)
    digit = maker.let(dev.FromIndex(index(ROW) * 3 + index(COLUMN)), "i32", None)
    end = maker.word("add", maker.word("mul", inside, ten), digit)
    body = maker.bodies.pop()
    made = carried(maker, zero, end, inside)
    maker.add(
        dev.For(
            (ROW, COLUMN),
            (index(0), index(ROW)),
            (index(2), index(3)),
            (index(1), index(1)),
            (made,),
            tuple(body),
            maker.here(),
        )
    )
    maker.store(maker.array("y", "i32", [64], "Out"), maker.let(dev.Stretch(made.result), "i32", LAYOUT))
    y = blank("i32", 64)
    correct(maker.kernel(), {"y": y})
    assert (y == 1245).all()  # 0*3 + (0 1 2), 1*3 + (1 2)


@pytest.mark.parametrize("size", [3, 8])
def test_branches_join_names(size: int) -> None:
    maker = Maker()
    x = maker.load(maker.array("x", "f32", [64]), LAYOUT)
    arms: list[tuple[list[dev.Statement], dev.Fragment]] = []
    for word in ("neg", "abs"):
        maker.bodies.append([])
        value = maker.word(word, x)
        arms.append((maker.bodies.pop(), value))
    result = maker.fragment("f32", LAYOUT, "joined")
    merged = (dev.Merged(arms[0][1], arms[1][1], result),)
    test = Compare("<", dim("N"), index(5))
    maker.dims.append("N")
    maker.add(dev.If(test, tuple(arms[0][0]), tuple(arms[1][0]), merged, maker.here()))
    maker.store(maker.array("y", "f32", [64], "Out"), result)
    data, y = np.linspace(-1, 1, 64, dtype="f4"), blank("f32", 64)
    correct(maker.kernel(), {"x": data, "y": y}, {"N": size})
    np.testing.assert_array_equal(y, -data if size < 5 else np.abs(data))


def test_a_branch_on_data_is_taken_by_the_whole_block() -> None:
    maker = Maker()
    x = maker.load(maker.array("x", "f32", [64]), LAYOUT)
    total = maker.let(dev.Reduce("sum", x, 0), "f32", None)
    zero = maker.let(dev.Constant(0.0), "f32", None)
    positive = maker.word("gt", total, zero, dtype="bool")
    target = maker.array("y", "f32", [64], "InOut")
    maker.bodies.append([])
    maker.store(target, x)
    body = maker.bodies.pop()
    maker.add(dev.If(positive, tuple(body), (), (), maker.here()))
    for sign in (1, -1):
        data, y = np.full(64, sign, "f4"), blank("f32", 64)
        correct(maker.kernel(), {"x": data, "y": y})
        assert (y == max(sign, 0)).all()


# Grids -------------------------------------------------------------------------------------------------------


def counted(grid: dev.Grid, sizes: dict[str, int], persistent: bool, resident: int = 3) -> np.ndarray[Any, Any]:
    """How often each tile of (BATCH, M, N) is computed, by atomic additions at its position."""
    maker = Maker()
    maker.array("y", "i32", ["B", "M", "N"], "Acc")
    one = maker.let(dev.Constant(1), "i32", None)
    point = View("y", "i32", (), tuple(index(s) for s in (BATCH, ROW, COLUMN)))
    maker.add(dev.Store(point, (), one, maker.here(), atomic=True))
    made = maker.kernel(replace(grid, body=tuple(maker.bodies[-1]), persistent=persistent))
    y = blank("i32", *(sizes[d] for d in "BMN"))
    assert launch_blocks(made, sizes, resident) == _expected_blocks(grid, sizes, persistent, resident)
    if launch_blocks(made, sizes, resident):
        report = emulated(made, {"y": y}, sizes, resident)
        assert report.ok, [f.message for f in report.findings]
    return y


def _expected_blocks(grid: dev.Grid, sizes: dict[str, int], persistent: bool, resident: int) -> int:
    counts = [-(-(hi.evaluate(sizes)) // s.evaluate(sizes)) for hi, s in zip(grid.hi, grid.step, strict=True)]
    return min(prod(counts), resident) if persistent else prod(counts)


@pytest.mark.parametrize("raster", RASTERS)
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("sizes", [(2, 21, 5), (1, 8, 8), (3, 1, 1), (0, 4, 4)])
def test_every_tile_is_computed_once(raster: Any, persistent: bool, sizes: tuple[int, int, int]) -> None:
    steps = (index(1), index(2), index(3))
    lows = (index(0),) * 3
    grid = dev.Grid((BATCH, ROW, COLUMN), lows, (dim("B"), dim("M"), dim("N")), steps, (), origin(1), raster, 4)
    y = counted(grid, dict(zip("BMN", sizes, strict=True)), persistent)
    expected = np.zeros(sizes, int)
    expected[:, ::2, ::3] = 1
    np.testing.assert_array_equal(y, expected)


def test_grouped_tiles_stay_within_their_rows() -> None:
    """Blocks in order: 4 rows of tiles are finished, column by column, before the next rows start."""
    maker = Maker()
    view = maker.array("y", "i32", ["M", "N"], "Out")
    tile = maker.let(dev.FromIndex(index(ROW) * 100 + index(COLUMN)), "i32", None)
    maker.add(dev.Store(replace(view, axes=(), coordinates=(index(ROW), index(COLUMN))), (), tile, maker.here()))
    grid = dev.Grid(
        (ROW, COLUMN),
        (index(0),) * 2,
        (dim("M"), dim("N")),
        (index(1),) * 2,
        tuple(maker.bodies[-1]),
        origin(1),
        "grouped",
        4,
    )
    y = blank("i32", 6, 3)
    correct(maker.kernel(grid), {"y": y}, {"M": 6, "N": 3})
    np.testing.assert_array_equal(y, np.arange(6)[:, None] * 100 + np.arange(3))
    order = _block_order(6, 3, 4)
    assert order[:6] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1)]
    assert order[12:14] == [(4, 0), (5, 0)]


def _block_order(rows: int, columns: int, group: int) -> list[tuple[int, int]]:
    """The emitted arithmetic, block by block."""
    maker = Maker()
    maker.dims += ["M", "N"]
    grid = dev.Grid(
        (ROW, COLUMN), (index(0),) * 2, (dim("M"), dim("N")), (index(1),) * 2, (), origin(1), "grouped", group
    )
    lines = [line.strip() for line in emit(maker.kernel(grid)).splitlines() if line.startswith("    const int")]
    found = []
    for block in range(rows * columns):
        scope: dict[str, Any] = {
            "d_M": rows,
            "d_N": columns,
            "ka_min": min,
            "ka_thread": int,
            "ka_block": partial(int, block),
        }
        for line in lines:
            name, text = line.removeprefix("const int ").rstrip(";").split(" = ", 1)
            scope[name] = eval(text.replace("/", "//"), {}, scope)
        found.append((scope["v_i"], scope["v_j"]))
    return found


@pytest.mark.parametrize("offsets", [[0, 3, 3, 10, 11], [0, 0, 0, 0, 64], [0, 0, 0, 0, 0]])
def test_ragged_grids_walk_all_tiles_of_all_groups(offsets: list[int]) -> None:
    """Groups of rows whose sizes are data: each row is copied by the tile that owns it."""
    maker, size = Maker(), Symbol("e", "loop")
    maker.array("offsets", "i32", [5])
    source, target = maker.array("x", "i32", (64,)), maker.array("y", "i32", (64,), "InOut")
    lo, hi = (element("offsets", (index(size) + k,)) for k in (0, 1))
    rows = striped((4,), 32, 1)

    def window(view: Any) -> Any:
        axis = replace(view.axes[0], length=hi - lo, lo=index(0), hi=hi - lo)
        return replace(view, axes=(axis,), coordinates=(view.coordinates[0] + lo,))

    value = maker.let(dev.Load(window(source), (index(ROW),), 0), "i32", rows)
    maker.add(dev.Store(window(target), (index(ROW),), value, maker.here()))
    inner = dev.Grid((ROW,), (index(0),), (hi - lo,), (index(4),), tuple(maker.bodies[-1]), origin(3))
    grid = dev.Grid((size,), (index(0),), (index(4),), (index(1),), (), origin(1), inner=inner)
    x, y = np.arange(1, 65, dtype="i4"), blank("i32", 64)
    kernel = maker.kernel(grid)
    assert launch_blocks(kernel, {}, 5) == 5
    correct(kernel, {"offsets": np.array(offsets, "i4"), "x": x, "y": y})
    np.testing.assert_array_equal(y, np.where(np.arange(64) < offsets[-1], x, 0))


def test_index_arithmetic_in_the_body() -> None:
    """Divisions, extrema and selections of sizes, negative ones too."""
    n, m = dim("N"), dim("M")
    values = [
        (n - 20) // 3, (n - 20) % 3, n // 4, n % 4, cdiv(n, index(8)), cdiv(n, m),
        minimum(n, m * 2), maximum(n - m, index(0)),
        select(Compare("<", n, m), n * m, n - m), n * m // 5, -cdiv(n, index(8)) * 8 + n, (n * n * n) % m,
    ]  # fmt: skip
    maker = Maker()
    maker.dims += ["N", "M"]
    for k, value in enumerate(values):
        scalar = maker.let(dev.FromIndex(value), "i64", None)
        maker.store(maker.array(f"y{k}", "i64", [64], "Out"), maker.let(dev.Stretch(scalar), "i64", LAYOUT))
    for sizes in ({"N": 7, "M": 3}, {"N": 100, "M": 9}, {"N": 70000, "M": 65537}, {"N": 0, "M": 2}):
        outputs = {f"y{k}": blank("i64", 64) for k in range(len(values))}
        correct(maker.kernel(), outputs, sizes)
        found = [int(outputs[f"y{k}"][0]) for k in range(len(values))]
        assert found == [v.evaluate(sizes) for v in values]
