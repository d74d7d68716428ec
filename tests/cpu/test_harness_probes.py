"""Hidden sizes: kernels that are right on every workload of a problem and wrong elsewhere."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from kernelagent.harness import Evaluation, Options, Session, evaluate
from kernelagent.harness.build_cpu import build
from kernelagent.harness.probes import PROBES, bases, sizes_of

from kernelagent import problems

pytestmark = pytest.mark.skipif(
    not (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")), reason="no C compiler"
)

OPTIONS = Options(seed=11, timing=False, threads=2, check="none", quick=True)
TILES = replace(OPTIONS, tunables={"BR": 4, "BC": 64})  # softmax with tiles of which the tests below speak
SOFTMAX = problems.load("softmax").seed_kernel
GEMM = problems.load("gemm_nn").seed_kernel


TRANSPOSED = problems.load("transpose")
COPY = """\
edition(1)

@kernel
def turn(x: In[T, A, B], y: Out[T, B, A], BA=16, BB=32):
    for t, j in tiles((cdiv(A, BA), B), (1, BB)):
        store(y, (j, t * BA), load(x, (t * BA, j), (BA, BB)).T)

@program
def transpose(x: In[T, R, C], y: Out[T, C, R]):
    turn(x, y)
"""


def small(name: str, *names: str) -> problems.Problem:
    """A problem without its large workloads, which take time and show nothing here."""
    problem = problems.load(name)
    kept = tuple(w for w in problem.workloads if w.ragged or w.name in ("small", *names))
    return replace(problem, workloads=kept)


@pytest.fixture(scope="module")
def softmax() -> Iterator[Session]:
    with Session(small("softmax"), TILES) as session:
        yield session


def replaced(text: str, old: str, new: str, place: int = 0) -> str:
    """With one of the places where `old` stands replaced."""
    parts = text.split(old)
    assert len(parts) > place + 1
    return old.join(parts[: place + 1]) + new + old.join(parts[place + 1 :])


def hidden(found: Evaluation) -> dict[str, str]:
    """Detail by name of what failed; all workloads of the problem must have passed."""
    assert all(w.status == "PASSED" for w in found.workloads if not w.name.startswith("hidden("))
    return {w.name: w.detail for w in found.workloads if w.name.startswith("hidden(")}


def assuming(text: str, condition: str) -> str:
    return text.replace("    for i in tiles", f"    assume({condition})\n    for i in tiles", 1)


@pytest.mark.parametrize("name", problems.names())
def test_every_seed_is_right_at_its_hidden_sizes(name: str) -> None:
    problem = small(name)
    found = evaluate(problem.seed_kernel, problem, OPTIONS)
    assert found.status == "PASSED", hidden(found)
    assert hidden(found) == {}
    (line,) = [r for r in found.report if r.startswith("hidden sizes:")]
    right, total = line.split(";")[0].split(" at ")[1].split(" of ")
    assert right == total
    assert int(total) >= PROBES - 1  # draws may coincide


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("loop", [1, 2], ids=["sum", "store"])
def test_a_loop_that_ends_one_column_early_fails_where_one_column_is_left(seed: int, loop: int) -> None:
    text = replaced(SOFTMAX, "pipeline(0, C, BC)", "pipeline(0, C - 1, BC)", loop)
    found = evaluate(text, small("softmax"), replace(TILES, seed=seed))
    assert found.status == "INCORRECT_NUMERICAL"
    ((name, detail),) = hidden(found).items()
    assert name.endswith(("C=65)", "C=1)"))
    assert "y[0, " in detail
    assert found.workloads[-1].max_error_ratio is None or found.workloads[-1].max_error_ratio > 1


def test_the_proofs_alone_do_not_see_a_sum_that_ends_early() -> None:
    text = replaced(SOFTMAX, "pipeline(0, C, BC)", "pipeline(0, C - 1, BC)", 1)
    found = evaluate(text, small("softmax"), replace(OPTIONS, check="quick"))
    assert found.verdict in ("PROVED", "PROVED_BOUNDED", "TESTED")
    assert found.status == "INCORRECT_NUMERICAL"


@pytest.mark.parametrize("tunables", [{"BR": 64, "BC": 1024}, {"BR": 16, "BC": 4096}])
def test_large_tiles_are_probed_past_their_end_too(tunables: dict[str, int]) -> None:
    text = replaced(SOFTMAX, "pipeline(0, C, BC)", "pipeline(0, C - 1, BC)", 1)
    text = assuming(text, "C > 1")
    for seed in range(4):
        found = evaluate(text, small("softmax"), replace(OPTIONS, seed=seed, tunables=tunables))
        (name,) = hidden(found)
        assert name.endswith(f"C={tunables['BC'] + 1})")


def test_honest_kernels_that_round_more_at_tiny_sizes_pass() -> None:
    """The variance of one element is zero, and a folded scale then subtracts large equal numbers."""
    head = problems.load("layernorm").seed_kernel.rpartition("            d = (load")[0]
    folded = (
        head
        + """\
            scale = r[:, None] * load(w, (j,), (BC,))[None, :]
            shift = load(b, (j,), (BC,))[None, :] - mean[:, None] * scale
            store(y, (i, j), cast(load(x, (i, j), (BR, BC)) * scale + shift, T))
"""
    )
    problem = small("layernorm")
    for seed in range(4):
        found = evaluate(folded, problem, replace(OPTIONS, seed=seed))
        assert found.status == "PASSED", hidden(found)


def test_a_product_that_leaves_out_the_last_term_fails() -> None:
    text = replaced(GEMM, "pipeline(0, K, BK)", "pipeline(0, K - 1, BK)")
    found = evaluate(text, small("gemm_nn", "512"), OPTIONS)
    assert found.status == "INCORRECT_NUMERICAL"
    (name,) = hidden(found)
    assert name.endswith(("K=33)", "K=1)"))


def test_a_kernel_that_is_wrong_only_for_a_single_row_fails(softmax: Session) -> None:
    found = softmax.evaluate(SOFTMAX.replace("p / l[:, None]", "p / l[:, None] * (2.0 if R == 1 else 1.0)"))
    assert found.status == "INCORRECT_NUMERICAL", found.report
    (name,) = hidden(found)
    assert name.startswith("hidden(R=1,")


def test_sizes_that_the_kernel_rules_out_are_counted_and_not_run() -> None:
    limited = assuming(SOFTMAX, "C <= 1021")
    wide_tiles = replace(OPTIONS, tunables={"BC": 1024})
    found = evaluate(limited, small("softmax"), wide_tiles)
    assert found.status == "PASSED", hidden(found)
    assert "more are ruled out by the kernel" in found.report[-1]
    with_1024_columns = small("softmax", "1024x1024")
    assert evaluate(limited, with_1024_columns, OPTIONS).status == "REJECTED"  # the problem's sizes stay mandatory


def test_a_kernel_that_rules_out_the_sizes_where_it_is_wrong_passes(softmax: Session) -> None:
    wrong = replaced(SOFTMAX, "pipeline(0, C, BC)", "pipeline(0, C - 1, BC)", 1)
    assert softmax.evaluate(assuming(wrong, "C % 64 != 1")).status == "PASSED"


def test_a_fixed_size_keeps_its_value_and_each_binary_is_probed() -> None:
    problem = small("attention")
    built = build(problem.seed_kernel, problem, replace(OPTIONS, tunables={"BM": 16, "BN": 32}))
    assert [w.name for w in bases(problem, built, "small")] == ["small", "ragged"]
    assert built.sizes is not None
    assert built.sizes.fixed == {"D"}
    base = problem.workload("small")
    assert built.sizes.accepts(replace(base, dims={**base.dims, "M": 5, "N": 7}), "small")
    assert not built.sizes.accepts(replace(base, dims={**base.dims, "D": 64}), "small")
    assert not built.sizes.accepts(replace(base, dims={**base.dims, "H": 3, "G": 2}), "small")
    assert (built.sizes.extents["M"], built.sizes.extents["N"]) == ((16,), (32,))


def test_a_size_that_is_a_tile_extent_is_never_changed() -> None:
    text = assuming(SOFTMAX, "R in (8, 131), C in (64, 1021)").replace("(BR,)", "(R,)").replace("(BR, BC)", "(R, BC)")
    found = evaluate(text, small("softmax"), OPTIONS)
    assert found.status == "PASSED", found.report
    assert found.report[-1].startswith("hidden sizes:")


def test_tiles_are_found_behind_expressions_programs_and_cdiv() -> None:
    problem = small("softmax")
    found = build(SOFTMAX, problem, replace(OPTIONS, tunables={"BR": 4, "BC": 256})).sizes
    assert found is not None
    assert found.extents == {"R": (4,), "C": (256,)}
    rope = problems.load("rope")
    found = build(rope.seed_kernel, small("rope"), replace(OPTIONS, tunables={"BS": 4, "BP": 16})).sizes
    assert found is not None
    assert found.extents["P"] == (16,)
    assert found.extents["S"] == (4,)
    found = build(COPY, TRANSPOSED, OPTIONS).sizes
    assert found is not None
    assert found.extents == {"R": (1, 16), "C": (32,)}


def test_the_choice_is_secret_but_repeatable(softmax: Session) -> None:
    text = replaced(SOFTMAX, "pipeline(0, C, BC)", "pipeline(0, C - 1, BC)", 1)
    assert hidden(softmax.evaluate(text)) == hidden(softmax.evaluate(text))
    names = {tuple(hidden(softmax.evaluate(text + "\n" * n))) for n in range(4)}
    assert len(names) > 1


@pytest.mark.parametrize("tiles", [(), (1,), (64,), (8, 64), (2, 16, 128)])
def test_sizes_of_a_dim_have_one_and_one_past_every_tile(tiles: tuple[int, ...]) -> None:
    for seed in range(20):
        found = sizes_of(tiles, random.Random(seed))
        assert len(found) == PROBES
        assert {1, *(t + 1 for t in tiles if t > 1)} <= set(found)
        assert min(found) >= 1


def test_sizes_that_mean_nothing_to_the_problem_are_left_out() -> None:
    """Queries before all keys have no answer: the reference says NaN there, and nothing is held against a kernel."""
    problem = small("attention_causal")
    text = problem.seed_kernel.replace(", N >= M", "")
    found = evaluate(text, problem, OPTIONS)
    assert found.status == "PASSED", hidden(found)

    def reference(xp: object, **inputs: np.ndarray) -> object:
        if inputs["x"].shape not in ((131, 1021), (8, 64)):
            raise ValueError("only these")
        return problems.load("softmax").reference(xp, **inputs)

    strict = replace(small("softmax"), reference=reference)
    found = evaluate(SOFTMAX, strict, OPTIONS)
    assert found.status == "PASSED"
    assert found.report[-1] == "hidden sizes: right at 0 of 0"
