"""The guide to level two is current, short enough to send with every prompt, and true."""

from __future__ import annotations

import re

import pytest
from kernelagent.dsl.level2 import parse_schedule, verify
from kernelagent.dsl.level2.calls import EFFECTS, VALUES
from kernelagent.dsl.level2.guide import EXAMPLES, MAX_CHARACTERS, PATH, guide
from kernelagent.dsl.level2.words import GUARDS, WORDS2


def test_the_file_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == guide(), "run: python -m kernelagent.dsl.level2.guide"


def test_it_fits_in_a_prompt() -> None:
    assert len(guide()) <= MAX_CHARACTERS


@pytest.mark.parametrize(("title", "shows", "text"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_examples_parse(title: str, shows: str, text: str) -> None:
    assert verify(parse_schedule(text)) == []
    assert text in guide()
    assert shows in guide()


def test_every_word_is_named_and_means_something() -> None:
    text = guide()
    assert [w for w in (*WORDS2, *GUARDS) if not re.search(rf"\b{w}\b", text)] == []
    assert {w.name for w in WORDS2.values() if w.where == "expression"} == set(VALUES)
    assert {w.name for w in WORDS2.values() if w.where == "statement"} == set(EFFECTS)
