"""The oracle's bound and the comparison: what passes, what does not, and what is said about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.harness.comparison import compare
from kernelagent.harness.oracle import Expected, expect, gains, is_sum_like, rule
from kernelagent.problems import Problem, Tensor, Tolerance, Workload
from kernelagent.problems.dtypes import numpy_dtype
from kernelagent.problems.tolerances import allowance, reduction_length
from numpy.typing import NDArray

from kernelagent import problems


def expectation(name: str, workload: str, variant: str = "default", seed: int = 3) -> tuple[Problem, dict[str, Any]]:
    problem = problems.load(name)
    work = problem.workload(workload)
    inputs = problems.make_inputs(problem, work, seed, variant)
    scalars = problems.scalars(problem, work)
    found = {"inputs": inputs, "scalars": scalars, "expected": expect(problem, work, inputs, scalars)}
    return problem, found


def one(values: NDArray[Any], dtype: str = "f32", tolerance: Tolerance | None = None) -> Expected:
    """The expectation of a problem that copies its input."""
    problem = Problem(
        name="copy", title="y = x", inputs=(Tensor("x", dtype, ("N",)),), outputs=(Tensor("y", dtype, ("N",)),),
        workloads=(Workload("main", {"N": len(values)}),), reference=lambda xp, x: x, seed_kernel="",
        tolerance=tolerance or Tolerance(),
    )  # fmt: skip
    return expect(problem, problem.workloads[0], {"x": values.astype(numpy_dtype(dtype))}, {})["y"]


@pytest.mark.parametrize("name", problems.names())
def test_the_f32_reference_is_within_the_bound(name: str) -> None:
    """Anybody's honest f32 arithmetic passes; so does the exact answer rounded to the output's dtype."""
    problem, found = expectation(name, problems.load(name).workloads[-1].name)
    narrow = problems.run_reference(problem, found["inputs"], found["scalars"], np.float32)
    for output, expected in found["expected"].items():
        assert compare(narrow[output].astype(np.float32), expected).right
        exact = compare(expected.values.astype(numpy_dtype(expected.dtype)), expected)
        assert exact.right
        assert exact.max_ratio < 0.5


@pytest.mark.parametrize("name", problems.names())
@pytest.mark.parametrize("wrong", ["zeros", "constant", "shifted"])
def test_trivial_answers_fail_on_every_problem(name: str, wrong: str) -> None:
    _, found = expectation(name, problems.load(name).workloads[-1].name)
    for expected in found["expected"].values():
        values = expected.values.astype(np.float32)
        answer = {
            "zeros": np.zeros_like(values),
            "constant": np.full_like(values, values.mean()),
            "shifted": np.roll(values, 1, axis=-1),
        }[wrong]
        assert not compare(answer, expected, hard=True).right


@pytest.mark.parametrize("name", problems.names())
def test_the_bound_is_never_below_the_strict_one(name: str) -> None:
    problem, found = expectation(name, problems.load(name).workloads[-1].name)
    for output, expected in found["expected"].items():
        strict = allowance(problem, problem.workloads[-1], output, expected.values).reshape(-1)
        assert np.all(expected.allowed(slice(None), expected.soft_gain) >= strict * (1 - 1e-12))


def test_products_and_sums_have_a_scale_of_absolute_values() -> None:
    assert is_sum_like(problems.load("gemm_nn"))
    assert is_sum_like(problems.load("row_sum"))
    assert not is_sum_like(problems.load("softmax"))
    assert not is_sum_like(problems.load("layernorm"))


def test_the_scale_is_the_sum_of_absolute_products() -> None:
    _, found = expectation("gemm_nn", "small")
    expected, inputs = found["expected"]["c"], found["inputs"]
    product = np.abs(inputs["a"].astype(float)) @ np.abs(inputs["b"].astype(float))
    np.testing.assert_allclose(expected.scale, product, rtol=1e-6)


def test_half_precision_operands_break_the_soft_bound_on_positive_inputs() -> None:
    _, found = expectation("gemm_nn", "ragged")
    inputs = found["inputs"]
    half = inputs["a"].astype(np.float16).astype(np.float32) @ inputs["b"].astype(np.float16).astype(np.float32)
    assert not compare(half, found["expected"]["c"]).right


@given(st.integers(1, 10**7))
def test_the_soft_bound_is_never_above_the_hard_one(length: int) -> None:
    soft, hard = gains(length)
    assert 0 < soft <= hard <= 1


def test_reductions_over_several_dims_multiply() -> None:
    problem = replace(problems.load("gemm_nn"), tolerance=Tolerance(reduction=("K", "N")))
    assert reduction_length(problem, Workload("w", {"M": 2, "N": 3, "K": 5})) == 15
    assert "gain(15)" in rule(problem, Workload("w", {"M": 2, "N": 3, "K": 5}))


def test_the_first_wrong_element_is_named_with_what_is_allowed() -> None:
    expected = one(np.ones(8))
    answer = np.ones(8, np.float32)
    answer[[3, 5]] = 2, 3
    found = compare(answer, expected)
    assert found.wrong == 2
    assert found.detail == "y[3]: expected 1, found 2, allowed error 1.11e-05; 2 of 8 elements are wrong"
    assert found.max_error == 2


def test_small_outputs_cannot_be_answered_by_zeros() -> None:
    assert not compare(np.zeros(64, np.float32), one(np.full(64, 1e-20))).right


@pytest.mark.parametrize(
    ("exact", "answer", "right"),
    [
        (np.nan, np.nan, True), (np.nan, 1.0, False), (1.0, np.nan, False), (np.inf, np.inf, True),
        (np.inf, -np.inf, False), (np.inf, 3e38, False), (1.0, np.inf, False), (-np.inf, -np.inf, True),
    ],
)  # fmt: skip
def test_specials_must_be_where_the_reference_has_them(exact: float, answer: float, right: bool) -> None:
    expected = one(np.array([1.0, exact, 2.0]))
    found = compare(np.array([1.0, answer, 2.0], np.float32), expected)
    assert found.right is right
    assert right or "y[1]" in found.detail


def test_what_overflows_the_output_dtype_must_be_infinite() -> None:
    problem = Problem(
        name="square", title="y = x * x", inputs=(Tensor("x", "f16", ("N",)),), outputs=(Tensor("y", "f16", ("N",)),),
        workloads=(Workload("main", {"N": 2}),), reference=lambda xp, x: x * x, seed_kernel="",
    )  # fmt: skip
    expected = expect(problem, problem.workloads[0], {"x": np.array([2, 1000], np.float16)}, {})["y"]
    assert compare(np.array([4, np.inf], np.float16), expected).right
    assert not compare(np.array([4, 65504], np.float16), expected).right


def test_integers_must_be_equal() -> None:
    expected = one(np.arange(5), "i32")
    assert compare(np.arange(5, dtype=np.int32), expected).right
    found = compare(np.array([0, 1, 2, 4, 4], np.int32), expected)
    assert found.detail == "y[3]: expected 3, found 4; 1 of 5 elements is wrong"


def test_sixteen_bit_outputs_may_be_off_by_their_rounding() -> None:
    values = np.linspace(1, 2, 1000)
    assert compare(one(values, "bf16").values.astype(numpy_dtype("bf16")), one(values, "bf16")).right


def test_empty_outputs_are_right() -> None:
    assert compare(np.zeros(0, np.float32), one(np.zeros(0))).right


def test_chunks_do_not_hide_a_late_error() -> None:
    values = np.ones(200_000)
    answer = values.astype(np.float32)
    answer[-1] = 0
    assert "y[199999]" in compare(answer, one(values)).detail
