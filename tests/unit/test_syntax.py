"""Reading a text: limits, editions, columns; nothing is executed and nothing but KernelError comes out."""

from __future__ import annotations

import random
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.syntax import MAX_CHARACTERS, MAX_DIAGNOSTICS

KERNELS = sorted((Path(__file__).parents[1] / "fixtures" / "kernels").glob("*.tile"))
TEXTS = {f.stem: f.read_text(encoding="utf-8") for f in KERNELS}
COPY = """edition(1)

@kernel
def copy(x: In[f32, N], y: Out[f32, N], BN=64):
    for i in tiles((N,), (BN,)):
        v = load(x, (i,), (BN,))
        {body}
        store(y, (i,), v)
"""


def codes(text: str) -> list[str]:
    try:
        parse(text)
    except KernelError as error:
        return [d.code for d in error.diagnostics]
    return []


def test_the_text_is_never_executed(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    for line in (f"open({str(witness)!r}, 'w')", f"__import__('os').mkdir({str(witness)!r})"):
        assert codes(COPY.format(body=line)) != []
        assert codes(f"edition(1)\n{line}\n") != []
    assert not witness.exists()


@pytest.mark.parametrize(
    "text",
    [
        "#" * (MAX_CHARACTERS + 1),
        "edition(1)\nA = " + "exp(" * 150 + "1" + ")" * 150,
        "edition(1)\nA = " + "-" * 5000 + "1",
        "edition(1)\nA = " + "+".join(["1"] * 15_000),
        "edition(1)\nA = " + "not " * 3000 + "1",
        "edition(1)\n" + "".join(" " * n + "if x:\n" for n in range(80)) + " " * 80 + "pass",
        "edition(1)\nA = " + "1," * 30_000,
    ],
    ids=["characters", "brackets", "signs", "sum", "not", "indentation", "tuple"],
)
def test_oversize_texts_are_refused_quickly(text: str) -> None:
    begin = time.perf_counter()
    assert set(codes(text)) <= {"too-large", "syntax"}
    assert codes(text)
    assert time.perf_counter() - begin < 5


def test_inline_expansion_is_bounded() -> None:
    functions = "\n\n".join(
        f"@inline\ndef f{n}(a):\n    b = f{n - 1}(a)\n    c = f{n - 1}(b)\n    return f{n - 1}(c)" for n in range(1, 20)
    )
    text = (
        "edition(1)\n\n@inline\ndef f0(a):\n    return a + 1\n\n"
        + functions
        + "\n\n"
        + COPY.format(body="w = f19(v)")[11:]
    )
    begin = time.perf_counter()
    assert codes(text) == ["too-large"]
    assert time.perf_counter() - begin < 10


@pytest.mark.parametrize("literal", ["9" * 5000, "9" * 100, "1e999", "0x" + "f" * 60, "1j", "b'a'"])
def test_literals_out_of_range(literal: str) -> None:
    assert set(codes(COPY.format(body=f"w = v + {literal}"))) <= {"literal", "syntax"}
    assert codes(COPY.format(body=f"w = v + {literal}"))


def test_integers_do_not_explode_while_folding() -> None:
    chain = "n = 9007199254740992\n" + "".join(
        f"        n{i} = {'n' if not i else f'n{i - 1}'} * 9007199254740992\n" for i in range(3)
    )
    assert codes(COPY.format(body=chain)) == ["literal"]
    assert codes(COPY.format(body="w = 1 << 1000000000")) == ["literal"]


@pytest.mark.parametrize(
    "text", ["\x00", "\ud800", "edition(1)\n\x0c@kernel", "\ufeffedition(1)", "", "edition", "edition()"]
)
def test_odd_texts(text: str) -> None:
    assert codes(text)


def test_columns_count_characters_not_bytes() -> None:
    text = COPY.format(body="w = exq(v)  # ünïcödé").replace("        w =", "        w =")
    with pytest.raises(KernelError) as caught:
        parse(text.replace("w = exq(v)", "w = 'ä' if exq(v) else v"))
    spans = {d.code: d.span for d in caught.value.diagnostics}
    span = spans["unknown-word"]
    assert span is not None
    assert (span.column, span.end_column) == (20, 23)


def test_the_language_import_is_ignored() -> None:
    assert codes(COPY.format(body="pass").replace("edition(1)", "from kernelagent.dsl import *\nedition(1)")) == []
    assert codes(COPY.format(body="pass").replace("edition(1)", "from os import *\nedition(1)")) != []


def test_docstrings_and_comments_are_fine() -> None:
    assert codes('"""A text."""\n' + COPY.format(body='"""v is a tile"""')) == []


def test_diagnostics_are_bounded() -> None:
    body = "\n".join(f"        w{n} = exq{n}(v)" for n in range(100))
    assert len(codes(COPY.format(body=body.strip()))) == MAX_DIAGNOSTICS


_FOREIGN = """i BM x load ( ) , : = * + // 0 1 -1 inf None f32 T [ ] .T for in if tiles store max axis=1 @ @kernel def
assume ** 2 else not and < == % fill=0 while lambda ... reshape gather 0.5 const"""
TOKENS = [*_FOREIGN.split(), "\n", "    "]


WORD = re.compile(r"[A-Za-z_]\w*|\d+|[-+*/%<>=]+")


def exchange(text: str, generator: random.Random) -> str:
    """Replace a few names, numbers or operators by others of the same text: mostly still good syntax."""
    for _ in range(generator.randint(1, 3)):
        matches = list(WORD.finditer(text))
        old, new = generator.choice(matches), generator.choice(matches)
        text = text[: old.start()] + new.group() + text[old.end() :]
    return text


def mutate(text: str, generator: random.Random) -> str:
    """A few random edits: deletion, duplication, exchange of lines and characters, foreign tokens."""
    for _ in range(generator.randint(1, 4)):
        at = generator.randrange(len(text) + 1)
        end = min(len(text), at + generator.randint(0, 12))
        choice = generator.randrange(4)
        if choice == 0:
            text = text[:at] + text[end:]
        elif choice == 1:
            text = text[:at] + generator.choice(TOKENS) + text[end:]
        elif choice == 2:
            text = text[:at] + text[at:end] * 2 + text[end:]
        else:
            lines = text.splitlines(keepends=True)
            generator.shuffle(lines[1:])
            a, b = generator.randrange(len(lines)), generator.randrange(len(lines))
            lines[a], lines[b] = lines[b], lines[a]
            text = "".join(lines)
    return text


def outcome(text: str) -> str | list[str]:
    """ "accepted", or the severities of what was reported."""
    try:
        parse(text)
    except KernelError as error:
        return [d.severity for d in error.diagnostics]
    return "accepted"


@settings(max_examples=400)
@given(st.sampled_from(sorted(TEXTS)), st.integers(0, 2**32))
def test_mutated_texts_parse_or_raise_kernel_error(name: str, seed: int) -> None:
    generator = random.Random(seed)
    text = generator.choice([mutate, exchange])(TEXTS[name], generator)
    found = outcome(text)
    assert found == "accepted" or "error" in found


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_arbitrary_texts_raise_kernel_error(text: str) -> None:
    with pytest.raises(KernelError):
        parse("edition(1)\n" + text)


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_parsing_is_fast(name: str) -> None:
    parse(TEXTS[name])
    best = min(_seconds(TEXTS[name]) for _ in range(5))
    assert best < 0.05


def _seconds(text: str) -> float:
    begin = time.perf_counter()
    parse(text)
    return time.perf_counter() - begin
