"""Online algorithms, pieces, finite fields and the stability lint, each on a problem of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Findings
from kernelagent.dsl.verify.semantics.field_test import agreeing
from kernelagent.dsl.verify.semantics.prove import EQUAL, prove_semantics
from kernelagent.problems import load
from kernelagent.problems.problem import Problem, Tensor, Workload

from kernelagent.checking import graph_of, reference_of


def choice() -> Choice:
    """Instances are remembered by kernel name: one choice for each text."""
    return Choice({}, {}, {})


def problem(name: str, reference: Callable[..., Any], text: str, out: tuple[str, ...] = ("R", "C")) -> Problem:
    return Problem(
        name=name,
        inputs=(Tensor("x", "f32", ("R", "C")),),
        outputs=(Tensor("y", "f32", out),),
        workloads=(Workload("small", {"R": 20, "C": 70}),),
        reference=reference,
        seed_kernel=text,
    )


def prove(of: Problem) -> Findings:
    module = parse(of.seed_kernel)
    return prove_semantics(module, choice(), graph_of(of), reference_of(of, module))


def level(findings: Findings) -> str:
    return next(o.level or o.verdict for o in findings.obligations if o.family == "semantics")


def stability(findings: Findings) -> set[tuple[str, str]]:
    return {(o.subject, o.verdict) for o in findings.obligations if o.family == "stability"}


def rows(body: str) -> str:
    head = (
        "edition(1)\n\n@kernel\ndef k(x: In[T, R, C], y: Out[T, R], BR=16, BC=32):\n    for i in tiles((R,), (BR,)):\n"
    )
    return head + "".join(f"        {line}\n" for line in body.strip().splitlines())


def elements(expression: str) -> str:
    return (
        "edition(1)\n\n@kernel\ndef k(x: In[T, R, C], y: Out[T, R, C], BR=16, BC=32):\n"
        "    for i, j in tiles((R, C), (BR, BC)):\n        v = load(x, (i, j), (BR, BC))\n"
        f"        store(y, (i, j), cast({expression}, T))\n"
    )


POINTWISE: list[tuple[str, Callable[[Any, Any], Any], str]] = [
    ("hardswish", lambda xp, x: x * xp.clip(x + 3.0, 0.0, 6.0) / 6.0,
     "where(v <= -3.0, 0.0, where(v >= 3.0, v, v * (v + 3.0) / 6.0))"),
    ("tanh", lambda xp, x: xp.tanh(x), "(1.0 - exp(-2.0 * v)) / (1.0 + exp(-2.0 * v))"),
    ("gelu", lambda xp, x: 0.5 * x * (1.0 + xp.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))),
     "v * sigmoid(1.5957691216057308 * (v + 0.044715 * v * v * v))"),
    ("relu6", lambda xp, x: xp.clip(x, 0.0, 6.0), "maximum(minimum(v, 6.0), 0.0)"),
    ("abs", lambda xp, x: xp.abs(x), "where(v > 0.0, v, -v)"),
    ("elu", lambda xp, x: xp.where(x > 0, x, xp.exp(x) - 1.0), "where(v > 0.0, v, exp(minimum(v, 0.0)) - 1.0)"),
    ("leaky", lambda xp, x: xp.where(x > 0, x, 0.01 * x), "maximum(v, 0.01 * v)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "reference", "expression"), POINTWISE, ids=lambda v: v if isinstance(v, str) else "")
def test_pieces_and_identities_of_functions(name: str, reference: Callable[..., Any], expression: str) -> None:
    assert level(prove(problem(name, reference, elements(expression)))) == EQUAL


def test_a_wrong_piece_is_refuted() -> None:
    text = elements("where(v <= -3.0, 0.0, where(v >= 2.0, v, v * (v + 3.0) / 6.0))")
    assert level(prove(problem("hardswish", POINTWISE[0][1], text))) == "REFUTED"


CHAN = rows("""
mean, m2, n = zeros((BR,), f32), zeros((BR,), f32), zeros((BR,), f32)
for j in pipeline(0, C, BC):
    v = load(x, (i, j), (BR, BC))
    b = minimum(BC, C - j)
    mb = sum(v, axis=1) / b
    d = v - mb[:, None]
    n_new = n + b
    delta = mb - mean
    m2 = m2 + sum(d * d, axis=1) + delta * delta * n * b / n_new
    mean = mean + delta * b / n_new
    n = n_new
store(y, (i,), cast(m2 / C, T))
""")
WELFORD = rows("""
mean, m2 = zeros((BR,), f32), zeros((BR,), f32)
for j in pipeline(0, C, 1):
    v = load(x, (i, j), (BR, 1))[:, 0]
    d = v - mean
    mean = mean + d / (j + 1)
    m2 = m2 + d * (v - mean)
store(y, (i,), cast(m2 / C, T))
""")
MOMENTS = rows("""
s, q = zeros((BR,), f32), zeros((BR,), f32)
for j in pipeline(0, C, BC):
    v = load(x, (i, j), (BR, BC))
    s += sum(v, axis=1)
    q += sum(v * v, axis=1)
mean = s / C
store(y, (i,), cast(q / C - mean * mean, T))
""")


def variance(xp: Any, x: Any) -> Any:
    return xp.var(x, axis=1)


@pytest.mark.parametrize("text", [CHAN, WELFORD, MOMENTS], ids=["chan", "welford", "moments"])
def test_a_variance_in_one_pass(text: str) -> None:
    findings = prove(problem("variance", variance, text, ("R",)))
    assert level(findings) == EQUAL
    assert stability(findings) == ({("variance", "UNKNOWN")} if text is MOMENTS else set())


def test_a_merge_that_forgets_the_means_is_refuted() -> None:
    text = CHAN.replace(" + delta * delta * n * b / n_new", "")
    assert level(prove(problem("variance", variance, text, ("R",)))) == "REFUTED"


LOGSUMEXP = rows("""
m, l = full((BR,), -1e30, f32), zeros((BR,), f32)
for j in pipeline(0, C, BC):
    s = load(x, (i, j), (BR, BC))
    m_new = maximum(m, max(s, axis=1))
    l = l * exp(m - m_new) + sum(exp(s - m_new[:, None]), axis=1)
    m = m_new
store(y, (i,), cast(m + log(l), T))
""")


def logsumexp(xp: Any, x: Any) -> Any:
    return xp.log(xp.sum(xp.exp(x), axis=1))


def test_an_online_logsumexp_and_its_maximum() -> None:
    findings = prove(problem("logsumexp", logsumexp, LOGSUMEXP, ("R",)))
    assert level(findings) == EQUAL
    assert stability(findings) == {("exp", "PROVED")}


def test_a_sum_of_exponentials_without_their_maximum_is_a_warning() -> None:
    text = rows("""
l = zeros((BR,), f32)
for j in pipeline(0, C, BC):
    l += sum(exp(load(x, (i, j), (BR, BC))), axis=1)
store(y, (i,), cast(log(l), T))
""")
    findings = prove(problem("logsumexp", logsumexp, text, ("R",)))
    assert level(findings) == EQUAL
    assert stability(findings) == {("exp", "UNKNOWN")}


def test_a_selection_that_loses_nan_is_a_warning() -> None:
    findings = prove(problem("relu", lambda xp, x: xp.maximum(x, 0.0), elements("where(v > 0.0, v, 0.0)")))
    assert level(findings) == EQUAL
    assert stability(findings) == {("nan", "UNKNOWN")}


def test_running_sums_join_what_came_before_with_the_tile() -> None:
    text = """\
edition(1)

@kernel
def cumsum(x: In[T, R, C], y: Out[T, R, C], BC=16):
    for i in tiles((R,), (1,)):
        carry = zeros((1,), f32)
        for j in pipeline(0, C, BC):
            v = load(x, (i, j), (1, BC), fill=0)
            store(y, (i, j), cast(scan(v, axis=1, op=sum) + carry[:, None], T))
            carry += sum(v, axis=1)
"""

    def reference(xp: Any, x: Any) -> Any:
        c = x.shape[1]
        before = xp.arange(c)[None, None, :] <= xp.arange(c)[None, :, None]
        return xp.sum(xp.where(before, x[:, None, :], 0.0), axis=2)

    assert level(prove(problem("cumsum", reference, text))) == EQUAL


@pytest.mark.parametrize("name", ["softmax", "layernorm", "cross_entropy", "attention_causal", "swiglu", "rope"])
def test_seeds_agree_over_finite_fields(name: str) -> None:
    of = load(name)
    module = parse(of.seed_kernel)
    assert agreeing(module, choice(), graph_of(of), reference_of(of, module)) == (6, "")


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("attention", "l = l * r + sum", "l = l + sum"),
        ("attention_causal", "coords(i + N - M, BM)", "coords(i, BM)"),
        ("attention_causal", "s, -inf)", "s, -1.0)"),
        ("layernorm", "squares / C", "squares / (C - 1)"),
        ("linear_gelu", "0.7071067811865476", "0.70711"),
        ("rope", "even * ci - odd", "even * ci + odd"),
    ],
)
def test_wrong_kernels_differ_over_finite_fields(name: str, right: str, wrong: str) -> None:
    of = load(name)
    module = parse(of.seed_kernel.replace(right, wrong, 1))
    assert agreeing(module, choice(), graph_of(of), reference_of(of, module))[0] == 0


def test_what_no_normal_form_shows_is_split_into_cases_or_tested() -> None:
    text = elements("v + log(1.0 + exp(-v))")
    findings = prove(problem("log1p", lambda xp, x: xp.log(1.0 + xp.exp(x)), text))
    assert level(findings) == EQUAL
    text = elements("maximum(v, 0.0) + log(1.0 + exp(-abs(v)))")
    assert level(prove(problem("softplus", lambda xp, x: xp.log(1.0 + xp.exp(x)), text))) == EQUAL
    text = elements("floor(v) * floor(v) - floor(v) * (floor(v) - 1.0)")
    assert level(prove(problem("floor", lambda xp, x: xp.floor(x), text))) == EQUAL


def padded(xp: Any, x: Any) -> Any:
    wide = xp.concat([xp.zeros((x.shape[0], 1), dtype=x.dtype), x], axis=1)
    return xp.sin(wide[:, : x.shape[1]]) + xp.zeros((1, 1))


def test_zeros_in_the_reference_are_field_values() -> None:
    """`xp.zeros` is a view of a literal; a normal form that differs leads to the runs over finite fields."""
    text = elements("sin(load(x, (i, j - 1), (BR, BC), fill=0))")
    module = parse(text)
    of = problem("padded", padded, text)
    assert agreeing(module, choice(), graph_of(of), reference_of(of, module)) == (6, "")


ARGMAX = """
top, at = full((BR,), -inf, f32), zeros((BR,), f32)
for j in pipeline(0, C, BC):
    t = load(x, (i, j), (BR, BC))
    m, p = max(t, axis=1), cast(argmax(t, axis=1) + j, f32)
    better = m > top
    at = where(better, p, at)
    top = maximum(top, m)
store(y, (i,), at)
"""


@pytest.mark.parametrize(
    ("right", "wrong"), [("", ""), ("m > top", "m >= top"), ("full((BR,), -inf, f32)", "zeros((BR,), f32)")]
)
def test_positions_of_maxima_are_tried_on_ties_and_below_zero(right: str, wrong: str) -> None:
    text = rows(ARGMAX.replace(right, wrong)).replace("In[T, R, C], y: Out[T, R]", "In[f32, R, C], y: Out[f32, R]")
    of = problem("argmax", lambda xp, x: xp.astype(xp.argmax(x, axis=1), xp.float64), text, ("R",))
    (found,) = [o for o in prove(of).obligations if o.family == "semantics"]
    assert found.verdict == ("TESTED" if right == wrong else "REFUTED")
    assert found.line == text.splitlines().index("        store(y, (i,), at)") + 1
