"""Correct bodies: numpy's results and no findings, however copies complete and threads are ordered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernelagent.dsl.targets.emulator import ArrayArgument, ScalarArgument, run
from kernelagent.dsl.targets.emulator.launch import Completion
from ml_dtypes import bfloat16
from support.emulated import COMPLETIONS, GEMM, gemm, small

each_completion = pytest.mark.parametrize("completion", COMPLETIONS)

SOFTMAX = """
#line 1 "kernel"
KA_KERNEL(softmax, 128, 1)(ka_array<ka_f32, 2> x, ka_array<ka_f32, 2> y, int M, int N, ka_f32 scale) {
    KA_PROLOGUE
    const int tid = ka_thread(), lane = tid % 32, warp = tid / 32;
    for (int row = ka_block(); row < M; row += ka_blocks()) {
        ka_f32 v[4];
        KA_UNROLL for (int i = 0; i < 4; i++)
#line 6 "kernel"
            ka_ldg<1>(&v[i], ka_at(x, row, i * 128 + tid), i * 128 + tid < N, -INFINITY_);
        ka_f32 most = v[0] * scale;
        KA_UNROLL for (int i = 0; i < 4; i++) { v[i] *= scale; most = ka_max(most, v[i]); }
        KA_UNROLL for (int m = 16; m; m /= 2) most = ka_max(most, ka_shfl_xor(most, m));
#line 10 "kernel"
        if (lane == 0) ka_sts<1>(warp * 4, &most);
#line 11 "kernel"
        ka_barrier();
        ka_f32 all[4];
#line 12 "kernel"
        ka_lds<4>(all, 0);
        most = ka_max(ka_max(all[0], all[1]), ka_max(all[2], all[3]));
        ka_f32 sum = 0;
        KA_UNROLL for (int i = 0; i < 4; i++) { v[i] = ka_exp(v[i] - most); sum += v[i]; }
        KA_UNROLL for (int m = 16; m; m /= 2) sum += ka_shfl_xor(sum, m);
#line 20 "kernel"
        if (lane == 0) ka_sts<1>(16 + warp * 4, &sum);
#line 21 "kernel"
        ka_barrier();
#line 22 "kernel"
        ka_lds<4>(all, 16);
        sum = all[0] + all[1] + all[2] + all[3];
        KA_UNROLL for (int i = 0; i < 4; i++) {
            v[i] /= sum;
#line 30 "kernel"
            ka_stg<1>(ka_at(y, row, i * 128 + tid), &v[i], i * 128 + tid < N);
        }
    }
}
""".replace("-INFINITY_", "ka_bits<ka_f32>(0xff800000u)")

TRANSPOSE = """
#line 1 "kernel"
KA_KERNEL(turn, 128, 1)(ka_array<ka_f32, 2> x, ka_array<ka_f32, 2> y, int M, int N) {
    const int tid = ka_thread();
    const int tiles = (N + 31) / 32;
    const int m0 = ka_block() / tiles * 32, n0 = ka_block() % tiles * 32;
    for (int i = 0; i < 2; i++) {
        const int row = i * 16 + tid / 8, col = tid % 8 * 4;
        ka_f32 v[4];
#line 8 "kernel"
        ka_ldg<4>(v, ka_at(x, m0 + row, n0 + col), m0 + row < M && n0 + col < N, 0.0f);
#line 9 "kernel"
        ka_sts<4>((row * 32 + (col ^ (row / 4 % 8 * 4))) * 4, v);
    }
#line 10 "kernel"
    ka_barrier();
    for (int i = 0; i < 8; i++) {
        const int row = i * 4 + tid / 32, col = tid % 32;
        ka_f32 v;
#line 14 "kernel"
        ka_lds<1>(&v, (col * 32 + (row ^ (col / 4 % 8 * 4))) * 4);
#line 15 "kernel"
        ka_stg<1>(ka_at(y, n0 + row, m0 + col), &v, n0 + row < N && m0 + col < M);
    }
}
"""


@each_completion
@pytest.mark.parametrize("sizes", [(256, 128, 160), (200, 136, 72), (8, 8, 8)])
def test_matrix_product_with_a_ring_of_copies(completion: Completion, sizes: tuple[int, int, int]) -> None:
    report, got, want = gemm(sizes=sizes, completion=completion)
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert report.ok, report.findings


@each_completion
def test_softmax_with_shuffles_and_a_reduction_across_warps(completion: Completion) -> None:
    x = np.random.default_rng(2).standard_normal((5, 500), np.float32)
    y = np.zeros_like(x)
    arrays = [ArrayArgument("x", x, covered=True), ArrayArgument("y", y, "out")]
    report = run(SOFTMAX, "softmax", 128, 2, 32, arrays, (5, 500), [ScalarArgument(0.5)], completion, seed=3)
    e = np.exp(x * 0.5 - (x * 0.5).max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)
    assert report.ok, report.findings


@each_completion
def test_transposition_through_swizzled_shared_memory(completion: Completion) -> None:
    x = np.random.default_rng(2).standard_normal((70, 100), np.float32)
    y = np.zeros((100, 70), np.float32)
    report = run(
        TRANSPOSE, "turn", 128, 3 * 4, 4096, [ArrayArgument("x", x, covered=True), ArrayArgument("y", y, "out")],
        (70, 100), completion=completion,
    )  # fmt: skip
    np.testing.assert_array_equal(y, x.T)
    assert report.ok, report.findings
    assert set(report.store_lines["y"].ravel()) == {15}


def test_random_completion_repeats_with_its_seed() -> None:
    statements = "ka_i32 v = tid; ka_atomic_add(ka_at(y, 0), (ka_f32)tid, true); (void)v;"
    totals = []
    for seed in (1, 1):
        y = np.zeros(1, np.float32)
        report = small(statements, [ArrayArgument("y", y, "inout")], completion="random", seed=seed)
        assert report.ok, report.findings
        totals.append(float(y[0]))
    assert totals == [2016.0, 2016.0]


def test_arrays_keep_their_strides_and_outputs_are_written_back_through_them() -> None:
    x = np.arange(64, dtype=np.float32).reshape(8, 8)[::-1, ::2]
    y = np.zeros((8, 16), np.float32)
    body = "ka_f32 v; ka_ldg<1>(&v, ka_at(x, tid / 4, tid % 4), tid < 32, 0.0f);\n" + (
        "ka_stg<1>(ka_at(y, tid % 4, tid / 4), &v, tid < 32);"
    )
    report = small(body, [ArrayArgument("x", x), ArrayArgument("y", y[::2, ::2], "out")])
    assert report.ok, report.findings
    np.testing.assert_array_equal(y[::2, ::2], x.T)


def test_four_bit_elements_share_bytes_and_have_their_own_coordinates() -> None:
    x = np.arange(32, dtype=np.uint8).reshape(2, 16)
    y = np.zeros((2, 16), np.int32)
    body = """ka_u8 b; ka_ldg<1>(&b, ka_at_u4(x, tid / 16, tid % 16 * 2), tid < 32, (ka_u8)0);
        ka_i32 v = b >> 4 << 8 | (b & 15); ka_stg<1>(ka_at(y, tid / 16, tid % 16), &v, tid < 32);"""
    arrays = [ArrayArgument("x", x, packed=True), ArrayArgument("y", y, "out")]
    report = small(body, arrays)
    assert report.ok, report.findings
    np.testing.assert_array_equal(y, x.astype(np.int32) >> 4 << 8 | x & 15)


def test_small_floats_convert_as_their_numpy_types_do() -> None:
    x = np.random.default_rng(5).standard_normal(4096, np.float32) * np.float32(2.0) ** np.random.default_rng(
        6
    ).integers(-20, 20, 4096).astype(np.float32)
    y, z = np.zeros(4096, bfloat16), np.zeros(4096, np.float16)
    body = """for (int i = tid; i < 4096; i += 64) { ka_f32 v; ka_ldg<1>(&v, ka_at(x, i), true, 0.0f);
        ka_bf16 b = ka_cast<ka_bf16>(v); ka_f16 h = ka_cast<ka_f16>(v);
        ka_stg<1>(ka_at(y, i), &b, true); ka_stg<1>(ka_at(z, i), &h, true); }"""
    arrays = [ArrayArgument("x", x), ArrayArgument("y", y, "out"), ArrayArgument("z", z, "out")]
    report = small(body, arrays)
    assert report.ok, report.findings
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(y, x.astype(bfloat16))
        np.testing.assert_array_equal(z, x.astype(np.float16))


def test_the_first_run_of_a_matrix_product_takes_less_than_a_second_and_a_half(tmp_path: Path) -> None:
    gemm(sizes=(8, 8, 8))  # the runner is built once for all bodies
    report, _, _ = gemm(f"{GEMM}// {tmp_path}", (256, 256, 256))
    assert report.ok
    assert report.compile_seconds + report.seconds < 1.5
