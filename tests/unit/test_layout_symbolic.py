"""Law 11: one evaluation for numbers, index polynomials, z3 terms and coordinate vectors."""

from __future__ import annotations

import pytest
import z3
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.index import Index, index, symbol
from kernelagent.dsl.layout import (
    Basis,
    Layout,
    basis,
    coalesce,
    column_major,
    composition,
    image,
    leaves,
    modes,
    rank,
    row_major,
    size,
    slice_,
)
from kernelagent.dsl.swizzle import ComposedLayout, Swizzle
from kernelagent.dsl.tiling import zipped_divide
from support.layouts import attempt, compact, layouts

LOOP, K = symbol("i", "loop"), symbol("K", "dim")
SWIZZLES = (Swizzle(0, 0, 0), Swizzle(1, 1, 2), Swizzle(2, 1, 3), Swizzle(3, 0, -3))


@given(layouts(), st.sampled_from(SWIZZLES))
def test_index_coordinates_agree_with_numbers(a: Layout, swizzle: Swizzle) -> None:
    for layout in (a, ComposedLayout(swizzle, 5, a)):
        symbolic = index(layout(LOOP))
        assert [symbolic.evaluate({"i": i}) for i in range(size(a))] == [layout(i) for i in range(size(a))]


@settings(max_examples=25)
@given(layouts(largest=3), st.sampled_from(SWIZZLES), st.data())
def test_z3_coordinates_agree_with_numbers(a: Layout, swizzle: Swizzle, data: st.DataObject) -> None:
    i = z3.Int("i")
    for layout in (a, ComposedLayout(swizzle, 5, a)):
        at = data.draw(st.integers(0, size(a) - 1))
        value = z3.simplify(z3.substitute(layout(i) + z3.IntVal(0), (i, z3.IntVal(at))))
        assert value.as_long() == layout(at)


@settings(max_examples=25)
@given(layouts(largest=3), st.sampled_from(SWIZZLES), st.data())
def test_z3_bit_vectors_agree_with_numbers(a: Layout, swizzle: Swizzle, data: st.DataObject) -> None:
    i, layout = z3.BitVec("i", 32), ComposedLayout(swizzle, 5, a)
    at = data.draw(st.integers(0, size(a) - 1))
    value = z3.simplify(z3.substitute(layout(i) + z3.BitVecVal(0, 32), (i, z3.BitVecVal(at, 32))))
    assert value.as_long() == layout(at)


@settings(max_examples=25)
@given(compact(3), compact(2))
def test_z3_proves_compositions(a: Layout, b: Layout) -> None:
    made = attempt(composition, a, b)
    if made is None:
        return
    i, solver = z3.Int("i"), z3.Solver()
    solver.add(i >= 0, i < size(b), made(i) + z3.IntVal(0) != a(b(i)))
    assert solver.check() == z3.unsat


def test_z3_sees_a_wrong_composition() -> None:
    i, solver = z3.Int("i"), z3.Solver()
    a, b = Layout((2, 2), (6, 1)), Layout(3, 1)
    solver.add(i >= 0, i < 3, Layout(2, 6)(i) != a(b(i)))
    assert solver.check() == z3.sat


def _with_runtime_stride(a: Layout, mode: int) -> Layout:
    """The flat layout whose stride `mode` is K times larger."""
    found = [(extent, stride * (K if k == mode else 1)) for k, (extent, stride) in enumerate(leaves(a))]
    return Layout(tuple(e for e, _ in found), tuple(d for _, d in found))


def _at(a: Layout, value: int) -> Layout:
    numbers = [d.evaluate({"K": value}) if isinstance(d, Index) else d for _, d in leaves(a)]
    return Layout(tuple(e for e, _ in leaves(a)), tuple(numbers))


@given(layouts(largest=3), compact(2), st.integers(0, 2), st.integers(1, 9))
def test_runtime_strides_compose_and_coalesce_as_numbers_do(a: Layout, b: Layout, mode: int, value: int) -> None:
    symbolic = _with_runtime_stride(a, mode)
    numbers = _at(symbolic, value)
    assert [_value(symbolic(i), value) for i in range(size(a))] == [numbers(i) for i in range(size(a))]
    simple = coalesce(symbolic)
    assert [_value(simple(i), value) for i in range(size(a))] == [numbers(i) for i in range(size(a))]
    made = attempt(composition, symbolic, b)
    if made is not None:
        assert [_value(made(i), value) for i in range(size(b))] == [numbers(b(i)) for i in range(size(b))]


def _value(offset: Index | int, k: int) -> int:
    return index(offset).evaluate({"K": k})


def test_a_tile_of_a_runtime_matrix() -> None:
    matrix = Layout((64, 32), (K, 1))
    tiles = zipped_divide(matrix, (16, 8))
    assert str(tiles) == "((16,8),(4,4)):((K,1),(16 * K,8))"
    part, offset = slice_(tiles, (None, (LOOP, 2)))
    assert str(part) == "((16,8)):((K,1))"
    assert offset == 16 * LOOP * K + 16


@given(compact(3), compact(2))
def test_basis_strides_give_coordinates(a: Layout, b: Layout) -> None:
    """The coordinate layout composes as its offsets do: weighting its vectors gives the offset layout."""
    strides = [d for _, d in leaves(a)]
    shape = tuple(e for e, _ in leaves(a))
    vectors = Layout(shape, basis(len(shape)))
    assert len(image(vectors)) == size(a)
    made, numbers = attempt(composition, vectors, b), attempt(composition, Layout(shape, tuple(strides)), b)
    if made is None or numbers is None:
        return
    for i in range(size(b)):
        vector = made(i) if isinstance(made(i), Basis) else Basis((0,) * len(shape))
        assert sum(c * d for c, d in zip(vector.coordinates, strides, strict=True)) == numbers(i)


def test_tensor_map_coordinates() -> None:
    tensor = Layout((128, 64), basis(2))
    assert str(tensor) == "(128,64):(1@0,1@1)"
    assert tensor(5, 7) == Basis((5, 7))
    tiles = zipped_divide(tensor, (64, 32))
    assert str(tiles) == "((64,32),(2,2)):((1@0,1@1),(64@0,32@1))"
    _, origin = slice_(tiles, (None, (1, LOOP)))
    assert tuple(map(index, origin.coordinates)) == (index(64), 32 * LOOP)
    assert rank(coalesce(tensor)) == 2
    assert str(2 * basis(2)[0] + basis(2)[1]) == "2@0+1@1"
    with pytest.raises(TypeError):
        basis(2)[0] + 1  # type: ignore[operator]


def test_row_major_coordinates_count_the_last_mode_fastest() -> None:
    order = row_major((3, 4))
    assert [modes(order)[0](i) + modes(order)[1](j) for i in range(3) for j in range(4)] == list(range(12))
    assert [column_major((3, (2, 2)))(i) for i in range(12)] == list(range(12))
