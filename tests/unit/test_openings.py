"""What a search tries first on a workload where the base knows others of the same problem."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from kernelagent.dsl import moves
from kernelagent.knowledge_base import Lead, Trial, identified
from kernelagent.knowledge_base.records import Step
from kernelagent.problems import load

from kernelagent.agent.features import features
from kernelagent.proposers.actions import sizes
from kernelagent.proposers.base import Context
from kernelagent.proposers.emitted import emitted_code
from kernelagent.proposers.openings import compose, openings
from kernelagent.proposers.search import OPENINGS, SearchProposer

PROBLEM = load("softmax")
KNOWN, HERE = PROBLEM.workload("1024x1024"), PROBLEM.headline
SEED = PROBLEM.seed_kernel
WHOLE_ROW = Step("whole-row-in-a-tile", "whole_row", {"size": 1024}, math.log(1.6))
NO_GAIN = Step("prefetch-distance", "prefetch", {"stages": 8}, 0.0)
BOTH_SIZES = Step(None, None, {"sizes": {"softmax.BR": 8, "BC": 2048}}, math.log(1.1))
FREELY = Step(None, None, {}, math.log(1.3))


def lead(*steps: Step, text: str | None = None, name: str = "old", log_gain: float = 0.5) -> Lead:
    written = text or compose(SEED, steps)
    assert written is not None
    return Lead(written, f"sha of {name}", log_gain, 0.9, (KNOWN.name,), name, steps, features(PROBLEM, KNOWN, {}))


def trial(text: str, time_ms: float | None, number: int = 0, **changes: Any) -> Trial:
    record = Trial(
        id="", run="now", number=number, problem="softmax", workload=HERE.name, chip="formula", target="cpu",
        parent=None, text=text, text_sha=f"sha {text}", status="PASSED" if time_ms else "RUNTIME_ERROR",
        time_ms=time_ms, parent_time_ms=None, reward=None, technique=None, move=None, move_arguments={},
        bottleneck="memory", features=features(PROBLEM, HERE, {}), proposer="search",
    )  # fmt: skip
    return identified(replace(record, **changes))


def context(*leads: Lead, history: tuple[Trial, ...] = ()) -> Context:
    trials = history or (trial(SEED, 8.0),)
    return Context(
        problem=PROBLEM, workload=HERE, target="cpu", chip="formula", seed=0, number=len(trials), history=trials,
        facts={}, bound={}, ceiling={}, bottleneck="memory", regime="between", leads=leads,
    )  # fmt: skip


def test_what_paid_comes_first_in_one_text_fitted_to_the_sizes() -> None:
    first, same, second = openings(context(lead(WHOLE_ROW, NO_GAIN, BOTH_SIZES)))
    assert same.text == first.text
    assert "stages" not in first.text
    assert "stages=8" in second.text
    for opening in (first, second):
        assert "if C <= BC" in opening.text
        assert sizes(opening.text) == {"softmax.BC": 4096, "softmax.BR": 2}  # as wide as the row, a quarter as high


def test_a_size_that_gained_little_waits_behind_what_holds_anywhere() -> None:
    narrow = Step(None, "set_tunable", {"name": "BC", "value": 64}, math.log(1.03))
    first, second, _ = openings(context(lead(WHOLE_ROW, narrow)))
    assert sizes(first.text)["softmax.BC"] == 4096, "the row is one tile again"
    assert sizes(second.text)["softmax.BC"] == 64


def test_the_steps_of_an_opening_give_its_text() -> None:
    """So that it can lead in its turn, fitting included; the lists of choices may differ."""
    code = emitted_code(PROBLEM, HERE)
    for opening in openings(context(lead(WHOLE_ROW, NO_GAIN, BOTH_SIZES))):
        again = compose(SEED, opening.steps)
        assert again is not None
        assert (sizes(again), code(again)) == (sizes(opening.text), code(opening.text))


def test_a_lead_that_was_written_freely_is_taken_as_it_is() -> None:
    text = moves.apply("whole_row", SEED, size=1024)
    (only,) = openings(context(lead(FREELY, NO_GAIN, text=text)))
    assert "if C <= BC" in only.text
    assert sizes(only.text) == {"softmax.BC": 4096, "softmax.BR": 8}


def test_steps_of_unknown_gain_are_kept() -> None:
    first, *_ = openings(context(lead(replace(WHOLE_ROW, log_gain=None), BOTH_SIZES)))
    assert "if C <= BC" in first.text


@pytest.mark.parametrize("step", [FREELY, replace(WHOLE_ROW, move="no_such_move"), replace(BOTH_SIZES, arguments={})])
def test_a_step_that_cannot_be_repeated_composes_nothing(step: Step) -> None:
    assert compose(SEED, (BOTH_SIZES, step)) is None
    assert compose(SEED, ()) is None


def test_texts_of_this_run_and_slower_ones_open_nothing() -> None:
    own = trial(SEED, 8.0)
    found = openings(context(lead(WHOLE_ROW, name=own.id), lead(BOTH_SIZES, log_gain=-0.1), history=(own,)))
    assert list(found) == []


def searched(count: int, times: list[float | None], *leads: Lead) -> list[Trial]:
    """The first trials of a search whose trials take these times, the seed first."""
    history = [trial(SEED, times[0])]
    for number in range(1, count):
        proposal = SearchProposer().propose(context(*leads, history=tuple(history)))
        assert proposal.text is not None
        more = {"move_arguments": dict(proposal.arguments), "parent": proposal.parent, "move": proposal.move}
        history.append(trial(proposal.text, times[number], number, **more))
    return history


MANY = [lead(replace(BOTH_SIZES, arguments={"sizes": {"BR": 2**n}}), name=f"lead {n}") for n in range(1, 8)]


def test_a_few_openings_come_before_anything_else() -> None:
    found = searched(OPENINGS + 3, [8.0, 4.0, 3.9, None, 5.0, 5.0], *MANY)
    assert ["lead" in t.move_arguments for t in found] == [False, *[True] * OPENINGS, False, False]
