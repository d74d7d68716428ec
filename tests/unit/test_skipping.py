"""Loops that leave tiles out: shown where the mask hides what they leave out, and never where it keeps some of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import parse
from kernelagent.dsl.verify.families import Choice, concrete_kernels
from kernelagent.dsl.verify.records import Obligation
from kernelagent.dsl.verify.skipping import prove

ROWS, COLUMNS = 4, 4
TEXT = """edition(1)

@kernel
def masked(x: In[f32, M, N], y: Out[f32, M], BM=4, BN=4):
    for i in tiles((M,), (BM,)):
        best = full((BM,), -1e30, f32)
        for j in pipeline({lo}, {hi}, BN):
            s = load(x, (i, j), (BM, BN))
{mask}
            best = maximum(best, max(s, axis=1))
        store(y, (i,), best)
"""
CAUSAL = "s = where(coords(i, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)"


def proofs(lo: str, hi: str, *mask: str) -> list[Obligation]:
    text = TEXT.format(lo=lo, hi=hi, mask="\n".join(f"            {line}" for line in mask))
    (kernel,) = concrete_kernels(parse(text), Choice({}, {}, {}))
    return prove(kernel)


@pytest.mark.parametrize(
    ("lo", "hi", "mask"),
    [
        ("0", "minimum(N, i + BM)", [CAUSAL]),
        ("0", "minimum(N, i + BM)", ["s = where(coords(i, BM)[:, None] < coords(j, BN)[None, :], -inf, s)"]),
        ("0", "minimum(N, i + BM)", ["s = where(~(coords(j, BN)[None, :] > coords(i, BM)[:, None]), s, 0.0)"]),
        ("0", "minimum(N, i + 2 * BM)", [CAUSAL]),  # more than is needed
        ("0", "minimum(N, 7)", ["s = where(coords(j, BN)[None, :] < 7, s, -inf)"]),
        (
            "maximum(0, i // BN * BN - 8)", "minimum(N, i + BM)",
            [CAUSAL, "s = where(coords(i, BM)[:, None] - coords(j, BN)[None, :] <= 8, s, -inf)"],
        ),
        (
            "maximum(0, i // BN * BN - 8)", "minimum(N, i + BM)",
            ["near = coords(i, BM)[:, None] - coords(j, BN)[None, :]", "s = where((near >= 0) & (near <= 8), s, -inf)"],
        ),
    ],
)  # fmt: skip
def test_hidden(lo: str, hi: str, mask: list[str]) -> None:
    (found,) = proofs(lo, hi, *mask)
    assert (found.family, found.verdict, found.line) == ("skipping", "PROVED", 7)


@pytest.mark.parametrize(
    ("lo", "hi", "mask"),
    [
        ("0", "minimum(N, i)", [CAUSAL]),  # the tile of the diagonal
        ("0", "minimum(N, i + BM - 1)", [CAUSAL]),  # its last column
        ("BN", "minimum(N, i + BM)", [CAUSAL]),  # the first tile
        ("0", "minimum(N, i + BM)", ["s = where(coords(i, BM)[:, None] >= coords(j, BN)[None, :] - 1, s, -inf)"]),
        ("0", "minimum(N, i + BM)", ["s = where(s > 0.0, s, -inf)"]),  # data
        ("0", "minimum(N, i + BM)", ["s = where((s > 0.0) | (coords(j, BN)[None, :] < i), s, -inf)"]),
        ("0", "minimum(N, i + BM)", []),
        ("0", "N", [CAUSAL]),  # leaves nothing out
    ],
)
def test_not_hidden(lo: str, hi: str, mask: list[str]) -> None:
    assert proofs(lo, hi, *mask) == []


def _kept_outside(lo: Callable[[int], int], hi: Callable[[int], int], keeps: int, n: int) -> bool:
    """Whether some row keeps a column that its tile's loop does not visit: column <= row + keeps."""
    for i in range(0, n, ROWS):
        rows, columns = np.arange(i, min(i + ROWS, n))[:, None], np.arange(n)[None, :]
        outside = (columns < lo(i)) | (columns >= hi(i))
        if ((columns <= rows + keeps) & outside).any():
            return True
    return False


@settings(max_examples=60)
@given(st.integers(-6, 9), st.integers(-5, 5), st.integers(0, 2))
def test_what_is_proved_is_so_when_counted(reach: int, keeps: int, first: int) -> None:
    """Proved exactly where counting at many sizes finds no column that is kept and left out."""
    lo, hi = f"{first * COLUMNS}", f"minimum(N, maximum(0, i + {reach}))"
    mask = f"s = where(coords(i + {keeps}, BM)[:, None] >= coords(j, BN)[None, :], s, -inf)"
    shown = bool(proofs(lo, hi, mask))
    kept = any(
        _kept_outside(lambda i: first * COLUMNS, lambda i, n=n: min(n, max(0, i + reach)), keeps, n)
        for n in range(1, 24)
    )
    assert shown != kept
