"""`make gpu` without a GPU: slices of large shapes, rivals and arrays on the CPU, turns, reports, dying processes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.gpu_cases import CASES, NUMPY, Case, correctness, device, relay, report, rivals, run, timing

BY_NAME = {case.name: case for case in CASES}
each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)

# Slices of large shapes --------------------------------------------------------------------------------


@each_case
def test_the_oracle_of_a_slice_is_the_slice_of_the_oracle(case: Case) -> None:
    """So the kept positions stand for themselves; only roundings of the longer sums may differ."""
    dims = dict(case.shapes[1].dims)
    if case.kernel.startswith("attention"):
        dims |= {"H": 2 * dims["G"]}
    inputs = case.inputs(dims)
    kept = correctness.sample(case, dims, most=2)
    assert any(len(positions) < dims[dim] for dim, positions in kept.items())
    whole = case.answers(inputs)
    part = case.answers({name: correctness.sliced(case, name, a, kept) for name, a in inputs.items()})
    for name, answer in part.items():
        np.testing.assert_allclose(answer.value, correctness.sliced(case, name, whole[name].value, kept), rtol=1e-9)


def test_samples_hold_both_ends() -> None:
    kept = correctness.sample(BY_NAME["gemm_nn_bf16"], {"M": 4096, "N": 4096, "K": 64})["M"]
    assert (kept[0], kept[-1], len(kept)) == (0, 4095, correctness.SAMPLE)
    assert list(correctness.sample(BY_NAME["gemm_nn_bf16"], {"M": 2, "N": 4, "K": 6})["M"]) == [0, 1]


# Arrays ------------------------------------------------------------------------------------------------


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr(device, "WHERE", "cpu")


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("dtype", [d for d in NUMPY if d != "u4"])
def test_arrays_come_back_as_they_went(dtype: str) -> None:
    array = np.arange(-6, 6).reshape(3, 4).astype(NUMPY[dtype])
    there = device.to_device(array)
    assert tuple(there.shape) == (3, 4)
    longer = device.with_odd_rows(there)
    assert longer.stride() == (5, 1)
    for tensor in (there, longer):
        assert device.from_device(tensor, NUMPY[dtype]).tobytes() == array.tobytes()
        assert device.same_bits(tensor, there)
    assert (
        device.from_device(device.rows_of(there, 0, np.array([0, 2])), NUMPY[dtype]).tobytes() == array[::2].tobytes()
    )


@pytest.mark.usefixtures("on_cpu")
def test_outputs_start_as_bits_that_are_no_number() -> None:
    room = device.poisoned((3, 5), np.dtype(NUMPY["bf16"]), odd_rows=True)
    assert (tuple(room.shape), room.stride()) == ((3, 5), (6, 1))
    assert bool(room.isnan().all())
    assert device.any_nan(room)
    assert not device.any_nan(device.poisoned((3, 5), np.dtype(np.int32)))
    room[...] = 1
    assert not device.any_nan(room)


# Rivals ------------------------------------------------------------------------------------------------

APART = ("gemm_int4", "gemm_fp8", "gemm_fp8_blocks", "attention", "attention_wide")
SAME_PROBLEM = [c for c in CASES if c.large.rival != "copy" and c.kernel not in APART]


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("case", SAME_PROBLEM, ids=lambda case: case.name)
def test_a_rival_solves_the_same_problem(case: Case) -> None:
    import torch

    dims = case.shapes[0].dims
    x = {name: device.to_device(a) for name, a in case.inputs(dims).items()}
    _, call = rivals.rival(case, x, {})
    found: Any = call()
    found = torch.cat(found) if isinstance(found, list) else found
    found = found.permute(0, 2, 3, 1) if case.large.rival == "cudnn" else found
    (answer,) = case.answers(case.inputs(dims)).values()
    scale = float(np.abs(answer.value).max())
    np.testing.assert_allclose(found.double().numpy(), answer.value, atol=0.02 * scale, rtol=0.02)


@pytest.mark.usefixtures("on_cpu")
@pytest.mark.parametrize("name", ["attention_causal_d64_bf16", "attention_full_d128_f16"])
def test_attention_of_the_rival_is_ours_where_both_lengths_agree(name: str) -> None:
    case = BY_NAME[name]
    dims = {**case.shapes[0].dims, "H": 4, "G": 2, "M": 32, "N": 32}
    x = {n: device.to_device(a) for n, a in case.inputs(dims).items()}
    found: Any = rivals.rival(case, x, {})[1]()
    (answer,) = case.answers(case.inputs(dims)).values()
    np.testing.assert_allclose(found.double().numpy(), answer.value, atol=0.03)
    assert case.large.dims["M"] == case.large.dims["N"]


@pytest.mark.usefixtures("on_cpu")
def test_the_copy_reads_and_writes_as_many_bytes_as_the_kernel() -> None:
    case = BY_NAME["softmax_bf16"]
    dims = case.shapes[0].dims
    x = {n: device.to_device(a) for n, a in {**case.inputs(dims), **case.outputs(dims)}.items()}
    found: Any = rivals.rival(case, {"x": x["x"]}, {"y": x["y"]})[1]()
    assert 2 * found.nbytes == 2 * 2 * dims["M"] * dims["N"]


# Timing ------------------------------------------------------------------------------------------------


def test_rounds_run_every_subject_in_turns() -> None:
    order: list[str] = []
    subjects: dict[str, Callable[[], object]] = {n: lambda n=n: order.append(n) for n in ("kernel", "rival")}  # type: ignore[misc]

    def clock(call: Callable[[], object]) -> float:
        call()
        return float(len(order))

    samples = timing.interleave(subjects, clock, rounds=10)
    rounds = [order[i : i + 2] for i in range(0, len(order), 2)]
    assert len(rounds) == 10 + timing.WARMUPS
    assert all(sorted(r) == ["kernel", "rival"] for r in rounds)
    assert len({tuple(r) for r in rounds}) == 2
    assert [len(s) for s in samples.values()] == [10, 10]
    assert min(samples["kernel"]) > 2 * timing.WARMUPS


def compared(name: str, ours: float, theirs: float, arch: str) -> dict[str, Any]:
    times = {"kernel": ours, "rival": theirs}
    subjects = {n: (lambda n=n: n) for n in times}  # type: ignore[misc]
    found: dict[str, Any] = timing.compare(BY_NAME[name], subjects, lambda call: times[str(call())], arch)
    return found


def test_ratios_are_held_against_the_goal_of_the_architecture() -> None:
    hopper, ampere = (compared("gemm_nt_bf16", 1.0, 0.6, arch) for arch in ("sm_90a", "sm_80"))
    assert (hopper["ratio"], hopper["wanted"], hopper["reached"]) == (0.6, 0.55, True)
    assert (ampere["wanted"], ampere["reached"]) == (0.90, False)
    assert compared("softmax_f32", 1.0, 0.8, "sm_89")["reached"] is False
    assert compared("cumsum", 1.0, 0.8, "sm_89")["reached"] is None


def test_rates_come_from_the_problem() -> None:
    product, stream = compared("gemm_nn_bf16", 2.0, 1.0, "sm_80"), compared("softmax_bf16", 0.5, 1.0, "sm_80")
    assert product["tflops"] == pytest.approx(2 * 4096**3 / 2e-3 / 1e12)
    assert stream["gbytes_per_s"] == pytest.approx(2 * 2 * 16384 * 4096 / 0.5e-3 / 1e9)
    assert timing.moved(BY_NAME["gemm_int4"]) == 4096**2 * 4 + 4096**2 // 2 + 4096 * 32 * 3
    causal, full = (timing.operations(BY_NAME[f"attention_{kind}_d64_bf16"]) for kind in ("causal", "full"))
    assert full == 2 * causal == 4 * 4 * 32 * 4096 * 4096 * 64


# Reports -----------------------------------------------------------------------------------------------


def a_record() -> dict[str, Any]:
    shape = {"kind": "full", "dims": {"M": 8, "N": 4096}, "odd_rows": False, "classes": ["aligned"], "worst": 0.9}
    good = {"case": "softmax_f32", "refused": None, "runs": [shape | {"not_numbers": [], "moves": False}]}
    record = {
        "machine": {"chip": "NVIDIA A100-SXM4", "date": "2026-01-01", "clocks_before": {"sm_mhz": 1410}},
        "atoms": [{"atom": "exp", "faults": []}, {"atom": "barrier", "faults": [], "not_run": True}],
        "cases": [good | {"timing": compared("softmax_f32", 1.0, 0.9, "sm_80")}],
    }
    return record | {"summary": report.summary({**record})}


def test_a_good_run_is_told() -> None:
    record = a_record()
    assert record["summary"] == (
        "1 of 1 atoms as their references say, 1 of 1 runs within their bounds, 1 of 1 goals of speed reached"
    )
    assert list(report.faulty(record)) == []
    text = report.written(record)
    assert "# GPU kernels on NVIDIA A100-SXM4" in text
    assert "clocks before: sm_mhz 1410" in text
    assert "| softmax_f32 | M=16384 N=4096 | 1.0000 (1.0000 to 1.0000) | rival |" in text


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "exp: 3 differ": lambda r: r["atoms"][0].update(faults=["3 differ"]),
    "1.5 of the bound": lambda r: r["cases"][0]["runs"][0].update(worst=1.5),
    "None of the bound": lambda r: r["cases"][0]["runs"][0].update(worst=None),
    "not numbers": lambda r: r["cases"][0]["runs"][0].update(not_numbers=["y"]),
    "from run to run": lambda r: r["cases"][0]["runs"][0].update(moves=True),
    "the process ended: killed": lambda r: r["cases"][0].update(crashed="killed"),
}


@pytest.mark.parametrize("expected", CHANGES)
def test_what_is_wrong_is_told(expected: str) -> None:
    record = copy.deepcopy(a_record())
    CHANGES[expected](record)
    (told,) = report.faulty(record)
    assert expected in told
    assert f"- {told}" in report.written(record)


def test_rivals_that_do_not_run_are_told() -> None:
    record = a_record()
    record["cases"][0]["timing"] = {"case": "softmax_f32", "failed": "no such function"}
    assert "not timed: no such function" in report.written(record)
    assert "0 of 0 goals" in report.summary(record)


def test_results_are_files_named_by_chip(tmp_path: Path) -> None:
    run.save(a_record(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["gpu-a100-sxm4.json", "gpu-a100-sxm4.md"]


# Processes that die ------------------------------------------------------------------------------------

WORKER = """
import json, os, sys, time
for job in json.loads(sys.argv[-1]):
    print(json.dumps({"begin": job}), flush=True)
    if job == "dies":
        sys.exit("an illegal memory access")
    if job == "hangs":
        time.sleep(60)
    print("noise")
    print(json.dumps({"end": job, "result": job.upper()}), flush=True)
"""


def test_a_job_that_dies_or_hangs_costs_itself_only() -> None:
    done: list[tuple[str, Any]] = []
    crashed: list[tuple[str, str]] = []
    jobs = ["a", "dies", "b", "hangs", "c", "dies"]
    relay.relay(
        [sys.executable, "-c", WORKER], jobs, lambda *x: done.append(x), lambda *x: crashed.append(x), seconds=1.5
    )  # fmt: skip
    assert done == [("a", "A"), ("b", "B"), ("c", "C")]
    assert crashed[0] == ("dies", "status 1: an illegal memory access")
    assert crashed[1] == ("hangs", "no answer for 1.5 s")
    assert crashed[2][0] == "dies"
