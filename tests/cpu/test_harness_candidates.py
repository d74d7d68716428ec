"""Candidates that lie, hang, crash and cheat, as hand-written C through the real worker, and what they are called."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from kernelagent.harness import Evaluation, Options, Session
from kernelagent.harness.build import Build, BuildFailure, Built
from kernelagent.problems import Problem, Workload

from kernelagent import problems

PRELUDE = """
#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
"""

ROW_SUM = """
void run(float *x, float *y, long R, long C, long R1) {
  static int calls; calls++;
  BEFORE
  for (long i = 0; i < R; i++) {
    float lanes[16] = {0};
    for (long j = 0; j < C; j++) lanes[j % 16] += x[i * C + j];
    float sum = 0;
    for (int l = 0; l < 16; l++) sum += lanes[l];
    y[i] = sum;
  }
  AFTER
}
"""

GEMM = """
void run(const float *a, const float *b, float *c, long M, long K, long K1, long N, long M1, long N1) {
  for (long i = 0; i < M; i++)
    for (long j = 0; j < N; j++) {
      ACC acc = 0;
      for (long k = 0; k < K; k++) acc = (ACC)(acc + (OPERAND)a[i * K + k] * (OPERAND)b[k * N + j]);
      c[PLACE] = acc;
    }
}
"""


def row_sum(before: str = "", after: str = "") -> str:
    return PRELUDE + ROW_SUM.replace("BEFORE", before).replace("AFTER", after)


def gemm(place: str = "i * N + j", accumulator: str = "float", operand: str = "float") -> str:
    return PRELUDE + GEMM.replace("PLACE", place).replace("ACC", accumulator).replace("OPERAND", operand)


def build_c(folder: Path, deterministic: bool = True) -> Build:
    """A build step for texts in C that define `run(pointers..., extents...)`, arrays in the problem's order."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(text: str, problem: Problem, options: Options) -> Built:
        names = [t.name for t in (*problem.inputs, *problem.outputs)]
        path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path), "-lm"]
        result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        if result.returncode:
            raise BuildFailure("COMPILE_ERROR", result.stderr[:2000])
        subject = {"kind": "shared_object", "path": str(path), "symbol": "run", "arrays": names}
        return Built({"": subject}, (str(folder),), deterministic)

    return build


SUMS = replace(
    problems.load("row_sum"),
    workloads=(Workload("main", {"R": 64, "C": 1024}), Workload("ragged", {"R": 7, "C": 131}, ragged=True)),
)
PRODUCTS = replace(
    problems.load("gemm_nn"),
    workloads=(Workload("main", {"M": 48, "N": 48, "K": 512}), Workload("ragged", {"M": 9, "N": 13, "K": 67})),
)
QUICK = Options(seed=7, timing=False, threads=1, timeout_s=5, memory_mb=256)


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session(SUMS, QUICK, build_c(tmp_path_factory.mktemp("sums"))) as session:
        yield session


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session(PRODUCTS, QUICK, build_c(tmp_path_factory.mktemp("products"))) as session:
        yield session


def failure(evaluation: Evaluation) -> str:
    return next(w.detail for w in evaluation.workloads if w.status != "PASSED")


def test_a_right_answer_passes_on_every_workload(sums: Session) -> None:
    found = sums.evaluate(row_sum())
    assert found.status == "PASSED", found
    assert [w.name for w in found.workloads] == ["main", "ragged"]
    assert all(w.max_error_ratio is not None and w.max_error_ratio <= 1 for w in found.workloads)
    assert found.environment["seed"] == 7


def test_the_next_candidate_runs_after_each_failure(sums: Session) -> None:
    assert sums.evaluate(row_sum("abort();")).status == "RUNTIME_ERROR"
    assert sums.evaluate(row_sum("/* after a crash */")).status == "PASSED"


@pytest.mark.parametrize(
    ("code", "signal"), [("*(volatile int *)8 = 1;", "SIGSEGV"), ("abort();", "SIGABRT"), ("_exit(3);", "exit code 3")]
)
def test_a_crash_is_named(sums: Session, code: str, signal: str) -> None:
    found = sums.evaluate(row_sum(code))
    assert found.status == "RUNTIME_ERROR"
    assert signal in failure(found)


def test_what_a_crash_printed_is_kept(sums: Session) -> None:
    found = sums.evaluate(row_sum('write(2, "out of tiles", 12); abort();'))
    assert "out of tiles" in failure(found)


def test_a_hang_is_a_timeout_and_leaves_no_process(sums: Session) -> None:
    with Session(SUMS, replace(QUICK, timeout_s=0.5), sums._build) as impatient:
        start = time.monotonic()
        found = impatient.evaluate(row_sum("for (volatile int i = 0;; i++);"))
    assert found.status == "TIMEOUT"
    assert time.monotonic() - start < 10


def test_a_memory_eater_hits_the_limit(sums: Session) -> None:
    eat = "for (;;) { char *p = malloc(1 << 20); memset(p, 1, 1 << 20); }"
    found = sums.evaluate(row_sum(eat))
    assert found.status == "RUNTIME_ERROR"
    assert "memory limit of 256 MiB" in failure(found)


def test_zeros_do_not_pass(sums: Session) -> None:
    found = sums.evaluate(row_sum("", "memset(y, 0, R * 4);"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert "y[0]" in failure(found)
    assert "found 0" in failure(found)


def test_nan_is_not_a_number(sums: Session) -> None:
    found = sums.evaluate(row_sum("", "y[3] = NAN;"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert "y[3]: expected" in failure(found)
    assert "found nan" in failure(found)
    assert "1 of 64 elements is wrong" in failure(found)


def test_an_unwritten_element_is_called_so(sums: Session) -> None:
    found = sums.evaluate(row_sum("float keep = y[5];", "y[5] = keep;"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert "y[5] was never written" in failure(found)


@pytest.mark.parametrize(
    ("code", "message"),
    [("y[R] = 0;", "element 1 past its end"), ("y[R + 2] = 0;", "element 3"), ("y[-1] = 0;", "element 1 before")],
)
def test_a_write_outside_an_output_is_found(sums: Session, code: str, message: str) -> None:
    found = sums.evaluate(row_sum("", code))
    assert found.status == "RUNTIME_ERROR"
    assert message in failure(found)


def test_a_read_outside_an_input_shows(sums: Session) -> None:
    found = sums.evaluate(row_sum("", "y[R - 1] += 0 * x[R * C];"))
    assert found.status == "INCORRECT_NUMERICAL"


def test_a_changed_input_is_a_hack_and_is_repaired(sums: Session) -> None:
    found = sums.evaluate(row_sum("", "x[1] = 0;"))
    assert found.status == "REWARD_HACK"
    assert "input x was changed" in failure(found)
    assert sums.evaluate(row_sum("/* after a hack */")).status == "PASSED"


def test_two_runs_must_agree_in_every_bit(sums: Session, tmp_path: Path) -> None:
    wobble = row_sum("", "if (calls % 2 == 0) y[2] = nextafterf(y[2], 1e9f);")
    found = sums.evaluate(wobble)
    assert found.status == "INCORRECT_NUMERICAL"
    assert "two runs on the same inputs differ at y[2]" in failure(found)
    with Session(SUMS, QUICK, build_c(tmp_path, deterministic=False)) as atomic:
        assert atomic.evaluate(wobble).status == "PASSED"


def test_right_for_one_distribution_only(sums: Session) -> None:
    """A shortcut that holds for centred inputs only."""
    found = sums.evaluate(row_sum("", "for (long i = 0; i < R; i++) if (y[i] > 20.f * sqrtf(C)) y[i] = 0;"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert "inputs)" in failure(found)


def test_right_for_one_size_only(sums: Session) -> None:
    found = sums.evaluate(row_sum("", "if (C % 2) y[R - 1] = 0;"))
    assert [w.status for w in found.workloads] == ["PASSED", "INCORRECT_NUMERICAL"]
    assert found.status == "INCORRECT_NUMERICAL"


def test_c_that_does_not_compile(sums: Session) -> None:
    found = sums.evaluate("void run( {")
    assert found.status == "COMPILE_ERROR"
    assert "error" in found.report[0]


def test_a_right_product_passes(products: Session) -> None:
    assert products.evaluate(gemm()).status == "PASSED"


@pytest.mark.parametrize("place", ["i * N + (j + 1) % N", "(i * N + j) % (M * N - 1)"])
def test_off_by_one_column(products: Session, place: str) -> None:
    assert products.evaluate(gemm(place)).status == "INCORRECT_NUMERICAL"


def test_a_transposed_result(products: Session) -> None:
    found = products.evaluate(gemm("(M == N ? j * N + i : i * N + j)"))
    assert [w.status for w in found.workloads] == ["INCORRECT_NUMERICAL", "PASSED"]


@pytest.mark.parametrize(
    ("accumulator", "operand"), [("_Float16", "_Float16"), ("_Float16", "float"), ("float", "_Float16")]
)
def test_narrower_arithmetic_is_not_rounding(products: Session, accumulator: str, operand: str) -> None:
    found = products.evaluate(gemm(accumulator=accumulator, operand=operand))
    assert found.status == "INCORRECT_NUMERICAL"


def test_a_double_accumulator_is_fine(products: Session) -> None:
    assert products.evaluate(gemm(accumulator="double")).status == "PASSED"


TIMED = replace(QUICK, timing=True, time_budget_s=0.2)


def test_times_come_with_samples_and_an_interval(sums: Session) -> None:
    with Session(SUMS, TIMED, sums._build) as session:
        found = session.evaluate(row_sum()).workloads[0]
        assert found.timing is not None
        low, high = found.timing.interval_ms
        assert 0 < low <= found.timing.time_ms <= high
        assert len(found.timing.samples_ms) >= 6
        assert found.score is None
        assert found.score_reason == "no speed-of-light bound was given"


def test_an_answer_that_turns_wrong_while_it_is_timed(sums: Session) -> None:
    """Right in the first forty runs, which are those that a naive harness looks at."""
    with Session(SUMS, TIMED, sums._build) as session:
        found = session.evaluate(row_sum("", "if (calls > 40) y[0] = 0;"))
    assert found.status == "INCORRECT_NUMERICAL"
    assert "a timed run was wrong" in failure(found)


def test_a_crash_while_it_is_timed(sums: Session) -> None:
    with Session(SUMS, TIMED, sums._build) as session:
        found = session.evaluate(row_sum("", "if (calls > 40) abort();"))
    assert found.status == "RUNTIME_ERROR"
    assert "while it was timed: SIGABRT" in failure(found)


def test_the_faster_of_two_is_told(sums: Session) -> None:
    fast, slow = row_sum(), row_sum("for (volatile int i = 0; i < 2000000; i++);")
    with Session(SUMS, TIMED, sums._build) as session:
        assert session.evaluate(fast).status == session.evaluate(slow).status == "PASSED"
        found = session.compare(slow, fast)
        assert found.decision == "FASTER"
        assert found.ratio > 1.5
        assert session.compare(fast, slow).decision == "SLOWER"
        first, second = session.time_together([fast, slow])
        assert (first.name, second.name) == ("0", "1")
        assert first.time_ms < second.time_ms


def test_one_candidate_against_itself_is_inconclusive(sums: Session) -> None:
    with Session(SUMS, TIMED, sums._build) as session:
        found = session.compare(row_sum(), row_sum("/* the same */"), budget_s=0.15)
    assert found.decision == "INCONCLUSIVE" or 0.8 < found.ratio < 1.25
