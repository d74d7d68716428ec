"""Widths of accesses never exceed what addresses allow, and reach 16 bytes on aligned arrays; shape classes."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.dtypes import bits
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.index import Compare, Index, Symbol, index, maximum, minimum, select, symbol
from kernelagent.dsl.lanes import Distribution
from kernelagent.dsl.lower.device.widen import Multiples
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import DeviceUnit, Placed, chosen, device_units
from support.gpu_cases import KERNELS

MULTIPLES = {"M": 1, "N": 8, "K": 128, "i": 64}


def expressions() -> st.SearchStrategy[Index]:
    leaves = st.one_of(st.integers(-64, 64).map(index), st.sampled_from([symbol(n, "dim") for n in MULTIPLES]))

    def combine(inner: st.SearchStrategy[Index]) -> st.SearchStrategy[Index]:
        pairs = st.tuples(inner, inner)
        return st.one_of(
            pairs.map(lambda p: p[0] + p[1]),
            pairs.map(lambda p: p[0] - p[1]),
            pairs.map(lambda p: p[0] * p[1]),
            pairs.map(lambda p: minimum(*p)),
            pairs.map(lambda p: maximum(*p)),
            st.tuples(inner, st.sampled_from([1, 2, 3, 8, 64])).map(lambda p: p[0] // p[1]),
            st.tuples(inner, st.sampled_from([1, 2, 3, 8, 64])).map(lambda p: p[0] % p[1]),
            pairs.map(lambda p: select(Compare("<", p[0], p[1]), p[0], p[1])),
        )

    return st.recursive(leaves, combine, max_leaves=7)


@settings(max_examples=200)
@given(expressions(), st.lists(st.integers(0, 9), min_size=4, max_size=4))
def test_a_divisor_divides_whatever_the_sizes_are(value: Index, factors: list[int]) -> None:
    at = {name: multiple * f for (name, multiple), f in zip(MULTIPLES.items(), factors, strict=True)}
    found = Multiples(dict(MULTIPLES)).divisor(value)
    number = value.evaluate(at)
    assert number == 0 if found == 0 else number % found == 0


@given(st.integers(0, 200), st.sampled_from([1, 4, 24, 64]))
def test_a_loop_variable_is_a_multiple_of_start_and_step(first: int, step: int) -> None:
    multiples = Multiples({})
    multiples.enter((Symbol("k", "loop"),), (index(first),), (index(step),))
    for iteration in range(5):
        assert (first + iteration * step) % multiples.divisor(symbol("k", "loop")) == 0


# Schedules ---------------------------------------------------------------------------------------------------

TEXTS = ["gemm_nt", "gemm_nn", "softmax", "transpose", "layernorm"]


def unit(name: str) -> DeviceUnit:
    text = (KERNELS / f"{name}.tile").read_text()
    module = parse(text)
    dtypes = dict.fromkeys(module.entry.dtype_variables, "bf16")
    dims = dict.fromkeys(module.entry.dims, 256)
    return device_units(module, Choices(dtypes, {}, {}, dims), "sm_80")[0]


Access = tuple[ir.View, tuple[Index, ...], Distribution, int]


def accesses(kernel: dev.DeviceKernel) -> Iterator[Access]:
    for statement in dev.statements(kernel):
        match statement:
            case dev.Let(fragment, dev.Load(view, start, _, vector)) if fragment.layout is not None:
                yield view, start, fragment.layout, vector
            case dev.Store(view, start, value, _, vector) if value.layout is not None:
                yield view, start, value.layout, vector
            case dev.Copy(_, view, start, layout, vector):
                yield view, start, layout, vector


def loops(kernel: dev.DeviceKernel) -> Iterator[tuple[str, Index, Index]]:
    grid: dev.Grid | None = kernel.grid
    while grid is not None:
        yield from ((v.name, lo, step) for v, lo, step in zip(grid.variables, grid.lo, grid.step, strict=True))
        grid = grid.inner
    for statement in dev.statements(kernel):
        if isinstance(statement, dev.For):
            triples = zip(statement.variables, statement.lo, statement.step, strict=True)
            yield from ((v.name, lo, step) for v, lo, step in triples)


@pytest.mark.parametrize("name", TEXTS)
def test_vectors_are_aligned_and_wholly_inside_or_outside(name: str) -> None:
    """Every vector of every access, for random sizes that the aligned class admits and random iterations."""
    code = unit(name).classes[0]
    kernel = code.schedule
    assert kernel.shape_class.name == "aligned"
    assert any(vector > 1 for *_, vector in accesses(kernel))
    divides = {g.subject: g.value for g in kernel.shape_class.guards if g.kind == "divides"}
    r = random.Random(0)
    for _ in range(4):
        at = {d: divides.get(d, 1) * r.randint(1, 40) for d in kernel.dims}
        for variable, lo, step in loops(kernel):
            at[variable] = lo.evaluate(at) + step.evaluate(at) * r.randint(0, 3)
        for access in accesses(kernel):
            check_vectors(access, at, r)


def check_vectors(access: Access, at: dict[str, int], r: random.Random) -> None:
    view, start, layout, vector = access
    last = len(start) - 1
    for _ in range(12):
        thread = r.randrange(layout.threads)
        first = r.randrange(layout.registers // vector) * vector
        places = [layout.coordinates(thread, first + k) for k in range(vector)]
        positions = [[s.evaluate(at) + p for s, p in zip(start, place, strict=True)] for place in places]
        array = [coordinates(view, p, at) for p in positions]
        steps = [array[k + 1][-1] - array[k][-1] for k in range(vector - 1)]
        assert all(step == 1 for step in steps), "a vector is contiguous"
        assert len({tuple(a[:-1]) for a in array}) == 1, "and in one row"
        assert array[0][-1] * bits(view.dtype) // 8 % (vector * bits(view.dtype) // 8) == 0, "and aligned"
        axis = view.axes[last]
        inside = {axis.lo.evaluate(at) <= p[last] < axis.hi.evaluate(at) for p in positions}
        assert len(inside) == 1, "and not cut by the view's end"


def coordinates(view: ir.View, position: list[int], at: dict[str, int]) -> list[int]:
    own = {f"@{k}": p for k, p in enumerate(position)}
    return [c.evaluate({**at, **own}) for c in view.coordinates]


@pytest.mark.parametrize("name", TEXTS)
def test_aligned_arrays_move_in_16_byte_pieces(name: str) -> None:
    widths = {view.array: vector * bits(view.dtype) for view, _, _, vector in accesses(unit(name).classes[0].schedule)}
    assert max(widths.values()) == 128
    assert all(w == 128 for array, w in widths.items() if array in ("a", "b", "x", "w")), widths


@pytest.mark.parametrize("name", TEXTS)
def test_the_general_class_assumes_nothing(name: str) -> None:
    code = unit(name).classes[-1]
    assert code.schedule.shape_class.guards == ()
    assert all(vector == 1 for *_, vector in accesses(code.schedule))


# Shape classes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEXTS)
def test_fifty_random_calls_need_at_most_three_binaries(name: str) -> None:
    made = unit(name)
    r = random.Random(1)
    kernel = made.classes[0].schedule
    used: set[str] = set()
    for _ in range(50):
        dims = {d: r.choice([1, 7, 8, 64, 100, 128, 4096]) for d in kernel.dims}
        places = {a.name: placed(r, a, dims) for a in kernel.arrays}
        code = chosen(made.classes, places, dims)
        used.add(code.body)
        assert (code.schedule.shape_class.name == "aligned") == aligned(kernel, places, dims)
    assert 2 <= len(used) <= 3


def placed(r: random.Random, array: ir.Array, dims: dict[str, int]) -> Placed:
    shape = tuple(d.evaluate(dims) for d in array.dims)
    strides = [r.choice([1, 1, 1, 2])]
    for extent in reversed(shape[1:]):
        strides.insert(0, strides[0] * extent + r.choice([0, 0, 8, 1]))
    return Placed(256 + r.choice([0, 0, 0, 2]), shape, tuple(strides))


def aligned(kernel: dev.DeviceKernel, places: dict[str, Placed], dims: dict[str, int]) -> bool:
    """By the addresses themselves: every row of every array starts on 16 bytes and is whole 16-byte pieces."""
    for array in kernel.arrays:
        place, size = places[array.name], bits(array.dtype) // 8
        if place.shape[-1] > 1 and place.strides[-1] != 1:
            return False
        rows = [s * size for s, n in zip(place.strides[:-1], place.shape[:-1], strict=True) if n > 1]
        if any(byte % 16 for byte in (place.address, *rows)):
            return False
    guards = [g for g in kernel.shape_class.guards if g.kind == "divides"]
    return all(dims[g.subject] % g.value == 0 for g in guards)
