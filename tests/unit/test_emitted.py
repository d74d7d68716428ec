"""Which texts are the same work: those that become the same code on a workload."""

from __future__ import annotations

from pathlib import Path

import pytest
from kernelagent.dsl import moves
from kernelagent.problems import load
from support.runs import means, plan
from support.synthetic_lab import SEED, small_problem

from kernelagent.agent.run import complete, start
from kernelagent.proposers.emitted import emitted_code
from kernelagent.proposers.search import SearchProposer

TRANSPOSE, SOFTMAX = load("transpose"), load("softmax")


def test_a_policy_that_means_nothing_here_changes_no_code() -> None:
    """A kernel without a loop inside its tile has nothing to unroll."""
    code, seed = emitted_code(TRANSPOSE, TRANSPOSE.headline), TRANSPOSE.seed_kernel
    assert code(moves.apply("unroll", seed, factor=4)) == code(seed)
    assert code(seed + "\n# a remark\n") == code(seed)
    assert code(moves.apply("add_choices", seed, name="BR", values=[128])) == code(seed)


def test_another_tile_or_another_policy_is_other_code() -> None:
    code, seed = emitted_code(SOFTMAX, SOFTMAX.headline), SOFTMAX.seed_kernel
    others = [
        moves.apply("set_tunable", seed, name="BR", value=8),
        moves.apply("cached_stores", seed),
        moves.apply("whole_row", seed, size=4096),
    ]
    codes = {code(text) for text in (seed, *others)}
    assert len(codes) == 4
    assert None not in codes


def test_an_arm_that_the_sizes_never_enter_does_not_count() -> None:
    whole = moves.apply("whole_row", SOFTMAX.seed_kernel, size=4096)
    kept, loop = whole.split("else:")
    assert "exp(" in loop
    other = f"{kept}else:{loop.replace('exp(', 'exp2(')}"
    assert _code("4096x4096", other) == _code("4096x4096", whole)
    assert _code("wide", other) != _code("wide", whole)  # its rows are longer than the tile


def _code(workload: str, text: str) -> str | None:
    return emitted_code(SOFTMAX, SOFTMAX.workload(workload))(text)


def test_a_tile_wider_than_its_row_does_not_count() -> None:
    tight, loose = (moves.apply("whole_row", SOFTMAX.seed_kernel, size=size) for size in (4096, 16384))
    assert _code("4096x4096", tight) == _code("4096x4096", loose)
    assert _code("wide", tight) != _code("wide", loose)


@pytest.mark.parametrize("text", ["def (", "edition(1)\n", load("rmsnorm").seed_kernel])
def test_a_text_that_does_not_fit_has_no_code(text: str) -> None:
    assert emitted_code(SOFTMAX, SOFTMAX.headline)(text) is None


def test_the_search_pays_for_no_code_twice(tmp_path: Path) -> None:
    problem = small_problem(SEED)
    code = emitted_code(problem, problem.headline)
    proposers = {"by text": SearchProposer(), "by code": SearchProposer(code=code)}
    different = {}
    for name, proposer in proposers.items():
        with start(plan(problem, trials=25), means(proposer), tmp_path / name.replace(" ", "")) as run:
            complete(run)
            different[name] = [code(t.text) for t in run.state.trials]
    assert len(set(different["by code"])) == len(different["by code"])
    assert len(set(different["by text"])) < len(different["by text"]), "else this test shows nothing"
