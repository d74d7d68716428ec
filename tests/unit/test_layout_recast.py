"""Law 8: layouts in larger and smaller units."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernelagent.dsl.layout import Layout, LayoutError, downcast, image, leaves, recast, row_major, upcast
from support.layouts import attempt, compact, layouts, table

UNITS = st.sampled_from((2, 3, 4, 8))


@given(st.one_of(layouts(), compact(gaps=True)), UNITS)
def test_downcast_then_upcast_is_the_identity(a: Layout, n: int) -> None:
    finer = attempt(downcast, a, n)
    assume(finer is not None)
    assert finer is not None
    assert table(upcast(finer, n)) == table(a)
    assert upcast(finer, n) == a


@given(st.one_of(layouts(), compact(gaps=True)), UNITS)
def test_downcast_covers_the_parts_of_each_element(a: Layout, n: int) -> None:
    assume(sum(stride == 1 for _, stride in leaves(a)) == 1)
    assert image(downcast(a, n)) == {x * n + r for x in table(a) for r in range(n)}


@given(st.one_of(layouts(), compact(gaps=True)), UNITS)
def test_upcast_gives_the_units_that_are_touched(a: Layout, n: int) -> None:
    wider = attempt(upcast, a, n)
    assume(wider is not None)
    assert wider is not None
    assert image(wider) == {x // n for x in table(a)}


def test_recast_between_types() -> None:
    bf16 = row_major((64, 32))
    assert str(recast(bf16, 16, 128)) == "(64,4):(4,1)"
    assert str(recast(bf16, 16, 8)) == "(64,64):(64,1)"
    assert str(recast(row_major((4, 16)), 6, 8)) == "(4,12):(12,1)"
    assert recast(bf16, 16, 16) == bf16
    assert str(recast(Layout((0, 8), (8, 1)), 16, 64)) == "(0,2):(2,1)"
    assert str(upcast(Layout((0, 2), (1, 4)), 4)) == "(0,2):(1,1)"


def test_refusals() -> None:
    with pytest.raises(LayoutError, match="stride 6 of mode 0") as caught:
        upcast(Layout((4, 6), (6, 1)), 4)
    assert (caught.value.mode, caught.value.numbers) == (0, (6, 4))
    with pytest.raises(LayoutError, match="extent 6 of mode 1") as caught:
        upcast(Layout((4, 6), (8, 1)), 4)
    assert (caught.value.mode, caught.value.numbers) == (1, (6, 4))
    with pytest.raises(LayoutError, match="beyond 4 elements"):
        upcast(Layout((2, 2, 2), (2, 2, 1)), 4)
    with pytest.raises(LayoutError, match="0 modes of stride 1"):
        downcast(Layout((4, 4), (8, 2)), 2)
