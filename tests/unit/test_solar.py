"""Work of every problem against formulas written by hand; bounds on chips; laws of the bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.problems import Problem, Tensor, Workload
from kernelagent.solar import TraceError
from kernelagent.solar.bounds import limit
from kernelagent.solar.work import Work

from kernelagent import problems, solar

GEMM, SOFTMAX, CAUSAL = (problems.load(n) for n in ("gemm_nn", "softmax", "attention_causal"))


def hand(name: str, d: dict[str, int]) -> dict[str, int]:
    """Multiply-adds, scalar f32 flops and compulsory bytes, from the definition of each computation."""
    r, c, m, n, k = (d.get(x, 0) for x in "RCMNK")
    square = 8 * r * c  # one matrix in, one out
    match name:
        case "softmax":  # subtract, scale of exp, sum, division
            return {"macs": 0, "flops": 3 * r * c + r * (c - 1), "bytes": square}
        case "rmsnorm":  # square, sum, mean, eps; scale, gain
            return {"macs": 0, "flops": r * c + r * (c - 1) + 2 * r + 2 * r * c, "bytes": square + 4 * c}
        case "layernorm":
            flops = r * (c - 1) + r + 2 * r * c + r * (c - 1) + 2 * r + 3 * r * c
            return {"macs": 0, "flops": flops, "bytes": square + 8 * c}
        case "cross_entropy":  # subtract, scale of exp, sum; log, two subtractions or additions a row
            return {"macs": 0, "flops": 2 * r * c + r * (c - 1) + 3 * r, "bytes": 4 * r * c + 8 * r}
        case "row_sum":
            return {"macs": 0, "flops": r * (c - 1), "bytes": 4 * r * c + 4 * r}
        case "transpose":
            return {"macs": 0, "flops": 0, "bytes": square}
        case "bias_gelu_residual":  # bias; half, scale, erf, one, product; residual
            return {"macs": 0, "flops": 7 * r * c, "bytes": 12 * r * c + 4 * c}
        case "rope":
            pairs = d["B"] * d["H"] * d["S"] * d["P"]
            return {"macs": 0, "flops": 6 * pairs, "bytes": 16 * pairs + 8 * d["S"] * d["P"]}
        case "gemm_nn" | "gemm_nt":
            return {"macs": m * n * k, "flops": 0, "bytes": 4 * (m * k + n * k + m * n)}
        case "linear_gelu":
            return {"macs": m * n * k, "flops": 6 * m * n, "bytes": 4 * (m * k + n * k + n + m * n)}
        case "swiglu":
            return {"macs": 2 * m * n * k, "flops": 4 * m * n, "bytes": 4 * (m * k + 2 * n * k + m * n)}
        case _:
            return hand_attention(d, causal=name == "attention_causal")


def hand_attention(d: dict[str, int], causal: bool) -> dict[str, int]:
    heads, m, n = d["B"] * d["H"], d["M"], d["N"]
    pairs = sum(n - m + i + 1 for i in range(m)) if causal else m * n  # query-key pairs that can be seen
    keys = 2 * d["B"] * d["G"] * n * d["D"]
    return {"macs": 2 * heads * pairs * d["D"], "bytes": 4 * (2 * heads * m * d["D"] + keys)}


@pytest.mark.parametrize("name", problems.names())
@pytest.mark.parametrize("which", ["headline", "ragged", "small"])
def test_work_is_what_the_definition_needs(name: str, which: str) -> None:
    problem = problems.load(name)
    chosen = {"headline": problem.headline, "ragged": problem.workload("ragged"), "small": problem.workload("small")}
    graph = solar.trace(problem, chosen[which])
    found = graph.work()
    expected = hand(name, dict(chosen[which].dims))
    assert found.macs.get("f32", 0) == expected["macs"]
    assert graph.min_bytes() == expected["bytes"]
    assert graph.unmodelled == ()
    if "flops" in expected:
        assert found.flops.get("f32", 0) == expected["flops"]


def test_special_functions() -> None:
    r, c = 131, 1021
    assert solar.trace(SOFTMAX, "ragged").work().special == r * c + r  # exp, and one reciprocal a row
    assert solar.trace(problems.load("rmsnorm"), "ragged").work().special == r
    assert solar.trace(problems.load("bias_gelu_residual"), "small").work().special == 16 * 64


def test_golden_terms_on_h100() -> None:
    softmax = solar.bound(SOFTMAX, "4096x4096", "h100")
    assert softmax.bound == "dram"
    assert softmax.time_ms == pytest.approx(2 * 4 * 4096**2 / 3.35e12 * 1e3)
    assert softmax.terms["special"] == pytest.approx((4096**2 + 4096) / 4.18e12 * 1e3)
    gemm = solar.bound(GEMM, "1024", "H100 SXM")
    assert gemm.bound == "fma"  # f32 does not run in the tensor cores
    assert gemm.terms == pytest.approx({"dram": 12582912 / 3.35e9, "fma": 2 * 1024**3 / 66.9e9})
    half = replace(
        GEMM,
        inputs=tuple(replace(t, dtype="bf16") for t in GEMM.inputs),
        outputs=tuple(replace(t, dtype="bf16") for t in GEMM.outputs),
    )
    tensor = solar.bound(half, "1024", "h100")
    assert tensor.min_bytes == 6 * 1024**2
    assert tensor.terms == pytest.approx({"dram": 6 * 1024**2 / 3.35e9, "matrix": 2 * 1024**3 / 989.4e9})


def test_causal_mask_is_a_bracket() -> None:
    report = solar.bound(CAUSAL, "8x1024x64", "h100")
    full = solar.bound(problems.load("attention"), "8x1024x64", "h100")
    assert report.bracket is not None
    assert report.bracket.macs == (report.macs, full.macs)
    assert report.macs == 2 * 8 * 64 * (1024 * 1025 // 2)
    assert report.bracket.time_ms[0] == report.time_ms < report.bracket.time_ms[1]
    assert full.bracket is None


def test_mixed_dtypes_count_their_own_bytes() -> None:
    problem = Problem(
        name="scaled",
        inputs=(Tensor("x", "bf16", ("R", "C")), Tensor("s", "f32", ("R",)), Tensor("i", "i8", ("R",))),
        outputs=(Tensor("y", "f16", ("R", "C")),),
        workloads=(Workload("w", {"R": 3, "C": 5}),),
        reference=lambda xp, x, s, i: x * s[:, None] + xp.astype(i, xp.float32)[:, None],
    )
    assert solar.trace(problem, "w").min_bytes() == 2 * 15 + 4 * 3 + 1 * 3 + 2 * 15


def traced(function: Any, **dims: int) -> solar.Graph:
    """Graph of a function of x (R, C) with a result of any shape."""
    shape = function(np, np.ones((dims["R"], dims["C"]), np.float32)).shape
    problem = Problem(
        name="p",
        inputs=(Tensor("x", "f32", ("R", "C")),),
        outputs=(Tensor("y", "f32", shape),),
        workloads=(Workload("w", dims),),
        reference=lambda xp, x: function(xp, x),
    )
    return solar.trace(problem, "w")


def test_unmodelled_is_listed_and_not_guessed() -> None:
    graph = traced(lambda xp, x: xp.exp(xp.sort(x, axis=1)), R=4, C=8)
    assert graph.unmodelled == ("sort",)
    assert graph.work().flops == {"f32": 32}
    report = solar.bound(
        replace(SOFTMAX, reference=lambda xp, x: xp.cumsum(x, axis=1)), SOFTMAX.workload("small"), "a100"
    )
    assert report.unmodelled == ("cumsum",)
    assert report.to_dict()["unmodelled"] == ["cumsum"]


def test_dtype_without_a_rate_is_listed() -> None:
    eight = replace(
        GEMM,
        inputs=tuple(replace(t, dtype="f8e4m3") for t in GEMM.inputs),
        outputs=tuple(replace(t, dtype="f8e4m3") for t in GEMM.outputs),
    )
    assert "f8e4m3 multiply-adds" in solar.bound(eight, "small", "a100").unmodelled[0]
    assert solar.bound(eight, "small", "h100").unmodelled == ()


def test_unused_work_and_sliced_inputs_are_not_counted() -> None:
    def unused(xp: Any, x: Any) -> Any:
        xp.exp(x)
        return x + 1.0

    assert traced(unused, R=4, C=8).work().special == 0
    assert traced(lambda xp, x: x[:, :2] * 2.0, R=4, C=8).min_bytes() == 4 * (4 * 2 + 4 * 2)
    assert traced(lambda xp, x: xp.sum(x, axis=0) + x[0, :], R=4, C=8).min_bytes() == 4 * (32 + 8)


def test_unfused_traffic() -> None:
    # max: N in; subtract: N + R in, N out; exp: N in, N out; sum: N in, R out; divide: N + R in, N out
    r, c = 8, 64
    assert solar.trace(SOFTMAX, "small").unfused_bytes() == 4 * (8 * r * c + 4 * r)
    assert solar.trace(problems.load("transpose"), "small").unfused_bytes() == 8 * 16 * 32


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda xp, x: x if x[0, 0] > 0 else -x, "looks at a value"),
        (lambda xp, x: x * float(xp.max(x)), "looks at a value"),
        (lambda xp, x: xp.matmul(x, x), "matmul of"),
        (lambda xp, x: x + xp.zeros((5, 7)), "do not broadcast"),
        (lambda xp, x: xp.sum(x), "returns shapes"),
    ],
)
def test_untraceable(function: Any, says: str) -> None:
    with pytest.raises(TraceError, match=says):
        solar.trace(replace(SOFTMAX, reference=lambda xp, x: function(xp, x)), "small")


@given(
    m=st.integers(1, 2000), n=st.integers(1, 2000), k=st.integers(1, 2000),
    more=st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500)),
)  # fmt: skip
@settings(max_examples=40)
def test_bound_grows_with_the_sizes(m: int, n: int, k: int, more: tuple[int, int, int]) -> None:
    small = solar.bound(GEMM, Workload("a", {"M": m, "N": n, "K": k}), "h200")
    large = solar.bound(GEMM, Workload("b", {"M": m + more[0], "N": n + more[1], "K": k + more[2]}), "h200")
    assert small.time_ms <= large.time_ms
    assert all(small.terms[r] <= large.terms[r] for r in small.terms)


@given(m=st.integers(1, 80), extra=st.integers(0, 40))
@settings(max_examples=25)
def test_causal_work_is_the_triangle(m: int, extra: int) -> None:
    dims = {"B": 1, "H": 2, "G": 1, "M": m, "N": m + extra, "D": 16}
    assert solar.bound(CAUSAL, Workload("w", dims), "b200").macs == hand_attention(dims, causal=True)["macs"]


@pytest.mark.parametrize("name", problems.names())
@pytest.mark.parametrize("chip", ["h100-sxm", "h200-sxm", "a100-sxm-80gb", "b200"])
def test_laws_of_every_report(name: str, chip: str) -> None:
    problem = problems.load(name)
    report = solar.bound(problem, problem.headline, chip)
    assert report.time_ms == max(report.terms.values()) == report.terms[report.bound]
    assert 0 < report.min_bytes <= report.unfused_bytes
    assert report.ceiling is None  # nothing was measured on this chip
    assert report.suspect(report.time_ms) is None
    assert "faster than the speed of light" in (report.suspect(report.time_ms * 0.99) or "")
    record = report.to_dict()
    promised = {"name", "macs", "min_bytes", "unfused_bytes", "time_ms", "bound", "terms", "unmodelled"}
    assert promised <= set(record)


def test_pipes_add_up() -> None:
    rates = solar.load_chip("h100").peak
    both = limit(Work({"f32": 500}, {"f32": 1000}), 0, rates, "datasheet")
    assert both.terms["fma"] == pytest.approx(2000 / 66.9e12 * 1e3)


def test_document() -> None:
    found = solar.document(SOFTMAX, "a100")
    assert found["problem"] == "softmax"
    assert found["chip"] == "a100-sxm-80gb"
    assert [w["name"] for w in found["workloads"]] == [w.name for w in SOFTMAX.workloads]
