"""Hand-written bodies for the emulator, and the calls that run them. Line marks number the statements by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kernelagent.dsl.device import SharedBuffer, Swizzle
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorReport, ScalarArgument, run
from kernelagent.dsl.targets.emulator.launch import Completion
from ml_dtypes import bfloat16

COMPLETIONS: tuple[Completion, ...] = ("late", "early", "random")

GEMM = """
#line 1 "kernel"
KA_KERNEL(gemm, 128, 1)(ka_array<ka_bf16, 2> a, ka_array<ka_bf16, 2> b, ka_array<ka_f32, 2> c, int M, int N, int K) {
    KA_PROLOGUE
    const int tid = ka_thread(), lane = tid % 32, warp = tid / 32;
    const int tiles_n = (N + 127) / 128;
    const int m0 = ka_block() / tiles_n * 128, n0 = ka_block() % tiles_n * 128;
    const int wm = warp / 2 * 64, wn = warp % 2 * 64;
    const int steps = (K + 31) / 32;
    ka_f32 acc[128];
    KA_UNROLL for (int i = 0; i < 128; i++) acc[i] = 0.0f;
    for (int s = 0; s < 2; s++) {
        KA_UNROLL for (int i = 0; i < 4; i++) {
            const int row = i * 32 + tid / 4, col = tid % 4 * 8;
            const ka_u32 at = (ka_u32)((row * 32 + (col ^ ((row >> 1 & 3) << 3))) * 2);
#line 10 "kernel"
            ka_cp_async<16>(s * 8192 + at, ka_at(a, m0 + row, s * 32 + col), m0 + row < M && s * 32 + col < K);
#line 11 "kernel"
            ka_cp_async<16>(24576 + s * 8192 + at, ka_at(b, n0 + row, s * 32 + col), n0 + row < N && s * 32 + col < K);
        }
#line 12 "kernel"
        ka_commit();
    }
    for (int k = 0; k < steps; k++) {
#line 20 "kernel"
        ka_wait_group<1>();
#line 21 "kernel"
        ka_barrier();
        if (k + 2 < steps) {
            const ka_u32 stage = (k + 2) % 3 * 8192;
            KA_UNROLL for (int i = 0; i < 4; i++) {
                const int row = i * 32 + tid / 4, col = tid % 4 * 8;
                const ka_u32 at = stage + (ka_u32)((row * 32 + (col ^ ((row >> 1 & 3) << 3))) * 2);
                const int kc = (k + 2) * 32 + col;
#line 30 "kernel"
                ka_cp_async<16>(at, ka_at(a, m0 + row, kc), m0 + row < M && kc < K);
#line 31 "kernel"
                ka_cp_async<16>(24576 + at, ka_at(b, n0 + row, kc), n0 + row < N && kc < K);
            }
        }
#line 32 "kernel"
        ka_commit();
        const ka_u32 stage = k % 3 * 8192;
        KA_UNROLL for (int kk = 0; kk < 32; kk += 16) {
            ka_u32 fa[16], fb[16];
            KA_UNROLL for (int i = 0; i < 4; i++) {
                const int row = wm + i * 16 + lane % 16, col = kk + lane / 16 * 8;
#line 40 "kernel"
                ka_ldmatrix_x4(&fa[4 * i], stage + (ka_u32)((row * 32 + (col ^ ((row >> 1 & 3) << 3))) * 2));
            }
            KA_UNROLL for (int i = 0; i < 4; i++) {
                const int row = wn + i * 16 + lane % 8 + lane / 16 * 8, col = kk + lane / 8 % 2 * 8;
#line 41 "kernel"
                ka_ldmatrix_x4(&fb[4 * i], 24576 + stage + (ka_u32)((row * 32 + (col ^ ((row >> 1 & 3) << 3))) * 2));
            }
            KA_UNROLL for (int i = 0; i < 4; i++)
                KA_UNROLL for (int j = 0; j < 8; j++)
#line 42 "kernel"
                    ka_mma_m16n8k16_bf16(&acc[(i * 8 + j) * 4], &fa[4 * i], &fb[2 * j]);
        }
    }
    KA_UNROLL for (int i = 0; i < 4; i++)
        KA_UNROLL for (int j = 0; j < 8; j++)
            KA_UNROLL for (int h = 0; h < 2; h++) {
                const int row = m0 + wm + i * 16 + lane / 4 + h * 8, col = n0 + wn + j * 8 + lane % 4 * 2;
#line 50 "kernel"
                ka_stg<2>(ka_at(c, row, col), &acc[(i * 8 + j) * 4 + h * 2], row < M && col < N);
            }
}
"""

GEMM_BUFFERS = tuple(
    SharedBuffer(name, "bf16", (128, 32), stages=3, swizzle=Swizzle(2, 3, 3), offset=offset)
    for name, offset in (("a_tile", 0), ("b_tile", 24576))
)


def gemm(
    body: str = GEMM,
    sizes: tuple[int, int, int] = (128, 128, 128),
    completion: Completion = "late",
    cache_dir: Path | None = None,
    **options: Any,
) -> tuple[EmulatorReport, np.ndarray, np.ndarray]:
    """The report, what the body computed, and what numpy computes."""
    m, n, k = sizes
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(s, np.float32).astype(bfloat16) for s in ((m, k), (n, k)))
    c = np.zeros((m, n), np.float32)
    arrays = [ArrayArgument("a", a), ArrayArgument("b", b), ArrayArgument("c", c, "out")]
    blocks = -(-m // 128) * -(-n // 128)
    report = run(
        body, "gemm", 128, blocks, 49152, arrays, sizes, (), completion, buffers=GEMM_BUFFERS, cache_dir=cache_dir,
        **options,
    )  # fmt: skip
    return report, c, a.astype(np.float32) @ b.astype(np.float32).T


def small(
    statements: str,
    arrays: list[ArrayArgument] | None = None,
    threads: int = 64,
    blocks: int = 1,
    shared_bytes: int = 1024,
    scalars: tuple[ScalarArgument, ...] = (),
    **options: Any,
) -> EmulatorReport:
    """Run `statements`, the first on line 1, with x (f32, in), y (f32, out or whatever is passed), and `tid`."""
    if arrays is None:
        arrays = [ArrayArgument("x", np.zeros(256, np.float32)), ArrayArgument("y", np.zeros(256, np.float32), "out")]
        options.setdefault("check_stored", False)
    types = {"float32": "ka_f32", "bfloat16": "ka_bf16", "int32": "ka_i32", "float16": "ka_f16", "uint8": "ka_u8"}
    parameters = [f"ka_array<{types[str(a.data.dtype)]}, {a.data.ndim}> {a.name}" for a in arrays]
    parameters += [f"ka_{s.dtype} s{i}" for i, s in enumerate(scalars)]
    head = f"KA_KERNEL(small, {threads}, 1)({', '.join(parameters)}) {{ const int tid = ka_thread();"
    body = f'{head}\n#line 1 "kernel"\n{statements}\n}}\n'
    return run(body, "small", threads, blocks, shared_bytes, arrays, (), scalars, **options)
