"""Which part of an answer is the kernel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelagent.proposers.fences import extract

KERNEL = "edition(1)\n\n@kernel\ndef f(x: In[f32, N], y: Out[f32, N]):\n    pass\n"
OTHER = KERNEL.replace("def f", "def g")


@pytest.mark.parametrize("language", ["", "python", "tile", "py title=x"])
@pytest.mark.parametrize("mark", ["```", "~~~", "`````"])
def test_one_fence(mark: str, language: str) -> None:
    assert extract(f"Look:\n\n{mark}{language}\n{KERNEL}{mark}\n\nGood?").text == KERNEL


def test_two_fences_the_last_kernel_counts() -> None:
    assert extract(f"```\n{KERNEL}```\nor rather\n```\n{OTHER}```\n").text == OTHER


def test_a_block_without_a_kernel_is_passed_over() -> None:
    assert extract(f"```\n{KERNEL}```\nrun it with\n```sh\nkernelagent bench\n```\n").text == KERNEL


def test_a_second_fence_that_was_never_closed_is_passed_over() -> None:
    assert extract(f"```\n{KERNEL}```\nbetter:\n```\n{OTHER[:30]}").text == KERNEL


def test_a_whole_answer_without_a_fence() -> None:
    assert extract("# technique: x\n" + KERNEL).text == "# technique: x\n" + KERNEL


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "empty"),
        (" \n\t\n", "empty"),
        ("I would use larger tiles.", "no fenced kernel text"),
        ("```\nx = 1\n```", "no fenced block defines"),
        (f"```\n{KERNEL}", "stops inside a fence"),
        (f"Use @kernel like this: {KERNEL}", "no fenced kernel text"),
    ],
)
def test_failures_say_what_is_missing(answer: str, words: str) -> None:
    found = extract(answer)
    assert found.text is None
    assert words in (found.failure or "")


def test_a_longer_fence_may_hold_a_shorter_one() -> None:
    inner = KERNEL + "# ```\n# not the end\n"
    assert extract(f"````\n{inner}````\n").text == inner


@given(st.text(max_size=300))
def test_no_answer_is_an_exception(answer: str) -> None:
    found = extract(answer)
    assert (found.text is None) == (found.failure is not None)


@given(st.text(alphabet="`~@kernel\n (x", max_size=80), st.text(alphabet="`~\n x", max_size=40))
def test_what_is_found_is_part_of_the_answer(before: str, after: str) -> None:
    answer = f"{before}\n```\n{KERNEL}```\n{after}"
    text = extract(answer).text
    assert text is None or text.strip("\n") in answer
