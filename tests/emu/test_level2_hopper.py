"""Hopper's schedules written by hand, as files that are checked, compiled and run: values are right, guards decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.level2 import print_schedule, read_module, verify
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units
from kernelagent.dsl.targets.emulator.execute import emulate
from kernelagent.dsl.targets.emulator.launch import Completion
from numpy.typing import NDArray
from support.level2_texts import TEXTS

import kernelagent

Array = NDArray[Any]
RNG = np.random.default_rng(0)
BF16 = ml_dtypes.bfloat16
GEMM1 = (Path(__file__).parents[2] / "benchmarks" / "gpu" / "kernels" / "gemm_nt.tile").read_text(encoding="utf-8")


def drawn(dtype: Any, *shape: int) -> Array:
    return RNG.standard_normal(shape).astype(dtype)


def products(name: str, m: int, n: int, k: int, completion: Completion) -> None:
    """The text's y is a product of its a and w, and the emulator finds nothing."""
    dtype = np.float16 if name == "ping pong" else BF16
    a, w = drawn(dtype, m, k), drawn(dtype, *((k, n) if name == "ping pong" else (n, k)))
    y = np.zeros((m, n), BF16 if name == "hopper" else np.float32)
    made = emulate(read_module(TEXTS[name]), {"a": a, "w": w, "y": y}, arch="sm_90a", completion=completion)
    assert made.ok, [f.message for f in made.findings]
    right = a.astype("f8") @ (w.astype("f8") if name == "ping pong" else w.astype("f8").T)
    np.testing.assert_allclose(y.astype("f8"), right, rtol=1e-2 if name == "hopper" else 1e-4, atol=1e-2)


@pytest.mark.parametrize("completion", ["late", "random"])
@pytest.mark.parametrize(("m", "n", "k"), [(256, 128, 320), (130, 136, 72)])
def test_gemm_of_the_guide(m: int, n: int, k: int, completion: Completion) -> None:
    products("hopper", m, n, k, completion)


@pytest.mark.parametrize(("m", "n", "k"), [(128, 64, 192), (192, 72, 200)])
def test_a_cluster_shares_an_operand(m: int, n: int, k: int) -> None:
    products("cluster", m, n, k, "random")


@pytest.mark.parametrize(("m", "n", "k"), [(256, 192, 192), (130, 72, 72)])
def test_two_consumers_take_turns(m: int, n: int, k: int) -> None:
    products("ping pong", m, n, k, "random")


def test_a_printed_schedule_computes_what_its_kernel_does() -> None:
    """`check --target emu --against`: the interpreter of the level-one text is the oracle."""
    (unit,) = device_units(parse(GEMM1), Choices({"T": "bf16"}, {}, {}, {}), "sm_90a")
    text = print_schedule(unit.classes[0].schedule)
    report = kernelagent.check(text, target="emu", against=GEMM1, quick=True)
    assert report.ok
    assert report.verdict in ("PROVED", "PROVED_BOUNDED")  # quick: not every number of tiles a block
    assert "and the interpreter's values" in report.obligations[-1].detail
    assert report.resources["arch"] == "sm_90a"


def test_a_wrong_schedule_is_refuted_by_the_oracle() -> None:
    text = TEXTS["hopper"].replace("cast(acc, bf16)", "cast(acc + acc, bf16)")
    report = kernelagent.check(text, target="emu", against=oracle(), quick=True)
    assert (report.ok, report.verdict) == (False, "REFUTED")
    assert "is not what the kernel computes there" in report.counterexamples[0].message


def oracle() -> str:
    """The guide's kernel in level one."""
    return """edition(1)

@kernel
def gemm(a: In[T, M, K], w: In[T, N, K], y: Out[T, M, N]):
    for i, j in tiles((M, N), (64, 64)):
        acc = zeros((64, 64), f32)
        for k in pipeline(0, K, 64):
            acc += mma(load(a, (i, k), (64, 64)), load(w, (j, k), (64, 64)).T)
        store(y, (i, j), cast(acc, T))
"""


def test_a_missing_wait_is_found_with_its_line() -> None:
    """What the rules of one role cannot see: a consumer that begins early takes an old phase for its own."""
    text = TEXTS["ping pong"].replace("wait(even_done, (t // 2) % 2)", "pass")
    report = kernelagent.check(text, target="emu", quick=True)
    assert (report.ok, report.verdict) == (False, "REFUTED")
    lines = text.splitlines()
    named = [lines[c.line - 1] for c in report.counterexamples]
    assert named
    assert all(any(part in line for part in ("mma(", "filled[n % 3]", "odd_done")) for line in named)


def test_other_parameters_cannot_be_compared() -> None:
    report = kernelagent.check(TEXTS["hopper"], target="emu", against=GEMM1, quick=True)
    assert [d.code for d in report.diagnostics] == ["against"]
    assert "a, w, y" in report.diagnostics[0].message


def test_guards_decide_whether_arrays_may_take_the_schedule() -> None:
    arrays = {"a": drawn(BF16, 64, 71), "w": drawn(BF16, 64, 71), "y": np.zeros((64, 64), BF16)}
    with pytest.raises(KernelError) as caught:
        emulate(read_module(TEXTS["hopper"]), arrays, arch="sm_90a")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "shape-class"
    assert diagnostic.facts["guards"] == ["aligned(a, 16)", "aligned(w, 16)"]


def test_a_schedule_is_for_its_own_target() -> None:
    report = kernelagent.check(TEXTS["hopper"], target="emu", arch="sm_80")
    assert [d.code for d in report.diagnostics] == ["schedule-target"]


@pytest.mark.parametrize(("columns", "step"), [(64, 48), (136, 64)])
def test_tiles_whose_rows_are_no_whole_swizzles(columns: int, step: int) -> None:
    """Rows of 96 and 272 bytes: panels are the longest spans that divide them."""
    text = oracle().replace("(64, 64)", "(64, BN)").replace("load(a, (i, k), (64, BN))", "load(a, (i, k), (64, BK))")
    text = text.replace("load(w, (j, k), (64, BN))", "load(w, (j, k), (BN, BK))").replace(
        "pipeline(0, K, 64)", "pipeline(0, K, BK)"
    )
    text = text.replace("Out[T, M, N])", f"Out[T, M, N], BN={columns}, BK={step})")
    module = parse(text)
    (unit,) = device_units(module, Choices({"T": "bf16"}, {}, {}, {}), "sm_90a")
    assert unit.classes[0].schedule.roles
    assert verify(unit.classes[0].schedule) == []
    a, w = drawn(BF16, 72, 104), drawn(BF16, 144, 104)
    y = np.zeros((72, 144), BF16)
    made = emulate(module, {"a": a, "w": w, "y": y}, arch="sm_90a", completion="random")
    assert made.ok, [f.message for f in made.findings]
    np.testing.assert_allclose(y.astype("f4"), a.astype("f4") @ w.astype("f4").T, rtol=1e-2, atol=1e-2)
