"""Each mistake gives its code, at the right place, with the values in question and a way out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from kernelagent.dsl.catalogue import Entry, diagnose, entries, example_text, explain
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span, render

from kernelagent import dsl

SHOWN = [e for e in entries().values() if e.wrong is not None and e.level == 1]
SOURCES = Path(dsl.__file__).parent

# code, line and text under the caret in the catalogue's wrong example, values that the message must show
TABLE: list[tuple[str, int, str, tuple[str, ...]]] = [
    ("syntax", 7, "(", ()),
    ("edition-missing", 3, "def ", ()),
    ("edition-unknown", 1, "edition(7)", ("7",)),
    ("no-kernel", 1, "e", ()),
    ("top-level", 2, "for i in range(4):", ()),
    ("decorator", 3, "kernel(num_warps=4)", ("4",)),
    ("duplicate-name", 7, "i", ()),
    ("reserved-word", 7, "sum", ()),
    ("import", 3, "import math", ()),
    ("attribute", 7, "v.sum", ()),
    ("call", 7, "v", ("f32(BM, BN)",)),
    ("while", 7, "while True:", ()),
    ("break", 8, "break", ()),
    ("early-return", 7, "return v", ()),
    ("closure", 7, "lambda a: a + 1", ()),
    ("comprehension", 7, "[v for n in range(4)]", ()),
    ("list", 7, "[i, j]", ()),
    ("string", 7, '"2"', ()),
    ("literal", 7, "1e999", ()),
    ("ellipsis", 7, "...", ()),
    ("item-assignment", 7, "v[0] = 1.0", ()),
    ("annotation", 7, "w: f32 = v", ()),
    ("walrus", 7, "u := v", ()),
    ("assert", 7, "assert N > 0", ()),
    ("class", 7, "class A:", ()),
    ("starred", 7, "*v", ()),
    ("statement", 7, "with v:", ()),
    ("for-else", 7, "for n in range(0, 4, 1):", ()),
    ("slice-step", 7, "::2", ()),
    ("slice-place", 4, "0:N", ()),
    ("matmul-operator", 7, "v @ v.T", ()),
    ("identifier", 7, "größe", ()),
    ("unknown-word", 7, "mean", ()),
    ("unused-value", 7, "exp(v)", ()),
    ("no-value", 10, "f(load(x, (i,), (BN,)))", ("(BN,)",)),
    ("misplaced-word", 7, "store(y, (i, j), v)", ()),
    ("augmented", 7, "v **= 2", ("2",)),
    ("header-late", 7, "assume(N > 0)", ()),
    ("function-as-value", 10, "f", ()),
    ("call-of-kernel", 11, "a(x, y)", ()),
    ("inline-recursion", 5, "f(a)", ()),
    ("arity", 7, "max(v, 0.0)", ("0", "2")),
    ("unknown-keyword", 7, "mask=v", ()),
    ("unpack", 7, "a, b", ("2", "3")),
    ("not-a-value", 7, "f32", ("f32",)),
    ("not-a-tile", 7, "sum(v)", ()),
    ("not-a-scalar", 7, "v", ("f32(BM, BN)",)),
    ("not-a-literal", 7, "N > 4", ()),
    ("array-as-value", 7, "x", ("f32(M, N)",)),
    ("subscript", 7, "BM[0]", ()),
    ("dtype-expected", 7, "0", ("0",)),
    ("unknown-dtype", 4, "float32", ()),
    ("rank-mismatch", 7, "v - max(v, axis=1)", ("(BM, BN)", "(BM,)", "2")),
    ("shape-mismatch", 7, "v + zeros((BM, BM), f32)", ("(BM, BN)", "(BM, BM)")),
    ("mma-shape", 7, "mma(v, v)", ("(BM, BN)",)),
    ("mma-rank", 7, "max(v, axis=1)", ("2", "1", "f32(BM,)")),
    ("mma-dtype", 7, "mma(v, cast(v, bf16).T)", ("f32", "bf16")),
    ("mma-precision", 7, "bf16", ("bf16",)),
    ("extent-not-constant", 7, "N", ()),
    ("extent-range", 7, "0", ("0",)),
    ("axis", 7, "2", ("2",)),
    ("transpose-rank", 7, "max(v, axis=1).T", ("2", "f32(BM,)")),
    ("reshape-size", 7, "(BM, BM)", ("(BM, BN)", "(BM, BM)")),
    ("reshape-partly-live", 7, "reshape(v, (BM * BN,))", ("0",)),
    ("stack", 7, "stack(v, max(v, axis=1))", ("f32(BM, BN)", "f32(BM,)")),
    ("tile-slice", 7, "v[:, :16]", ("16",)),
    ("tile-index", 7, "v[0]", ("0",)),
    ("index-rank", 7, "(i,)", ("f32(M, N)", "2", "1")),
    ("index-after-slice", 7, "j", ()),
    ("view-none", 7, "None", ()),
    ("view-reshape", 7, "reshape(x.T, (M * N,))", ("0", "1")),
    ("window-stride", 7, "(0, 1)", ("0",)),
    ("not-a-view", 7, "v", ("f32(BM, BN)",)),
    ("position-scaled", 7, "i * BM", ("0", "2")),
    ("single-row", 6, "x[i]", ()),
    ("position-not-index", 7, "(max(v), j)", ("f32",)),
    ("negative-index", 7, "-1", ("1",)),
    ("gather-position", 7, "(i, j)", ()),
    ("index-unproved", 7, "(rows, j)", ("0", "1")),
    ("scatter-duplicates", 7, "(load(idx, (i,), (BM,)), j)", ()),
    ("mask-redundant", 7, "coords(j, BN)[None, :] < N", ()),
    ("integer-division", 7, "M / 2", ("2",)),
    ("division-by-zero", 7, "M // 0", ("0",)),
    ("index-operator", 7, "M >> 1", ("1",)),
    ("dtype", 7, "v", ("f32", "6")),
    ("literal-dtype", 7, "where(v > 0.0, 1, 0)", ("0", "1")),
    ("literal-range", 7, "300", ("300", "u8")),
    ("fill-literal", 7, "v", ()),
    ("bool-arithmetic", 7, "v > 0.0", ()),
    ("narrow-sum", 7, "cast(v, i8)", ("i8",)),
    ("power", 7, "v ** 0.5", ("0", "5", "2")),
    ("scan-op", 7, "exp", ()),
    ("tunable-changes-meaning", 4, "1e-6", ("06",)),
    ("tile-as-condition", 7, "v > 0.0", ("0", "(BM, BN)")),
    ("not-a-condition", 7, "N", ()),
    ("chained-comparison", 7, "0.0 < v < 1.0", ("0", "1")),
    ("is-none", 7, "v is None", ()),
    ("membership", 5, "N in 64", ("64",)),
    ("for-iter", 7, "(1, 2, 3)", ("(1, 2, 3)",)),
    ("loop-target", 7, "a, b", ("2", "1")),
    ("loop-rank", 5, "tiles((M, N), (BM,))", ("2", "(M, N)", "1")),
    ("loop-step", 7, "-1", ("1",)),
    ("bound-not-index", 7, "max(v)", ("f32",)),
    ("tiles-place", 8, "tiles((M,), (BM,))", ()),
    ("tiles-twice", 7, "tiles((N,), (BN,))", ()),
    ("no-tiles", 4, "k", ()),
    ("outside-tiles", 5, "load(x, (0,), (BN,))", ()),
    ("ended-with-loop", 9, "w", ("7",)),
    ("ended-with-if", 9, "w", ("7",)),
    ("carried-type", 7, "l", ("0", "f32(BM,)", "9")),
    ("carried-shape", 9, "l", ("f32(BM,)", "7", "f32(BM, BN)")),
    ("carried-live-shrinks", 8, "acc += load(x, (i, j), (BM, BN))", ("1",)),
    ("carried-across-tiles", 7, "total", ("5",)),
    ("assign-to-array", 7, "x", ()),
    ("rebind-parameter", 7, "BM", ()),
    ("rebind-loop-variable", 7, "i", ()),
    ("store-to-input", 7, "x", ()),
    ("load-of-output", 7, "y", ()),
    ("role", 7, "y", ()),
    ("store-window", 7, "window(y, offset=(0, 0), stride=(2, 1), shape=(M, N))", ()),
    ("atomic-dtype", 6, "atomic_add(y, (j,), cast(sum(load(x, (i, j), (BM, BN)), axis=0), bf16))", ("bf16",)),
    ("not-stored", 4, "z", ()),
    ("stored-twice", 8, "store(y, (i, j), v)", ("7",)),
    ("store-repeated", 6, "store(y, (i,), max(load(x, (i, j), (BM, BN)), axis=1))", ("5",)),
    ("parameter", 4, "BN", ()),
    ("signature", 4, "def k(x: In[f32, N], *rest):", ()),
    ("array-default", 4, "None", ()),
    ("default", 4, "N", ()),
    ("const-float", 4, "0.5", ()),
    ("tunable-range", 4, "-64", ("64",)),
    ("dim-unbound", 4, "K", ("2",)),
    ("dim-expression", 4, "0.5", ("0", "5")),
    ("unused-parameter", 4, "z", ()),
    ("assume", 5, "N", ()),
    ("assume-narrows", 5, "M % 128 == 0", ("128", "0")),
    ("unknown-target", 5, "sm90", ()),
    ("unknown-policy", 5, "stage=2", ()),
    ("policy-value", 5, "0", ("0",)),
    ("policy-tie", 6, "on(cuda, stages=3)", ()),
    ("unroll-bound", 5, "4096", ("4096",)),
    ("program-statement", 10, "for n in range(0, 4, 1):", ()),
    ("unknown-kernel", 10, "doubel", ()),
    ("call-argument", 10, "a(x, y)", ()),
    ("call-shape", 10, "y", ()),
    ("call-dtype", 10, "x", ("bf16", "f32")),
    ("call-overlap", 10, "a(y, y)", ()),
    ("temp-order", 11, "a(t, y)", ()),
    ("claim", 5, "registers == 7", ("registers == 7",)),
    ("claim-limit", 5, "bank_conflicts <= 32", ("cannot fail",)),
    ("tag-dims", 7, "(BN,)", ("(BN,)",)),
]


def found(text: str, code: str) -> Diagnostic:
    matching = [d for d in diagnose(text) if d.code == code]
    assert matching, [(d.code, d.message) for d in diagnose(text)]
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
    text = example_text(wrong)
    diagnostic = found(text, code)
    assert diagnostic.span is not None
    assert (diagnostic.span.line, under_caret(text, diagnostic)) == (line, caret)
    assert all(value in diagnostic.message for value in values)
    assert diagnostic.hint


def test_table_covers_every_example() -> None:
    assert {row[0] for row in TABLE} >= {e.code for e in SHOWN} - {"too-large"}
    assert len(TABLE) >= 100


@pytest.mark.parametrize("entry", SHOWN, ids=[e.code for e in SHOWN])
def test_right_example_is_accepted(entry: Entry) -> None:
    assert entry.right is not None
    assert [d for d in diagnose(example_text(entry.right)) if d.severity != "note"] == []


@pytest.mark.parametrize("entry", SHOWN, ids=[e.code for e in SHOWN])
def test_explain_shows_the_examples(entry: Entry) -> None:
    text = explain(entry.code)
    assert text.startswith(f"{entry.code}: {entry.title}")
    assert f"[{entry.code}]" in text  # the diagnostic itself, rendered
    assert "Right:" in text


def test_every_code_in_the_sources_is_explained() -> None:
    call = re.compile(r'(?:fault|warn|refuse|report|Diagnostic|RunError|WorkLimit|mismatch)\(\s*"([a-z0-9-]+)"')
    folders = ["elaborate", "interpret", "targets", "verify"]
    files = [*SOURCES.glob("*.py"), *(f for name in folders for f in (SOURCES / name).rglob("*.py"))]
    codes = {code for file in files for code in call.findall(file.read_text(encoding="utf-8"))}
    assert len(codes) > 80
    assert codes - set(entries()) == set()


def test_explain_of_an_unknown_code() -> None:
    with pytest.raises(KeyError):
        explain("no-such-code")


HEAD = """edition(1)

@kernel
def k(x: In[f32, M, N], idx: In[i32, M], y: Out[f32, M, N], scale: f32 = 1.0, BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        v = load(x, (i, j), (BM, BN))
"""


def errors(body: str) -> tuple[Diagnostic, ...]:
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    return tuple(d for d in diagnose(HEAD + lines) if d.severity == "error")


HABITS = [
    ("w = max(v, v)", "arity", "maximum(v, v)"),
    ("w = v.max(axis=1)", "attribute", "max(x, axis=1)"),
    ("w = mean(v, axis=1)", "unknown-word", "sum(x, axis=1) / N"),
    ("w = v @ v", "matmul-operator", "mma(a, b)"),
    ("n = len(v)", "unknown-word", "dim"),
    ('w = float("-inf")', "unknown-word", "inf"),
    ("w = v ** 0.5", "power", "sqrt"),
    ("w = v[:, :16]", "tile-slice", "load"),
    ("w = np.exp(v)", "attribute", "`exp`"),
    ("w = tl.load(x)", "attribute", "`load`"),
    ("w = cast(v, float32)", "unknown-word", "f32"),
    ("w = dot(v, v)", "unknown-word", "mma"),
    ("w = zeros((BM, BN))", "arity", "f32"),
    ("w = sum(v, 1)", "arity", "axis=1"),
    ("w = mma(v, v.T, v)", "arity", "+= mma"),
    ("w = load(x, (i, j), (BM, BN), mask=v)", "unknown-keyword", "void"),
    ("w = program_id(0)", "unknown-word", "tiles"),
    ("w = exq(v)", "unknown-word", "`exp`"),
    ("w = reshape(v, (BM, BN)).shape", "attribute", "signature"),
    ("w = v - max(v, axis=0)", "rank-mismatch", "[None, :]"),
    ("w = relu(v)", "unknown-word", "maximum(x, 0)"),
    ("w = arange(64)", "unknown-word", "iota"),
    ("w = v.to(bf16)", "attribute", "cast"),
    ("w = clamp(v, 0, 1)", "unknown-word", "minimum(maximum"),
    ("for n in pipeline(0, N, BN, num_stages=3):\n    pass", "unknown-keyword", "on("),
    ("w = load(x, (idx[i], j), (1, BN))\nstore(y, (load(idx, (i,), (BM,)), j), v)", "position-not-index", "scatter"),
    ("w = load(x, (load(idx, (i,), (BM,)), j), (BM, BN))", "position-not-index", "gather"),
]


@pytest.mark.parametrize(("body", "code", "hint"), HABITS, ids=[h[0].split("\n")[0] for h in HABITS])
def test_habits_of_other_languages_get_a_replacement(body: str, code: str, hint: str) -> None:
    diagnostic = next(d for d in errors(body) if d.code == code)
    assert diagnostic.hint is not None
    assert hint in diagnostic.hint


def test_many_mistakes_are_reported_at_once() -> None:
    found_codes = [d.code for d in errors("a = mean(v)\nb = v.T + v\nc = a + 1.0\nstore(x, (i, j), v)\nq = v @ v\n")]
    assert found_codes == ["matmul-operator"]  # syntax first
    found_codes = [d.code for d in errors("a = mean(v)\nb = v.T + v\nc = a + 1.0\nstore(x, (i, j), v)\n")]
    assert found_codes == ["unknown-word", "shape-mismatch", "store-to-input"]  # `a + 1.0` stays silent


def test_errors_behind_a_broken_loop_header_are_found() -> None:
    text = "for n in pipeline(0, K, BN):\n    w = exq(v)\n"
    assert [d.code for d in errors(text)] == ["unknown-word", "unknown-word"]


def test_inline_errors_name_the_call() -> None:
    text = """edition(1)

@inline
def rows(a):
    return a - max(a, axis=1)

@kernel
def k(x: In[f32, M, N], y: Out[f32, M, N], BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), rows(load(x, (i, j), (BM, BN))))
"""
    with pytest.raises(KernelError) as caught:
        dsl.parse(text)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.span is not None
    assert diagnostic.span.line == 5
    assert [s.line for s in diagnostic.origin] == [10]
    shown = render(diagnostic, text, "k.tile")
    assert "k.tile:10:" in shown
    assert "k.tile:5:" in shown


def test_warnings_do_not_stop_the_parse() -> None:
    text = example_text("w = where(coords(j, BN)[None, :] < N, v, 0.0)\nstore(y, (i, j), w)")
    codes = [w.code for w in dsl.parse(text).warnings if isinstance(w, Diagnostic)]
    assert codes == ["mask-redundant"]


def warnings(text: str) -> list[str]:
    return [w.code for w in dsl.parse(text).warnings if isinstance(w, Diagnostic)]


def test_a_switch_that_a_tuner_may_turn() -> None:
    text = HEAD.replace("scale: f32 = 1.0", "causal={default}, scale: f32 = 1.0") + (
        "        if causal:\n            v = where(v > 0.0, v, 0.0)\n        store(y, (i, j), v * scale + idx[0])\n"
    )
    text = text.replace("idx[0]", "cast(idx[0], f32)")
    assert warnings(text.format(default="True")) == ["tunable-changes-meaning"]
    assert warnings(text.format(default="choices(True, False)")) == []
    assert warnings(text.replace("causal={default}", "causal: const = True")) == []


def test_data_as_a_subscript_needs_a_statement_about_it() -> None:
    body = "        store(y, (i, j), v * scale + load(x[idx[0]], (j,), (BN,))[None, :])\n"
    assert warnings(HEAD + body) == ["index-unproved"]
    assumed = HEAD.replace("    for i, j", "    assume(0 <= idx < M)\n    for i, j")
    assert warnings(assumed + body) == []


def test_a_single_row_is_only_suspicious_when_the_tile_is_read_too() -> None:
    body = "        store(y, (i, j), v * scale + load(x[i], (j,), (BN,))[None, :] + cast(idx[0], f32))\n"
    assert warnings(HEAD + body) == ["single-row"]


def test_long_lines_are_shown_around_the_place() -> None:
    text = "a" * 500 + " @ " + "b" * 30_000
    shown = render(Diagnostic("matmul-operator", "no", Span(1, 502, 1, 503)), text).splitlines()
    source, carets = shown[2], shown[3]
    assert max(map(len, shown)) < 200
    assert source[carets.index("^")] == "@"
    assert carets.count("^") == 1


def test_what_terminals_would_obey_is_not_printed() -> None:
    shown = render(Diagnostic("syntax", "no", Span(1, 1, 1, 2)), "\x1b]0;owned\x07\x00\tx")
    assert shown.splitlines()[2] == " 1 | \N{REPLACEMENT CHARACTER}]0;owned" + 2 * "\N{REPLACEMENT CHARACTER}" + "\tx"
