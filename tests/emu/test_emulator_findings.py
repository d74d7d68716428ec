"""One minimally broken body for each kind of finding: the kind, the line, the place."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl.device import SharedBuffer
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorFailed, EmulatorReport, Finding
from ml_dtypes import bfloat16
from support.emulated import COMPLETIONS, GEMM, gemm, small


def only(report: EmulatorReport, kind: str) -> Finding:
    """The first finding, all being of this kind."""
    assert report.kinds() == {kind}, report.findings
    return report.findings[0]


def of_kind(report: EmulatorReport, kind: str) -> list[Finding]:
    found = [f for f in report.findings if f.kind == kind]
    assert found, report.findings
    return found


def broken_gemm(old: str, new: str, completion: str = "late") -> EmulatorReport:
    assert GEMM.count(old) >= 1
    report, _, _ = gemm(GEMM.replace(old, new), (128, 128, 160), completion)  # type: ignore[arg-type]
    return report


# Shared memory ------------------------------------------------------------------------------------------


def test_a_store_read_by_another_thread_without_a_barrier_is_a_race() -> None:
    report = small("ka_f32 v = 1;\nka_sts<1>(tid * 4, &v);\nka_lds<1>(&v, (tid ^ 1) * 4);", completion="early")
    races = of_kind(report, "race")
    assert {(f.line, f.other_line, f.occurrences) for f in races} == {(3, 2, 32), (2, 3, 32)}
    assert report.kinds() == {"race", "uninitialised-shared"}  # who runs before its partner reads what is not there yet


def test_two_stores_of_one_byte_without_a_barrier_are_a_race() -> None:
    found = only(small("ka_f32 v = 1;\nka_sts<1>(tid / 2 * 4, &v);"), "race")
    assert (found.line, found.other_line, found.thread, found.other_thread) == (2, 2, 1, 0)
    assert found.shared_offset == 0


def test_a_store_over_what_another_thread_still_reads_is_a_race() -> None:
    body = """ka_f32 v = 1;
        ka_sts<1>(tid * 4, &v);
        ka_barrier();
        ka_lds<1>(&v, (tid ^ 33) * 4);
        ka_sts<1>(tid * 4, &v);"""
    for completion in COMPLETIONS:
        found = only(small(body, completion=completion), "race")
        assert {found.line, found.other_line} == {5, 4}


@pytest.mark.parametrize("call", ["ka_shfl_xor(v, 1)", "ka_shfl(v, 0)"])
def test_a_shuffle_does_not_order_shared_memory(call: str) -> None:
    found = only(small(f"ka_f32 v = 1;\nka_sts<1>(tid * 4, &v);\nv = {call};\nka_lds<1>(&v, (tid ^ 1) * 4);"), "race")
    assert (found.line, found.other_line) == (4, 2)


def test_shared_bytes_that_nobody_wrote_are_uninitialised() -> None:
    buffers = [SharedBuffer("tile", "f32", (4, 8), pad=1, offset=16)]
    body = "ka_f32 v;\nka_lds<1>(&v, 16 + (1 * 9 + 3) * 4);"
    found = only(small(body, buffers=buffers), "uninitialised-shared")
    assert (found.line, found.place, found.occurrences) == (2, "tile[1, 3]", 64)


def test_shared_memory_is_forgotten_between_blocks() -> None:
    body = "ka_f32 v = 1;\nif (ka_block() == 0) ka_sts<1>(tid * 4, &v);\nif (ka_block() == 1) ka_lds<1>(&v, tid * 4);"
    found = only(small(body, blocks=2), "uninitialised-shared")
    assert (found.block, found.line) == (1, 3)


def test_bytes_beyond_the_shared_memory_are_out_of_bounds() -> None:
    found = only(small("ka_f32 v = 1;\nka_sts<1>(tid * 4, &v);", shared_bytes=252), "shared-out-of-bounds")
    assert (found.line, found.thread, found.warp, found.lane, found.shared_offset) == (2, 63, 1, 31, 252)


def test_a_vector_off_its_alignment_is_misaligned() -> None:
    found = only(small("ka_f32 v[4] = {};\nif (tid == 0) ka_sts<4>(8, v);"), "misaligned")
    assert (found.line, found.shared_offset) == (2, 8)


# Asynchronous copies ----------------------------------------------------------------------------------------

COPY = "ka_cp_async<4>(tid * 4, ka_at(x, tid), true);\n"


def test_a_copy_that_is_read_without_a_wait() -> None:
    for completion in COMPLETIONS:
        report = small(COPY + "ka_commit();\nka_f32 v;\nka_lds<1>(&v, tid * 4);", completion=completion)
        found = only(report, "missing-wait")
        assert (found.line, found.other_line) == (4, 1)
        assert report.notes[0].kind == "unwaited-copy"


def test_a_copy_in_a_group_that_was_never_committed() -> None:
    found = only(small(COPY + "ka_wait_group<0>();\nka_f32 v;\nka_lds<1>(&v, tid * 4);"), "missing-wait")
    assert "never committed" in found.message
    assert found.line == 4


def test_a_late_copy_leaves_the_bytes_as_they_were() -> None:
    x, y = np.ones(64, np.float32), np.zeros(64, np.float32)
    body = COPY + "ka_commit();\nka_f32 v;\nka_lds<1>(&v, tid * 4);\nka_stg<1>(ka_at(y, tid), &v, true);\n"
    arrays = [ArrayArgument("x", x), ArrayArgument("y", y, "out")]
    small(body, arrays, completion="late")
    assert np.isnan(y).all()
    small(body, arrays, completion="early")
    assert (y == 1).all()


def test_a_wait_without_a_barrier_serves_its_own_thread_only() -> None:
    wait = "ka_commit();\nka_wait_group<0>();\nka_f32 v;\n"
    assert small(COPY + wait + "ka_lds<1>(&v, tid * 4);").ok
    found = only(small(COPY + wait + "ka_lds<1>(&v, (tid & ~1) * 4);"), "race")
    assert (found.line, found.other_line, found.thread, found.other_thread) == (5, 1, 1, 0)


def test_a_barrier_before_the_wait_does_not_make_copies_visible() -> None:
    body = COPY + "ka_commit();\nka_barrier();\nka_wait_group<0>();\nka_f32 v;\nka_lds<1>(&v, (tid ^ 32) * 4);"
    for completion in COMPLETIONS:
        report = small(body, completion=completion)
        assert report.kinds() <= {"race", "missing-wait"}
        assert not report.ok
        assert {(f.line, f.other_line) for f in report.findings} == {(6, 1)}


def test_a_store_into_a_copy_in_flight() -> None:
    body = COPY + "ka_commit();\nka_f32 v = 0;\nka_sts<1>(tid * 4, &v);"
    for completion in COMPLETIONS:
        found = only(small(body, completion=completion), "overwrite-in-flight")
        assert (found.line, found.other_line) == (4, 1)


def test_two_copies_in_flight_to_one_place() -> None:
    found = only(small(COPY + COPY + "ka_commit();\nka_wait_group<0>();"), "overwrite-in-flight")
    assert (found.line, found.other_line) == (2, 1)


def test_copies_that_nobody_waits_for_or_reads_are_notes() -> None:
    report = small(COPY + "ka_commit();")
    assert report.ok
    assert {(n.kind, n.line, n.occurrences) for n in report.notes} == {("unwaited-copy", 1, 64), ("unread-copy", 1, 64)}


# The ring of a matrix product -------------------------------------------------------------------------------

RING_FAULTS = {
    "wait dropped": ("ka_wait_group<1>();", "", {("missing-wait", 40), ("missing-wait", 41)}),
    "one group too many pending": (
        "ka_wait_group<1>",
        "ka_wait_group<2>",
        {("missing-wait", 40), ("missing-wait", 41)},
    ),
    "barrier dropped": ("ka_barrier();", "", {("race", 40), ("race", 41)}),
    "next stage's slot": ("k % 3 * 8192;\n        KA", "(k + 1) % 3 * 8192;\n        KA", {("missing-wait", 40)}),
    "ring of two": ("(k + 2) % 3", "(k + 1) % 3", {("overwrite-in-flight", 30)}),
    "commit outside the last iterations only": (
        '#line 32 "kernel"\n        ka_commit();',
        '#line 32 "kernel"\n        if (k + 2 < steps) ka_commit();',
        {("missing-wait", 40), ("missing-wait", 41)},
    ),
}


@pytest.mark.parametrize("completion", COMPLETIONS)
@pytest.mark.parametrize("name", RING_FAULTS)
def test_faults_of_the_ring_are_found_at_their_lines(name: str, completion: str) -> None:
    old, new, expected = RING_FAULTS[name]
    report = broken_gemm(old, new, completion)
    found = {(f.kind, f.line) for f in report.findings}
    assert expected <= found, report.findings


@pytest.mark.parametrize("line", ["40", "41"])
def test_a_swizzle_on_the_reading_side_only_tears_matrices(line: str) -> None:
    at = GEMM.index(f"#line {line} ")
    end = GEMM.index(";", at)
    old = GEMM[at:end]
    report = broken_gemm(old, old.replace("(col ^ ((row >> 1 & 3) << 3))", "col"))
    found = only(report, "torn-matrix")
    assert found.line == int(line)
    assert found.other_line in (10, 11)


def test_a_swizzle_missing_on_the_way_through_registers_tears_matrices() -> None:
    body = """const int row = tid / 4, col = tid % 4 * 8;
        ka_bf16 v[8];
        ka_ldg<8>(v, ka_at(x, row, col), true, ka_bf16{0});
        ka_sts<8>((row * 32 + SWIZZLED) * 2, v);
        ka_barrier();
        ka_u32 r[4];
        ka_ldmatrix_x4(r, (tid % 16 * 32 + (tid % 32 / 16 * 8 ^ ((tid % 16 >> 1 & 3) << 3))) * 2);"""
    arrays = [ArrayArgument("x", np.zeros((16, 32), bfloat16))]
    assert small(body.replace("SWIZZLED", "(col ^ ((row >> 1 & 3) << 3))"), arrays).ok
    found = only(small(body.replace("SWIZZLED", "col"), arrays), "torn-matrix")
    assert (found.line, found.other_line, found.array) == (7, 4, "x")


def test_a_matrix_that_was_turned_on_its_way_is_whole() -> None:
    body = """for (int i = tid; i < 32 * 8; i += 64) {
            ka_f32 v; ka_ldg<1>(&v, ka_at(x, i / 32, i % 32), true, 0.0f);
            ka_sts<1>((i % 32 * 8 + i / 32) * 4, &v); }
        ka_barrier();
        ka_u32 r[4];
        ka_ldmatrix_x4(r, tid % 32 * 32);"""
    assert small(body, [ArrayArgument("x", np.random.default_rng(0).standard_normal((8, 32), np.float32))]).ok


# Global memory ----------------------------------------------------------------------------------------------


def test_a_coordinate_beyond_an_axis_is_out_of_bounds_though_the_address_exists() -> None:
    arrays = [ArrayArgument("x", np.zeros((4, 8), np.float32))]
    found = only(small("ka_f32 v;\nka_ldg<1>(&v, ka_at(x, 0, tid), tid < 9, 0.0f);", arrays), "global-out-of-bounds")
    assert (found.line, found.array, found.coordinates, found.thread, found.place) == (2, "x", (0, 8), 8, "x[0, 8]")


def test_a_vector_that_hangs_over_an_axis_is_out_of_bounds() -> None:
    arrays = [ArrayArgument("x", np.zeros((4, 6), np.float32))]
    found = only(
        small("ka_f32 v[2];\nka_ldg<2>(v, ka_at(x, 1, tid * 2), tid < 4, 0.0f);", arrays), "global-out-of-bounds"
    )
    assert (found.thread, found.coordinates) == (3, (1, 6))


def test_negative_coordinates_stores_and_copies_are_checked_too() -> None:
    body = "ka_f32 v = 0;\nka_stg<1>(ka_at(y, tid - 1), &v, true);\nka_cp_async<4>(tid * 4, ka_at(x, tid * 5), true);"
    report = small(body)
    assert [(f.kind, f.line, f.coordinates) for f in report.findings] == [
        ("global-out-of-bounds", 2, (-1,)),
        ("global-out-of-bounds", 3, (260,)),
    ]


def test_a_pointer_outside_may_be_formed_if_it_is_not_used() -> None:
    assert small("ka_f32 v;\nka_ldg<1>(&v, ka_at(x, tid * 100), tid < 2, 0.0f);").ok


def test_a_vector_of_a_misaligned_array_is_misaligned() -> None:
    arrays = [ArrayArgument("x", np.zeros(64, np.float32), misalign=4)]
    assert small("ka_f32 v;\nka_ldg<1>(&v, ka_at(x, tid), true, 0.0f);", arrays).ok
    found = only(small("ka_f32 v[2];\nka_ldg<2>(v, ka_at(x, 2), tid == 0, 0.0f);", arrays), "misaligned")
    assert (found.line, found.place, found.shared_offset) == (2, "x[2]", None)


def test_a_vector_needs_a_contiguous_axis() -> None:
    arrays = [ArrayArgument("x", np.zeros((64, 4), np.float32)[:, ::2])]
    assert only(small("ka_f32 v[2];\nka_ldg<2>(v, ka_at(x, tid, 0), true, 0.0f);", arrays), "strided-vector").line == 2


def test_an_output_read_before_it_is_stored_is_uninitialised() -> None:
    found = only(small("ka_f32 v;\nka_ldg<1>(&v, ka_at(y, tid), true, 0.0f);"), "uninitialised-global")
    assert (found.line, found.place) == (2, "y[0]")


def test_an_element_stored_twice_by_a_block() -> None:
    found = only(small("ka_f32 v = 0;\nka_stg<1>(ka_at(y, tid / 2), &v, true);"), "double-store")
    assert (found.line, found.other_line, found.place, found.thread, found.other_thread) == (2, 2, "y[0]", 1, 0)


def test_an_element_stored_by_two_blocks() -> None:
    found = only(small("ka_f32 v = 0;\nka_stg<1>(ka_at(y, tid), &v, true);", blocks=2), "block-race")
    assert (found.block, found.other_block, found.line, found.occurrences) == (1, 0, 2, 64)


def test_one_block_reads_what_another_stored() -> None:
    body = "ka_f32 v = 0;\nif (ka_block() == 0) ka_stg<1>(ka_at(y, tid), &v, true);\n" + (
        "else ka_ldg<1>(&v, ka_at(y, tid), true, 0.0f);"
    )
    found = only(small(body, blocks=2), "block-race")
    assert (found.line, found.other_line) == (3, 2)


def test_a_thread_reads_what_its_neighbour_stored_without_a_barrier() -> None:
    body = "ka_f32 v = 0;\nka_stg<1>(ka_at(y, tid), &v, true);\nBARRIER\nka_ldg<1>(&v, ka_at(y, tid & ~1), true, 0.0f);"
    assert small(body.replace("BARRIER", "ka_barrier();")).ok
    assert only(small(body.replace("BARRIER", "")), "global-race").line == 4


def test_atomic_additions_do_not_race_but_stores_among_them_do() -> None:
    y = ArrayArgument("y", np.zeros(4, np.float32), "inout")
    assert small("ka_atomic_add(ka_at(y, tid % 4), 1.0f, true);", [y], blocks=3).ok
    assert (y.data == 48).all()
    body = (
        "ka_f32 v = 0;\nif (tid == 0) ka_stg<1>(ka_at(y, 0), &v, true);\nka_atomic_add(ka_at(y, 0), 1.0f, tid == 40);"
    )
    assert small(body, [y]).kinds() == {"double-store"}


def test_an_element_that_a_mask_left_out_is_never_stored() -> None:
    y = np.zeros((3, 21), np.float32)
    body = "ka_f32 v = 0;\nka_stg<1>(ka_at(y, tid / 21, tid % 21), &v, tid < 63 && tid % 21 < 20);"
    found = only(small(body, [ArrayArgument("y", y, "out")]), "never-stored")
    assert (found.line, found.coordinates, found.occurrences) == (2, (0, 20), 3)


def test_an_input_element_that_a_mask_left_out_is_never_read() -> None:
    body = "ka_f32 v;\nka_ldg<1>(&v, ka_at(x, tid), tid < 63, 0.0f);"
    x = np.zeros(64, np.float32)
    assert small(body, [ArrayArgument("x", x)]).ok
    found = only(small(body, [ArrayArgument("x", x, covered=True)]), "never-read")
    assert (found.line, found.coordinates) == (2, (63,))


def test_a_store_to_an_input() -> None:
    assert only(small("ka_f32 v = 0;\nka_stg<1>(ka_at(x, tid), &v, true);"), "store-to-input").line == 2


def test_strides_that_are_not_the_array_s_lead_to_a_wrong_address() -> None:
    body = "ka_f32 v;\nx.stride[0] = 2;\nka_ldg<1>(&v, ka_at(x, tid), true, 0.0f);"
    assert only(small(body), "wrong-address").line == 3


# Control ----------------------------------------------------------------------------------------------------


def test_a_barrier_that_one_warp_never_reaches_is_a_deadlock() -> None:
    found = only(small("if (tid < 32)\nka_barrier();"), "deadlock")
    assert (found.line, found.block) == (2, 0)
    assert "32 threads from 0 on wait in ka_barrier (line 2)" in found.message
    assert "32 threads from 32 on have returned" in found.message


def test_a_shuffle_that_some_lanes_never_reach_is_a_deadlock() -> None:
    found = only(small("ka_f32 v = 0;\nif (tid != 5) v = ka_shfl_xor(v, 1);\nka_barrier();"), "deadlock")
    assert "31 threads from 0 on wait in ka_shfl_xor (line 2)" in found.message
    assert "33 threads from 5 on wait in ka_barrier (line 3)" in found.message


def test_loops_that_disagree_on_their_trip_count_are_a_deadlock() -> None:
    found = only(small("for (int i = 0; i < 2 + tid / 32; i++)\nka_barrier();"), "deadlock")
    assert found.line == 2


def test_lanes_at_different_warp_wide_calls_diverge() -> None:
    body = "ka_f32 v = 0;\nif (tid % 2)\nv = ka_shfl_xor(v, 1);\nelse\nv = ka_shfl_xor(v, 1);"
    found = only(small(body), "divergence")
    assert {found.line, found.other_line} == {3, 5}


def test_warps_at_different_barriers_diverge() -> None:
    found = only(small("if (tid < 32)\nka_barrier();\nelse\nka_barrier();"), "divergence")
    assert {found.line, found.other_line} == {2, 4}


def test_a_lane_that_does_not_exist() -> None:
    assert only(small("ka_f32 v = 0;\nv = ka_shfl(v, tid % 32 + 1);"), "lane-out-of-range").lane == 31


def test_a_loop_without_end_is_stopped_at_the_time_limit() -> None:
    report = small("ka_barrier();\nvolatile int go = 1;\nwhile (go) {}", seconds_limit=1)
    found = only(report, "timeout")
    assert found.line == 1
    assert report.seconds < 5


def test_a_body_that_dies_is_a_finding_and_not_ours() -> None:
    found = only(small("ka_barrier();\n*(volatile int *)16 = tid;"), "crash")
    assert "SIGSEGV" in found.message


def test_arguments_that_do_not_fit_the_parameters_are_refused() -> None:
    with pytest.raises(EmulatorFailed, match="another number of arguments"):
        gemm(
            GEMM.replace("int N, int K)", "int N) { const int K = 32; (void)K;", 1).replace(
                "K = 32; (void)K; {", "K = 32;"
            )
        )
    with pytest.raises(EmulatorFailed, match="another size"):
        gemm(GEMM.replace("int M,", "ka_i64 M,"))


def test_registers_without_a_value_do_not_reach_memory() -> None:
    found = only(small("ka_f32 v[2]; v[0] = 1;\nka_stg<2>(ka_at(y, tid * 2), v, true);"), "uninitialised-register")
    assert (found.line, found.occurrences) == (2, 64)
    report = broken_gemm("KA_UNROLL for (int i = 0; i < 128; i++) acc[i] = 0.0f;", "")
    assert of_kind(report, "uninitialised-register")[0].line == 42


def test_elements_that_no_store_names_are_never_stored() -> None:
    y = np.zeros((2, 64), np.float32)
    found = only(
        small("ka_f32 v = 0;\nka_stg<1>(ka_at(y, 0, tid), &v, true);", [ArrayArgument("y", y, "out")]), "never-stored"
    )
    assert (found.line, found.coordinates, found.occurrences) == (2, (1, 0), 64)


def test_a_last_tile_that_is_copied_and_never_used_is_noted() -> None:
    report, _, _ = gemm(GEMM.replace("for (int k = 0; k < steps; k++)", "for (int k = 0; k < steps - 1; k++)"))
    assert report.ok
    assert {n.kind for n in report.notes} >= {"unread-copy"}
