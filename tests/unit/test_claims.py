"""Claims of authors: labels that are carried, expectations that are compared, claims that say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.check_gpu import GpuCalls, _of_schedules, _of_text
from kernelagent.dsl.check_text import CheckReport, check
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.instantiation import instantiate
from kernelagent.dsl.interpreter.run import interpret
from kernelagent.dsl.spec import violations
from kernelagent.dsl.verify.claims import contradiction

GEMM = """
edition(1)

@kernel
def gemm(x: In[T, M, K], w: In[T, N, K], y: Out[T, M, N], BM=16, BN=16, BK=8):
    HEADER
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            a = load(x, (i, k), (BM, BK))
            expect(a, (M, K), (i, k))
            acc += mma(a, load(w, (j, k), (BN, BK)).T)
        expect(acc, (M, N), (i, j))
        store(y, (i, j), cast(acc, T))
"""

SCALED = """
edition(1)

@kernel
def scaled(x: In[T, M, N], y: Out[T, M, N], BM=16, BN=64):
    claim(bank_conflicts <= 4)
    for i, j in tiles((M, N), (BM, BN)):
        store(y, (i, j), cast(load(x, (i, j), (BM, BN)) * 2.0, T))
"""


def text(header: str = "claim(conformity, separation)", *pairs: tuple[str, str]) -> str:
    made = GEMM.replace("HEADER", header)
    for old, new in pairs:
        assert old in made
        made = made.replace(old, new)
    return made


def claimed(report: CheckReport) -> dict[int | None, str]:
    return {o.line: o.verdict for o in report.obligations if o.family == "claims"}


def codes(report: CheckReport) -> list[str]:
    return [d.code for d in report.diagnostics]


def without(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if "expect(" not in line and "claim(" not in line) + "\n"


def test_claims_compute_nothing() -> None:
    """The concrete kernels are those of the text without its claims, but for places."""
    tagged = text(
        "claim(conformity)", ("a = load(x, (i, k), (BM, BK))", "a = tag(load(x, (i, k), (BM, BK)), (M, K), (i, k))")
    )
    plain = without(text())
    kept, bare = (instantiate(parse(t).entry, {"T": "f32"}) for t in (tagged, plain))  # type: ignore[arg-type]
    assert violations(parse(tagged).entry) == []  # type: ignore[arg-type]
    assert violations(kept) == []
    assert len(kept.body[0].body) == len(bare.body[0].body)  # type: ignore[union-attr]
    x, w = (np.random.default_rng(n).standard_normal((9, 17)).astype(np.float32) for n in (0, 1))
    made = [interpret(parse(t), {"x": x, "w": w, "y": np.zeros((9, 9), np.float32)})["y"] for t in (tagged, plain)]
    assert (made[0] == made[1]).all()


def test_what_holds_is_proved_at_its_sizes() -> None:
    report = check(text())
    assert claimed(report) == {6: "PROVED", 11: "PROVED_BOUNDED", 13: "PROVED_BOUNDED"}
    assert [o.verdict for o in report.obligations if o.family == "claims"].count("PROVED_BOUNDED") == 3
    assert codes(report) == []


def test_operands_of_different_k() -> None:
    report = check(text("claim(conformity)", ("load(w, (j, k)", "load(w, (j, k + BK)")))
    (shown,) = report.counterexamples
    assert (shown.family, shown.expected, shown.found, shown.lines) == ("claims", "K=0", "K=8", (12, 6))
    assert "k=0" in shown.message


def test_an_expectation_that_fails_says_element_and_both_coordinates() -> None:
    report = check(text("claim(separation)", ("expect(a, (M, K), (i, k))", "expect(a, (M, K), (i, k + 1))")))
    assert claimed(report)[11] == "REFUTED"
    (shown,) = report.counterexamples
    assert (shown.element, shown.expected, shown.found) == ((0, 0), "K=1", "K=0")
    assert shown.lines == (11, 10)


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        ("exp(acc - max(acc, axis=1)[:, None])", "PROVED_BOUNDED"),  # a row's own maximum uses up N only
        ("where(acc > 0.0, acc, 0.0)", "PROVED_BOUNDED"),
        ("cast(cast(acc, T), f32)", "PROVED_BOUNDED"),
        ("tag(acc, (M, N), (i + 1, j))", "REFUTED"),
        ("acc + tag(acc, (M, N), (i, j + 1))", "REFUTED"),  # a mixture
    ],
)
def test_labels_are_carried(value: str, verdict: str) -> None:
    report = check(text("claim(separation)", ("expect(acc, (M, N), (i, j))", f"expect({value}, (M, N), (i, j))")))
    assert claimed(report)[13] == verdict


def test_transposition_turns_labels() -> None:
    turned = ("expect(acc, (M, N), (i, j))", "expect(acc.T, (N, M), (j, i))")
    assert claimed(check(text("claim(separation)", turned)))[13] == "PROVED_BOUNDED"


def test_a_claim_that_nothing_reaches() -> None:
    loop = "        for k in pipeline(K, K, BK):\n            expect(acc, (M, N), (i, j))\n        store"
    report = check(text("claim(separation)", ("        store", loop)))
    assert "claim-unreached" in codes(report)


def test_a_claim_that_cannot_fail() -> None:
    constant = ("expect(acc, (M, N), (i, j))", "expect(zeros((BM, BN), f32), (M, N), (i, j))")
    report = check(text("claim(separation)", constant))
    assert codes(report) == ["claim-vacuous"]
    assert claimed(report)[13] == "UNKNOWN"


@pytest.mark.parametrize(
    ("header", "wrong"),
    [
        ("assume(K % 8 == 0, K < 8, K > 2)", True),
        ("assume(M > N, N > M)", True),
        ("assume(M * M == 2, N >= 1)", True),
        ("assume(M >= 1000000, M % 7919 == 5)", False),  # no small sizes, but some
        ("assume(M == N, N == K)", False),
        ("assume(0 <= idx < K)", False),
        ("assume(3 <= idx < 3)", True),
        ("assume(0 <= idx < K, K <= idx < M, M < K)", True),
        ("assume(0 <= idx < K, K <= idx < M)", True),  # each element is below K, and not
    ],
)
def test_assumptions_that_contradict_each_other(header: str, wrong: bool) -> None:
    indexed = text(header, ("y: Out[T, M, N]", "idx: In[i32, M], y: Out[T, M, N]")) if "idx" in header else text(header)
    found = contradiction(parse(indexed))
    assert (found is not None) == wrong
    if found is not None:
        report = check(indexed)
        assert not report.ok
        assert codes(report) == ["assume-contradiction"]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("claim(bank_conflicts <= 32)", "claim-limit"),
        ("claim(bank_conflicts <= 0)", "claim-limit"),
        ("claim(bank_conflict <= 1)", "claim"),
        ("claim(sectors < 2)", "claim"),
        ("claim(conform=True)", "claim"),
    ],
)
def test_mistakes_in_claims(header: str, code: str) -> None:
    assert codes(check(text(header))) == [code]


def test_conformity_that_says_nothing() -> None:
    """Of a kernel without a product, and of operands that have no dim in common along k."""
    plain = "\n".join(line for line in without(text()).splitlines() if "mma(" not in line) + "\n"
    nothing = check(plain.replace("    for i, j", "    claim(conformity)\n    for i, j"))
    assert "claim-unreached" in codes(nothing)
    other = check(text("claim(conformity)", ("w: In[T, N, K]", "w: In[T, N, L]")))
    assert codes(other) == ["claim-vacuous"]


def test_limits_that_nothing_can_exceed() -> None:
    """The narrowest accesses are of 2 bytes: of 32 lanes, each with a sector of its own where two would do."""
    wide = ("BM=16, BN=16, BK=8", "BM=64, BN=64, BK=32")
    assert codes(scheduled(text("claim(sectors <= 16)", wide))) == ["claim-vacuous"]
    assert codes(scheduled(text("claim(sectors <= 15)", wide))) == []
    assert codes(scheduled(SCALED)) == ["claim-unreached"]


def test_labels_that_do_not_fit() -> None:
    for dims in ("(M,), (i,)", "(BM, BN), (i, j)", "(M, N), (i,)"):
        assert codes(
            check(text("claim(separation)", ("(M, N), (i, j))\n        store", f"{dims})\n        store")))
        ) == ["tag-dims"]


def scheduled(source: str) -> CheckReport:
    calls = GpuCalls(arch="sm_80", dtypes={"T": "bf16"}, proofs="recheck")
    return _of_schedules(source, calls, _of_text(source, calls, None, True, None), True)


def test_claims_about_schedules() -> None:
    narrow, wide = (("BM=16, BN=16, BK=8", t) for t in ("BM=32, BN=32, BK=16", "BM=64, BN=64, BK=32"))
    held = scheduled(text("claim(bank_conflicts <= 1, sectors <= 4, separation)", wide))
    assert held.ok
    refuted = scheduled(text("claim(bank_conflicts <= 1)", narrow))
    assert {o.verdict for o in refuted.obligations if o.family == "banks"} == {"REFUTED", "PROVED"}
    assert [c.family for c in refuted.counterexamples] == ["banks"]
    assert "compiler-fault" not in codes(refuted)


# Elements that data places -----------------------------------------------------------------------------

PICK = """
edition(1)

@kernel
def pick(table: In[f32, V, D], labels: In[i32, M], y: Out[f32, M, D], BM=16, BD=32):
    assume(0 <= labels < V)
    for i, d in tiles((M, D), (BM, BD)):
        idx = load(labels, (i,), (BM,))
        t = gather(table, (idx, d), (BM, BD))
        expect(t, CLAIM)
        store(y, (i, d), t)
"""


def picked(claim: str, *pairs: tuple[str, str]) -> CheckReport:
    made = PICK.replace("CLAIM", claim)
    for old, new in pairs:
        assert old in made
        made = made.replace(old, new)
    return check(made)


@pytest.mark.parametrize(
    ("claim", "expected", "found"),
    [
        ("(V, D), (i + 7, d)", "V=7", "V="),
        ("(V, D), (i, d)", "V=", "V="),
        ("(M, D), (i, d + 1)", "D=1", "D=0"),
        ("(V, D), (i, d + 1)", "D=1", "D=0"),
    ],
)
def test_elements_behind_gather_are_those_that_data_says(claim: str, expected: str, found: str) -> None:
    report = picked(claim)
    assert claimed(report) == {10: "REFUTED"}
    shown = report.counterexamples[0]
    assert str(shown.expected).startswith(expected)
    assert str(shown.found).startswith(found)


@pytest.mark.parametrize("claim", ["(M, D), (i, d)", "(M, D), (i + 1, d)"])
def test_an_axis_that_comes_from_data_is_left_open(claim: str) -> None:
    report = picked(claim)
    assert claimed(report) == {10: "UNKNOWN"}
    (said,) = report.diagnostics
    assert (said.code, said.message) == ("claim-vacuous", "`expect`: axis 0 of t comes from data (labels): tag it")
    assert said.hint is not None
    assert "tag(t, (M, D), (" in said.hint


@pytest.mark.parametrize(("row", "verdict"), [("i", "PROVED_BOUNDED"), ("i + 1", "REFUTED")])
def test_a_label_says_where_gathered_rows_belong(row: str, verdict: str) -> None:
    labelled = ("        expect(", f"        t = tag(t, (M, D), ({row}, d))\n        expect(")
    assert claimed(picked("(M, D), (i, d)", labelled)) == {11: verdict}


def test_rows_that_are_gathered_in_their_order() -> None:
    """Indices that are the rows' own numbers: every row of the tile counts, also beyond the table's extent."""
    ordered = (("load(labels, (i,), (BM,))", "coords(i, BM)"), ("(idx, d), (BM, BD))", "(idx, d), (BM, BD), fill=0.0)"))
    assert claimed(picked("(V, D), (i, d)", *ordered)) == {10: "PROVED_BOUNDED"}
    assert claimed(picked("(V, D), (i + 1, d)", *ordered)) == {10: "REFUTED"}


def test_one_axis_that_cannot_fail_is_told() -> None:
    """Columns are known; the rows are made by a broadcast."""
    value = "zeros((BM, BN), f32) + cast(sum(load(w, (j, 0), (BN, BK)), axis=1), f32)[None, :]"
    report = check(text("claim(separation)", ("expect(acc, (M, N), (i, j))", f"expect({value}, (M, N), (i, j))")))
    assert claimed(report)[13] == "UNKNOWN"
    assert codes(report) == ["claim-vacuous"]
    assert "along M" in report.diagnostics[0].message


def test_a_tile_as_position_of_a_claim_points_to_tag() -> None:
    with pytest.raises(KernelError) as refused:
        parse(PICK.replace("CLAIM", "(M, D), (idx, d)"))
    (said,) = refused.value.diagnostics
    assert said.code == "position-not-index"
    assert said.hint is not None
    assert "tag(t" in said.hint
