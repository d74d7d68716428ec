"""The emitted order of tiles, compiled as C++, is that of `dsl/raster.py`, with and without clusters."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl.index import Symbol, index
from kernelagent.dsl.raster import RASTERS, filled, place
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.targets.emulator.compiler import find_cxx
from numpy.typing import NDArray
from support.device_kernels import Maker, dim, origin

BATCH, ROW, COLUMN = (Symbol(name, "loop") for name in "bij")
TOGETHER = ((1, 1), (2, 1), (4, 1), (1, 2), (1, 4))
GROUPS = (3, 8)
HEAD = """
typedef unsigned int ka_u32;
static int ka_min(int a, int b) { return a < b ? a : b; }
static int ka_max(int a, int b) { return a > b ? a : b; }
static int at;
static int ka_block() { return at; }
static int ka_thread() { return 0; }
"""


def function(raster: Any, together: tuple[int, int], group: int) -> str:
    """`void NAME(tiles, B, M, N, places)`: the emitted arithmetic between a kernel's head and its statements, for each
    of the tiles."""
    maker = Maker()
    maker.dims += ["B", "M", "N"]
    grid = dev.Grid(
        (BATCH, ROW, COLUMN), (index(0),) * 3, (dim("B"), dim("M"), dim("N")), (index(1),) * 3, (), origin(1), raster,
        group, together=together,
    )  # fmt: skip
    lines = emit(maker.kernel(grid)).split("KA_PROLOGUE\n")[1].rpartition("}")[0]
    head = f'extern "C" void {name(raster, together, group)}(int tiles, int d_B, int d_M, int d_N, int* places) {{'
    ends = "places[3 * at] = v_b; places[3 * at + 1] = v_i; places[3 * at + 2] = v_j;"
    return f"{head} for (at = 0; at < tiles; ++at) {{ {lines} {ends} }} }}\n"


def name(raster: str, together: tuple[int, int], group: int) -> str:
    return f"{raster}_{together[0]}_{together[1]}_{group}"


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., NDArray[Any]]:
    """(raster, together, group, counts) -> the positions of all tiles, by the compiled text."""
    folder = tmp_path_factory.mktemp("raster")
    every = [function(r, t, g) for r in RASTERS for t in TOGETHER for g in GROUPS]
    (folder / "order.cpp").write_text(HEAD + "".join(every))
    library = folder / "order.so"
    call = [*find_cxx().command, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", library, folder / "order.cpp"]
    subprocess.run(list(map(str, call)), check=True)
    loaded = ctypes.CDLL(str(library))

    def places(raster: str, together: tuple[int, int], group: int, counts: Sequence[int]) -> NDArray[Any]:
        found = np.zeros((prod(filled(counts, together)), 3), np.int32)
        loaded[name(raster, together, group)](len(found), *counts, found.ctypes.data_as(ctypes.c_void_p))
        return found

    return places


@settings(max_examples=150)
@given(
    st.sampled_from(RASTERS), st.sampled_from(TOGETHER), st.sampled_from(GROUPS),
    st.tuples(st.integers(1, 3), st.integers(1, 17), st.integers(1, 17)),
)  # fmt: skip
def test_the_emitted_order_is_the_one_that_is_proved(
    emitted: Callable[..., NDArray[Any]], raster: str, together: tuple[int, int], group: int, counts: tuple[int, ...]
) -> None:
    full = filled(counts, together)
    expected = [place(raster, group, together, full, number) for number in range(prod(full))]
    np.testing.assert_array_equal(emitted(raster, together, group, counts), expected)


@pytest.mark.parametrize("raster", RASTERS)
@pytest.mark.parametrize("together", TOGETHER)
def test_every_grid_up_to_48_by_48_is_walked_once(
    emitted: Callable[..., NDArray[Any]], raster: str, together: tuple[int, int]
) -> None:
    for rows in range(1, 49):
        for columns in range(1, 49):
            _, down, right = filled((1, rows, columns), together)
            found = emitted(raster, together, 8, (1, rows, columns))
            assert (np.bincount(found[:, 1] * right + found[:, 2], minlength=down * right) == 1).all()
