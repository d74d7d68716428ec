"""What a workload is like, and what limits a kernel."""

from __future__ import annotations

import pytest
from kernelagent.knowledge_base.catalogue import BOTTLENECKS, TAGS

from kernelagent import problems
from kernelagent.agent.features import features, op_classes, signature

MEMORY = {"terms": {"dram": 2.0, "fma": 0.5, "special": 0.1}, "bound": "dram"}


@pytest.mark.parametrize("name", problems.names())
def test_every_problem_has_a_class_that_techniques_know(name: str) -> None:
    classes = op_classes(problems.load(name))
    assert classes
    assert set(classes) <= TAGS


def test_features_are_plain_and_stable() -> None:
    problem = problems.load("softmax")
    found = features(problem, problem.headline, {"macs": 0, "min_bytes": 1 << 27})
    assert found["log2:R"] == 12.0
    assert found["op:row-reduction"] == "yes"
    assert found == features(problem, problem.headline, {"macs": 0, "min_bytes": 1 << 27})


@pytest.mark.parametrize(
    ("time_ms", "bottleneck", "regime"),
    [(2.2, "memory", "near"), (5.0, "memory", "between"), (9.0, "memory", "far"), (0.01, "latency", "launch")],
)
def test_regimes(time_ms: float, bottleneck: str, regime: str) -> None:
    found = signature(MEMORY, 2.0, time_ms)
    assert (found.bottleneck, found.regime) == (bottleneck, regime)
    assert found.gap == pytest.approx(time_ms / 2.0)


@pytest.mark.parametrize(
    ("term", "bottleneck"),
    [("dram", "memory"), ("matrix", "compute"), ("fma", "compute"), ("special", "special-function")],
)
def test_bottlenecks_are_words_of_the_catalogue(term: str, bottleneck: str) -> None:
    assert signature({"terms": {term: 3.0, "other": 1.0}}, 3.0, 4.0).bottleneck == bottleneck
    assert bottleneck in BOTTLENECKS


def test_without_a_bound_nothing_is_claimed() -> None:
    found = signature({}, None, 5.0)
    assert found.gap is None
    assert found.regime == "between"
