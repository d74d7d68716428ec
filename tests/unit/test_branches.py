"""Branches on sizes: coverage is argued of each arm by itself, and only where each holds."""

from __future__ import annotations

import pytest
from kernelagent.dsl import check, parse
from kernelagent.dsl.moves import apply
from kernelagent.dsl.verify.branches import by_sizes
from kernelagent.dsl.verify.coverage import prove
from kernelagent.dsl.verify.families import Choice, concrete_kernels

from kernelagent import problems

TEXT = """edition(1)

@kernel
def doubled(x: In[f32, R, C], y: Out[f32, R, C], BR=2, BC=32):
    for i in tiles((R,), (BR,)):
        if {condition}:
            store(y, (i, 0), load(x, (i, 0), (BR, BC)) * 2.0)
        else:
            for j in pipeline({lo}, {hi}, BC):
                store(y, (i, j), load(x, (i, j), (BR, BC)) * 2.0)
"""


def verdict(condition: str = "C <= BC", lo: str = "0", hi: str = "C") -> str:
    text = TEXT.format(condition=condition, lo=lo, hi=hi)
    (kernel,) = concrete_kernels(parse(text), Choice({}, {}, {}))
    (found,) = prove(kernel)
    return found.verdict


@pytest.mark.parametrize("condition", ["C <= BC", "C < BC", "C <= BC and R > 7", "C == BC"])
def test_arms_that_each_cover_all(condition: str) -> None:
    assert verdict(condition) == "PROVED"


@pytest.mark.parametrize(
    ("condition", "lo", "hi"),
    [
        ("C <= 2 * BC", "0", "C"),  # one tile is too short
        ("C > BC", "0", "C"),
        ("R <= BC", "0", "C"),  # about another dim
        ("C <= BC", "BC", "C"),
        ("C <= BC", "0", "C - BC"),
        ("i <= BC", "0", "C"),  # not of sizes alone
    ],
)
def test_an_arm_that_leaves_something_out(condition: str, lo: str, hi: str) -> None:
    assert verdict(condition, lo, hi) == "UNKNOWN"


def test_each_truth_is_a_kernel_under_its_assumption() -> None:
    text = TEXT.format(condition="C <= BC", lo="0", hi="C")
    (kernel,) = concrete_kernels(parse(text), Choice({}, {}, {}))
    taken = by_sizes(kernel)
    assert [str(k.assumes[-1].condition) for k in taken] == ["C <= 32", "C > 32"]


@pytest.mark.parametrize("name", ["softmax", "rmsnorm", "layernorm"])
def test_the_move_that_gives_rows_an_arm_of_their_own_may_win(name: str) -> None:
    """What is only tested does not win a run."""
    text = apply("whole_row", problems.load(name).seed_kernel, rows=1, size=4096)
    assert "if " in text
    assert check(text, quick=True).verdict == "PROVED"
