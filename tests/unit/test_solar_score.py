"""The score between baseline and bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.solar import score

times = st.floats(1e-6, 1e6)


@pytest.mark.parametrize(
    ("time", "base", "expected"),
    [(1.0, 1.0, 0.5), (0.5, 1.0, 1.0), (2.0, 1.0, 0.25), (0.75, 1.0, 2 / 3), (0.4, 1.0, 1.0)],
)
def test_golden(time: float, base: float, expected: float) -> None:
    assert score(time, 0.5, base).value == pytest.approx(expected)


def test_null_has_a_reason() -> None:
    assert score(1.0, 0.5, 0.5).value is None
    assert "not above" in (score(1.0, 0.5, 0.4).reason or "")
    assert "time is nan" in (score(float("nan"), 0.5, 1.0).reason or "")
    assert "baseline is inf" in (score(1.0, 0.5, float("inf")).reason or "")


@given(times, times, times)
def test_between_zero_and_one(time: float, sol: float, base: float) -> None:
    found = score(time, sol, base)
    assert (found.value is None) == (base <= sol)
    assert (found.reason is None) == (found.value is not None)
    assert found.value is None or 0 <= found.value <= 1


@given(times, times, times, times)
def test_slower_is_never_better(a: float, b: float, sol: float, base: float) -> None:
    fast, slow = score(min(a, b), sol, base).value, score(max(a, b), sol, base).value
    assert fast is None or slow is None or fast >= slow
