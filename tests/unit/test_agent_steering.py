"""When a run stops, and which problem gets the next trial."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelagent.agent.budget import Budget, Spent
from kernelagent.agent.steering import Candidate, Policy, Progress, choose, decide, headroom_per_cost

FREE = Budget(trials=None)
NEVER = Policy(within=0.05, patience=None)


def test_near_the_bound() -> None:
    decision = decide(Progress((5.0, 1.04), 1.0), Spent(trials=1), FREE, NEVER)
    assert decision.stop
    assert decision.reason == "near-bound"
    assert "1.04 times the bound" in decision.detail


def test_not_near_enough() -> None:
    assert not decide(Progress((5.0, 1.06), 1.0), Spent(trials=1), FREE, NEVER).stop


@pytest.mark.parametrize(
    ("budget", "spent", "reason"),
    [
        (Budget(trials=3), Spent(trials=3), "budget-trials"),
        (Budget(None, minutes=1), Spent(seconds=52.0), "budget-minutes"),
        (Budget(None, tokens=100), Spent(tokens=150), "budget-tokens"),
        (Budget(None, max_cost_usd=0.5), Spent(cost_usd=0.5), "budget-cost"),
        (Budget(trials=0), Spent(), "budget-trials"),
    ],
)
def test_budgets(budget: Budget, spent: Spent, reason: str) -> None:
    assert decide(Progress((5.0,), 1.0), spent, budget, NEVER).reason == reason


def test_unknown_cost_is_no_cost() -> None:
    assert Budget(None, max_cost_usd=0.1).exhausted(Spent(cost_usd=None)) is None


def test_no_progress_counts_trials_since_the_last_gain_of_a_percent() -> None:
    times = (10.0, 5.0, 4.99, None, 6.0)
    assert Progress(times, 1.0).since_progress == 3
    assert decide(Progress(times, 1.0), Spent(), FREE, Policy(patience=3)).reason == "no-progress"
    assert not decide(Progress(times, 1.0), Spent(), FREE, Policy(patience=4)).stop


def test_without_a_bound_only_the_other_reasons_remain() -> None:
    assert not decide(Progress((5.0,), None), Spent(), FREE, NEVER).stop


def test_negative_budgets_are_refused() -> None:
    with pytest.raises(ValueError, match="trials"):
        Budget(trials=-1)
    with pytest.raises(ValueError, match="minutes"):
        Budget(minutes=float("nan"))


def candidate(gap: float, since: int = 0, cost: float = 1.0, is_open: bool = True) -> Candidate:
    return Candidate(Progress((gap, *[gap] * since), 1.0), cost, is_open)


def test_the_larger_gap_is_worth_more() -> None:
    assert choose([candidate(1.2), candidate(4.0)]) == 1


def test_the_cheaper_trial_is_worth_more() -> None:
    assert choose([candidate(4.0, cost=10.0), candidate(4.0, cost=1.0)]) == 1


def test_fruitless_trials_lower_the_worth() -> None:
    assert choose([candidate(4.0, since=12), candidate(2.5)]) == 1


def test_what_was_never_measured_comes_first() -> None:
    assert choose([candidate(50.0), Candidate(Progress((), 1.0), 0.0, True)]) == 1


def test_closed_ones_get_nothing() -> None:
    assert choose([candidate(4.0, is_open=False), candidate(1.1)]) == 1
    assert choose([candidate(4.0, is_open=False)]) is None
    assert choose([]) is None


@given(gap=st.floats(1.01, 100), more=st.floats(1.01, 10), cost=st.floats(0.01, 100))
def test_headroom_grows_with_the_gap(gap: float, more: float, cost: float) -> None:
    assert headroom_per_cost(candidate(gap * more, cost=cost)) > headroom_per_cost(candidate(gap, cost=cost))


def test_minutes_leave_time_for_the_final_comparison() -> None:
    budget = Budget(None, minutes=1)
    assert budget.exhausted(Spent(seconds=50.0)) is None
    assert budget.exhausted(Spent(seconds=51.5)) == "budget-minutes"
