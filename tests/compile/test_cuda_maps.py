"""Tensor maps belong to one array at one address: made for each binding, kept with it, never taken for another."""

from __future__ import annotations

import gc
import weakref
from functools import cache
from typing import Any

import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.cuda.build import compile as compile_text
from kernelagent.dsl.targets.cuda.loader import BoundProgram, Held, Launch, LoadedProgram, Program
from kernelagent.dsl.targets.cuda.units import Placed, chosen
from kernelagent.dsl.tensor_map import STRIDE_LIMIT
from support.cuda import needs_compiler
from support.gpu_cases import CASES

pytestmark = needs_compiler
CASE = next(c for c in CASES if c.name == "gemm_nt_bf16")
M, N, K = 256, 512, 128


@cache
def program() -> Program:
    return Program.of(compile_text(parse(CASE.text), {"T": "bf16"}, arch="sm_90a"))


def at(pointer: int, rows: int, columns: int, stride: int | None = None) -> Held:
    return Held(pointer, (rows, columns), (columns if stride is None else stride, 1), "bf16")


def launched(**changed: Held) -> Launch:
    arrays = {"a": at(1 << 30, M, K), "b": at(2 << 30, N, K), "c": at(3 << 30, M, N)} | changed
    (launch,) = program().launches(arrays, {}, 132, lambda shape, dtype: pytest.fail("no temporaries"))
    return launch


def the_class(launch: Launch) -> str:
    return program().units[0].classes[launch.shape_class].schedule.shape_class.name


def addresses(launch: Launch) -> dict[str, int]:
    return {m.spec.array: m.address for m in launch.maps}


def test_each_address_has_its_own_map() -> None:
    first, second = launched(), launched(a=at(5 << 30, M, K))
    assert addresses(first) == {"a": 1 << 30, "b": 2 << 30, "c": 3 << 30}
    assert addresses(second) == {"a": 5 << 30, "b": 2 << 30, "c": 3 << 30}
    assert addresses(first)["a"] == 1 << 30  # the earlier binding goes on with its own


def test_another_array_at_the_address_of_a_freed_one() -> None:
    """The same pointer, other rows: dims and strides are those of the array that lies there now."""
    first = next(m for m in launched().maps if m.spec.array == "a")
    now = launched(a=at(1 << 30, 2 * M, K, 4 * K), c=at(3 << 30, 2 * M, N))
    second = next(m for m in now.maps if m.spec.array == "a")
    assert first.address == second.address
    assert (first.dims, first.strides) == ((K, M), (2, 2 * K))
    assert (second.dims, second.strides) == ((K, 2 * M), (2, 8 * K))


def test_arrays_live_as_long_as_what_is_bound_to_them() -> None:
    """So no other array can come to lie where a map points."""
    array = np.zeros(4, np.float32)
    gone = weakref.ref(array)
    bound = BoundProgram(LoadedProgram(program(), None, ()), (), (), [array])  # type: ignore[arg-type]
    del array
    gc.collect()
    assert gone() is not None
    bound()
    del bound
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "a",
    [
        at((1 << 30) + 2, M, K),
        at(1 << 30, M, K, K + 1),
        at(1 << 30, M, K, 0),
        at(1 << 58, M, K, STRIDE_LIMIT // 2),
        Held(1 << 30, (M, K), (1, M), "bf16"),
    ],
    ids=["base off by 2 bytes", "rows off by 2 bytes", "an expanded row", "rows 2**40 bytes apart", "columns"],
)
def test_what_no_map_takes_goes_to_the_general_class(a: Held) -> None:
    launch = launched(a=a)
    assert (the_class(launch), launch.maps) == ("general", ())
    assert the_class(launched()) == "aligned"


def test_a_written_schedule_says_what_it_cannot_take() -> None:
    aligned = program().units[0].classes[:1]
    places: dict[str, Any] = {
        n: Placed(1 << 30, s, (s[1], 1)) for n, s in (("a", (M, K)), ("b", (N, K)), ("c", (M, N)))
    }
    sizes = {"M": M, "N": N, "K": K}
    assert chosen(aligned, places, sizes) == aligned[0]
    with pytest.raises(KernelError, match="axis 1 has a stride of 0 bytes") as caught:
        chosen(aligned, places | {"b": Placed(1 << 30, (N, K), (0, 1))}, sizes)
    assert caught.value.diagnostics[0].code == "shape-class"
    assert caught.value.diagnostics[0].hint
