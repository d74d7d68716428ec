"""Kernel texts from parse to verdict, through the real compiler and the real worker."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from kernelagent.harness import Bounds, Evaluation, Options, Session, evaluate

from kernelagent import problems

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)

SMALL = Options(workloads=("small",), seed=11, timing=False, threads=2)


def small(name: str) -> problems.Problem:
    """A problem without its large workloads: the same answers, in less time."""
    problem = problems.load(name)
    kept = tuple(w for w in problem.workloads if w.ragged or w is problem.workloads[-1])
    return replace(problem, workloads=kept)


@pytest.mark.parametrize("name", problems.names())
def test_every_seed_is_right_on_all_distributions(name: str) -> None:
    problem = small(name)
    found = evaluate(problem.seed_kernel, problem, replace(SMALL, workloads=(), check="none"))
    assert found.status == "PASSED", [(w.name, w.status, w.detail) for w in found.workloads] + list(found.report)
    assert all(w.max_error_ratio is not None and w.max_error_ratio < 1 for w in found.workloads)


@pytest.fixture(scope="module")
def softmax() -> Iterator[Session]:
    with Session(small("softmax"), replace(SMALL, workloads=("ragged",))) as session:
        yield session


SEED = problems.load("softmax").seed_kernel


def test_a_passed_evaluation_says_how_it_was_made(softmax: Session) -> None:
    found = softmax.evaluate(SEED)
    assert found.status == "PASSED"
    assert found.verdict in ("PROVED", "PROVED_BOUNDED", "TESTED")
    assert sum(found.proofs.values()) > 0
    assert found.sandbox in ("bubblewrap", "userns", "landlock", "rlimits")
    assert found.environment["seed"] == 11
    assert found.environment["numpy"]
    assert found.clocks["policy"] == "observed, not locked"
    assert found.artifact is not None
    assert found.artifact["text"] == SEED
    assert found.report
    assert Evaluation.from_dict(found.to_dict()).to_dict() == found.to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "this is prose",
        "",
        "edition(1)\nimport os\n",
        SEED.replace("store(y, (i, j), cast(p / l[:, None], T))", "pass"),
        SEED.replace("x: In[T, R, C]", "z: In[T, R, C]").replace("load(x,", "load(z,"),
        SEED.replace("max(load", "maximum(load"),
    ],
)
def test_texts_that_are_rejected_have_diagnostics(softmax: Session, text: str) -> None:
    found = softmax.evaluate(text)
    assert found.status in ("REJECTED", "REFUTED"), found.report
    assert found.diagnostics
    assert found.workloads == ()
    assert all(d["code"] and d["message"] for d in found.diagnostics)


def test_a_kernel_of_another_problem_is_rejected(softmax: Session) -> None:
    found = softmax.evaluate(problems.load("row_sum").seed_kernel)
    assert found.status == "REJECTED"
    assert found.diagnostics


def test_an_output_that_is_written_in_part_is_refuted(softmax: Session) -> None:
    text = SEED.replace(
        "        for j in pipeline(0, C, BC):\n            p =",
        "        for j in pipeline(0, C - BC, BC):\n            p =",
    )
    assert text != SEED
    found = softmax.evaluate(text)
    assert found.status == "REFUTED"
    assert found.verdict == "REFUTED"
    assert found.proofs["REFUTED"] >= 1
    assert found.diagnostics[0]["facts"]


def test_a_wrong_formula_names_the_first_wrong_element(softmax: Session) -> None:
    found = softmax.evaluate(SEED.replace("p / l[:, None]", "p / (l[:, None] + 1.0)"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert any("y[0, 0]: expected" in w.detail for w in found.workloads)


def test_an_exponential_without_its_maximum_overflows_on_large_inputs(softmax: Session) -> None:
    found = softmax.evaluate(SEED.replace(" - m[:, None]", ""))
    assert found.status == "INCORRECT_NUMERICAL"
    details = [w.detail for w in found.workloads if w.status != "PASSED"]
    assert any("(large inputs)" in d for d in details), details


def test_times_scores_and_baselines_of_a_seed() -> None:
    problem = problems.load("softmax")
    options = Options(
        workloads=("small",), quick=True, seed=3, time_budget_s=0.1, baselines=("numpy", "nonsense"),
        bounds=lambda workload: Bounds(sol_ms=1e-5, ceiling_ms=2e-5), check="none",
    )  # fmt: skip
    with Session(problem, options) as session:
        found = next(w for w in session.evaluate(SEED).workloads if w.name == "small")
        later = session.evaluate(SEED + "\n")
    assert found.timing is not None
    assert [b.name for b in found.baselines] == ["numpy"]
    assert found.score is not None
    assert 0 < found.score <= 1
    assert (found.sol_ms, found.ceiling_ms, found.suspect) == (1e-5, 2e-5, None)
    assert later.environment["missing_baselines"]["nonsense"].startswith("unknown baseline")


def test_a_time_below_the_bound_is_suspect() -> None:
    options = Options(
        workloads=("small",), quick=True, time_budget_s=0.05, bounds={"small": Bounds(sol_ms=1e6)}, check="none"
    )
    with Session(problems.load("softmax"), options) as session:
        found = next(w for w in session.evaluate(SEED).workloads if w.name == "small")
    assert found.suspect is not None
    assert "below the speed-of-light bound" in found.suspect


def test_an_unknown_workload_or_target_is_the_callers_mistake() -> None:
    with pytest.raises(KeyError, match="nope"):
        Session(problems.load("softmax"), Options(workloads=("nope",)))
    with pytest.raises(ValueError, match="cuda"):
        Session(problems.load("softmax"), Options(target="cuda"))
