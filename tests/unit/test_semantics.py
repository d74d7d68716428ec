"""Equality with the reference over the reals: what must be proved, and what must be refuted by a replayed input."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.verify.families import Choice
from kernelagent.dsl.verify.records import Findings, Obligation
from kernelagent.dsl.verify.semantics.graph import ReferenceGraph
from kernelagent.dsl.verify.semantics.prove import EQUAL, prove_semantics
from kernelagent.problems import load, names

from kernelagent.checking import check_for, graph_of, reference_of

KERNELS = Path(__file__).parents[2] / "benchmarks" / "kernels"
PROBLEM_OF = {"gemm": "gemm_nn"}


def prove(text: str, problem: str, replay: bool = True) -> Findings:
    module, of = parse(text), load(problem)
    return prove_semantics(module, Choice({}, {}, {}), graph_of(of), reference_of(of, module) if replay else None)


def semantics(findings: Findings) -> Obligation:
    (found,) = [o for o in findings.obligations if o.family == "semantics"]
    return found


@pytest.mark.parametrize("name", names())
def test_seeds_are_equal_to_their_references_over_the_reals(name: str) -> None:
    found = semantics(prove(load(name).seed_kernel, name, replay=False))
    assert (found.verdict, found.level) == ("PROVED", EQUAL), found.detail


@pytest.mark.parametrize("path", sorted(KERNELS.glob("*.tile")), ids=lambda p: p.stem)
def test_the_searches_winners_are_equal_to_their_references(path: Path) -> None:
    found = semantics(prove(path.read_text(), PROBLEM_OF.get(path.stem, path.stem), replay=False))
    assert (found.verdict, found.level) == ("PROVED", EQUAL), found.detail


WRONG = [
    ("linear_gelu", "0.7071067811865476", "0.7070", "0.7070"),
    ("linear_gelu", "0.5 * h", "0.51 * h", "0.51"),
    ("attention", "l = l * r + sum(p, axis=1)", "l = l + sum(p, axis=1)", "l = l + sum"),
    ("attention", "acc = acc * r[:, None] + mma", "acc = acc + mma", "acc = acc + mma"),
    ("attention", "* scale\n", "\n", ""),
    ("attention_causal", "s, -inf)", "s, -1.0)", ""),
    ("attention_causal", ">= coords(j", "> coords(j", ""),
    ("attention_causal", "minimum(N, i + BM + N - M)", "minimum(N, i + N - M)", ""),
    ("attention_causal", "coords(i + N - M, BM)", "coords(i, BM)", ""),
    ("layernorm", "squares / C", "squares / (C - 1)", "(C - 1)"),
    ("layernorm", "+ eps", "+ 2.0 * eps", "eps"),
    ("rmsnorm", "v * v", "v", ""),
    ("cross_entropy", "(m - picked)", "(m + picked)", "(m + picked)"),
    ("cross_entropy", "== wanted[:, None]", "== wanted[:, None] + 1", ""),
    ("row_sum", "pipeline(0, C, BC)", "pipeline(BC, C, BC)", ""),
    ("gemm_nn", "pipeline(0, K, BK)", "pipeline(0, K - BK, BK)", ""),
    ("swiglu", "gate * sigmoid(gate)", "gate * sigmoid(up)", "sigmoid(up)"),
    ("rope", "even * ci - odd * si", "even * ci + odd * si", ""),
    ("softmax", " - m[:, None]), axis=1)", "), axis=1)", ""),
]


@pytest.mark.parametrize(("problem", "right", "wrong", "at"), WRONG, ids=lambda v: v[:24])
def test_wrong_kernels_are_refuted_by_an_input_on_which_the_outputs_differ(
    problem: str, right: str, wrong: str, at: str
) -> None:
    text = load(problem).seed_kernel
    assert right in text
    text = text.replace(right, wrong, 1)
    findings = prove(text, problem)
    found = semantics(findings)
    assert found.verdict == "REFUTED"
    (failure,) = findings.counterexamples
    assert failure.family == "semantics"
    assert failure.found != failure.expected
    assert failure.sizes
    assert failure.element is not None
    assert at in text.splitlines()[failure.lines[0] - 1]


EQUIVALENT = [
    ("softmax", "m = maximum(m, max(load(x, (i, j), (BR, BC)), axis=1))",
     "m = maximum(m, max(load(x, (i, j), (BR, BC)), axis=1)) + 1.0"),
    ("swiglu", "gate * sigmoid(gate) * up",
     "up * gate / (1.0 + exp2(gate * -1.4426950408889634))"),
    ("linear_gelu", "0.5 * h * (1.0 + erf(h * 0.7071067811865476))",
     "h - 0.5 * h * (1.0 - erf(h / sqrt(full((BM, BN), 2.0, f32))))"),
    ("layernorm", "squares += sum(d * d, axis=1)",
     "squares += sum(d * (d + mean[:, None]), axis=1) - mean * sum(d, axis=1)"),
    ("attention", "s = mma(qi, load(k[b, g], (j, 0), (BN, D)).T) * scale",
     "s = scale * mma(load(k[b, g], (j, 0), (BN, D)), qi.T).T"),
    ("rmsnorm", "v * load(w, (j,), (BC,))[None, :]",
     "load(w, (j,), (BC,))[None, :] * v"),
]  # fmt: skip


@pytest.mark.parametrize(("problem", "before", "after"), EQUIVALENT, ids=lambda v: v[:24])
def test_rewritings_that_keep_the_meaning_are_proved(problem: str, before: str, after: str) -> None:
    text = load(problem).seed_kernel
    assert before in text
    found = semantics(prove(text.replace(before, after, 1), problem))
    assert found.level == EQUAL, found.detail


def test_a_kernel_that_leaves_elements_out_is_not_passed_by_its_terms() -> None:
    text = load("transpose").seed_kernel.replace("tiles((R, C), (BR, BC))", "tiles((R, C), (2 * BR, BC))")
    assert semantics(prove(text, "transpose")).verdict == "REFUTED"


def test_without_a_graph_runs_are_what_is_left() -> None:
    problem = load("row_sum")
    module = parse(problem.seed_kernel)
    graph = ReferenceGraph(missing="the reference looks at values")
    found = semantics(prove_semantics(module, Choice({}, {}, {}), graph, reference_of(problem, module)))
    assert (found.verdict, found.level[:18]) == ("TESTED", "NUMERICALLY_TESTED")
    assert "looks at values" in found.detail
    assert semantics(prove_semantics(module, Choice({}, {}, {}), graph)).verdict == "UNKNOWN"


SPLIT = """\
edition(1)

@kernel
def partial(a: In[T, M, K], b: In[T, K, N], part: Out[f32, S, M, N], BM=32, BN=32, BK=16):
    for s, i, j in tiles((S, M, N), (1, BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(s * K // S, (s + 1) * K // S, BK):
            acc += mma(load(a[:, 0:(s + 1) * K // S], (i, k), (BM, BK)), load(b, (k, j), (BK, BN)))
        store(part[s], (i, j), acc)

@kernel
def total(part: In[f32, S, M, N], c: Out[T, M, N], BM=32, BN=64):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for s in range(0, S, 1):
            acc += load(part[s], (i, j), (BM, BN))
        store(c, (i, j), cast(acc, T))

@program
def gemm(a: In[T, M, K], b: In[T, K, N], c: Out[T, M, N], S=4):
    part = temp(f32, (S, M, N))
    partial(a, b, part)
    total(part, c)
"""


def test_split_k_through_a_temporary_is_proved() -> None:
    found = semantics(prove(SPLIT, "gemm_nn"))
    assert found.level == EQUAL, found.detail


def test_split_k_with_parts_that_overlap_is_refuted() -> None:
    wrong = SPLIT.replace("a[:, 0:(s + 1) * K // S]", "a")
    assert semantics(prove(wrong, "gemm_nn")).verdict == "REFUTED"


def test_check_with_a_problem_says_the_level_and_quick_does_not() -> None:
    problem = load("softmax")
    report = check_for(problem.seed_kernel, problem, "cpu", quick=False)
    assert [o.level for o in report.obligations if o.family == "semantics"] == [EQUAL]
    assert report.to_dict()["obligations"][0].keys() >= {"family", "verdict", "line", "detail", "level"}
    quick = check_for(problem.seed_kernel, problem, "cpu", quick=True)
    assert not [o for o in quick.obligations if o.family in ("semantics", "stability")]
