"""The guide is current, short enough to send with every prompt, and true."""

from __future__ import annotations

import re

import pytest
from kernelagent.dsl import dtypes, parse
from kernelagent.dsl.elaborate.habits import is_reserved
from kernelagent.dsl.elaborate.header import POLICY_WORDS
from kernelagent.dsl.elaborate.words import DATA_WORDS, HANDLERS, RESERVED, WORDS
from kernelagent.dsl.guide import EXAMPLES, MAX_CHARACTERS, PATH, POLICY_VALUES, guide
from kernelagent.dsl.spec import violations
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units


def test_the_file_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == guide(), "run: python -m kernelagent.dsl.guide"


def test_it_fits_in_a_prompt() -> None:
    assert len(guide()) <= MAX_CHARACTERS


@pytest.mark.parametrize(("title", "shows", "text"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
def test_examples_parse_without_a_warning(title: str, shows: str, text: str) -> None:
    module = parse(text)
    assert module.warnings == ()
    assert [v for kernel in module.kernels for v in violations(kernel)] == []
    assert text in guide()
    assert shows in guide()


def test_every_word_is_named() -> None:
    text = guide()
    missing = [w for w in (*WORDS, *DATA_WORDS, *dtypes.DTYPES) if not re.search(rf"\b{w}\b", text)]
    assert missing == []


def test_expression_and_statement_words_have_a_meaning() -> None:
    needed = {w.name for w in WORDS.values() if w.where in ("expression", "statement")}
    assert needed == set(HANDLERS)


def test_words_are_reserved() -> None:
    assert all(is_reserved(w) for w in (*WORDS, *dtypes.DTYPES, "inf", "nan", "In", "Out"))
    assert set(WORDS) <= RESERVED


def test_every_policy_word_is_shown_with_a_value_that_it_takes() -> None:
    assert set(POLICY_VALUES) == set(POLICY_WORDS)
    for word, usage in POLICY_VALUES.items():
        value = re.match(r"`(\w+)=(.+?)`", usage)
        assert value is not None
        assert value[1] == word
        target = "cpu" if "(cpu" in usage and word == "layout" else "sm_90a"
        parse(EXAMPLES[0][2].replace("stages=3, persistent=True", value[0][1:-1]).replace("sm_90a", target))


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("text", [e[2] for e in EXAMPLES], ids=[e[0] for e in EXAMPLES])
def test_examples_fit_the_target_that_they_name(text: str, dtype: str) -> None:
    module = parse(text)
    dims = {"D": 64} if "D in (64, 128)" in text else {}
    consts = {"causal": 1} if "causal: const" in text else {}
    assert device_units(module, Choices({"T": dtype}, {}, consts, dims), "sm_90a")
