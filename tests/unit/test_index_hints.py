"""Positions from data that are moved: the assumption that is there is not advised again."""

from __future__ import annotations

import pytest
from kernelagent.dsl.check_text import check

PICK = """edition(1)

@kernel
def pick(table: In[f32, V, D], labels: In[i32, M], y: Out[f32, M, D], BM=16, BD=128):
    assume(0 <= labels < V)
    for i, d in tiles((M, D), (BM, BD)):
        idx = load(labels, (i,), (BM,))
        t = gather(table, (idx + 1, d), (BM, BD))
        store(y, (i, d), t)
"""


@pytest.mark.parametrize(
    ("position", "message", "assumption"),
    [
        ("idx + 1", "`idx + 1` may reach V: positions are 0 ... V - 1", "assume(0 <= labels < V - 1)"),
        ("idx - 2", "`idx - 2` may be -2: positions are 0 ... V - 1", "assume(2 <= labels < V)"),
    ],
)
def test_moved_positions_name_the_assumption_that_is_enough(position: str, message: str, assumption: str) -> None:
    text = PICK.replace("idx + 1", position)
    warning = check(text).diagnostics[0]
    assert (warning.code, warning.message) == ("index-unproved", message)
    assert warning.hint == f"write `{assumption}`, or `fill=0`"
    enough = check(text.replace("assume(0 <= labels < V)", assumption))
    assert not enough.diagnostics
    assert enough.ok


def test_a_stretched_position_asks_for_less() -> None:
    warning = check(PICK.replace("idx + 1", "idx * 2")).diagnostics[0]
    assert warning.hint == "assume less of `labels`, or write `fill=0`"


def test_positions_out_of_range_show_the_range() -> None:
    found = check(PICK).counterexamples[0]
    assert found.family == "bounds"
    assert found.expected == f"0..{found.sizes['V'] - 1}"
