"""Moves on schedules of a GPU: values stay, the schedule takes each word or says why not, and no meaning is lost."""

from __future__ import annotations

import functools
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import moves, parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.interpreter.run import interpret
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units

from kernelagent import problems

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"
RUNGS = {p.stem: p.read_text(encoding="utf-8") for p in sorted(LADDER.glob("*.tile"))}
DEVICE = tuple(n for n in moves.names() if moves.get(n).family == "device")
REFUSALS = {"policy-refused", "shared-limit", "mma-tile", "cuda-unsupported"}
"""Diagnostics with which a binding word that the chip cannot honour is answered: each names the limit."""


def lowered(text: str) -> list[str]:
    """The report of every shape class on sm_90a."""
    units = device_units(parse(text), Choices({}, {}, {}, {}), "sm_90a")
    return [str(choice) for unit in units for code in unit.classes for choice in code.schedule.choices]


def answer(text: str) -> tuple[list[str], tuple[Diagnostic, ...]]:
    """The report, or why there is none."""
    try:
        return lowered(text), ()
    except KernelError as refusal:
        return [], refusal.diagnostics


@functools.cache
def operands() -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(7)
    return tuple(rng.standard_normal(shape).astype(ml_dtypes.bfloat16) for shape in ((70, 50), (41, 50)))


def values(text: str) -> np.ndarray:
    a, b = operands()
    c = np.zeros((a.shape[0], b.shape[0]), ml_dtypes.bfloat16)
    sizes = {"BM": 16, "BN": 8, "BK": 16}
    found = interpret(parse(text), {"a": a, "b": b, "c": c}, {}, sizes, plant_nan=True)["c"]
    return np.asarray(found).astype(np.float64)


def test_each_step_of_the_recipe_is_a_move() -> None:
    """From plain warps to clusters: the ladder's last rung is reached from its first by moves alone."""
    text = RUNGS["01_one_stage"]
    for move, arguments in (
        ("deepen_ring", {"stages": 3}),
        ("order_tiles", {"order": "grouped"}),
        ("split_roles", {}),
        ("tile_product", {"rows": 128, "columns": 256, "depth": 64}),
        ("persistent_blocks", {}),
        ("pair_blocks", {}),
    ):
        text = moves.apply(move, text, **arguments)
    (reached,) = device_units(parse(text), Choices({}, {}, {}, {}), "sm_90a")
    (wanted,) = device_units(parse(RUNGS["08_cluster"]), Choices({}, {}, {}, {}), "sm_90a")
    strip = [line for line in reached.classes[0].body.splitlines() if not line.startswith("#line")]
    assert strip == [line for line in wanted.classes[0].body.splitlines() if not line.startswith("#line")]


@pytest.mark.parametrize("rung", ["01_one_stage", "05_stages", "08_cluster"])
def test_a_move_is_taken_or_answered(rung: str) -> None:
    """The schedule differs, or its report has one more line, or the refusal names a limit."""
    before = lowered(RUNGS[rung])
    for move, arguments in moves.applicable(RUNGS[rung], only=DEVICE):
        text = moves.apply(move, RUNGS[rung], **arguments)
        after, refused = answer(text)
        assert {d.code for d in refused} <= REFUSALS, (move, arguments)
        assert all(d.hint for d in refused), (move, arguments)
        assert refused or after != before, (move, arguments)


@settings(max_examples=25)
@given(st.data())
def test_any_sequence_keeps_the_values(data: st.DataObject) -> None:
    text = RUNGS[data.draw(st.sampled_from(sorted(RUNGS)))]
    for _ in range(data.draw(st.integers(1, 4))):
        move, arguments = data.draw(st.sampled_from(moves.applicable(text, only=DEVICE)))
        text = moves.apply(move, text, **arguments)
    np.testing.assert_array_equal(values(text), values(RUNGS["01_one_stage"]))


def test_words_go_to_the_architecture_that_is_named() -> None:
    seed = problems.load("gemm_nt").seed_kernel
    assert "on(sm_80, stages=3)" in moves.apply("deepen_ring", seed, stages=3, target="sm_80")
    with pytest.raises(moves.MoveError, match="clusters exist on sm_90a only"):
        moves.apply("pair_blocks", seed, target="sm_80")
    with pytest.raises(moves.MoveError, match="roles exist on sm_90a only"):
        moves.apply("split_roles", seed, target="sm_89")


def test_roles_bring_a_tile_that_warpgroups_can_share() -> None:
    split = moves.apply("split_roles", problems.load("gemm_nt").seed_kernel)
    assert "on(sm_90a, BM=128, BN=128, BK=64)" in split
    with pytest.raises(moves.MoveError, match="roles already"):
        moves.apply("split_roles", split)
    assert "roles=1" not in moves.apply("split_roles", RUNGS["01_one_stage"])
    assert "roles=1" in moves.apply("join_roles", split)
    queries = moves.apply("split_roles", problems.load("attention").seed_kernel)
    assert "on(sm_90a, BM=128, BN=64)" in queries, "the loop's step, and no columns"


def test_a_cluster_leaves_no_row_raster() -> None:
    paired = moves.apply("pair_blocks", RUNGS["01_one_stage"])
    assert 'raster="grouped"' in paired
    assert "raster=row" not in paired


@pytest.mark.parametrize(
    ("move", "arguments"),
    [
        ("deepen_ring", {"stages": 17}),
        ("deepen_ring", {"stages": True}),
        ("order_tiles", {"order": "diagonal"}),
        ("order_tiles", {"order": 65}),
        ("tile_product", {}),
        ("tile_product", {"rows": 4}),
        ("set_warps", {"warps": 3}),
        ("persistent_blocks", {"on": 1}),
        ("unroll_device", {"factor": 0}),
    ],
)
def test_wrong_arguments_are_move_errors(move: str, arguments: dict[str, object]) -> None:
    with pytest.raises(moves.MoveError):
        moves.apply(move, RUNGS["05_stages"], **arguments)


@pytest.mark.parametrize("move", [n for n in DEVICE if n not in ("persistent_blocks", "unroll_device")])
def test_a_kernel_without_products_has_none_of_its_words(move: str) -> None:
    found = moves.applicable(problems.load("row_sum").seed_kernel, only=[move])
    assert found == []
