"""What is known under a condition or in a loop is not known outside, whatever was asked before."""

from __future__ import annotations

from kernelagent.dsl import parse
from kernelagent.dsl.elaborate.facts import Facts
from kernelagent.dsl.index import Compare, index, symbol
from kernelagent.dsl.verify.ranges import Ranges

N, M = symbol("N", "dim"), symbol("M", "dim")
TEXT = """
edition(1)

@kernel
def copied(x: In[f32, M], y: Out[f32, M]):
    for i in tiles((M,), (16,)):
        store(y, (i,), load(x, (i,), (16,)))
"""


def test_an_answer_under_a_condition_stays_there() -> None:
    around = Ranges(Facts())
    inside = around.where(Compare(">=", N, index(5)))
    assert inside.nonnegative(N - 5)
    assert not around.nonnegative(N - 5)
    assert not around.where(Compare(">=", N, index(4))).nonnegative(N - 5)


def test_an_answer_in_a_loop_stays_there() -> None:
    loop = parse(TEXT).kernels[0].body[0]
    around = Ranges(Facts())
    assert around.inside(loop).nonnegative(M - 1)  # it has a step
    assert not around.nonnegative(M - 1)


def test_what_was_not_known_before_is_known_now() -> None:
    around = Ranges(Facts())
    assert not around.nonnegative(N - M)
    assert around.where(Compare(">=", N, M)).nonnegative(N - M)
    facts = Facts()
    assert not facts.nonnegative(N - 5)
    facts.know(N - 5)
    assert facts.nonnegative(N - 5)
    facts.add_condition(Compare(">=", M, index(7)))
    assert facts.nonnegative(M - 7)
