"""Every value has a place: distributions of the whole tile over the block's threads, tied where operations tie them."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl import ir
from kernelagent.dsl.binding import bind
from kernelagent.dsl.dtypes import from_numpy
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.instantiation import policies_for
from kernelagent.dsl.lanes import covers, same, striped
from kernelagent.dsl.lower.device.choose_atoms import choose_atoms
from kernelagent.dsl.lower.device.place_values import (
    contiguous_rows,
    extents,
    place_values,
    reshaped,
    rows_per_warp,
)
from kernelagent.dsl.lower.device.policy import Policy
from kernelagent.dsl.lower.device.reduce_block import scan_layout, scannable
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.lower.simplify import simplify
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from support.random_kernels import Program
from support.random_products import FAMILIES

FAST = settings(max_examples=50)
PROGRAMS = [(family, seed) for family in FAMILIES for seed in range(12)]


def concrete(program: Program) -> ir.Kernel:
    module = parse(program.text)
    shapes = {name: (a.shape, from_numpy(a.dtype)) for name, a in program.arrays.items()}
    binding = bind(module.entry, shapes, program.scalars)
    choices = Choices(binding.dtypes, {}, binding.consts, binding.dims)
    (call,) = concrete_calls(module, choices, "sm_80")
    return call.kernel


@pytest.mark.parametrize(("family", "seed"), PROGRAMS)
def test_every_value_has_a_covering_place_of_the_blocks_threads(family: str, seed: int) -> None:
    kernel = concrete(FAMILIES[family](seed))
    simple = simplify(kernel)
    products, threads = choose_atoms(simple, "sm_80", Policy.of(policies_for(kernel, "sm_80"), "sm_80"), [])
    homes = place_values(simple, products, threads, [])
    values = [s.value for s in walk_statements(simple.body) if isinstance(s, ir.Let)]
    loops = [s for s in walk_statements(simple.body) if isinstance(s, ir.For)]
    values += [v for loop in loops for c in loop.carried for v in (c.inside, c.result)]
    for value in values:
        if value.type.rank:
            home = homes[value.number]
            assert home.shape == extents(value)
            assert home.threads == threads
            assert covers(home), home
    for number, chosen in products.items():
        assert same(homes[number], chosen.result)


@pytest.mark.parametrize(("family", "seed"), PROGRAMS[::4])
def test_carried_names_keep_their_place(family: str, seed: int) -> None:
    """The value inside a loop and the one after it are the same registers."""
    kernel = concrete(FAMILIES[family](seed))
    simple = simplify(kernel)
    products, threads = choose_atoms(simple, "sm_80", Policy.of(policies_for(kernel, "sm_80"), "sm_80"), [])
    homes = place_values(simple, products, threads, [])
    for loop in (s for s in walk_statements(simple.body) if isinstance(s, ir.For)):
        for c in loop.carried:
            assert not c.inside.type.rank or same(homes[c.inside.number], homes[c.result.number])


EXTENT = st.sampled_from([1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 48, 64, 100, 128, 256])
THREADS = st.sampled_from([32, 64, 128, 256])


@FAST
@given(st.lists(EXTENT, min_size=2, max_size=3).map(tuple), THREADS, st.sampled_from([1, 2, 4, 8]))
def test_row_layouts_cover(shape: tuple[int, ...], threads: int, vector: int) -> None:
    for found in (rows_per_warp(shape, threads, vector), contiguous_rows(shape, threads)):
        assert covers(found)
        assert found.threads == threads


@FAST
@given(st.lists(EXTENT, min_size=1, max_size=3).map(tuple), THREADS, st.data())
def test_any_tile_can_be_converted_for_a_prefix(shape: tuple[int, ...], threads: int, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(shape) - 1))
    found = scan_layout(striped(shape, threads, 4), axis)
    assert found.shape == shape
    assert covers(found)
    assert found.threads == threads
    assert scannable(found, axis)


@FAST
@given(st.lists(EXTENT, min_size=1, max_size=3).map(tuple), THREADS, st.sampled_from([1, 4]), st.data())
def test_a_reshaped_tile_stays_in_its_registers(
    shape: tuple[int, ...], threads: int, vector: int, data: st.DataObject
) -> None:
    """Whatever `reshaped` gives, each register holds the element of the same row-major number."""
    count = prod(shape)
    parts = [d for d in range(1, min(count, 64) + 1) if count % d == 0]
    first = data.draw(st.sampled_from(parts))
    other = data.draw(st.sampled_from([(count,), (first, count // first), (1, count), (count, 1)]))
    before = striped(shape, threads, vector)
    after = reshaped(before, other)
    if after is None:
        return
    assert covers(after)
    assert (after.threads, after.registers) == (before.threads, before.registers)
    for thread, value in product(range(0, threads, 7), range(before.registers)):
        numbers = [_flat(d.coordinates(thread, value), d.shape) for d in (before, after)]
        assert numbers[0] == numbers[1]


def _flat(at: tuple[int, ...], shape: tuple[int, ...]) -> int:
    number = 0
    for position, extent in zip(at, shape, strict=True):
        number = number * extent + position
    return number


def test_a_fragment_of_rank_0_has_no_layout() -> None:
    """The same in every thread: a whole reduction's result may be a condition."""
    from kernelagent.dsl.targets.cuda.units import device_units

    text = """edition(1)
@kernel
def f(x: In[f32, N], y: Out[f32, N]):
    for i in tiles((N,), (64,)):
        v = load(x, (i,), (64,))
        if max(v) > 1.0:
            w = v * 2.0
        else:
            w = v * 3.0
        store(y, (i,), w)
"""
    for code in device_units(parse(text), Choices({}, {}, {}, {"N": 100}), "sm_80")[0].classes:
        lets = [s for s in dev.statements(code.schedule) if isinstance(s, dev.Let)]
        assert all((let.fragment.layout is None) == (let.fragment.shape == ()) for let in lets)
        branch = next(s for s in dev.statements(code.schedule) if isinstance(s, dev.If))
        assert isinstance(branch.condition, dev.Fragment)
        assert branch.condition.layout is None
