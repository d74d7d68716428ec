"""One rule sums up obligations: safety and flow make the verdict, the rest is told beside it."""

from __future__ import annotations

from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.verify.records import (
    BESIDE,
    Family,
    Findings,
    Obligation,
    Verdict,
    findings_from,
    level_of,
    lowers,
    verdict_of,
    worst,
)

import kernelagent
from kernelagent import problems

FAMILIES: tuple[Family, ...] = get_args(Family)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
OBLIGATIONS = st.builds(
    Obligation, st.sampled_from(FAMILIES), st.sampled_from(VERDICTS), st.none(), st.just(""), claimed=st.booleans()
)


@given(st.lists(OBLIGATIONS, max_size=8))
def test_the_verdict_is_that_of_the_worst_of_safety_and_flow(found: list[Obligation]) -> None:
    held = [o for o in found if o.family == "claims" and o.verdict in ("PROVED_BOUNDED", "TESTED")]
    expected = worst(o.verdict for o in found if (o.family not in BESIDE or o.claimed) and o not in held)
    if "REFUTED" in {o.verdict for o in found}:
        expected = "REFUTED"
    assert verdict_of(found) == verdict_of(found[::-1]) == expected


@given(st.lists(OBLIGATIONS, max_size=8), OBLIGATIONS)
def test_an_obligation_more_never_makes_it_better(found: list[Obligation], one: Obligation) -> None:
    if any(lowers(o) for o in found):
        assert worst((verdict_of(found), verdict_of([*found, one]))) == verdict_of([*found, one])


def proved(family: Family = "bounds") -> Obligation:
    return Obligation(family, "PROVED", 3, "")


@pytest.mark.parametrize("family", sorted(BESIDE))
def test_what_stands_beside_lowers_nothing_unless_it_refutes(family: Family) -> None:
    for verdict in ("PROVED_BOUNDED", "TESTED", "UNKNOWN"):
        assert verdict_of([proved(), Obligation(family, verdict, 3, "")]) == "PROVED"
    assert verdict_of([proved(), Obligation(family, "REFUTED", 3, "")]) == "REFUTED"


def test_a_claimed_limit_counts() -> None:
    open_ = Obligation("banks", "UNKNOWN", 3, "", claimed=True)
    assert verdict_of([proved(), open_]) == "UNKNOWN"


def test_nothing_shown_of_safety_is_unknown() -> None:
    assert verdict_of([]) == "UNKNOWN"
    assert verdict_of([Obligation("semantics", "PROVED", 3, "", "y", "EQUAL_OVER_REALS")]) == "UNKNOWN"


LEVELS = ("EQUAL_OVER_REALS", "FIELD_TESTED(12)", "FIELD_TESTED(6)", "NUMERICALLY_TESTED(11)", "NUMERICALLY_TESTED(9)")


def outputs(*levels: str) -> list[Obligation]:
    return [Obligation("semantics", "TESTED" if level else "UNKNOWN", 3, "", "y", level) for level in levels]


def test_the_level_is_that_of_the_weakest_output() -> None:
    for strong, weak in ((a, b) for n, a in enumerate(LEVELS) for b in LEVELS[n:]):
        for pair in permutations((strong, weak)):
            assert level_of(outputs(*pair)) == weak
    assert level_of([]) == level_of([proved()]) == ""


def test_an_open_output_was_still_compared_in_numbers() -> None:
    numeric = Obligation("numeric", "TESTED", None, "", level="NUMERICALLY_TESTED(3)")
    assert level_of([numeric]) == "NUMERICALLY_TESTED(3)"
    assert level_of([numeric, *outputs("EQUAL_OVER_REALS")]) == "EQUAL_OVER_REALS"
    assert level_of([numeric, *outputs("EQUAL_OVER_REALS", "")]) == "NUMERICALLY_TESTED(3)"
    assert level_of(outputs("EQUAL_OVER_REALS", "")) == ""


def test_a_refuted_kernel_reaches_no_level() -> None:
    assert level_of([*outputs("EQUAL_OVER_REALS"), Obligation("bounds", "REFUTED", 3, "")]) == ""


@given(st.lists(OBLIGATIONS, max_size=4))
def test_kept_findings_come_back(found: list[Obligation]) -> None:
    assert findings_from(Findings(tuple(found)).to_dict()) == Findings(tuple(found))


def test_a_softmax_is_proved_whatever_its_numbers_say() -> None:
    """Numbers are tested and the reals settle nothing more of safety."""
    seed = problems.load("softmax").seed_kernel
    report = kernelagent.check(seed, "softmax")
    assert (report.ok, report.verdict) == (True, "PROVED")
    assert report.semantics
    assert {o.verdict for o in report.obligations if o.family in BESIDE} & {"TESTED", "PROVED"}


def test_a_claim_that_held_where_it_was_looked_at_lowers_nothing() -> None:
    proved = Obligation("races", "PROVED", None, "")
    for verdict, whole in (("PROVED_BOUNDED", "PROVED"), ("UNKNOWN", "UNKNOWN"), ("REFUTED", "REFUTED")):
        assert verdict_of([proved, Obligation("claims", verdict, 3, "")]) == whole
