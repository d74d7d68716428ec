"""The search on landscapes whose best is known."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernelagent.dsl.moves import applicable, apply
from kernelagent.harness.records import Timing
from kernelagent.knowledge_base import KnowledgeBase
from support.runs import means, plan
from support.synthetic_lab import SEED, SyntheticLab, small_problem, tunables, valley

from kernelagent.agent.events import read_events
from kernelagent.agent.run import Interrupted, complete, resume, start
from kernelagent.agent.state import RunState, replay_state
from kernelagent.proposers.actions import applied, set_size, sizes, steps
from kernelagent.proposers.search import SearchProposer
from kernelagent.proposers.surrogate import Point, Surrogate, expected_improvement


def search(
    folder: Path, lab: Any = None, trials: int = 30, seed: int = 0, base: Any = None, **options: Any
) -> RunState:
    with start(plan(trials=trials, seed=seed), means(SearchProposer(**options), lab, base), folder) as run:
        complete(run)
        return run.state


def best(state: RunState) -> float:
    assert state.best is not None
    assert state.best.time_ms is not None
    return state.best.time_ms


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_valley(tmp_path: Path, seed: int) -> None:
    assert best(search(tmp_path, seed=seed)) == pytest.approx(0.8)


def test_it_is_an_anytime_search(tmp_path: Path) -> None:
    """Half of the logarithmic way to the best within ten trials."""
    state = search(tmp_path, trials=10)
    assert best(state) <= math.sqrt(valley(SEED) * 0.8)


def test_it_beats_a_random_walk(tmp_path: Path) -> None:
    """Mean of the best after twelve trials, against picking moves at random."""
    found = [best(search(tmp_path / str(seed), trials=12, seed=seed)) for seed in range(4)]
    rivals = [random_walk(seed, 12) for seed in range(4)]
    assert sum(map(math.log, found)) < sum(map(math.log, rivals)) - 0.4


def random_walk(seed: int, trials: int) -> float:
    dice, text = random.Random(seed), SEED
    lowest = valley(text)
    for _ in range(trials):
        move, arguments = dice.choice(applicable(text))
        new = apply(move, text, **arguments)
        if valley(new) < lowest:
            text, lowest = new, valley(new)
    return lowest


def test_no_text_is_proposed_twice(tmp_path: Path) -> None:
    state = search(tmp_path)
    assert len({t.text_sha for t in state.trials}) == len(state.trials)


def test_the_same_seed_gives_the_same_run(tmp_path: Path) -> None:
    first, second = (search(tmp_path / name, trials=12, seed=5) for name in "ab")
    assert [t.text for t in first.trials] == [t.text for t in second.trials]


def test_a_resumed_search_goes_the_same_way(tmp_path: Path) -> None:
    whole = search(tmp_path / "whole", trials=8)

    class Stopping(SyntheticLab):
        def evaluate(self, text: str) -> Any:
            if len(self.evaluated) == 5:
                raise KeyboardInterrupt
            return super().evaluate(text)

    tools = means(SearchProposer(), Stopping())
    with start(plan(trials=8), tools, tmp_path / "parts") as run, pytest.raises(Interrupted):
        complete(run)
    with resume(run.folder, plan(trials=8), means(SearchProposer())) as again:
        complete(again)
    parts = replay_state(read_events(run.folder))
    assert [t.text for t in parts.trials] == [t.text for t in whole.trials]


def test_failures_are_stepped_around(tmp_path: Path) -> None:
    def fragile(text: str) -> float:
        if tunables(text)["BC"] > 256 or '"stream"' in text:
            raise ValueError("y[0, 0]: expected 1, found 2")
        return valley(text)

    state = search(tmp_path, SyntheticLab(fragile))
    assert best(state) == pytest.approx(1.0)
    assert {t.status for t in state.trials} == {"PASSED", "INCORRECT_NUMERICAL"}
    assert sum(t.status != "PASSED" for t in state.trials) <= 12


def test_the_winner_is_never_slower_than_the_seed(tmp_path: Path) -> None:
    """Trials that look faster than they are do not survive the comparison at the end."""

    class Flattering(SyntheticLab):
        def duel(self, text: str, other: str) -> Any:
            own, rival = super().duel(text, other)
            return type(own)("0", 0.9, (0.9, 0.9), tuple(0.9 * t for t in rival.samples_ms)), rival

    def flat(text: str) -> float:
        return 4.0 if text == SEED else 5.0

    with start(plan(trials=6), means(SearchProposer(), Flattering(flat)), tmp_path) as run:
        record = complete(run)
        assert run.state.best is not run.state.trials[0], "the trials did look faster"
    assert record["best"]["trial"] == 0
    assert record["best"]["speedup"]["seed"] == 1.0
    assert (run.folder / "best.tile").read_text() == SEED


def test_the_fastest_finalist_is_timed_again(tmp_path: Path) -> None:
    """Chosen for being low among several, it has to be faster than the seed a second time."""

    class LuckyOnce(SyntheticLab):
        def compare(self, texts: Sequence[str], rivals: Sequence[str]) -> tuple[Timing, ...]:
            found = super().compare(texts, rivals)
            return (found[0], *(replace(t, time_ms=9.0) for t in found[1:])) if len(texts) == 2 else found

    with start(plan(trials=6), means(SearchProposer(), LuckyOnce()), tmp_path) as run:
        record = complete(run)
    kinds = [e["kind"] for e in read_events(run.folder)]
    assert kinds.count("selection") == kinds.count("comparison") == 1
    assert record["best"]["trial"] == 0


def test_screened_texts_cost_no_trial(tmp_path: Path) -> None:
    state = search(tmp_path, trials=12, screen=lambda text: sizes(text)["double.BC"] <= 128)
    assert all(tunables(t.text)["BC"] <= 128 for t in state.trials)


def test_a_static_cost_keeps_hopeless_sizes_for_later(tmp_path: Path) -> None:
    """Rows are 512 wide: a tile of 2048 columns does four times the work."""

    def cost(text: str) -> float:
        return float(max(512, tunables(text)["BC"]))

    state = search(tmp_path, trials=10, cost=cost)
    assert all(tunables(t.text)["BC"] <= 512 for t in state.trials)


def test_it_says_when_nothing_is_left(tmp_path: Path) -> None:
    state = search(tmp_path, SyntheticLab(lambda text: 2.0), trials=200)
    assert state.stop is not None
    assert state.stop["reason"] == "proposer-exhausted"
    assert len(state.trials) < 100


def test_what_the_base_knows_comes_first(tmp_path: Path) -> None:
    """A base learned in one run gives the next one its best text at once."""
    base = KnowledgeBase(tmp_path / "kb.db")
    learned = search(tmp_path / "first", base=base)
    informed = search(tmp_path / "second", base=base, trials=3)
    assert best(informed) == pytest.approx(best(learned))
    assert valley(informed.trials[1].text) == pytest.approx(best(learned))


# Parts -----------------------------------------------------------------------------------------------


def test_steps_cover_moves_sizes_and_pairs() -> None:
    found = list(steps(SEED, ()))
    moves = {s.actions[0].move for s in found}
    assert {"set_tunable", "stream_stores", "unroll"} <= moves
    assert {len(s.actions) for s in found} == {1, 2}
    assert all(s.text != SEED for s in found)


def test_an_action_that_does_not_apply_gives_nothing() -> None:
    assert applied(SEED, (set_size("double.NONE", 4),)) is None


def test_the_surrogate_learns_what_a_move_does() -> None:
    points = [Point({}, {"B": 3.0}), Point({"m{}": 0.0}, {"B": 3.0})]
    model = Surrogate(points, [0.0, -0.5])
    means_, _ = model.predict([Point({"m{}": 0.0}, {"B": 4.0}), Point({}, {"B": 4.0})])
    assert means_[0] < means_[1] - 0.2


def test_the_surrogate_knows_what_it_has_seen_best() -> None:
    points = [Point({}, {"B": float(b)}) for b in (2, 4, 6)]
    model = Surrogate(points, [0.3, 0.0, 0.4])
    values, spread = model.predict([*points, Point({}, {"B": 12.0})])
    assert values[:3] == pytest.approx([0.3, 0.0, 0.4], abs=0.05)
    assert spread[3] > 3 * spread[1]


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 0.1), (-1.0, 0.5), (2.0, 0.3)])
def test_expected_improvement_is_its_integral(mean: float, deviation: float) -> None:
    steps_ = [-6 + 12 * (i + 0.5) / 4000 for i in range(4000)]
    density = [math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) for z in steps_]
    whole = sum(max(0.0, -(mean + deviation * z)) * d for z, d in zip(steps_, density, strict=True)) * 12 / 4000
    assert expected_improvement(mean, deviation, 0.0) == pytest.approx(whole, abs=1e-4)


def test_the_problem_of_these_tests_is_sound() -> None:
    assert small_problem().seed_kernel == SEED
    assert valley(SEED) == pytest.approx(4.2)
