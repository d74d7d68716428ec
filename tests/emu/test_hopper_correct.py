"""Correct Hopper bodies: numpy's results and no findings, however copies and products complete."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl.targets.emulator import ArrayArgument
from kernelagent.dsl.targets.emulator.launch import Completion
from kernelagent.dsl.tensor_map import TensorMapSpec
from support.emulated import COMPLETIONS
from support.hopper_bodies import ALONE, TOGETHER, gemm, hopper

each_completion = pytest.mark.parametrize("completion", COMPLETIONS)

SIZES = {
    "full": (256, 256, 256),
    "overhanging boxes": (200, 136, 72),
    "fewer k tiles than stages": (128, 256, 64),
    "one tile, less than a box": (40, 8, 16),
    "phases carried across tiles": (384, 256, 320),
}


def agrees(got: np.ndarray, want: np.ndarray) -> bool:
    """Up to one rounding to bf16."""
    return np.allclose(got, want, rtol=2**-7, atol=1e-3)


@each_completion
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_a_product_with_one_producer_and_two_consumers(completion: Completion, sizes: tuple[int, int, int]) -> None:
    report, got, want = gemm(ALONE, sizes, completion, blocks=2 if sizes[0] > 200 else None, seed=5)
    assert report.ok, report.findings
    assert not report.notes
    assert agrees(got, want)


@each_completion
@pytest.mark.parametrize("sizes", [(256, 128, 320), (512, 256, 72), (200, 136, 64)])
def test_a_cluster_of_two_with_multicast(completion: Completion, sizes: tuple[int, int, int]) -> None:
    report, got, want = gemm(TOGETHER, sizes, completion, blocks=2, cluster=2, seed=7)
    assert report.ok, report.findings
    assert agrees(got, want)


def test_random_completion_repeats_with_its_seed() -> None:
    broken = ALONE.replace("ka_wgmma_wait<0>();", "ka_wgmma_wait<1>();")
    runs = [gemm(broken, (256, 256, 256), "random", seed=3) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][1], runs[1][1])
    assert runs[0][0].findings == runs[1][0].findings


def test_a_product_is_emulated_in_two_seconds_with_its_compilation(tmp_path: Path) -> None:
    gemm(sizes=(40, 8, 16))  # the runner is built once for all bodies
    report, _, _ = gemm(f"{ALONE}// {tmp_path}", (256, 256, 256))
    assert report.ok
    assert report.compile_seconds + report.seconds < 2


@each_completion
def test_stages_are_used_again_by_the_epilogue_after_draining(completion: Completion) -> None:
    reused = ALONE.replace("C = 98304", "C = 0").replace(
        "if (tid % 128 == 0) ka_tma_wait_read<0>();\n#line 61",
        "ka_named_barrier<3>(256);\n#line 61",
    )
    report, got, want = gemm(reused, (256, 256, 192), completion)
    assert report.ok, report.findings
    assert agrees(got, want)


PING_PONG = """ka_f32 v;
    for (int turn = 0; turn < 4; turn++) {
        if (tid < 128) {
            v = (ka_f32)(turn + tid); ka_sts<1>(tid * 4, &v);
            ka_named_arrive<1>(256);
            ka_named_barrier<2>(256);
        } else {
            ka_named_barrier<1>(256);
            ka_lds<1>(&v, (255 - tid) * 4);
            ka_named_arrive<2>(256);
            ka_f32 w = v; ka_atomic_add(ka_at(y, (tid - 128) / 64, tid % 64), w, true);
        }
    }"""


@each_completion
def test_named_barriers_order_those_who_arrive_and_those_who_wait(completion: Completion) -> None:
    y = np.zeros((64, 64), np.float32)
    report = hopper(PING_PONG, [ArrayArgument("y", y, "inout")], 256, completion=completion)
    assert report.ok, report.findings
    np.testing.assert_array_equal(y[:2].ravel(), [4 * (127 - t) + 6 for t in range(128)])


MOVE = """if (tid == 0) { ka_mbar_init(16384, 1); ka_mbar_fence_init(); }
    ka_barrier();
    if (tid < 32 && ka_elect()) {{
        ka_mbar_expect(16384, {bytes});
        ka_tma_load<{rank}>(0, map_0, 16384, {corner});
    }}
    ka_mbar_wait(16384, 0);
    if (tid < 32 && ka_elect()) {{
        ka_fence_async();
        {store}<{rank}>(map_1, 0, {corner});
        ka_tma_commit();
        ka_tma_wait<0>();
    }}"""


def moved(
    spec: TensorMapSpec, x: np.ndarray, corner: tuple[int, ...], completion: Completion, add: bool = False
) -> np.ndarray:
    """x's box at `corner`, stored (or added) at the same place of an array of ones."""
    y = np.ones_like(x)
    target = TensorMapSpec("y", spec.dtype, spec.axes, spec.box, spec.swizzle, spec.element_strides)
    words = {"bytes": spec.box_bytes, "rank": spec.rank, "corner": ", ".join(map(str, corner))}
    head, rest = MOVE.split("\n", 1)
    body = head + "\n" + rest.format(store="ka_tma_add" if add else "ka_tma_store", **words)
    report = hopper(
        body, [ArrayArgument("x", x), ArrayArgument("y", y, "inout")], maps=(spec, target), completion=completion
    )
    assert report.ok, report.findings
    return y


BOXES = {
    "inside": ((1, 0), (32, 8), 128, (32, 16), ()),
    "over the right and lower edge": ((1, 0), (32, 16), 128, (40, 60), ()),
    "before the first element": ((1, 0), (16, 8), 64, (-4, -3), ()),
    "no swizzle": ((1, 0), (8, 64), 0, (60, -7), ()),
    "swizzle over 32 bytes": ((1, 0), (8, 32), 32, (56, 40), ()),
    "every second row": ((1, 0), (32, 16), 128, (0, 50), (1, 2)),
    "wholly outside": ((1, 0), (32, 8), 128, (64, 0), ()),
}


@each_completion
@pytest.mark.parametrize("case", BOXES.values(), ids=BOXES)
def test_boxes_are_moved_as_their_references_say(case: tuple[object, ...], completion: Completion) -> None:
    from kernelagent.dsl import boxes

    axes, box, swizzle, corner, steps = case
    spec = TensorMapSpec("x", "f32", axes, box, swizzle, steps)  # type: ignore[arg-type]
    x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    for add in (False, True):
        want = (boxes.add if add else boxes.store)(spec, np.ones_like(x), corner, boxes.load(spec, x, corner))  # type: ignore[arg-type]
        np.testing.assert_array_equal(moved(spec, x, corner, completion, add), want)  # type: ignore[arg-type]


def test_boxes_of_three_axes_and_of_a_part_of_an_array() -> None:
    x = np.random.default_rng(0).standard_normal((4, 10, 16), np.float32)
    spec = TensorMapSpec("x", "f32", (2, 1, 0), (8, 4, 2), 32)
    want = np.ones_like(x)
    want[1:3, 7:10, 8:16] = x[1:3, 7:10, 8:16]
    np.testing.assert_array_equal(moved(spec, x, (8, 7, 1), "late"), want)
