"""What is learned is a function of the log, and it ranks as a person would."""

from __future__ import annotations

import importlib.util
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.knowledge_base import (
    KnowledgeBase,
    State,
    Technique,
    Trial,
    best_known,
    gains,
    identified,
    retrieve,
    steps_of,
)
from kernelagent.knowledge_base.learning import FAILURE_LOG_GAIN, PRIOR_TRIALS, Learner, similarity


def _make() -> Any:
    """`make` of the neighbouring test file (tests are no package)."""
    spec = importlib.util.spec_from_file_location("kb_trials", Path(__file__).with_name("test_kb_store.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make


_plain = _make()


def make(**changes: Any) -> Trial:
    return identified(_plain(**changes))


def technique(name: str, **changes: Any) -> Technique:
    plain: dict[str, Any] = {
        "title": name, "what": "w", "when": "w", "bottlenecks": ("memory",), "targets": ("cpu",), "tags": (),
        "evidence": "e", "claim": None,
    }  # fmt: skip
    return Technique(name=name, **{**plain, **changes})


def tried(name: str, reward: float | None, count: int = 1, status: str = "PASSED", **changes: Any) -> list[Trial]:
    return [make(technique=name, reward=reward, status=status, run=f"{name}{n}", **changes) for n in range(count)]


HERE = State({"log2:C": 12.0, "op:row-reduction": "yes"}, "memory", "avx512-2", "cpu")


def names(techniques: list[Technique], log: list[Trial], state: State = HERE, **options: Any) -> list[str]:
    return [s.technique.name for s in retrieve(techniques, log, state, **options)]


outcomes = st.lists(
    st.builds(
        make,
        run=st.sampled_from("abc"),
        number=st.integers(0, 9),
        technique=st.sampled_from([None, "unroll", "cached"]),
        move=st.sampled_from([None, "unroll"]),
        move_arguments=st.sampled_from([{}, {"factor": 2}]),
        reward=st.none() | st.floats(-2, 2),
        status=st.sampled_from(["PASSED", "COMPILE_ERROR", "TIMEOUT", "INCONCLUSIVE"]),
        bottleneck=st.sampled_from(["memory", "compute"]),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(outcomes, st.randoms(use_true_random=False))
def test_gains_are_a_function_of_the_set_of_trials(log: list[Trial], order: random.Random) -> None:
    learner = Learner()
    for trial in log:
        learner.add(trial)
    shuffled = [*log, *log]
    order.shuffle(shuffled)
    assert learner.gains() == gains(log) == gains(shuffled)


def test_gains_shrink_count_failures_and_know_moves() -> None:
    log = [
        *tried("unroll", 0.6, 2, move="unroll", move_arguments={"factor": 4}),
        *tried("unroll", None, 1, status="COMPILE_ERROR", number=5),
        *tried("unroll", 9.0, 1, bottleneck="compute"),
        make(number=9, reward=3.0),  # no action: a seed
    ]
    found = {(g.technique, g.bottleneck): g for g in gains(log)}
    memory = found["unroll", "memory"]
    assert (memory.trials, memory.failures, memory.best_log_gain) == (3, 1, 0.6)
    assert memory.mean_log_gain == pytest.approx((1.2 + FAILURE_LOG_GAIN) / (3 + PRIOR_TRIALS))
    assert found["unroll(factor=4)", "memory"].trials == 2
    assert len(found) == 3


def test_a_reward_that_was_never_measured_says_nothing() -> None:
    assert gains(tried("unroll", None)) == []


def test_similarity_is_symmetric_and_bounded() -> None:
    a, b = {"x": 1.0, "op": "yes"}, {"x": 3.0, "y": 2.0}
    assert similarity(a, a) == similarity({}, {}) == 1.0
    assert similarity(a, b) == similarity(b, a)
    assert similarity({"x": 1.0}, {"x": 2.0}) > similarity({"x": 1.0}, {"x": 4.0}) > 0
    assert similarity({"op": "yes"}, {"z": 1.0}) == 0.0


def test_without_evidence_claims_and_bottlenecks_rank() -> None:
    known = [
        technique("modest", claim=1.1), technique("bold", claim=2.0),
        technique("elsewhere", claim=2.0, bottlenecks=("compute",)),
    ]  # fmt: skip
    assert names(known, []) == ["bold", "elsewhere", "modest"]


def test_measured_gains_beat_claims_and_failures_sink() -> None:
    known = [technique("claimed", claim=2.0), technique("proved"), technique("broken", claim=2.0)]
    log = [*tried("proved", 0.9, 6), *tried("claimed", -0.1, 6), *tried("broken", None, 6, status="COMPILE_ERROR")]
    assert names(known, log) == ["proved", "claimed", "broken"]


def test_an_untried_technique_comes_before_an_equal_that_gained_nothing() -> None:
    assert names([technique("a-tried"), technique("z-new")], tried("a-tried", 0.0, 4)) == ["z-new", "a-tried"]


def test_evidence_counts_by_likeness() -> None:
    known = [technique("near"), technique("far")]
    far = {"log2:C": 3.0, "op:matmul": "yes"}
    log = [*tried("near", 0.4, 3), *tried("far", 0.4, 3, features=far, chip="other", bottleneck="compute")]
    first, second = retrieve(known, log, HERE)
    assert (first.technique.name, second.technique.name) == ("near", "far")
    assert first.expected_log_gain > 2 * second.expected_log_gain


def test_other_targets_and_op_classes_are_left_out() -> None:
    known = [
        technique("gpu", targets=("cuda",)),
        technique("gemm", tags=("matmul",)),
        technique("rows", tags=("row-reduction",)),
    ]
    state = replace(HERE, tags=frozenset({"row-reduction"}))
    assert names(known, [], state) == ["rows"]
    assert names(known, tried("rows", 5.0, 3, target="cuda"), state) == ["rows"]


def test_a_suggestion_gives_its_reasons() -> None:
    (suggestion,) = retrieve([technique("unroll", claim=1.2)], tried("unroll", math.log(1.5), 2), HERE)
    assert "x1.50 over 2 trials" in suggestion.reason
    assert suggestion.evidence is not None
    assert suggestion.evidence.trials == 2
    assert len(suggestion.examples) == 2
    (untried,) = retrieve([technique("unroll", claim=1.2)], [], HERE)
    assert untried.reason.startswith("untried here; claim x1.20")
    assert untried.evidence is None


def test_the_seed_decides_and_only_the_seed() -> None:
    known = [technique(f"t{n}") for n in range(12)]
    assert names(known, [], seed=1, limit=12) == names(known[::-1], [], seed=1, limit=12)
    assert len({tuple(names(known, [], seed=s, limit=12)) for s in range(8)}) == 8
    assert len(names(known, [], limit=5)) == 5


def chain(workload: str, log2c: float, *steps: tuple[str, float | None, str], chip: str = "avx512-2") -> list[Trial]:
    """A seed and its line of descendants: (text, log gain over the parent, status)."""
    features = {"log2:C": log2c, "op:row-reduction": "yes"}
    seed = make(workload=workload, features=features, text="seed", text_sha="seed", run=workload, chip=chip)
    log = [seed]
    for number, (text, reward, status) in enumerate(steps, start=1):
        time = 1.0 if status == "PASSED" else None
        log.append(make(
            workload=workload, features=features, text=text, text_sha=text, run=workload, number=number, chip=chip,
            parent=log[-1].id, reward=reward, status=status, time_ms=time,
            move="unroll", move_arguments={"factor": number},
        ))  # fmt: skip
    return log


def leads(log: list[Trial], **options: Any) -> list[Any]:
    return best_known(log, "softmax", HERE.features, "avx512-2", "cpu", **options)


def test_the_best_text_of_a_similar_workload_leads_with_its_lineage() -> None:
    log = chain("4096x2048", 11.0, ("a", 0.5, "PASSED"), ("b", 0.4, "PASSED"), ("c", -0.3, "PASSED"))
    found = leads(log)
    assert [lead.text for lead in found] == ["b", "c", "a"]
    assert [s.arguments["factor"] for s in found[0].steps] == [1, 2]
    assert found[0].workloads == ("4096x2048",)
    assert len(leads(log, limit=1)) == 1


def test_a_lead_says_what_each_of_its_steps_gained() -> None:
    log = chain("4096x2048", 11.0, ("a", 0.5, "PASSED"), ("b", 0.0, "PASSED"), ("c", 0.1, "PASSED"))
    assert [s.log_gain for s in leads(log)[0].steps] == [0.5, 0.0, 0.1]


def test_a_text_taken_over_keeps_the_steps_it_was_made_of() -> None:
    kept = [{"technique": "t", "move": "unroll", "arguments": {"factor": 2}, "log_gain": 0.2},
            {"technique": None, "move": None, "arguments": {"sizes": {"BR": 4}}}]  # fmt: skip
    taken = make(parent="seed", reward=0.5, move=None, technique=None, move_arguments={"lead": "old", "steps": kept})
    assert [(s.move, s.log_gain) for s in steps_of(taken)] == [("unroll", 0.2), (None, None)]
    assert steps_of(make(parent=None, move=None, technique=None)) == []
    (freely,) = steps_of(make(parent="seed", reward=0.5, move=None, technique=None, move_arguments={}))
    assert (freely.move, freely.arguments, freely.log_gain) == (None, {}, 0.5)


def test_slower_failed_and_foreign_texts_do_not_lead() -> None:
    log = [
        *chain("w1", 12.0, ("slow", -0.2, "PASSED")),
        *chain("w2", 12.0, ("wrong", 0.9, "PASSED")),
        *chain("w3", 12.0, ("wrong", None, "INCORRECT_NUMERICAL")),
    ]
    assert leads(log) == []
    other = [identified(replace(t, problem="gemm", id="")) for t in chain("w", 12.0, ("x", 0.5, "PASSED"))]
    assert leads(other) == []


def test_a_text_good_on_two_workloads_beats_one_good_on_one() -> None:
    log = [
        *chain("w1", 11.0, ("both", 0.5, "PASSED")), *chain("w2", 13.0, ("both", 0.5, "PASSED")),
        *chain("w3", 11.0, ("one", 0.5, "PASSED")),
    ]  # fmt: skip
    assert [lead.text for lead in leads(log)] == ["both", "one"]


def test_a_cycle_in_a_foreign_log_does_not_hang() -> None:
    one = make(parent="two", reward=0.1, text_sha="x")
    looped = [replace(one, id="one"), replace(make(parent="one", reward=0.1, number=1), id="two")]
    assert isinstance(leads(looped), list)


def test_the_facade_answers_from_the_file(tmp_path: Path) -> None:
    kb = KnowledgeBase(tmp_path / "base.sqlite")
    kb.record_all(chain("4096x2048", 11.0, ("a", 0.5, "PASSED")))
    assert kb.best_known("softmax", HERE.features, "avx512-2")[0].text == "a"
    suggestions = kb.retrieve(HERE.features, "memory", "avx512-2", "cpu", tags=("row-reduction",), limit=5)
    assert len(suggestions) == 5
    assert all("cpu" in s.technique.targets for s in suggestions)
    assert kb.gains() == gains(kb.trials())
