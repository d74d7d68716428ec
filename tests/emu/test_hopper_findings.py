"""Small broken Hopper bodies, one for each kind of finding that the product's faults leave out."""

from __future__ import annotations

import numpy as np
import pytest
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorFailed, EmulatorReport, Finding
from kernelagent.dsl.tensor_map import TensorMapSpec
from support.emulated import COMPLETIONS
from support.hopper_bodies import TOGETHER, gemm, hopper

X = TensorMapSpec("x", "f32", (1, 0), (32, 8), 128)  # 1024 bytes
Y = TensorMapSpec("y", "f32", (1, 0), (32, 8), 128)

INIT = "if (tid == 0) { ka_mbar_init(16384, 1); ka_mbar_fence_init(); } ka_barrier();\n"
LOAD = "if (tid == 0) { ka_mbar_expect(16384, 1024); ka_tma_load<2>(0, map_0, 16384, 0, 0); }\n"
WAIT = "ka_mbar_wait(16384, 0);\n"


def only(report: EmulatorReport, kind: str) -> Finding:
    """The first finding, all being of this kind."""
    assert report.kinds() == {kind}, report.findings
    return report.findings[0]


def in_each_mode(body: str, kind: str, line: int, **options: object) -> Finding:
    for completion in COMPLETIONS:
        found = only(hopper(body, completion=completion, **options), kind)  # type: ignore[arg-type]
        assert found.line == line
    return found


# Bulk copies -----------------------------------------------------------------------------------------------


def test_a_load_that_is_read_without_a_wait() -> None:
    found = in_each_mode(
        INIT + LOAD + "ka_barrier(); ka_f32 v;\nka_lds<1>(&v, tid * 4);\n" + WAIT, "missing-wait", 4, maps=(X,)
    )
    assert found.other_line == 2
    assert "has not waited for the phase" in found.message
    assert hopper(INIT + LOAD + WAIT + "ka_f32 v;\nka_lds<1>(&v, tid * 4);", maps=(X,)).ok


def test_a_wait_serves_its_own_thread_only() -> None:
    body = INIT + LOAD + "ka_barrier(); if (tid == 0)\nka_mbar_wait(16384, 0);\nka_f32 v;\nka_lds<1>(&v, 0);"
    assert in_each_mode(body, "missing-wait", 6, maps=(X,)).thread != 0
    assert hopper(body.replace("ka_f32 v;", "ka_barrier(); ka_f32 v;"), maps=(X,)).ok


def test_a_load_over_what_is_still_read_is_a_race() -> None:
    read = "ka_barrier(); ka_f32 v;\nka_lds<1>(&v, tid % 64 * 4);\n"
    again = "if (tid == 0) { ka_mbar_expect(16384, 1024);\nka_tma_load<2>(0, map_0, 16384, 0, 0); }\n"
    body = INIT + LOAD + WAIT + read + again + "ka_mbar_wait(16384, 1);"
    for completion in COMPLETIONS:
        report = hopper(body, maps=(X,), completion=completion)
        found = {(f.kind, f.line, f.other_line) for f in report.findings}
        assert found, "readers before the second load, and those who come behind it"
        assert found <= {("race", 7, 5), ("missing-wait", 5, 7)}
    assert hopper(body.replace(again, "ka_barrier();\n" + again), maps=(X,)).ok


def test_a_load_over_what_was_stored_needs_a_proxy_fence() -> None:
    store = "ka_f32 v = 1;\nka_sts<1>(tid * 4, &v);\n"
    body = INIT + store + "ka_barrier();\n" + LOAD + WAIT
    found = in_each_mode(body, "missing-proxy-fence", 5, maps=(X,))
    assert found.other_line == 3
    assert hopper(body.replace("ka_barrier();\nif", "ka_fence_async(); ka_barrier();\nif"), maps=(X,)).ok
    assert hopper(
        body.replace("if (tid == 0) { ka_mbar_e", "if (tid == 0) { ka_fence_async(); ka_mbar_e"), maps=(X,)
    ).ok


def test_a_fence_before_the_store_does_not_serve_it() -> None:
    body = "ka_f32 v = 1;\nka_fence_async();\nka_sts<1>(tid * 4, &v);\nka_barrier();\n" + (
        "if (tid == 0) {\nka_tma_store<2>(map_0, 0, 0, 0); ka_tma_commit(); ka_tma_wait<0>(); }"
    )
    kinds = {f.kind for f in hopper(body, maps=(Y,)).findings}
    assert kinds == {"missing-proxy-fence", "uninitialised-shared"}  # a quarter of the box was stored
    assert hopper(body, maps=(Y,)).findings[0].line == 6


STORE = """ka_f32 v = 1;
for (int i = 0; i < 2; i++) ka_sts<1>(i * 512 + tid * 4, &v);
ka_fence_async();
ka_barrier();
if (tid == 0) {
ka_tma_store<2>(map_0, 0, 0, 0);
ka_tma_commit();
ka_tma_wait<0>(); }
"""


def test_a_store_may_be_read_where_it_has_been_waited_for() -> None:
    read = "ka_barrier();\nka_ldg<1>(&v, ka_at(y, 0, 0), true, 0.0f);"
    assert hopper(STORE + read, maps=(Y,)).ok
    waits_for_reads = STORE.replace("ka_tma_wait<0>", "ka_tma_wait_read<0>")
    assert hopper(waits_for_reads, maps=(Y,)).ok
    assert in_each_mode(waits_for_reads + read, "global-race", 10, maps=(Y,)).other_line == 6


def test_stores_through_maps_are_checked_as_others_are() -> None:
    assert in_each_mode(STORE, "store-to-input", 6, maps=(X,)).array == "x"
    twice = STORE.replace("ka_tma_commit", "ka_tma_store<2>(map_0, 0, 31, 0);\nka_tma_commit")
    found = in_each_mode(twice, "double-store", 7, maps=(Y,))
    assert (found.place, found.other_line) == ("y[0, 31]", 6)


def test_bytes_written_while_a_store_reads_them() -> None:
    body = STORE.replace("ka_tma_wait<0>(); }", "ka_sts<1>(4, &v); ka_tma_wait<0>(); }")
    assert in_each_mode(body, "overwrite-in-flight", 8, maps=(Y,)).other_line == 6


def test_a_map_that_leaves_its_array_is_out_of_bounds() -> None:
    x = np.zeros((64, 64), np.float32)
    arrays = [ArrayArgument("x", x)]
    from kernelagent.dsl.targets.emulator import TensorMapArgument, run

    body = "KA_KERNEL(f, 32, 1)(ka_array<ka_f32, 2> x, KA_MAP map_0) { const int tid = ka_thread();\n"
    text = f'{body}#line 1 "kernel"\n{INIT}{LOAD}{WAIT}}}'
    maps = (TensorMapArgument(X, start=(60, 0), shape=(8, 64)),)
    report = run(text, "f", 32, 1, 32768, arrays, maps=maps, seconds_limit=10)
    assert report.findings[0].kind == "global-out-of-bounds"
    assert report.findings[0].line == 2


def test_a_block_that_ends_while_a_load_is_on_its_way() -> None:
    found = in_each_mode(INIT + LOAD, "exit-in-flight", 2, maps=(X,))
    assert "nobody waits for it" in found.message


# Barriers with phases ------------------------------------------------------------------------------------------


def test_a_load_or_a_store_over_a_barrier() -> None:
    found = in_each_mode(INIT + "ka_f32 v = 0;\nif (tid == 9) ka_sts<1>(16388, &v);", "barrier-overwritten", 3)
    assert (found.thread, found.other_line, found.shared_offset) == (9, 1, 16388)
    load = LOAD.replace("<2>(0,", "<2>(15360 + 1024,")
    assert ("barrier-overwritten", 2) in {(f.kind, f.line) for f in hopper(INIT + load + WAIT, maps=(X,)).findings}


@pytest.mark.parametrize(
    ("statement", "detail"),
    [
        ("if (tid == 0) ka_mbar_init(0, 0);", "for 0 arrivals"),
        ("if (tid == 0) ka_mbar_init(0, 1 << 20);", "for 1048576 arrivals"),
        ("if (tid == 0) { ka_mbar_init(0, 1); ka_mbar_expect(0, 1 << 20); }", "expect 1048576 bytes"),
        ("if (tid == 0) { ka_mbar_init(0, 1); ka_mbar_expect(0, 16); ka_mbar_arrive(0); }", "has had all 1 arrivals"),
        ("if (tid == 0) { ka_mbar_init(0, 1); ka_mbar_wait(0, 3); }", "parity 3"),
        ("if (tid < 48) ka_named_barrier<1>(48);", "48 threads"),
        ("ka_named_barrier<1>(tid < 32 ? 64 : 128);", "where others"),
    ],
)
def test_counts_that_barriers_do_not_take(statement: str, detail: str) -> None:
    found = only(hopper(statement), "barrier-count")
    assert found.line == 1
    assert detail in found.message


def test_a_barrier_off_its_alignment_or_never_initialised() -> None:
    assert only(hopper("if (tid == 0) ka_mbar_init(4, 1);"), "misaligned").line == 1
    assert "no barrier was initialised" in only(hopper("ka_mbar_wait(64, 0);"), "barrier-init").message
    assert only(hopper("if (tid == 0) { ka_mbar_init(0, 1);\nka_mbar_init(0, 1); }"), "barrier-init").line == 2


# Products -------------------------------------------------------------------------------------------------------

FILL = "ka_f32 zero = 0; for (int i = tid; i < 1024; i += 128) ka_sts<1>(i * 4, &zero);\n"
PRODUCT = "ka_wgmma_m64n8k16_bf16<0, 0>(d, ka_descriptor<0>(0, 128, 256), ka_descriptor<0>(2048, 128, 256));\n"
WHOLE = FILL + "ka_fence_async(); ka_barrier();\nka_f32 d[4] = {};\nka_wgmma_fence();\n" + PRODUCT
DONE = "ka_wgmma_commit();\nka_wgmma_wait<0>();\n"


def test_a_small_product_is_fine() -> None:
    assert hopper(WHOLE + DONE).ok


def test_operands_that_were_stored_need_a_proxy_fence() -> None:
    assert in_each_mode(WHOLE.replace("ka_fence_async();", "") + DONE, "missing-proxy-fence", 5).other_line == 1


@pytest.mark.parametrize(
    "use",
    ["ka_stg<4>(ka_at(y, tid / 16, tid % 16 * 4), d, true);", "ka_f32 e = d[1] * 2; ka_sts<1>(8192 + tid * 4, &e);"],
)
def test_accumulators_read_in_flight(use: str) -> None:
    found = in_each_mode(WHOLE + use + "\n" + DONE, "register-in-flight", 6)
    assert found.other_line == 5
    assert hopper(WHOLE + DONE + use).ok


@pytest.mark.parametrize("ctype", ["ka_bf16", "ka_f16", "ka_f8e4m3"])
def test_accumulators_converted_in_flight(ctype: str) -> None:
    body = WHOLE + f"{ctype} e = ka_cast<{ctype}>(d[1]); ka_sts<1>(8192 + tid * 4, &e);\n" + DONE
    assert in_each_mode(body, "register-in-flight", 6).other_line == 5


def test_registers_of_a_written_in_flight() -> None:
    from_registers = "ka_u32 a[4] = {};\nka_wgmma_fence();\n" + (
        "ka_wgmma_m64n8k16_bf16_ra<0>(d, a, ka_descriptor<0>(2048, 128, 256));\n"
    )
    body = WHOLE.split("ka_wgmma_fence")[0] + from_registers + "TOUCH\n" + DONE
    assert hopper(body.replace("TOUCH", "")).ok
    found = in_each_mode(body.replace("TOUCH", "a[2] = 7;"), "register-in-flight", 9)
    assert (found.other_line, "reads as a" in found.message) == (6, True)


def test_registers_changed_between_products_need_another_fence() -> None:
    again = PRODUCT + DONE
    assert hopper(WHOLE + DONE + again).ok  # nobody touched them
    found = in_each_mode(WHOLE + DONE + "d[0] += 1;\n" + again, "missing-wgmma-fence", 9)
    assert found.thread == 0
    assert hopper(WHOLE + DONE + "d[0] += 1; ka_wgmma_fence();\n" + again).ok


def test_products_need_a_whole_warpgroup_with_one_descriptor() -> None:
    assert only(hopper("ka_wgmma_fence();", threads=96), "divergence").line == 1
    different = WHOLE.replace("ka_descriptor<0>(0,", "ka_descriptor<0>(tid / 64 * 16,")
    assert "another descriptor" in only(hopper(different + DONE), "divergence").message


def test_a_tile_beyond_the_shared_memory() -> None:
    body = WHOLE.replace("(2048, 128, 256)", "(32768 - 256, 256, 256)")
    assert {f.kind for f in hopper(body + DONE).findings} >= {"shared-out-of-bounds"}


def test_operands_overwritten_before_the_wait() -> None:
    body = WHOLE + "ka_barrier();\nka_sts<1>(tid * 4, &zero);\n" + DONE
    assert in_each_mode(body, "overwrite-in-flight", 7).other_line == 5
    waited = WHOLE + DONE + "ka_sts<1>(tid * 4, &zero);"
    assert hopper(waited).ok


# Launches -----------------------------------------------------------------------------------------------------------


def test_launches_that_no_driver_takes() -> None:
    with pytest.raises(EmulatorFailed, match="clusters of 2"):
        hopper("", blocks=3, cluster=2)
    with pytest.raises(EmulatorFailed, match="clusters of another size"):
        gemm(TOGETHER, (256, 128, 64), cluster=1)
    odd = [ArrayArgument("x", np.zeros((64, 63), np.float32))]
    with pytest.raises(KernelError, match="multiple of 16"):
        hopper("", odd, maps=(X,))
    with pytest.raises(ValueError, match="not passed"):
        hopper("", maps=(TensorMapSpec("z", "f32", (1, 0), (32, 8), 128),))
