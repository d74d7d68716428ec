"""Clusters as policy: what they share, how the grid keeps their tiles together, and what is dropped or refused."""

from __future__ import annotations

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.diagnostics import Diagnostic, KernelError
from kernelagent.dsl.level2 import read_module
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.emit import emit, launch_blocks
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.gpu_texts import TOTAL_BY_POLICY, gemm_by_policy

GEMM = gemm_by_policy()


def lowered(policy: str, text: str = GEMM, arch: str = "sm_90a") -> DeviceCode:
    (unit,) = device_units(parse(text.format(policy=policy)), Choices({}, {}, {}, {}), arch)
    return unit.classes[0]


def refused(policy: str, text: str = GEMM, arch: str = "sm_90a") -> Diagnostic:
    with pytest.raises(KernelError) as caught:
        lowered(policy, text, arch)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "policy-refused"
    assert diagnostic.span is not None
    assert diagnostic.span.line == 5
    return diagnostic


def shared(schedule: dev.DeviceKernel) -> dict[str, int]:
    copies = (s for s in dev.statements(schedule) if isinstance(s, dev.CopyBulk))
    return {c.view.array: c.shared_by for c in copies}


# Honoured --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "together", "operands"),
    [
        ("2", (2, 1), {"a": 1, "b": 2}),
        ("(2, 1)", (2, 1), {"a": 1, "b": 2}),
        ("(1, 2)", (1, 2), {"a": 2, "b": 1}),
        ("4", (4, 1), {"a": 1, "b": 4}),
        ("(1, 4)", (1, 4), {"a": 4, "b": 1}),
        ("8", (8, 1), {"a": 1, "b": 8}),
    ],
)
@pytest.mark.parametrize("raster", ["row", "column", "grouped", "hilbert", "3"])
def test_blocks_below_each_other_share_the_right_operand(
    asked: str, together: tuple[int, int], operands: dict[str, int], raster: str
) -> None:
    """And blocks side by side the left one. Each block gives a stage back to all that copy into it."""
    code = lowered(f"on(sm_90a, cluster={asked}, raster={raster})")
    made, blocks = code.schedule, together[0] * together[1]
    assert (made.cluster, made.grid.together) == (blocks, together)
    assert {role.grid.together for role in made.roles} == {together}
    assert shared(made) == operands
    empty = next(b for b in made.barriers if b.name.endswith("_empty"))
    assert empty.arrivals == 8 * blocks
    assert f"KA_CLUSTER_KERNEL(k_gemm, 384, 1, {blocks})" in code.body
    assert f"cluster: {together[0]}x{together[1]} tiles" in code.body


@pytest.mark.parametrize("asked", ["2", "(1, 2)", "4", "(1, 4)"])
def test_whole_clusters_are_launched(asked: str) -> None:
    schedule = lowered(f"on(sm_90a, cluster={asked}, persistent=True)").schedule
    down, right = schedule.grid.together
    rows, columns = -(-3 // down) * down, -(-5 // right) * right
    sizes = {"M": 300, "N": 600, "K": 64}
    assert launch_blocks(schedule, sizes, 10**6) == rows * columns
    assert launch_blocks(schedule, sizes, 7) == 7 // schedule.cluster * schedule.cluster


@pytest.mark.parametrize("policy", ["cluster=(1, 2), raster=hilbert", "cluster=4, persistent=True", "cluster=2"])
def test_level_two_says_which_way_a_cluster_lies(policy: str) -> None:
    schedule = lowered(f"on(sm_90a, {policy})").schedule
    text = print_schedule(schedule)
    assert f"cluster={'(1, 2)' if schedule.grid.together == (1, 2) else schedule.cluster}" in text
    again = read_module(text).schedule  # type: ignore[attr-defined]
    assert (again.cluster, again.grid.together, again.grid.raster) == (
        schedule.cluster, schedule.grid.together, schedule.grid.raster,
    )  # fmt: skip
    plain = [line for line in emit(schedule).splitlines() if not line.lstrip().startswith(("#line", "//"))]
    assert plain == [line for line in emit(again).splitlines() if not line.lstrip().startswith(("#line", "//"))]


def test_one_block_is_no_cluster() -> None:
    code = lowered("require(cluster=1)")
    assert code.schedule.cluster == 1
    assert "policy cluster" not in code.body


# Dropped, or refused under `require` and in a scope ----------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "why", "hint"),
    [
        ("16", "a cluster is 2, 4, 8 blocks", "write cluster=8"),
        ("3", "a cluster is 2, 4, 8 blocks", "write cluster=2"),
        ("(1, 6)", "a cluster is 2, 4, 8 blocks", "write cluster=(1, 4)"),
        ("(2, 2)", "in one row or in one column", "write cluster=4, or cluster=(1, 4)"),
    ],
)
def test_clusters_that_are_not(asked: str, why: str, hint: str) -> None:
    found = refused(f"require(cluster={asked})")
    assert why in found.message
    assert found.hint is not None
    assert found.hint.startswith(hint)
    code = lowered(f"on(cluster={asked})")
    assert code.schedule.cluster == 1
    assert f"policy cluster={asked}: dropped (" in code.body


def test_an_operand_in_too_small_parts() -> None:
    """16 columns are two parts of 8 rows of the right operand's box, not four."""
    found = refused("require(cluster=4, BN=16)")
    assert "does not depend on `i` in 4 parts of 8 rows" in found.message
    assert "cluster=(1, 4)" in str(found.hint)
    assert lowered("require(cluster=(1, 4), BN=16)").schedule.cluster == 4


@pytest.mark.parametrize(
    ("policy", "text", "arch"),
    [
        ("cluster=2", GEMM, "sm_80"),
        ("via=tma", GEMM, "sm_89"),
        ("cluster=2, roles=1", GEMM, "sm_90a"),
        ("cluster=2, BM=32", GEMM, "sm_90a"),
        ("cluster=2", TOTAL_BY_POLICY, "sm_90a"),
    ],
)
def test_what_this_schedule_has_not(policy: str, text: str, arch: str) -> None:
    """Chips without clusters or tensor maps, schedules without a copying role, grids of one variable."""
    words = policy.partition(",")[0]
    assert f"policy {words}: dropped (" in lowered(f"on({policy})", text, arch).body
    found = refused(f"require({policy})", text, arch)
    assert words in found.message
    assert found.hint


# Level two -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cluster", "says"),
    [("(1, 2, 1)", "not rows and columns"), ("16", "1 to 8"), ("(4, 4)", "1 to 8"), ("(0, 2)", "1 to 8")],
)
def test_a_written_cluster_is_judged(cluster: str, says: str) -> None:
    text = print_schedule(lowered("on(sm_90a, cluster=(1, 2))").schedule).replace(
        "cluster=(1, 2)", f"cluster={cluster}"
    )
    with pytest.raises(KernelError) as caught:
        read_module(text)
    assert any(d.code == "cluster" and says in d.message for d in caught.value.diagnostics), caught.value


def test_a_cluster_needs_two_variables() -> None:
    text = print_schedule(lowered("on(sm_90a, BM=4)", TOTAL_BY_POLICY).schedule)
    with pytest.raises(KernelError) as caught:
        read_module(text.replace("schedule(sm_90a,", "schedule(sm_90a, cluster=2,"))
    assert any("one grid of two variables" in str(d.hint) for d in caught.value.diagnostics)


# Tensor maps ------------------------------------------------------------------------------------------


def test_by_tensor_maps_if_asked() -> None:
    code = lowered("require(via=tma)")
    assert "ka_tma_load" in code.body
    assert "via: tma (policy: operands come through tensor maps)" in code.body
    assert "policy via=cached: dropped" in lowered("on(via=cached)").body


@pytest.mark.parametrize("word", ["via=tma", "cluster=2", "roles=cooperative"])
@pytest.mark.parametrize(
    ("tiles", "why", "hint"),
    [
        ("BN=512, BK=16", "512 rows, a box has at most 256", "tiles of 256 rows are the largest"),
        ("BM=128, BK=80", "rows of 160 bytes are no box", "tiles of 64 elements along its rows"),
    ],
)
def test_tiles_beyond_a_box(word: str, tiles: str, why: str, hint: str) -> None:
    """Dropped with a line and a schedule without tensor maps; under `require` the limit and the nearest tile."""
    code = lowered(f"on({word}, {tiles})")
    assert "ka_tma_load" not in code.body
    assert f"policy {word}: dropped (b: " in code.body or f"policy {word}: dropped (a: " in code.body
    found = refused(f"require({word}, {tiles})")
    assert why in found.message
    assert hint in str(found.hint)
