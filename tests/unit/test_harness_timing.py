"""Who is timed when: rounds, budgets, warm-ups, audits and the lock, with subjects whose times are scripted."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from kernelagent.harness.inputs import InputKey, InputSet
from kernelagent.harness.process import WorkerFailure
from kernelagent.harness.timing import FEWEST_SAMPLES, ROUNDS_IN_BLOCK, Samples, TimingPlan, decided, interleave

from kernelagent import problems


class Scripted:
    """A subject without a process: every sample takes `ms` on paper."""

    def __init__(self, name: str, log: list[tuple[str, str, int]], ms: float = 1.0, wrong: str = "") -> None:
        self.name, self.log, self.ms, self.wrong = name, log, ms, wrong
        self.lock_was_held: list[bool] = []

    def run(self, inputs: InputSet) -> None:
        self.log.append(("run", self.name, inputs.key.seed))

    def sample(self, inputs: InputSet, cpus: Sequence[int]) -> float:
        self.log.append(("sample", self.name, inputs.key.seed))
        self.lock_was_held.append(locked())
        return self.ms * (1 + 0.5 * (len(self.log) % 2))

    def audit(self, inputs: InputSet) -> str:
        self.log.append(("audit", self.name, inputs.key.seed))
        return self.wrong


def locked() -> bool:
    """Whether somebody holds the timing lock."""
    descriptor = os.open(Path(os.environ["KERNELAGENT_LOCKS"]) / "timing-cpu.lock", os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELAGENT_LOCKS", str(tmp_path))


@pytest.fixture(scope="module")
def sets() -> Iterator[list[InputSet]]:
    made = [InputSet(problems.load("row_sum"), InputKey("small", seed)) for seed in (1, 2)]
    yield made
    for inputs in made:
        inputs.close()


PLAN = TimingPlan(budget_ms=1e9, relative_width=0.0, rounds=40)


def test_every_round_has_every_subject_once_in_changing_order(sets: list[InputSet]) -> None:
    log: list[tuple[str, str, int]] = []
    found = interleave([Scripted(n, log) for n in "abc"], sets, PLAN, seed=1)
    order = [name for kind, name, _ in log if kind == "sample"]
    rounds = ["".join(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert all(sorted(r) == list("abc") for r in rounds)
    assert len(set(rounds)) > 3
    assert all(s.rounds == list(range(40)) for s in found.values())


def test_values_change_between_blocks_and_each_is_warmed_up_and_audited(sets: list[InputSet]) -> None:
    log: list[tuple[str, str, int]] = []
    interleave([Scripted("a", log)], sets, PLAN, seed=2)
    blocks: list[list[tuple[str, str, int]]] = []
    for entry in log:
        if entry[0] == "run" and (not blocks or blocks[-1][-1][0] != "run"):
            blocks.append([])
        blocks[-1].append(entry)
    assert len(blocks) == 40 // ROUNDS_IN_BLOCK
    assert [{seed for *_, seed in b} for b in blocks] == [{1}, {2}] * (len(blocks) // 2)
    assert all([k for k, *_ in b].count("audit") == 1 for b in blocks)
    assert {[k for k, *_ in b].count("run") for b in blocks} == {1, 2}
    assert len({[k for k, *_ in b if k != "run"].index("audit") for b in blocks}) > 1


def test_samples_are_taken_under_the_lock_only(sets: list[InputSet]) -> None:
    subject = Scripted("a", [])
    interleave([subject], sets, PLAN)
    assert subject.lock_was_held
    assert all(subject.lock_was_held)
    assert not locked()


def test_steady_times_end_early(sets: list[InputSet]) -> None:
    class Steady(Scripted):
        def sample(self, inputs: InputSet, cpus: Sequence[int]) -> float:
            return 1.0

    found = interleave([Steady("a", [])], sets, TimingPlan(budget_ms=1e9, relative_width=0.03))
    assert FEWEST_SAMPLES <= len(found["a"].ms) <= 2 * ROUNDS_IN_BLOCK


def test_without_a_budget_there_is_one_block(sets: list[InputSet]) -> None:
    found = interleave([Scripted("a", [])], sets, TimingPlan(budget_ms=0, relative_width=0))
    assert len(found["a"].ms) == ROUNDS_IN_BLOCK


def test_a_slow_subject_does_not_eat_the_time_of_the_others(sets: list[InputSet]) -> None:
    log: list[tuple[str, str, int]] = []
    plan = TimingPlan(budget_ms=20_000, relative_width=0, rounds=60)
    found = interleave([Scripted("slow", log, ms=50_000), Scripted("fast", log, ms=0.01)], sets, plan)
    assert len(found["slow"].ms) == ROUNDS_IN_BLOCK
    assert len(found["fast"].ms) == 60


def test_the_first_wrong_audit_is_kept(sets: list[InputSet]) -> None:
    found = interleave([Scripted("a", [], wrong="y[0] is wrong"), Scripted("b", [])], sets, PLAN)
    assert found["a"].wrong == "y[0] is wrong"
    assert found["b"].wrong == ""


def test_a_failure_releases_the_lock(sets: list[InputSet]) -> None:
    class Dying(Scripted):
        def run(self, inputs: InputSet) -> None:
            raise WorkerFailure("TIMEOUT", "no answer")

    with pytest.raises(WorkerFailure):
        interleave([Dying("a", [])], sets, PLAN)
    assert not locked()


def test_an_early_decision_needs_two_looks_and_a_margin() -> None:
    def after(ratio: float) -> dict[str, Samples]:
        rounds = list(range(2 * FEWEST_SAMPLES))
        return {
            "a": Samples("a", [ratio + 0.001 * i for i in rounds], rounds),
            "b": Samples("b", [1.0] * len(rounds), rounds),
        }

    rule = decided("a", "b")
    assert [rule(after(r)) for r in (1.5, 1.0, 1.5, 0.5, 1.005, 1.5, 1.5)] == [False] * 6 + [True]
    few = {name: Samples(name, s.ms[:6], s.rounds[:6]) for name, s in after(2.0).items()}
    assert not any(decided("a", "b")(few) for _ in range(3))
