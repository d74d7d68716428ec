"""What a refuted kernel is told: the edit that mends it, verified; and where a warned exponential overflows."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Counterexample
from kernelagent.dsl.verify.semantics.edits import Edit, edits
from kernelagent.dsl.verify.semantics.prove import EQUAL, prove_semantics
from kernelagent.problems import load

from kernelagent.checking import check_for, graph_of

ONLINE = """\
edition(1)

@kernel
def softmax(x: In[T, R, C], y: Out[T, R, C], BR=4, BC=32):
    for i in tiles((R,), (BR,)):
        m, l = full((BR,), -1e30, f32), zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            s = load(x, (i, j), (BR, BC))
            n = maximum(m, max(s, axis=1))
            l = l * exp(m - n) + sum(exp(s - n[:, None]), axis=1)
            m = n
        for j in pipeline(0, C, BC):
            p = exp(load(x, (i, j), (BR, BC)) - m[:, None]) / l[:, None]
            store(y, (i, j), cast(p, T))
"""

NORM = """\
edition(1)

@kernel
def rmsnorm(x: In[T, R, C], w: In[T, C], y: Out[T, R, C], eps: f32, BR=4, BC=32):
    for i in tiles((R,), (BR,)):
        q = zeros((BR,), f32)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (BR, BC))
            q += sum(v * v, axis=1)
        r = rsqrt(q / C + eps)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (BR, BC)) * r[:, None]
            store(y, (i, j), cast(v * load(w, (j,), (BC,))[None, :], T))
"""

SLIPS = [
    ("softmax", ONLINE, "exp(m - n)", "exp(n - m)", 10),
    ("rmsnorm", NORM, "rsqrt(q", "sqrt(q", 10),
    ("rmsnorm", NORM, "q += sum", "q = sum", 9),
    ("rmsnorm", NORM, "(j,), (BC,)", "(0,), (BC,)", 13),
]


def failure(text: str, problem: str) -> Counterexample:
    report = check_for(text, load(problem), target="cpu", quick=False)
    (found,) = [c for c in report.counterexamples if c.family == "semantics"]
    return found


@pytest.mark.parametrize(("problem", "text", "right", "wrong", "line"), SLIPS)
def test_a_slip_is_found_with_the_edit_that_mends_it(
    problem: str, text: str, right: str, wrong: str, line: int
) -> None:
    assert right in text
    found = failure(text.replace(right, wrong), problem)
    assert len(found.fixes) == 1
    assert found.fixes[0].startswith(f"line {found.lines[0]}: ")
    if "rsqrt" not in right:  # dividing by the root mends that one as well
        assert found.lines == (line,)


def test_the_fix_is_what_it_says() -> None:
    wrong = ONLINE.replace("l = l * exp(m - n) + sum", "l = l + sum")
    found = failure(wrong, "softmax")
    assert found.fixes == ("line 10: `l * exp(m - n)` for `l` (verified: equal to the reference over the reals)",)
    (edit,) = [e for e in edits(wrong, [10], [], {"m": 1, "l": 1, "n": 1}) if (e.old, e.new) == ("l", "l * exp(m - n)")]
    mended = prove_semantics(parse(edit.applied(wrong)), Choice({}, {}, {}), graph_of(load("softmax")))
    assert [o.level for o in mended.obligations if o.family == "semantics"] == [EQUAL]


def test_where_no_small_edit_is_enough_the_terms_say_where() -> None:
    wrong = NORM.replace("v * v", "abs(v)").replace("q / C", "q")
    found = failure(wrong, "rmsnorm")
    assert found.fixes == ()
    assert found.lines


def test_edits_of_the_lines_that_are_looked_at_come_first_among_their_kind() -> None:
    found = edits(NORM, [13], [], {})
    assert len({(e.line, e.column, e.old, e.new) for e in found}) == len(found)
    first = [e for e in found if e.rank == 0]
    assert first[0].line == 13
    assert all(e.rank <= f.rank for e, f in pairwise(found))


def test_an_edit_replaces_what_it_says() -> None:
    assert Edit(2, 3, "b", "c").applied("a\n  b + b\n") == "a\n  c + b\n"


def test_texts_that_are_not_ascii_are_left_alone() -> None:
    assert edits(NORM + "# größer\n", [], [], {}) == []


def test_a_warned_exponential_comes_with_an_element_that_overflows() -> None:
    plain = ONLINE.replace("- n[:, None]", "").replace("exp(m - n)", "1.0").replace(" - m[:, None]", "")
    report = check_for(plain, load("softmax"), target="cpu", quick=False)
    assert report.semantics == EQUAL
    (warned,) = [o for o in report.obligations if o.family == "stability" and o.verdict == "UNKNOWN"]
    assert re.search(
        r"; with inputs 32 times those that are tried, y\[\d+, \d+\] is nan, the reference ", warned.detail
    )


def test_a_softmax_with_its_maximum_has_nothing_to_show() -> None:
    report = check_for(ONLINE, load("softmax"), target="cpu", quick=False)
    assert [o.verdict for o in report.obligations if o.family == "stability"] == ["PROVED"]
