"""The static model orders what is known to be ordered, and its parts obey the laws they state."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernelagent.dsl import device as dev
from kernelagent.dsl import moves, parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.units import device_units
from kernelagent.harness.device_work import tile_work, tiles_of
from kernelagent.harness.static_model import ChipRates, Estimate, NotEstimated, _Model, estimate, machine, together

from kernelagent import problems

LADDER = Path(__file__).parents[2] / "docs" / "ladder" / "gemm_hopper"
RUNGS = {p.stem: p.read_text(encoding="utf-8") for p in sorted(LADDER.glob("*.tile"))}
RESIDENT = {name: 2 if name < "04" else 1 for name in RUNGS}
"""Blocks on a multiprocessor by the compiler's registers (tests/compile/test_static_model.py)."""
H100 = ChipRates(
    "h100-sxm", "sm_90a", 132, 1.98e9, 52428800, 3.35e12, {"bf16": 989.4e12, "f8e4m3": 1978.9e12}, 66.9e12, 4.18e12
)
"""solar/chips/h100-sxm.toml"""


def schedule(text: str, arch: str = "sm_90a", **dtypes: str) -> dev.DeviceKernel:
    (unit,) = device_units(parse(text), Choices(dtypes, {}, {}, {}), arch)
    return unit.classes[0].schedule


def of_rung(name: str, n: int, chip: ChipRates = H100) -> Estimate:
    return estimate(schedule(RUNGS[name]), {"M": n, "N": n, "K": n}, RESIDENT[name], chip)


def test_the_ladder_is_ordered_and_its_large_steps_show() -> None:
    """Rungs in the recipe's order at the recipe's size; the ring, the roles' stages and the wide tile gain most."""
    times = [of_rung(name, 8192).time_ms for name in RUNGS]
    assert times == sorted(times, reverse=True)
    gains = {name: before / after for name, before, after in zip(list(RUNGS)[1:], times, times[1:], strict=False)}
    assert gains["02_ring"] > 1.2
    assert gains["05_stages"] > 1.1
    assert gains["06_wide_tile"] > 1.08
    assert times[0] / times[-1] > 1.8
    assert gains["08_cluster"] > 1.01


def test_the_ladder_is_ordered_on_another_size_but_for_a_thousandth() -> None:
    times = [of_rung(name, 4096).time_ms for name in RUNGS]
    assert all(after <= 1.001 * before for before, after in pairwise(times))


def test_no_estimate_beats_the_chip() -> None:
    """Peak products and every array read once are a floor."""
    for name in RUNGS:
        for n in (512, 2048, 8192):
            floor = max(2 * n**3 / 989.4e12, 3 * n * n * 2 / 3.35e12)
            assert of_rung(name, n).time_ms > 1e3 * floor


def test_work_of_one_tile_is_what_the_text_says() -> None:
    n = 1024
    work = tile_work(schedule(RUNGS["05_stages"]), {"M": n, "N": n, "K": n, "i": 0, "j": 0})
    total = work.part.total
    assert total["wgmma bf16"] == 2 * 128 * 128 * n
    assert total["read"] == (128 + 128) * n * 2
    assert total["written"] == 128 * 128 * 2
    assert work.groups == 2
    (loop,) = work.part.parts
    assert (loop.trips, loop.ahead) == (n // 64, 4)
    assert loop.work["shared"] == (128 + 128) * 64 * 2 + (2 * 64 + 2 * 128) * 64 * 2, "copies in, two groups read"


def test_a_ring_counts_each_copy_once_and_warps_read_what_they_share() -> None:
    n = 1024
    total = tile_work(schedule(RUNGS["02_ring"]), {"M": n, "N": n, "K": n, "i": 0, "j": 0}).part.total
    assert total["read"] == (128 + 128) * n * 2
    assert total["mma bf16"] == 2 * 128 * 128 * n
    loop_shared = (128 + 128) * n * 2 + 2 * (128 + 128) * n * 2  # in, and out for 2x2 warps
    assert total["shared"] == loop_shared + 2 * 128 * 128 * 2, "and the result through shared memory"


def test_multicast_halves_what_is_read_of_the_shared_operand() -> None:
    n = 1024
    at = {"M": n, "N": n, "K": n, "i": 0, "j": 0}
    apart, paired = (tile_work(schedule(RUNGS[r]), at).part.total for r in ("07_persistent", "08_cluster"))
    assert apart["read"] - paired["read"] == 128 * n * 2
    assert apart["shared"] == paired["shared"]


@settings(max_examples=40)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["row", "column", "grouped", "hilbert", "4"]))
def test_every_tile_of_a_grid_is_visited_once(rows: int, columns: int, order: str) -> None:
    kernel = schedule(RUNGS["05_stages"])
    grid = kernel.grid
    grid = replace(grid, raster="grouped", group=4) if order == "4" else replace(grid, raster=order)  # type: ignore[arg-type]
    tiles = tiles_of(replace(kernel, grid=grid), {"M": 128 * rows, "N": 128 * columns, "K": 64})
    assert tiles.count == rows * columns
    found = {(at["i"], at["j"]) for at in map(tiles.at, range(tiles.count))}
    assert found == {(128 * r, 128 * c) for r in range(rows) for c in range(columns)}


def test_grouping_saves_memory_traffic() -> None:
    row, grouped = (of_rung(r, 8192).memory_bytes for r in ("02_ring", "03_raster"))
    assert grouped < 0.85 * row


def test_more_bandwidth_and_more_units_never_hurt() -> None:
    for name in RUNGS:
        base = of_rung(name, 2048).time_ms
        assert of_rung(name, 2048, replace(H100, dram=2 * H100.dram)).time_ms <= base
        assert of_rung(name, 2048, replace(H100, fma=2 * H100.fma)).time_ms <= base


def test_a_row_kernel_is_bound_by_memory() -> None:
    text = problems.load("softmax").seed_kernel
    found = estimate(schedule(moves.apply("set_tunable", text, name="BC", value=1024), T="f32"),
                     {"R": 65536, "C": 4096}, 4, H100)  # fmt: skip
    floor = 2 * 65536 * 4096 * 4 / 3.35e12 * 1e3
    assert floor < found.time_ms < 6 * floor
    assert max(found.terms, key=lambda name: found.terms[name]) in ("dram", "cache")


def test_causal_attention_is_about_half_of_the_full_one() -> None:
    full, causal = (
        moves.apply("split_roles", problems.load(name).seed_kernel) for name in ("attention", "attention_causal")
    )
    causal = moves.apply("skip_masked_tiles", causal) if "minimum" not in causal else causal
    sizes = {"B": 4, "H": 16, "G": 16, "M": 8192, "N": 8192, "D": 128}
    times = []
    for text in (full, causal):
        (unit,) = device_units(parse(text), Choices({"T": "bf16"}, {}, {}, {"D": 128}), "sm_90a")
        times.append(estimate(unit.classes[0].schedule, sizes, 1, H100).time_ms)
    assert 0.45 < times[1] / times[0] < 0.75


def test_consumers_that_take_turns_hide_the_end_of_a_tile() -> None:
    """What stands around the loop is not multiplied by the turns: one role ends its tile while another multiplies."""
    turns = moves.apply("arrange_consumers", RUNGS["07_persistent"], how="pingpong")
    turns = moves.apply("tile_product", turns, rows=64, columns=256, depth=64)
    kernel = schedule(turns)
    sizes = {"M": 8192, "N": 8192, "K": 256, "i": 0, "j": 0}
    work = tile_work(kernel, sizes)
    assert (work.turns, work.groups) == (2, 2)
    assert work.part.total["wgmma bf16"] == 2 * 64 * 256 * 256, "one tile, not one of each role"
    model = _Model(machine("sm_90a"), H100)
    assert model.alone(work, True) < model.alone(replace(work, turns=1), True)


def test_programs_add_up() -> None:
    one = of_rung("05_stages", 2048)
    both = together([one, one])
    assert both.time_ms == pytest.approx(2 * one.time_ms)
    assert both.bound == one.bound


def test_what_is_not_known_is_said() -> None:
    kernel = schedule(RUNGS["05_stages"])
    with pytest.raises(NotEstimated, match="no figures for sm_100a"):
        estimate(kernel, {"M": 64, "N": 64, "K": 64}, 1, replace(H100, arch="sm_100a"))
    with pytest.raises(NotEstimated, match="no rate for products of bf16"):
        estimate(kernel, {"M": 64, "N": 64, "K": 64}, 1, replace(H100, matrix={}))
    with pytest.raises(NotEstimated, match="known at run time only"):
        estimate(kernel, {"M": 64, "N": 64}, 1, H100)


@pytest.mark.parametrize("arch", ["sm_80", "sm_89", "sm_90a"])
def test_every_figure_has_a_source(arch: str) -> None:
    import tomllib
    from importlib.resources import files

    table = tomllib.loads(files("kernelagent.harness").joinpath("static_model.toml").read_text(encoding="utf-8"))
    assert machine(arch).mma_share <= 1.0
    for figure in (*table[arch].values(), *table["every"].values()):
        assert figure["value"] > 0
        assert len(figure["source"]) > 20
