"""A tile that is stored in parts: side by side they cover it once; with a gap, an overlap or a condition not."""

from __future__ import annotations

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.verify import coverage

TEXT = """
edition(1)

@kernel
def copied(x: In[f32, M, N], y: Out[f32, M, N], n: i32):
    for i, j in tiles((M, N), (32, 96)):
        a, b = load(x, (i, j), (32, 64)), load(x, (i, j + 64), (32, 32))
        FIRST
        SECOND
"""
FIRST, SECOND = "store(y, (i, j), a)", "store(y, (i, j + 64), b)"


def verdict(first: str, second: str) -> str:
    """ "refused" where not even the language takes it."""
    try:
        kernel = parse(TEXT.replace("FIRST", first).replace("SECOND", second)).kernels[0]
    except KernelError:
        return "refused"
    (found,) = coverage.prove(kernel)
    return found.verdict


def test_parts_side_by_side_cover_the_tile() -> None:
    assert verdict(FIRST, SECOND) == "PROVED"
    assert verdict(SECOND, FIRST) == "PROVED"


def test_three_parts() -> None:
    halves = (
        "store(y, (i, j), load(x, (i, j), (32, 32)))\n        store(y, (i, j + 32), load(x, (i, j + 32), (32, 32)))"
    )
    assert verdict(halves, SECOND) == "PROVED"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (FIRST, "store(y, (i, j + 65), b)"),
        (FIRST, "store(y, (i, j + 63), b)"),
        (FIRST, "store(y, (i + 1, j + 64), b)"),
        (FIRST, "if n > 0:\n            store(y, (i, j + 64), b)"),
        (FIRST, "for k in range(0, n, 1):\n            store(y, (i, j + 64), b)"),
        (FIRST, "store(y[0:n], (i, j + 64), b)"),
        (FIRST, "store(y, (i, j + 64), load(x[0:n], (i, j + 64), (32, 32)))"),
        (FIRST, f"{SECOND}\n        {SECOND}"),
        (FIRST, FIRST),
    ],
)
def test_parts_that_do_not_cover_it_once(first: str, second: str) -> None:
    assert verdict(first, second) in ("UNKNOWN", "refused")


SLICES = """
edition(1)

@kernel
def copied(x: In[f32, M, N], z: In[f32, S], y: Out[f32, M, N]):
    assume(ASSUMED)
    for s, j in tiles((S, N), (1, 64)):
        lo, hi = LO, HI
        for i in range(0, hi - lo, 16):
            store(y[lo:hi], (i, j), load(x[lo:hi], (i, j), (16, 64)) + load(z, (s,), (1,))[:, None])
"""


def sliced(lo: str, hi: str, assumed: str = "S >= 1") -> str:
    text = SLICES.replace("LO", lo).replace("HI", hi).replace("ASSUMED", assumed)
    (found,) = coverage.prove(parse(text).kernels[0])
    return found.verdict if found.verdict == "PROVED" else found.detail


def test_slices_that_a_loop_moves() -> None:
    assert sliced("s * M // S", "(s + 1) * M // S") == "PROVED"
    assert sliced("s * (M // S)", "(s + 1) * (M // S)", "M % S == 0") == "PROVED"


def test_without_a_step_nothing_is_stored() -> None:
    assert "assume(S > 0)" in sliced("s * M // S", "(s + 1) * M // S", "M >= 1")


@pytest.mark.parametrize(
    ("lo", "hi"),
    [
        ("s * M // S", "(s + 1) * M // S + 1"),  # they overlap
        ("s * M // S + 1", "(s + 1) * M // S + 1"),  # the first element
        ("s * (M // S)", "(s + 1) * (M // S)"),  # what is left over
        ("(S - s - 1) * M // S", "(S - s) * M // S"),  # backwards: true, and not shown
        ("s * M // S", "(s + 2) * M // S"),
        ("minimum(s, 2) * M // S", "minimum(s + 1, 2) * M // S"),
    ],
)
def test_slices_that_are_not_shown_to_follow_each_other(lo: str, hi: str) -> None:
    assert sliced(lo, hi) != "PROVED"
