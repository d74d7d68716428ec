"""Built-in problems: every reference in numpy and torch, baselines, inputs, loading."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.problems import extra
from kernelagent.problems.sizes import evaluate, free_names

from kernelagent import problems

NAMES = problems.names()
HEADLINES = {
    "softmax": {"R": 4096, "C": 4096},
    "rmsnorm": {"R": 4096, "C": 4096},
    "bias_gelu_residual": {"R": 4096, "C": 4096},
    "transpose": {"R": 4096, "C": 4096},
    "gemm_nn": {"M": 1024, "N": 1024, "K": 1024},
    "gemm_nt": {"M": 1024, "N": 1024, "K": 1024},
    "linear_gelu": {"M": 1024, "N": 4096, "K": 1024},
    "attention": {"B": 1, "H": 8, "G": 8, "M": 1024, "N": 1024, "D": 64},
    "attention_causal": {"B": 1, "H": 8, "G": 8, "M": 1024, "N": 1024, "D": 64},
}


def ragged(problem: problems.Problem) -> problems.Workload:
    return next(w for w in problem.workloads if w.ragged)


def by_hand(name: str, a: dict[str, np.ndarray], s: dict[str, float]) -> np.ndarray:
    """Each computation written a second time, row by row or element by element, without the array API."""
    x = a.get("x")
    rows = [] if x is None or x.ndim != 2 else [row.astype(np.float64) for row in x]
    erf = np.vectorize(math.erf)
    match name:
        case "softmax":
            return np.array([np.exp(r - r.max()) / math.fsum(np.exp(r - r.max())) for r in rows])
        case "rmsnorm":
            return np.array([r / math.sqrt(math.fsum(r * r) / r.size + s["eps"]) * a["w"] for r in rows])
        case "layernorm":
            return np.array([(r - r.mean()) / math.sqrt(r.var() + s["eps"]) * a["w"] + a["b"] for r in rows])
        case "cross_entropy":
            return np.array([math.log(math.fsum(np.exp(r))) - r[i] for r, i in zip(rows, a["labels"], strict=True)])
        case "row_sum":
            return np.array([math.fsum(r) for r in rows])
        case "transpose":
            return np.array([[r[c] for r in rows] for c in range(len(rows[0]))])
        case "bias_gelu_residual":
            h = x.astype(np.float64) + a["b"]
            return h / 2 * (1 + erf(h / math.sqrt(2))) + a["r"]
        case "rope":
            z = x[..., 0::2].astype(np.float64) + 1j * x[..., 1::2]
            z = z * (a["c"] + 1j * a["s"].astype(np.float64))
            return np.stack([z.real, z.imag], -1).reshape(x.shape)
        case "gemm_nn":
            return np.einsum("mk,kn->mn", a["a"].astype(np.float64), a["b"])
        case "gemm_nt":
            return np.einsum("mk,nk->mn", a["a"].astype(np.float64), a["b"])
        case "linear_gelu":
            h = np.einsum("mk,nk->mn", x.astype(np.float64), a["w"]) + a["b"]
            return h / 2 * (1 + erf(h / math.sqrt(2)))
        case "swiglu":
            gate = np.einsum("mk,nk->mn", x.astype(np.float64), a["w"])
            return gate / (1 + np.exp(-gate)) * np.einsum("mk,nk->mn", x.astype(np.float64), a["v"])
        case _:
            return attention_by_hand(a, s["scale"], causal=name == "attention_causal")


def attention_by_hand(a: dict[str, np.ndarray], scale: float, causal: bool) -> np.ndarray:
    q, k, v = (a[n].astype(np.float64) for n in "qkv")
    out = np.zeros_like(q)
    for b, h, m in np.ndindex(q.shape[:3]):
        g = h // (q.shape[1] // k.shape[1])
        seen = m + k.shape[2] - q.shape[2] + 1 if causal else k.shape[2]
        scores = k[b, g, :seen] @ q[b, h, m] * scale
        weights = np.exp(scores - scores.max())
        out[b, h, m] = weights @ v[b, g, :seen] / weights.sum()
    return out


@pytest.mark.parametrize("name", NAMES)
def test_reference_is_what_the_title_says(name: str) -> None:
    problem = problems.load(name)
    for workload in (ragged(problem), problem.workload("small")):
        inputs, scalars = problems.make_inputs(problem, workload, 3), problems.scalars(problem, workload)
        (found,) = problems.run_reference(problem, inputs, scalars).values()
        np.testing.assert_allclose(found, by_hand(name, inputs, scalars), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_shape_and_headline(name: str) -> None:
    problem = problems.load(name)
    assert problem.name == name
    assert len(problem.workloads) >= 3
    assert any(w.ragged for w in problem.workloads)
    assert dict(problem.headline.dims) == HEADLINES.get(name, dict(problem.headline.dims))


@pytest.mark.parametrize("name", NAMES)
def test_numpy_baseline_writes_to_out(name: str) -> None:
    problem = problems.load(name)
    workload = ragged(problem)
    inputs, scalars = problems.make_inputs(problem, workload, 0), problems.scalars(problem, workload)
    ((output, out),) = problems.make_outputs(problem, workload).items()
    problem.numpy_reference(np, out=out, **inputs, **scalars)
    exact = problems.run_reference(problem, inputs, scalars)[output]
    assert (np.abs(out - exact) <= problems.allowance(problem, workload, output, exact)).all()


@pytest.mark.torch
@pytest.mark.parametrize("name", NAMES)
def test_torch_reference_and_baseline(name: str) -> None:
    torch = pytest.importorskip("torch")
    compat = pytest.importorskip("array_api_compat.torch")
    problem = problems.load(name)
    workload = ragged(problem)
    inputs, scalars = problems.make_inputs(problem, workload, 0), problems.scalars(problem, workload)
    exact = next(iter(problems.run_reference(problem, inputs, scalars).values()))
    tensors = {n: torch.from_numpy(a) for n, a in inputs.items()}
    wide = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
    np.testing.assert_allclose(problem.reference(compat, **wide, **scalars).numpy(), exact, rtol=1e-12, atol=1e-13)
    ((output, array),) = problems.make_outputs(problem, workload).items()
    out = torch.from_numpy(array)
    result = problem.torch_reference(torch, out=out, **tensors, **scalars)
    assert result.data_ptr() == out.data_ptr()
    allowed = problems.allowance(problem, workload, output, exact)
    for found in (out, problem.torch_reference(torch, **tensors, **scalars)):
        assert (np.abs(found.numpy() - exact) <= allowed).all()


def test_inputs_depend_on_seed_workload_tensor_and_variant_only() -> None:
    problem = problems.load("gemm")
    first = problems.make_inputs(problem, "small", 0)
    problems.make_inputs(problem, "ragged", 5)
    again = problems.make_inputs(problem, "small", 0)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert not np.array_equal(first["a"], first["b"])
    assert not np.array_equal(first["a"], problems.make_inputs(problem, "small", 1)["a"])
    assert (problems.make_inputs(problem, "small", 0, "positive")["a"] > 0).all()
    assert (problems.make_inputs(problem, "small", 0, "same_sign")["a"] < 0).all()


def test_variants_leave_tables_and_labels_alone() -> None:
    entropy, rope = problems.load("cross_entropy"), problems.load("rope")
    plain = problems.make_inputs(entropy, "small", 0)
    large = problems.make_inputs(entropy, "small", 0, "large")
    assert np.array_equal(plain["labels"], large["labels"])
    assert 0 <= plain["labels"].min() <= plain["labels"].max() < 64
    assert np.array_equal(
        problems.make_inputs(rope, "small", 0)["c"], problems.make_inputs(rope, "small", 1, "positive")["c"]
    )
    with pytest.raises(ValueError, match="unknown variant 'loud'"):
        problems.make_inputs(rope, "small", 0, "loud")


def test_outputs_are_poisoned() -> None:
    assert np.isnan(problems.make_outputs(problems.load("softmax"), "small")["y"]).all()
    assert (problems.make_outputs(problems.load("softmax"), "small", fill=7.0)["y"] == 7.0).all()


def test_unknown_names_have_neighbours() -> None:
    with pytest.raises(problems.UnknownProblem, match="did you mean softmax") as caught:
        problems.load("sofmax")
    assert caught.value.nearest[0] == "softmax"
    assert problems.load("gemm") is problems.load("gemm_nn")
    with pytest.raises(KeyError, match="softmax has no workload 'huge'; known: 4096x4096"):
        problems.load("softmax").workload("huge")


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("x = 1\n", None, "defines no PROBLEM"),
        ("PROBLEM = 3\n", None, "PROBLEM is a int"),
        ("x = 1\ny = x +\n", 2, "syntax error"),
        ("x = 1\n\nimport nothing_of_this_name\n", 3, "ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\nf()\n", 2, "ZeroDivisionError"),
        ("from kernelagent import Problem\nPROBLEM = Problem(name='p')\n", 2, "TypeError"),
        ("raise SystemExit(3)\n", 1, "SystemExit"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, line: int | None, reason: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(problems.ProblemError) as caught:
        problems.load(path)
    assert caught.value.line == line
    assert reason in caught.value.reason
    assert str(path) in str(caught.value)


def test_missing_file() -> None:
    with pytest.raises(problems.ProblemError, match="no such file"):
        problems.load("/nowhere/mine.py")


def test_what_is_no_python_file(tmp_path: Path) -> None:
    (tmp_path / "mine.tile").write_text("edition(1)\n", encoding="utf-8")
    with pytest.raises(problems.ProblemError, match="not a Python file; kernel texts go to `check`"):
        problems.load(tmp_path / "mine.tile")
    with pytest.raises(problems.ProblemError, match="is a folder"):
        problems.load(tmp_path)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=50))
def test_erf_is_math_erf(values: list[float]) -> None:
    found = extra.erf(np, np.array(values))
    assert np.abs(found - [math.erf(v) for v in values]).max() <= 4e-16


def test_erf_of_specials() -> None:
    found = extra.erf(np, np.array([np.nan, np.inf, -np.inf, 0.0, 1e-300]))
    assert np.isnan(found[0])
    assert found[1:4].tolist() == [1.0, -1.0, 0.0]
    assert found[4] == pytest.approx(2e-300 / math.sqrt(math.pi), rel=1e-12)


def test_sigmoid_does_not_overflow() -> None:
    with np.errstate(over="raise"):
        found = extra.sigmoid(np, np.array([-1e4, 0.0, 1e4]))
    assert found == pytest.approx([0.0, 0.5, 1.0], abs=1e-300)


@given(st.integers(1, 99), st.integers(1, 99))
def test_dims_are_arithmetic(p: int, e: int) -> None:
    assert evaluate("2 * P + (E - 1) // 3 % 5", {"P": p, "E": e}) == 2 * p + (e - 1) // 3 % 5
    assert free_names("2 * P + E") == {"P", "E"}


@pytest.mark.parametrize("text", ["P ** 2", "f(P)", "P.x", "-P", "1.5", "P +", "True", "__import__('os')"])
def test_dims_are_nothing_else(text: str) -> None:
    with pytest.raises(ValueError, match="not an expression"):
        evaluate(text, {"P": 3})


def test_dims_name_what_is_missing() -> None:
    with pytest.raises(KeyError, match="Q"):
        evaluate("P + Q", {"P": 1})
    with pytest.raises(ValueError, match="divides by zero"):
        evaluate("P // Q", {"P": 1, "Q": 0})
