"""Laws of distributions, by enumeration of threads and registers and by the layout algebra."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import prod

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from kernelagent.dsl.lanes import (
    Distribution,
    DistributionError,
    Mode,
    covers,
    digits,
    drop,
    insert,
    normal,
    permuted,
    same,
    striped,
    tiled,
    unit,
)
from kernelagent.dsl.layout import Layout, basis

FAST = settings(max_examples=60)
SHAPES = st.lists(st.sampled_from([1, 2, 3, 4, 6, 8]), min_size=1, max_size=3).map(tuple)


@st.composite
def distributions(draw: st.DrawFn) -> Distribution:
    """Any split of each axis into digits, dealt to threads and registers in any order, with copies between."""
    shape = draw(SHAPES)
    pieces: list[Mode] = []
    for axis, extent in enumerate(shape):
        stride = 1
        while stride < extent:
            part = draw(st.sampled_from([p for p in range(2, extent // stride + 1) if extent // stride % p == 0]))
            pieces.append(Mode(part, axis, stride))
            stride *= part
    pieces += [Mode(c, -1, 0) for c in draw(st.lists(st.sampled_from([1, 2, 3]), max_size=1))]
    pieces = draw(st.permutations(pieces))
    to_lanes = [m.axis < 0 or draw(st.booleans()) for m in pieces]
    lanes = tuple(m for m, lane in zip(pieces, to_lanes, strict=True) if lane)
    return Distribution(shape, lanes, tuple(m for m, lane in zip(pieces, to_lanes, strict=True) if not lane))


def table(d: Distribution) -> dict[tuple[int, int], tuple[int, ...]]:
    return {(thread, value): at for thread, value, at in d.elements()}


def held_equally(d: Distribution) -> bool:
    """The law of `Distribution`, by counting."""
    counts = Counter(at for *_, at in d.elements())
    return counts == dict.fromkeys(product(*map(range, d.shape)), d.copies)


@FAST
@given(distributions())
def test_coordinates_are_those_of_a_layout_of_basis_vectors(d: Distribution) -> None:
    units = basis(len(d.shape))
    modes = (*d.lanes, *d.values, Mode(1, -1, 0))
    strides = tuple(units[m.axis] * m.stride if m.axis >= 0 else units[0] * 0 for m in modes)
    layout = Layout(tuple(m.extent for m in modes), strides)
    for (thread, value), at in table(d).items():
        assert layout(thread + d.threads * value).coordinates == at


@FAST
@given(distributions())
def test_digits_count_the_first_mode_fastest(d: Distribution) -> None:
    extents = [m.extent for m in d.lanes]
    for thread in range(d.threads):
        found = digits(d.lanes, thread)
        assert sum(digit * prod(extents[:k]) for k, digit in enumerate(found)) == thread
        assert all(0 <= digit < extent for digit, extent in zip(found, extents, strict=True))


@FAST
@given(distributions())
def test_exact_splits_cover(d: Distribution) -> None:
    assert covers(d)
    assert held_equally(d)


@FAST
@given(SHAPES, st.lists(st.tuples(st.integers(1, 4), st.integers(0, 2), st.integers(1, 4), st.booleans()), max_size=4))
def test_covers_agrees_with_counting(shape: tuple[int, ...], drawn: list[tuple[int, int, int, bool]]) -> None:
    """Also where digits overlap, leave holes or reach over the end."""
    assume(all(axis < len(shape) for _, axis, _, _ in drawn))
    lanes = tuple(Mode(e, a, s) for e, a, s, lane in drawn if lane)
    d = Distribution(shape, lanes, tuple(Mode(e, a, s) for e, a, s, lane in drawn if not lane))
    assert covers(d) == held_equally(d)


@FAST
@given(distributions())
def test_normal_changes_no_place(d: Distribution) -> None:
    other = Distribution(d.shape, normal(d.lanes), normal(d.values))
    assert table(other) == table(d)
    assert normal(other.lanes) == other.lanes


@FAST
@given(distributions(), st.data())
def test_same_exactly_when_the_functions_are_equal(d: Distribution, data: st.DataObject) -> None:
    """Against a reordering and a regrouping of the same digits."""
    other = Distribution(
        d.shape, tuple(data.draw(st.permutations(d.lanes))), tuple(data.draw(st.permutations(d.values)))
    )
    assert same(d, other) == (table(d) == table(other))
    assert same(d, Distribution(d.shape, _cut(d.lanes), _cut(d.values)))


def _cut(modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    """Each digit as its prime digits, between digits of one value."""
    pieces: list[Mode] = []
    for mode in modes:
        left, stride = mode.extent, mode.stride
        for factor in (2, 2, 2, 3):
            if left % factor == 0:
                pieces += [Mode(factor, mode.axis, stride), Mode(1, 0, 5)]
                left, stride = left // factor, stride * factor
        pieces.append(Mode(left, mode.axis, stride))
    return tuple(pieces)


@FAST
@given(distributions())
def test_contiguous_registers_hold_neighbours(d: Distribution) -> None:
    run = d.contiguous()
    last = len(d.shape) - 1
    step = tuple(int(k == last) for k in range(len(d.shape)))
    for thread, value in product(range(d.threads), range(d.registers)):
        if value % run:
            before, at = d.coordinates(thread, value - 1), d.coordinates(thread, value)
            assert at == tuple(a + s for a, s in zip(before, step, strict=True))
    assert d.registers % run == 0


@FAST
@given(distributions(), st.data())
def test_drop_forgets_an_axis_and_keeps_the_first_register_of_each_line(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape) - 1))
    found = drop(d, axis)
    assert found.shape == (*d.shape[:axis], *d.shape[axis + 1 :])
    assert covers(found)
    assert found.threads == d.threads
    for thread in range(d.threads):
        lines = [d.coordinates(thread, v) for v in range(d.registers)]
        without = [(*at[:axis], *at[axis + 1 :]) for at in lines]
        assert [found.coordinates(thread, v) for v in range(found.registers)] == list(dict.fromkeys(without))


@FAST
@given(distributions(), st.data())
def test_insert_adds_a_zero_and_drop_takes_it_back(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape)))
    found = insert(d, axis)
    assert covers(found)
    assert table(found) == {held: (*at[:axis], 0, *at[axis:]) for held, at in table(d).items()}
    assert same(drop(found, axis), d)


@FAST
@given(distributions(), st.data())
def test_unit_holds_position_zero_wherever_its_line_is_held(d: Distribution, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(d.shape) - 1))
    found = unit(d, axis)
    assert found.shape == (*d.shape[:axis], 1, *d.shape[axis + 1 :])
    for thread in range(d.threads):
        lines = {
            tuple(0 if k == axis else c for k, c in enumerate(d.coordinates(thread, v))) for v in range(d.registers)
        }
        assert {found.coordinates(thread, v) for v in range(found.registers)} == lines


@FAST
@given(distributions(), st.data())
def test_permuted_renames_axes(d: Distribution, data: st.DataObject) -> None:
    axes = tuple(data.draw(st.permutations(range(len(d.shape)))))
    found = permuted(d, axes)
    assert table(found) == {held: tuple(at[a] for a in axes) for held, at in table(d).items()}
    back = tuple(axes.index(k) for k in range(len(axes)))
    assert permuted(found, back) == d


POWERS = st.sampled_from([1, 2, 4])


@FAST
@given(POWERS, POWERS, POWERS, POWERS, POWERS, POWERS)
def test_tiled_repeats_the_atom(am: int, an: int, rm: int, rn: int, wm: int, wn: int) -> None:
    atom = Distribution((am, an), (Mode(an, 1, 1), Mode(32 // an, -1, 0)), (Mode(am, 0, 1),))
    shape = (am * rm * wm, an * rn * wn)
    found = tiled(atom, shape, (wm, wn))
    assert covers(found)
    assert found.threads == 32 * wm * wn
    for thread, value in product(range(found.threads), range(found.registers)):
        at = found.coordinates(thread, value)
        inside = atom.coordinates(thread % 32, value % atom.registers)
        assert (at[0] % am, at[1] % an) == inside
        warp = thread // 32  # columns of warps are fastest, each warp's piece is whole
        assert (at[0] // (am * rm), at[1] // (an * rn)) == (warp // wn, warp % wn)


def test_tiled_says_which_axis_does_not_divide() -> None:
    atom = Distribution((16, 8), (Mode(32, 0, 1),), (Mode(4, 1, 1),))
    with pytest.raises(DistributionError, match="axis 0: 24 elements over 2 warps of 16-element atoms"):
        tiled(atom, (24, 8), (2, 1))


@FAST
@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3).map(tuple),
    st.sampled_from([32, 64, 96, 128, 256]),
    st.sampled_from([1, 2, 4, 8]),
    st.data(),
)
def test_striped_covers_any_shape(shape: tuple[int, ...], threads: int, vector: int, data: st.DataObject) -> None:
    first = data.draw(st.one_of(st.none(), st.integers(0, len(shape) - 1)))
    found = striped(shape, threads, vector, first)
    assert covers(found)
    assert found.threads == threads
    axis = len(shape) - 1 if first is None else first
    if shape[axis] % vector == 0:
        assert [found.coordinates(0, v)[axis] for v in range(vector)] == list(range(vector))


@FAST
@given(POWERS, st.sampled_from([32, 64, 128, 256]), st.sampled_from([1, 2, 4, 8]))
def test_striped_uses_every_thread_where_the_tile_is_large_enough(rows: int, columns: int, vector: int) -> None:
    found = striped((rows * 32, columns), 128, vector)
    assert found.copies == 1
    width = min(32, columns // vector)
    for lane in range(width):  # neighbouring threads hold neighbouring pieces of a row
        assert found.coordinates(lane, 0) == (0, lane * vector)
