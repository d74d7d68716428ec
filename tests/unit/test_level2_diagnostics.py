"""Each mistake in a schedule gives its code, at the right place, with the values in question and a way out."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import level2
from kernelagent.dsl.catalogue import Entry, diagnose, entries, example_text, explain
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.level2 import parse_schedule, print_schedule, same_schedule, verify
from kernelagent.dsl.level2.examples import example_text2
from kernelagent.dsl.level2.guide import GEMM, SOFTMAX
from support.level2_texts import TEXTS

SHOWN = [e for e in entries().values() if e.level == 2 and e.wrong is not None]

# code, line and text under the caret in the catalogue's wrong example, values that the message must show
TABLE: list[tuple[str, int, str, tuple[str, ...]]] = [
    ("level-missing", 1, "e", ("level(2)",)),
    ("level-one-kernel", 3, "128", ()),
    ("level-one-parameter", 5, "BN", ("BN",)),
    ("schedule-missing", 6, "d = distribution((128,), lanes=((128, 0, 1),), values=())", ()),
    ("threads", 6, "100", ("100", "32", "1024")),
    ("min-blocks", 6, "64", ("64", "128", "2048")),
    ("guard", 7, "alligned(x, 16)", ()),
    ("layout-mode", 9, "((16, 2, 4), (8, 0, 1))", ("(16, 2, 4)", "(32, 64)")),
    ("layout-threads", 9, "((16, 1, 4), (4, 0, 1))", ("64", "128")),
    (
        "layout-cover",
        9,
        "distribution((32, 64), lanes=((16, 1, 4), (8, 0, 1)), values=((4, 1, 1), (2, 0, 8)))",
        ("2048",),
    ),
    ("not-a-layout", 11, "(32, 64)", ()),
    ("not-a-fragment", 11, "x", ("f32(M, N)",)),
    ("not-a-buffer", 11, "v", ("f32(32, 64)",)),
    ("operand-layout", 12, "v + load(x, (i, j), turned, fill=0.0)", ("add",)),
    ("operand-dtype", 11, "v + load(h, (i, j), d, fill=0.0)", ("f32", "f16")),
    ("reduce-warps", 12, "load(x, (i, j), wide, fill=0.0)", ("1", "128")),
    ("carried-layout", 13, "range(0, 4, 1)", ("w", "f32(32, 64)")),
    ("access-width", 11, "8", ("8", "32", "16")),
    ("access-run", 12, "4", ("4", "1")),
    ("access-alignment", 10, "load(x, (i, j), d, fill=0.0, vector=4)", ("16", "x", "general")),
    ("shared-buffer", 9, "8", ("8", "16")),
    ("swizzle", 9, "(3, 2, 2)", ("(3, 2, 2)",)),
    ("shared-width", 12, "4", ("65", "4")),
    ("shared-overlap", 10, "shared(f32, (32, 64))", ("t", "u")),
    ("buffer-shape", 12, "t", ("(64, 32)", "(32, 64)")),
    ("stage", 12, "t[2]", ("2",)),
    ("wait-count", 11, "-1", ("-1",)),
    ("mma-layout", 13, "v", ("mma_m16n8k16_f16", "4")),
    ("grid", 8, "diagonal", ("diagonal",)),
    ("hopper-only", 9, "mbarrier(arrivals=1)", ("sm_80",)),
    ("mbarrier", 15, "163864", ("free", "filled", "163872")),
    ("not-a-barrier", 25, "a_s[n % 4]", ("a_s",)),
    ("roles", 22, "(4, 0)", ()),
    ("role-warps", 30, "(8, 16)", ("consumer", "8", "4")),
    ("role-registers", 30, "240", ("66560", "65536")),
    ("role-tiles", 31, "tiles((M, N), (128, 128), raster=grouped, persistent=True)", ("consumer", "producer")),
    ("role-barrier", 41, "16", ("16", "15")),
    ("turn", 38, "take_turn(2)", ("not ended",)),
    ("barrier-in-role", 41, "barrier()", ("consumer",)),
    ("barrier-init", 21, 'role("producer", warps=(0, 4), registers=40)', ()),
    ("arrivals", 15, "256", ("256", "8 from `consumer`")),
    ("parity", 34, "n // 4", ("n // 4",)),
    ("expect-bytes", 26, "expect(filled[n % 4], 16384)", ("16384", "32768")),
    ("counter", 11, "n", ("n",)),
    ("cluster", 28, "2", ()),
    ("bulk-view", 28, "w_s[n % 4]", ("w", "1")),
    ("box", 27, "a_s[n % 4]", ("512", "256")),
    ("panel", 28, "w_s[n % 4]", ("w_s",)),
    ("warpgroup", 10, "wgmma_wait(0)", ("64", "128")),
    ("wgmma-fence", 35, "mma(a_s[n % 4], w_s[n % 4].T, acc, atom=wgmma_m64n128k16_bf16)", ()),
    ("wgmma-pending", 41, "cast(acc, bf16)", ("acc",)),
    ("early-release", 38, "arrive(free[n % 4])", ("free", "_s")),
    ("fence-async", 44, "store_bulk(y, (i, j), y_s)", ("y_s",)),
    ("bulk-store-pending", 41, "store_shared(y_s, cast(acc, bf16), vector=2)", ("y_s",)),
]


def found(text: str, code: str) -> Diagnostic:
    diagnostics = diagnose(text, 2)
    matching = [d for d in diagnostics if d.code == code]
    assert matching, [(d.code, d.message) for d in diagnostics]
    return matching[0]


def under_caret(text: str, diagnostic: Diagnostic) -> str:
    span = diagnostic.span
    assert span is not None
    line = text.splitlines()[span.line - 1]
    return line[span.column - 1 : span.end_column - 1 if span.end_line == span.line else None]


@pytest.mark.parametrize(("code", "line", "caret", "values"), TABLE, ids=[row[0] for row in TABLE])
def test_place_and_values(code: str, line: int, caret: str, values: tuple[str, ...]) -> None:
    wrong = entries()[code].wrong
    assert wrong is not None
    text = example_text(wrong, 2)
    diagnostic = found(text, code)
    assert diagnostic.span is not None
    assert (diagnostic.span.line, under_caret(text, diagnostic)) == (line, caret)
    assert all(value in diagnostic.message for value in values)
    assert diagnostic.hint


def test_the_table_covers_every_example() -> None:
    assert {row[0] for row in TABLE} == {e.code for e in SHOWN}
    assert all(e.right for e in SHOWN)


@pytest.mark.parametrize("entry", SHOWN, ids=[e.code for e in SHOWN])
def test_right_example_is_accepted(entry: Entry) -> None:
    assert entry.right is not None
    assert diagnose(example_text(entry.right, 2), 2) == ()


@pytest.mark.parametrize("entry", SHOWN, ids=[e.code for e in SHOWN])
def test_explain_shows_the_examples(entry: Entry) -> None:
    text = explain(entry.code)
    assert f"[{entry.code}]" in text
    assert "Right:" in text


def test_every_code_in_the_sources_is_explained() -> None:
    call = re.compile(r'(?:fault|Broken|Diagnostic)\(\s*"([a-z0-9-]+)"')
    files = Path(level2.__file__).parent.glob("*.py")
    codes = {code for file in files for code in call.findall(file.read_text(encoding="utf-8"))}
    assert len(codes) > 70
    assert codes - set(entries()) == set()


STAGES = "a_s = shared(f16, (32, 16))\nb_s = shared(f16, (16, 64), offset=1024)"
WIDE = "distribution((64, 32), lanes=((16, 1, 2), (8, 0, 1)), values=((2, 1, 1), (8, 0, 8)))"

# Codes that level one has too: what stands in the standard kernel (or replaces a piece of a guide example), and what
# the message or hint says
SNIPPETS = [
    ("store(x, (i, j), v)", "store-to-input", "x", "Out"),
    ("store(y, (i, j), cast(v, f16))", "dtype", "f16", "cast(x, f32)"),
    ("w = load(y, (i, j), d, fill=0.0)", "load-of-output", "y", "inputs"),
    ("w = lod(x, (i, j), d, fill=0.0)", "unknown-word", "lod", "`load`"),
    ("w = v + qqq", "unknown-word", "qqq", "bind it first"),
    ("w = load(x, (i, j), dd, fill=0.0)", "unknown-word", "dd", "`d`"),
    ("w = load(x, (i, j), d, fill=0.0, vektor=4)", "unknown-keyword", "vektor", "vector"),
    ("w = load(x, (i, j), d)", "arity", "fill", "fill"),
    ("w = load(x, (i,), d, fill=0.0)", "index-rank", "1", "2"),
    ("w = load(x, (v, j), d, fill=0.0)", "gather-position", "fragment", "gather"),
    ("w = sum(v, axis=2)", "axis", "2", "0 to 1"),
    ("exp(v)", "unused-value", "exp(v)", "bind"),
    ("w = barrier()", "misplaced-word", "barrier", "line of its own"),
    ("sum = v", "reserved-word", "sum", "rename"),
    ("d = v", "rebind-parameter", "d", "another name"),
    ("i = v", "rebind-loop-variable", "i", "another name"),
    ("for i in range(0, 4, 1):\n    pass", "rebind-loop-variable", "i", "another name"),
    ("for n in range(0, N, 0):\n    pass", "loop-step", "0", "1 or more"),
    ("for n in range(0, N, 1):\n    w = v\nu = w + v", "ended-with-loop", "w", "in front"),
    ("w = scalar(300, u8)", "literal-range", "300", "u8"),
    ("w = v + 1e39", "literal-range", "1e+39", "f32"),
    ("if v > 0.0:\n    pass", "not-a-condition", "bool(32, 64)", "any"),
    (f"w = v + full(e, 1.0, f32)\ne = {WIDE}",
     "shape-mismatch", "(64, 32)", "stretch"),
    ("w = v.mean()", "attribute", "mean", "sum(x, axis=1)"),
    ("w = permute(v, (0, 0))", "transpose-rank", "(0, 0)", "once"),
    ("w = x[i // 0]", "division-by-zero", "i // 0", "nonzero"),
    ("while True:\n    pass", "while", "while", "range"),
    (f"{STAGES}\nw = mma(a_s, b_s, v, atom=mma_m16n8k16_bf61)",
     "mma-atom", "mma_m16n8k16_bf61", "mma_m16n8k16_bf16"),
    (f"{STAGES}\nw = mma(a_s, b_s, v, atom=mma_m16n8k16_bf16)",
     "mma-dtype", "bf16", "cast"),
    (f"{STAGES.replace('16, 64', '64, 16')}\nw = mma(a_s, b_s, v, atom=mma_m16n8k16_f16)",
     "mma-shape", "(64, 16)", ".T"),
    ("schedule(sm_81, threads=128)", "unknown-target", "sm_81", "sm_8"),
]  # fmt: skip


@pytest.mark.parametrize(("snippet", "code", "value", "hint"), SNIPPETS, ids=[s[0].split("\n")[0] for s in SNIPPETS])
def test_mistakes_that_level_one_knows(snippet: str, code: str, value: str, hint: str) -> None:
    diagnostic = found(example_text2(snippet), code)
    assert value in diagnostic.message
    assert diagnostic.hint is not None
    assert hint in diagnostic.hint + diagnostic.message


def test_three_hundred_kilobytes() -> None:
    """The limit, and the nearest number of stages that fits, before any compiler is called."""
    text = GEMM.replace("stages=3", "stages=25").replace("offset=24576", "offset=204800")
    diagnostic = found(text, "shared-limit")
    assert "307200" in diagnostic.message
    assert "166912" in diagnostic.message
    assert diagnostic.hint is not None
    assert "stages=13 takes 159744 bytes" in diagnostic.hint
    assert under_caret(text, diagnostic).startswith("shared(bf16, (128, 32), stages=25")
    assert diagnostic.facts == {"used": 307200, "limit": 166912}


def test_a_ring_with_too_few_threads_in_its_copies() -> None:
    text = GEMM.replace(
        "lanes=((4, 1, 8), (32, 0, 1)), values=((8, 1, 1), (4, 0, 32))",
        "lanes=((4, 1, 8), (16, 0, 1)), values=((8, 1, 1), (8, 0, 16))",
    )
    assert "64 threads" in found(text, "layout-threads").message


def test_a_copy_into_the_wrong_buffer() -> None:
    text = GEMM.replace("copy_async(w_ring[0], w,", "copy_async(a_ring[0], w,")
    diagnostic = found(text, "buffer-shape")
    assert under_caret(text, diagnostic) == "a_ring[0]"


def test_a_carried_value_that_becomes_another() -> None:
    text = SOFTMAX.replace("            m = m_new\n", "            m = p\n")
    assert "f32(1,), then f32(1, 1024)" in found(text, "carried-type").message


def test_all_mistakes_are_reported_at_once() -> None:
    snippet = "w = lod(x)\nstore(x, (i, j), v)\nwait_group(-2)\nu = w + v"
    with pytest.raises(KernelError) as caught:
        parse_schedule(example_text2(snippet))
    assert [d.code for d in caught.value.diagnostics] == ["unknown-word", "store-to-input", "wait-count"]


def test_texts_that_are_no_text() -> None:
    for text in (
        "",
        "level(2)",
        "edition(1)\nlevel(2)\n",
        "edition(1)\nlevel(2)\n@kernel\ndef k():\n    pass\n",
        "def (",
    ):
        with pytest.raises(KernelError) as caught:
            parse_schedule(text)
        assert all(d.hint for d in caught.value.diagnostics)


TOKENS = re.compile(r"\w+|[^\w\s]|\n +|\n")


@settings(max_examples=120)
@given(st.sampled_from(sorted(TEXTS)), st.integers(0, 2**32))
def test_mutated_texts_parse_or_raise_kernel_error(name: str, seed: int) -> None:
    """Tokens dropped, doubled or exchanged: a schedule that satisfies every rule, or diagnostics."""
    chance = random.Random(seed)
    text = TEXTS[name]
    pieces = [m.span() for m in TOKENS.finditer(text)]
    for _ in range(chance.randint(1, 2)):
        (a, b), (c, d) = chance.choice(pieces), chance.choice(pieces)
        text = text[:a] + chance.choice(("", text[c:d], text[a:b] * 2)) + text[b:]
    diagnostics = diagnose(text, 2)
    assert all(d.hint for d in diagnostics)
    if not diagnostics:
        kernel = parse_schedule(text)
        assert verify(kernel) == []
        assert same_schedule(parse_schedule(print_schedule(kernel)), kernel)
