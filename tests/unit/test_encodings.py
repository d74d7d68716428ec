"""Laws of the inputs that tell elements apart."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl.dtypes import numpy_dtype
from kernelagent.dsl.verify.encodings import BASES, HOT, PEAK, Code, Plan, decoded, hot, places
from kernelagent.dsl.verify.operands import operands
from kernelagent.dsl.verify.schedule.cases import call
from support.translation import schedules

SHAPES = st.lists(st.integers(1, 12), min_size=1, max_size=4)


@settings(max_examples=40)
@given(SHAPES, st.sampled_from(sorted(set(BASES.values()))))
def test_codes_tell_all_elements_apart_and_from_a_fill(shape: list[int], base: int) -> None:
    runs = [Code(base, p).values(shape).reshape(-1) for p in range(places(prod(shape), base))]
    seen = [tuple(int(r[e]) for r in runs) for e in range(prod(shape))]
    assert len(set(seen)) == len(seen)
    assert all(1 <= code <= base for codes in seen for code in codes)
    assert [decoded(codes, base) for codes in seen] == list(range(prod(shape)))


@pytest.mark.parametrize("dtype", BASES)
def test_every_code_is_exact_in_its_dtype(dtype: str) -> None:
    codes = np.arange(BASES[dtype] + 1)
    assert (codes.astype(numpy_dtype(dtype)).astype(np.float64) == codes).all()


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f32", "f8e4m3"])
def test_amplitudes_are_exact(dtype: str) -> None:
    for amplitude in (HOT, PEAK):
        assert float(np.asarray(amplitude).astype(numpy_dtype(dtype))) == amplitude


@pytest.mark.parametrize("code", [0.0, 14.0, 1.5, float("nan"), float("inf")])
def test_other_values_decode_to_nothing(code: float) -> None:
    assert decoded([1.0, code], 13) is None


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 40))
def test_one_element_of_each_summed_row_is_hot(rows: int, depth: int, shift: int) -> None:
    """With the extent of the sum as modulus: one in each row, and no two rows next to each other share it."""
    found = hot((rows, depth), depth, shift)
    assert (found.sum(axis=1) == 1).all()
    chosen = found.argmax(axis=1)
    assert all(a == (b + 1) % depth for a, b in pairwise(chosen))
    if rows >= depth:
        assert set(chosen) == set(range(depth))


def test_pairs_that_both_runs_name_are_the_same_pair() -> None:
    """The argument for products, on a model: what decodes right is right, and a swap of partners does not decode."""
    m, n, k = 6, 7, 5
    a_hot, b_hot = hot((m, k), k, 2), hot((n, k), k, 1)
    for row, column in np.ndindex(m, n):
        from_b, from_a = int(b_hot[column].argmax()), int(a_hot[row].argmax())
        if from_a == from_b:
            assert a_hot[row, from_b] == b_hot[column, from_a] == 1


def test_operands_that_meet() -> None:
    gemm, attention = schedules("gemm_nt_bf16", "sm_80")[0], schedules("attention_full_d64_bf16", "sm_80")[0]
    assert operands(gemm.kernel).meet == {("a", "b")}
    found = operands(attention.kernel)
    assert found.meet >= {("q", "k"), ("q", "v"), ("k", "v")}
    assert found.weighing == {"q", "k"}
    assert found.inexact
    assert not operands(gemm.kernel).inexact
    assert operands(schedules("gemm_nt_bf16", "sm_90a")[0].kernel).meet == {("a", "b")}


def test_plan_of_a_product() -> None:
    """Each operand in two digits and a run of ones, with the other one hot; then random ones."""
    case = schedules("gemm_nt_bf16", "sm_80")[0]
    plan = Plan(case, call(case, {"M": 129, "N": 144, "K": 80}))
    runs = plan.encodings()
    subjects = Counter(e.group.subject for e in runs if e.group)
    assert subjects == {"a": 3, "b": 3}
    arrays = plan.arrays_of(next(e for e in runs if e.group and e.group.subject == "a"))
    assert (arrays["b"].astype(np.int64).sum(axis=1) == 1).all()
    product = arrays["a"].astype(np.float64) @ arrays["b"].astype(np.float64).T
    assert product.max() == 251
    assert product.min() == 1
