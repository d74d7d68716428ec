"""Claims in level-two texts: parsed, printed, proved, refuted with the element and who holds it, told where empty."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from kernelagent.dsl.check_schedule import check_schedule
from kernelagent.dsl.check_text import CheckReport
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.elaborate import parse
from kernelagent.dsl.level2 import parse_schedule, print_schedule, same_schedule, verify, without_origins
from kernelagent.dsl.level2.module import scheduled
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit
from kernelagent.dsl.verify.records import Obligation, ScheduleCounterexample
from kernelagent.dsl.verify.schedule.cases import cases
from support.level2_texts import TEXTS

ALL = "bank_conflicts <= 1, sectors <= 2, conformity, separation"
MMA = "            acc = mma("
STORE = "        store(y, (i, j), cast("
EXPECTED = (
    (MMA, "            expect(a_ring[(k // 32) % 3], (M, K), (i, k))\n" + MMA),
    (MMA, "            expect(w_ring[(k // 32) % 3].T, tag(w.T), (k, j))\n" + MMA),
    (STORE, "        acc = tag(acc, (M, N), (i, j))\n        expect(acc, (M, N), (i, j))\n" + STORE),
)

LEVEL_ONE = """
edition(1)

@kernel
def gemm(a: In[T, M, K], w: In[T, N, K], y: Out[T, M, N], alpha: f32, BM=64, BN=64, BK=32):
    HEADER
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(w, (j, k), (BN, BK)).T)
        store(y, (i, j), cast(acc * alpha, T))
"""


def claiming(name: str, claims: str = "", *pairs: tuple[str, str]) -> str:
    """A text with claims behind its shape class, and edits."""
    lines = TEXTS[name].splitlines()
    at = next(n for n, line in enumerate(lines) if "distribution(" in line)
    lines[at:at] = [f"    claim({claims})"] if claims else []
    made = "\n".join(lines) + "\n"
    for old, new in pairs:
        assert old in made
        made = made.replace(old, new)
    return made


def checked(text: str, against: str | None = None) -> CheckReport:
    return check_schedule(text, quick=True, against=against, use="recheck")


def claims(report: CheckReport) -> list[Obligation]:
    return [o for o in report.obligations if o.family == "claims"]


def verdicts(report: CheckReport) -> dict[str, str]:
    """By the claim's own words."""
    return {o.subject.split(": ")[-1]: o.verdict for o in claims(report)}


def codes(report: CheckReport) -> list[str]:
    return [d.code for d in report.diagnostics]


def refuted(report: CheckReport) -> ScheduleCounterexample:
    assert not report.ok
    (shown,) = report.counterexamples
    assert isinstance(shown, ScheduleCounterexample)
    return shown


# Texts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gemm", "cluster", "softmax"])
def test_claims_print_and_parse_back(name: str) -> None:
    kernel = parse_schedule(claiming(name, ALL))
    assert [c.text for c in kernel.claims] == ALL.split(", ")
    again = parse_schedule(print_schedule(kernel))
    assert without_origins(again) == without_origins(kernel)


def test_labels_and_expectations_print_and_parse_back() -> None:
    kernel = parse_schedule(claiming("gemm", "", *EXPECTED))
    assert verify(kernel) == []
    printed = print_schedule(kernel)
    assert "expect(w_ring[(k // 32) % 3].T, tag(w.T), (k, j))" in printed
    assert "tag(acc, (M, N), (i, j))" in printed
    assert same_schedule(parse_schedule(printed), kernel)


def test_no_code_comes_of_claims() -> None:
    made, plain = (scheduled(t).schedule for t in (claiming("gemm", ALL, *EXPECTED), TEXTS["gemm"]))
    assert without_origins(replace(made, claims=())) == without_origins(plain)
    unmarked = [[x for x in emit(k).splitlines() if not x.startswith("#line")] for k in (made, plain)]
    assert unmarked[0] == unmarked[1]


def test_the_compiler_s_schedule_carries_the_claims_of_its_text() -> None:
    module = parse(LEVEL_ONE.replace("HEADER", "claim(bank_conflicts <= 2, conformity, separation)"))
    for case in cases(module, Choices({"T": "bf16"}, {}, {}, {}), "sm_80"):
        printed = print_schedule(case.kernel)
        assert "claim(bank_conflicts <= 2, conformity, separation)" in printed
        assert same_schedule(parse_schedule(printed), case.kernel)


@pytest.mark.parametrize(
    ("claims", "edit", "code"),
    [
        ("bank_conflicts <= 32", (), "claim-limit"),
        ("registers <= 7", (), "claim"),
        ("", (MMA, "            expect(a_ring[0], (M,), (i,))\n" + MMA), "tag-dims"),
        ("", (MMA, "            expect(a_ring[0], (M, BK), (i, k))\n" + MMA), "unknown-word"),
        ("", (MMA, "            expect(a_ring[0], (M, alpha), (i, k))\n" + MMA), "tag-dims"),
        ("", (MMA, "            expect(a_ring[0], tag(a), (i,))\n" + MMA), "tag-dims"),
        ("", (MMA, "            expect(a, tag(a), (i, k))\n" + MMA), "not-a-fragment"),
        ("", (MMA, "            expect(a_ring[0], tag(a), (i, axis(0)))\n" + MMA), "misplaced-word"),
        ("", (MMA, "            acc = tag(acc)\n" + MMA), "tag-dims"),
        ("", (MMA, "            claim(conformity)\n" + MMA), "misplaced-word"),
        ("", ("divides(K, 8)", "divides(K, 8), range(K, 4)"), "assume-contradiction"),
        ("", ("divides(K, 8)", "range(K, -1)"), "assume-contradiction"),
        ("", ("divides(K, 8)", "divides(K, 0)"), "guard"),
    ],
)
def test_mistakes(claims: str, edit: tuple[str, str], code: str) -> None:
    with pytest.raises(KernelError) as raised:
        parse_schedule(claiming("gemm", claims, *([edit] if edit else [])))
    (found,) = raised.value.diagnostics
    assert (found.code, bool(found.hint), found.span is not None) == (code, True, True)


# What holds --------------------------------------------------------------------------------------------


def test_what_holds_is_proved() -> None:
    report = checked(claiming("gemm", ALL, *EXPECTED))
    assert report.ok
    assert verdicts(report) == dict.fromkeys(
        [*ALL.split(", "), "expect a_ring", "expect w_ring", "expect acc_2"], "PROVED"
    )
    assert codes(report) == []


HOLDS = ("PROVED", "PROVED_BOUNDED")  # quick checks leave trip counts out


def test_expectations_of_roles_and_rows_of_arrays() -> None:
    fence = "                wgmma_fence()"
    hopper = claiming("hopper", "", (fence, f"                expect(a_s[n % 4], tag(a), (i, k))\n{fence}"))
    rows = claiming("attention", "", (Q_K, f"            expect(q_s, tag(q[h]), (i, 0))\n{Q_K}"))
    for report, claim in ((checked(hopper), "expect a_s"), (checked(rows), "expect q_s")):
        assert report.ok
        assert verdicts(report).keys() == {claim}
        assert verdicts(report)[claim] in HOLDS


Q_K = "            s = mma(q_s"


def test_what_stands_under_a_condition_is_shown_for_its_sizes() -> None:
    under = f"            if k == 32:\n                expect(a_ring[(k // 32) % 3], (M, K), (i, k))\n{MMA}"
    assert verdicts(checked(claiming("gemm", "", (MMA, under)))) == {"expect a_ring": "PROVED_BOUNDED"}


# What does not hold ------------------------------------------------------------------------------------


def test_an_expectation_of_a_stage_names_element_and_writer() -> None:
    text = claiming("gemm", "", (MMA, f"            expect(w_ring[(k // 32) % 3], tag(w), (j, k + 32))\n{MMA}"))
    shown = refuted(checked(text))
    lines = text.splitlines()
    assert (shown.family, shown.expected, shown.found) == ("claims", "w[0, 32]", "w[0, 0]")
    assert (shown.element, shown.stage, shown.block, shown.iteration) == ((0, 0), 0, 0, 0)
    assert "expect(" in lines[(shown.line or 0) - 1]
    assert "copy_async(w_ring[0]" in lines[(shown.other_line or 0) - 1]
    assert "warp 0, lane 0" in shown.other


def test_an_expectation_of_a_fragment_names_who_holds_the_element() -> None:
    text = claiming("gemm", "", (STORE, f"        expect(acc, (M, N), (i, j + 1))\n{STORE}"))
    shown = refuted(checked(text))
    assert (shown.expected, shown.found) == ("M=0, N=1", "M=0, N=0")
    assert (shown.element, shown.warp, shown.lane) == ((0, 0), 0, 0)


def test_a_fix_leaves_the_claims_alone() -> None:
    """Whatever is claimed holds of some claim: only edits of the schedule are fixes."""
    wrong = claiming("gemm", "", (STORE, f"        expect(acc, (M, N), (i, j + 1))\n{STORE}"))
    assert refuted(check_schedule(wrong, quick=False, use="recheck")).fixes == ()


def test_another_array_of_the_same_dims() -> None:
    """Both operands have K: only the array tells them apart."""
    square = claiming(
        "gemm", "",
        ("w: In[bf16, N, K]", "w: In[bf16, M, K]"),
        ("divides(N, 2)", "divides(M, 2)"), ("(M, N), (128, 64), raster", "(M, M), (128, 64), raster"),
        ("y: Out[bf16, M, N]", "y: Out[bf16, M, M]"),
        (MMA, f"            expect(w_ring[(k // 32) % 3], tag(a), (j, k))\n{MMA}"),
    )  # fmt: skip
    shown = refuted(checked(square))
    assert (shown.expected, shown.found) == ("a[0, 0]", "w[0, 0]")


def test_limits() -> None:
    plain = claiming("gemm", "bank_conflicts <= 1", ("stages=3, swizzle=(2, 3, 3), offset", "stages=3, offset"))
    report = checked(plain)
    assert {c.family for c in report.counterexamples} == {"banks"}
    far = claiming("gemm", "sectors <= 1")
    assert {c.family for c in checked(far).counterexamples} == {"coalescing"}


def test_conformity_beside_a_kernel_of_tiles() -> None:
    """With `--against` values are compared; what meets is compared where it is claimed."""
    oracle = LEVEL_ONE.replace("HEADER", "on(sm_80, BM=128)")
    report = checked(claiming("gemm", "conformity"), oracle)
    assert report.ok
    assert verdicts(report)["conformity"] in HOLDS
    shifted = oracle.replace("load(w, (j, k)", "load(w, (j, k + BK)")
    late = re.sub(r"w, \(j, (.*?)\), w_copy", r"w, (j, \1 + 32), w_copy", claiming("gemm", "conformity"))
    shown = refuted(checked(late, shifted))
    assert (shown.family, shown.expected, shown.found) == ("claims", "K=0", "K=32")


# What says nothing -------------------------------------------------------------------------------------


NEVER = "            if k < 0:\n                expect(a_ring[0], (M, K), (i, k))\n"


@pytest.mark.parametrize(
    ("name", "claims", "edit", "code"),
    [
        ("softmax", "conformity", None, "claim-unreached"),
        ("ragged", "bank_conflicts <= 1", None, "claim-unreached"),
        ("gemm", "bank_conflicts <= 8", None, "claim-vacuous"),
        ("gemm", "sectors <= 8", None, "claim-vacuous"),
        ("gemm", "", (MMA, f"{NEVER}{MMA}"), "claim-unreached"),
        ("gemm", "", (MMA, f"            expect(full(tile, 0.0, f32), (M, N), (i, j))\n{MMA}"), "claim-vacuous"),
        ("gemm", "", (STORE, f"        expect(acc, (K, alpha_), (i, j))\n{STORE}"), "unknown-word"),
    ],
)  # fmt: skip
def test_claims_that_say_nothing(name: str, claims: str, edit: tuple[str, str] | None, code: str) -> None:
    report = checked(claiming(name, claims, *([edit] if edit else [])))
    assert codes(report) == [code]
    assert report.diagnostics[0].hint
    assert not report.counterexamples


def test_conformity_of_operands_without_a_common_dim() -> None:
    other = ("w: In[bf16, N, K]", "w: In[bf16, N, L]"), ("divides(K, 8)", "divides(K, 8), divides(L, 8)")
    text = claiming("gemm", "conformity", *other)
    report = checked(text)
    assert "claim-vacuous" in codes(report)
    assert verdicts(report) == {"conformity": "UNKNOWN"}


# Elements that data places -----------------------------------------------------------------------------

PICK = """
edition(1)
level(2)

@kernel
def pick(table: In[bf16, V, D], labels: In[i32, M], y: Out[bf16, M, D]):
    schedule(sm_80, threads=128)
    shape_class("general")
    d16 = distribution((16,), lanes=((16, -1, 0), (8, 0, 1)), values=((2, 0, 8),))
    d16x128 = distribution((16, 128), lanes=((16, 1, 8), (8, 0, 1)), values=((8, 1, 1), (2, 0, 8)))

    for i, d in tiles((M, D), (16, 128)):
        idx = load(labels, (i,), d16, fill=0)
        t = gather(table, (idx, d), d16x128, fill=0)
        CLAIM
        store(y, (i, d), t)
"""
PICK_TILES = """
edition(1)

@kernel
def pick(table: In[bf16, V, D], labels: In[i32, M], y: Out[bf16, M, D], BM=16, BD=128):
    assume(0 <= labels < V)
    for i, d in tiles((M, D), (BM, BD)):
        store(y, (i, d), gather(table, (load(labels, (i,), (BM,)), d), (BM, BD)))
"""


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ("expect(t, (M, D), (i, d))", "UNKNOWN"),
        ("expect(t, (V, D), (i, d))", "REFUTED"),
        ("expect(t, tag(table), (i, d))", "REFUTED"),
        ("expect(t, (M, D), (i, d + 1))", "REFUTED"),
        ("t = tag(t, (M, D), (i, d)); expect(t, (M, D), (i, d))", "HELD"),
    ],
)
def test_gathered_rows_are_those_that_data_says(claim: str, verdict: str) -> None:
    report = checked(PICK.replace("CLAIM", claim.replace("; ", "\n        ")), PICK_TILES)
    (said,) = claims(report)
    assert said.verdict == verdict or (verdict == "HELD" and said.verdict in HOLDS)
    assert codes(report) == (["claim-vacuous"] if verdict == "UNKNOWN" else [])
