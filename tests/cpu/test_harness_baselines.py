"""Baselines in workers of their own: timed, checked, and recorded with a reason where they cannot be had."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.harness import measure_baselines
from kernelagent.harness.baselines import Baselines, unavailable
from kernelagent.harness.inputs import InputKey, InputSet
from kernelagent.harness.problem_source import ProblemSource, source_of
from kernelagent.harness.subject import flush_arena
from kernelagent.harness.timing import TimingPlan

from kernelagent import problems

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


@pytest.mark.parametrize("name", problems.names())
def test_every_numpy_baseline_is_right_and_timed(name: str) -> None:
    problem = problems.load(name)
    (found,) = measure_baselines(problem, problem.workloads[-1].name, ["numpy"], budget_s=0.05, threads=1)
    assert found.reason is None
    assert found.timing is not None
    assert found.timing.time_ms > 0


@needs_torch
@pytest.mark.torch
def test_torch_eager_is_timed_beside_numpy() -> None:
    found = measure_baselines(problems.load("softmax"), "ragged", ["numpy", "torch_eager"], 0.05, threads=1)
    assert [f.name for f in found] == ["numpy", "torch_eager"]
    assert all(f.timing is not None for f in found)


@needs_torch
@pytest.mark.torch
@pytest.mark.slow
def test_torch_compile_writes_into_the_preallocated_output() -> None:
    (found,) = measure_baselines(problems.load("bias_gelu_residual"), "ragged", ["torch_compile"], 0.05, threads=1)
    assert found.timing is not None, found.reason


WRONG = """
from dataclasses import replace
from kernelagent import problems

PROBLEM = replace(problems.load("row_sum"), name="wrong", numpy_reference=lambda np, out, x: np.copyto(out, 0.0))
"""


def test_a_wrong_baseline_of_a_users_file_is_not_timed(tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    problem = problems.load(tmp_path / "wrong.py")
    assert source_of(problem) == ProblemSource(str((tmp_path / "wrong.py").resolve()))
    (found,) = measure_baselines(problem, "ragged", ["numpy"], 0.05)
    assert found.timing is None
    assert found.reason is not None
    assert found.reason.startswith("its answer is wrong: y[0]: expected")


def test_what_cannot_be_had_says_why() -> None:
    built_in = problems.load("row_sum")
    in_memory = replace(built_in, title="another")
    assert unavailable(in_memory, "numpy") == (
        "the problem was built in memory; only one with a name or a file can be loaded in a worker"
    )
    assert unavailable(built_in, "cuda") == "unknown baseline; known: numpy, torch_eager, torch_compile"
    (found,) = measure_baselines(in_memory, "small", ["numpy"], 0.01)
    assert found.timing is None
    assert found.reason == unavailable(in_memory, "numpy")


def test_a_missing_torch_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert unavailable(problems.load("row_sum"), "torch_eager") == "torch is not installed"


def test_a_baseline_that_dies_is_dropped_and_the_others_go_on() -> None:
    problem = problems.load("softmax")
    inputs, flush = InputSet(problem, InputKey("small", 1)), flush_arena()
    baselines = Baselines(problem, 1, flush)
    (subject,) = baselines.ready(["numpy"], inputs)
    os.kill(subject.worker._process.pid, signal.SIGKILL)
    (found,) = baselines.measure(["numpy"], [inputs], TimingPlan(10))
    assert found.timing is None
    assert found.reason == "SIGKILL"
    baselines.close()
    inputs.close()
    flush.close()


def test_torch_never_enters_the_parent() -> None:
    program = (
        "import sys\n"
        "from kernelagent import problems\n"
        "from kernelagent.harness import measure_baselines\n"
        "measure_baselines(problems.load('row_sum'), 'small', ['numpy', 'torch_eager'], 0.01)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
