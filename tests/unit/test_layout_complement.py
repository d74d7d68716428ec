"""Law 3: what a layout leaves free."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from kernelagent.dsl.layout import (
    Layout,
    LayoutError,
    complement,
    concatenate,
    cosize,
    image,
    is_injective,
    leaves,
    modes,
    size,
)
from support.layouts import attempt, compact, layouts

TARGETS = st.integers(1, 200)
CANDIDATES = st.one_of(layouts(), compact(gaps=True))


@given(CANDIDATES, TARGETS)
def test_complement_laws(a: Layout, target: int) -> None:
    rest = attempt(complement, a, target)
    assume(rest is not None)
    assert rest is not None
    strides = [d for _, d in leaves(rest) if size(rest) > 1]
    assert all(d > 0 for d in strides)
    assert strides == sorted(set(strides))
    assert image(a) & image(rest) == {0}
    both = concatenate(a, rest)
    assert cosize(both) >= target
    assert is_injective(both) == is_injective(a)


@given(compact(gaps=True), TARGETS)
def test_complement_fills_every_hole(a: Layout, target: int) -> None:
    both = image(concatenate(a, complement(a, target)))
    assert both == set(range(len(both)))


@given(layouts())
def test_what_is_not_injective_without_its_zeros_is_refused(a: Layout) -> None:
    moving = [leaf for leaf in leaves(a) if leaf[0] > 1 and leaf[1] != 0]
    assume(moving)
    if not is_injective(Layout(*map(tuple, zip(*moving, strict=True)))):
        assert attempt(complement, a, 100) is None


def test_refusal_names_the_mode_and_the_numbers() -> None:
    with pytest.raises(LayoutError, match="stride 6 of mode 1") as caught:
        complement(Layout((4, 2), (1, 6)), 24)
    assert (caught.value.mode, caught.value.numbers) == (1, (6, 4))


def test_examples() -> None:
    assert str(complement(Layout(4, 1), 24)) == "6:4"
    assert str(complement(Layout(4, 2), 24)) == "(2,3):(1,8)"
    assert str(complement(Layout((2, 2), (1, 6)), 24)) == "(3,2):(2,12)"
    assert str(complement(Layout((4, 3), (0, 1)), 12)) == "4:3"
    assert modes(complement(Layout(4, 1)))[0] == Layout(1, 0)
