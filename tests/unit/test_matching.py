"""A text that does not take the problem's sizes is told whose sizes they are, and what to write."""

from __future__ import annotations

from kernelagent.agent.assembly import find_problem
from kernelagent.agent.matching import diagnose

TEXT = """edition(1)

@kernel
def attention(q: In[T, B, H, M, D], k: In[T, B, G, N, D], v: In[T, B, G, N, D], o: Out[T, B, H, M, D],
              scale: f32, BM=16):
    assume(D in (64, 128), H % G == 0)
    for b, h, i in tiles((B, H, M), (1, 1, BM)):
        store(o[b, h], (i, 0), load(q[b, h], (i, 0), (BM, D)))
"""


def test_sizes_of_a_workload_are_told_as_the_problems() -> None:
    found = diagnose(TEXT, find_problem("attention_causal")[0])[0]
    assert found.code == "assume-violated"
    assert found.hint == "workload small of the problem has D=32: write D in (32, 64, 128)"


def test_other_assumptions_ask_for_less() -> None:
    text = TEXT.replace("D in (64, 128), H % G == 0", "D in (32, 64, 128), M >= 9999")
    found = diagnose(text, find_problem("attention_causal")[0])[0]
    assert found.hint is not None
    assert found.hint.endswith(" of the problem has M=1024: assume less, every workload has to be taken")


def test_an_axis_with_a_dim_of_its_own_is_named() -> None:
    text = TEXT.replace(" G,", " H,").replace("D in (64, 128), H % G == 0", "D in (32, 64, 128)")
    found = diagnose(text, find_problem("attention_causal")[0])[0]
    assert found.code == "dim-mismatch"
    assert found.hint is not None
    assert found.hint.endswith("of the problem: give axis 1 a dim of its own, as G")
