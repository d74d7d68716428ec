"""Hand-written Hopper bodies for the emulator: a product with a ring of full and empty barriers, one producer warpgroup
and two consumer warpgroups. Line marks number the statements by hand; faults are made by replacing text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from kernelagent.dsl.device import MBarrier, SharedBuffer, Swizzle
from kernelagent.dsl.targets.emulator import ArrayArgument, EmulatorReport, TensorMapArgument, run
from kernelagent.dsl.targets.emulator.facts import Placed
from kernelagent.dsl.targets.emulator.launch import Completion
from kernelagent.dsl.tensor_map import TensorMapSpec
from ml_dtypes import bfloat16

STAGES = 3
A_BYTES, B_BYTES, C_BYTES = 128 * 64 * 2, 64 * 128 * 2, 128 * 128 * 2
FULL = STAGES * (A_BYTES + B_BYTES) + C_BYTES
EMPTY = FULL + STAGES * 8
SHARED = EMPTY + STAGES * 8

GEMM = """
#line 1 "kernel"
HEAD(ka_array<ka_bf16, 2> a, ka_array<ka_bf16, 2> b, ka_array<ka_bf16, 2> c, int M, int N, int K,
                        KA_MAP map_a, KA_MAP map_b, KA_MAP map_c) {
    KA_PROLOGUE
    const int tid = ka_thread(), warp = tid / 32, lane = tid % 32;
    const ka_u32 B = 49152, C = 98304, FULL = 131072, EMPTY = 131096;
    const int rank = ka_cluster_rank();
    const int tiles_m = (M + 127) / 128, tiles = tiles_m * ((N + 127) / 128), steps = (K + 63) / 64;
    if (tid == 0) {
        for (int s = 0; s < 3; s++) {
#line 10 "kernel"
            ka_mbar_init(FULL + 8 * s, 1);
#line 11 "kernel"
            ka_mbar_init(EMPTY + 8 * s, 8 * SHARERS);
        }
#line 12 "kernel"
        ka_mbar_fence_init();
    }
#line 13 "kernel"
    START_BARRIER
    if (warp < 4) {
#line 20 "kernel"
        ka_registers_less<40>();
        if (warp == 0 && ka_elect()) {
            int i = 0;
            for (int tile = ka_block(); tile < tiles; tile += ka_blocks()) {
                const int m0 = tile % tiles_m * 128, n0 = tile / tiles_m * 128;
                for (int k = 0; k < steps; k++, i++) {
                    const int s = i % 3;
#line 30 "kernel"
                    ka_mbar_wait(EMPTY + 8 * s, (i / 3 & 1) ^ 1);
#line 31 "kernel"
                    ka_mbar_expect(FULL + 8 * s, 32768);
#line 32 "kernel"
                    ka_tma_load<2>(s * 16384, map_a, FULL + 8 * s, k * 64, m0);
                    LOAD_B
                }
            }
        }
    } else {
#line 40 "kernel"
        ka_registers_more<232>();
        const int wg = warp / 4 - 1;
        int i = 0;
        for (int tile = ka_block(); tile < tiles; tile += ka_blocks()) {
            const int m0 = tile % tiles_m * 128, n0 = tile / tiles_m * 128;
            ka_f32 acc[64];
            KA_UNROLL for (int v = 0; v < 64; v++) acc[v] = 0.0f;
            for (int k = 0; k < steps; k++, i++) {
                const int s = i % 3;
#line 50 "kernel"
                ka_mbar_wait(FULL + 8 * s, i / 3 & 1);
#line 51 "kernel"
                ka_wgmma_fence();
                KA_UNROLL for (int j = 0; j < 4; j++)
#line 52 "kernel"
                    ka_wgmma_m64n128k16_bf16<0, 1>(acc,
                        ka_descriptor<128>(s * 16384 + wg * 8192 + j * 32, 0, 1024),
                        ka_descriptor<128>(B + s * 16384 + j * 2048, 8192, 1024));
#line 53 "kernel"
                ka_wgmma_commit();
#line 54 "kernel"
                ka_wgmma_wait<0>();
#line 55 "kernel"
                if (lane == 0) { RELEASE }
            }
#line 60 "kernel"
            if (tid % 128 == 0) ka_tma_wait_read<0>();
#line 61 "kernel"
            ROLE_BARRIER
            KA_UNROLL for (int v = 0; v < 64; v += 2) {
                const int row = warp % 4 * 16 + lane / 4 + 8 * (v / 2 & 1), col = v / 4 * 8 + lane % 4 * 2;
                const ka_u32 at = wg * 8192 + col / 64 * 16384 + row * 128 + ((col % 64 * 2) ^ (row % 8 * 16));
                ka_u32 pair = ka_pack_cast<ka_bf16>(acc[v], acc[v + 1]);
#line 62 "kernel"
                ka_sts<1>(C + at, &pair);
            }
#line 63 "kernel"
            ka_fence_async();
#line 64 "kernel"
            ROLE_BARRIER
            if (tid % 128 == 0) {
#line 65 "kernel"
                ka_tma_store<2>(map_c, C + wg * 8192, n0, m0 + wg * 64);
#line 66 "kernel"
                ka_tma_store<2>(map_c, C + wg * 8192 + 16384, n0 + 64, m0 + wg * 64);
#line 67 "kernel"
                ka_tma_commit();
            }
        }
#line 70 "kernel"
        if (tid % 128 == 0) ka_tma_wait_read<0>();
    }
#line 80 "kernel"
    END_BARRIER
}
"""

ROLE_BARRIER = "if (wg == 0) ka_named_barrier<1>(128); else ka_named_barrier<2>(128);"

_ALONE = {
    "HEAD": "KA_KERNEL(gemm, 384, 1)",
    "SHARERS": "1",
    "START_BARRIER": "ka_barrier();",
    "END_BARRIER": "",
    "RELEASE": "ka_mbar_arrive(EMPTY + 8 * s);",
    "ROLE_BARRIER": ROLE_BARRIER,
    "LOAD_B": """
#line 33 "kernel"
                    ka_tma_load<2>(B + s * 16384, map_b, FULL + 8 * s, n0, k * 64);
#line 34 "kernel"
                    ka_tma_load<2>(B + s * 16384 + 8192, map_b, FULL + 8 * s, n0 + 64, k * 64);""",
}

# Two blocks one above the other: the same columns of b, of which each loads half for both.
_TOGETHER = _ALONE | {
    "HEAD": "KA_CLUSTER_KERNEL(gemm, 384, 1, 2)",
    "SHARERS": "2",
    "START_BARRIER": "ka_cluster_barrier();",
    "END_BARRIER": "ka_cluster_barrier();",
    "RELEASE": "ka_mbar_arrive_at(EMPTY + 8 * s, 0); ka_mbar_arrive_at(EMPTY + 8 * s, 1);",
    "LOAD_B": """
#line 33 "kernel"
                    ka_tma_load_multicast<2>(B + s * 16384 + rank * 8192, map_b, FULL + 8 * s, 3,
                                             n0 + rank * 64, k * 64);""",
}


def _filled(words: dict[str, str]) -> str:
    text = GEMM
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return text


ALONE, TOGETHER = _filled(_ALONE), _filled(_TOGETHER)
"""One block by itself; two in a cluster with multicast."""

_SWIZZLE = Swizzle(3, 3, 3)
BUFFERS: tuple[Placed, ...] = (
    SharedBuffer("a_tile", "bf16", (128, 64), STAGES, _SWIZZLE),
    SharedBuffer("b_tile", "bf16", (64, 128), STAGES, _SWIZZLE, offset=STAGES * A_BYTES, panel=64),
    SharedBuffer("c_tile", "bf16", (128, 128), 1, _SWIZZLE, offset=STAGES * (A_BYTES + B_BYTES), panel=64),
    MBarrier("full", 1, STAGES, FULL),
    MBarrier("empty", 8, STAGES, EMPTY),
)

MAPS = (
    TensorMapArgument(TensorMapSpec("a", "bf16", (1, 0), (64, 128), 128)),
    TensorMapArgument(TensorMapSpec("b", "bf16", (1, 0), (64, 64), 128)),
    TensorMapArgument(TensorMapSpec("c", "bf16", (1, 0), (64, 64), 128)),
)


def gemm(
    body: str = ALONE,
    sizes: tuple[int, int, int] = (256, 256, 256),
    completion: Completion = "late",
    blocks: int | None = None,
    cluster: int = 1,
    cache_dir: Path | None = None,
    **options: Any,
) -> tuple[EmulatorReport, np.ndarray, np.ndarray]:
    """The report, what the body computed (bf16, as f32), and what numpy computes in f32 and rounds."""
    m, n, k = sizes
    random = np.random.default_rng(1)
    a, b = (random.standard_normal(s, np.float32).astype(bfloat16) for s in ((m, k), (k, n)))
    c = np.zeros((m, n), bfloat16)
    arrays = [ArrayArgument("a", a, covered=True), ArrayArgument("b", b, covered=True), ArrayArgument("c", c, "out")]
    count = blocks or -(-m // 128) * -(-n // 128)
    report = run(
        body, "gemm", 384, count, SHARED, arrays, sizes, (), completion, buffers=BUFFERS, cache_dir=cache_dir,
        maps=MAPS, cluster=cluster, **options,
    )  # fmt: skip
    want = (a.astype(np.float32) @ b.astype(np.float32)).astype(bfloat16)
    return report, c.astype(np.float32), want.astype(np.float32)


def hopper(
    statements: str,
    arrays: list[ArrayArgument] | None = None,
    threads: int = 128,
    blocks: int = 1,
    shared_bytes: int = 32768,
    maps: tuple[TensorMapSpec, ...] = (),
    **options: Any,
) -> EmulatorReport:
    """Run `statements`, the first on line 1, with arrays (x and y, f32, 64 by 64, if none are given), `map_0` and so
    on, and `tid`."""
    if arrays is None:
        arrays = [
            ArrayArgument("x", np.ones((64, 64), np.float32)),
            ArrayArgument("y", np.zeros((64, 64), np.float32), "out"),
        ]
        options.setdefault("check_stored", False)
    types = {"float32": "ka_f32", "bfloat16": "ka_bf16", "int32": "ka_i32", "uint8": "ka_u8", "float16": "ka_f16"}
    parameters = [f"ka_array<{types[str(a.data.dtype)]}, {a.data.ndim}> {a.name}" for a in arrays]
    parameters += [f"KA_MAP map_{i}" for i in range(len(maps))]
    head = f"KA_KERNEL(small, {threads}, 1)({', '.join(parameters)}) {{ const int tid = ka_thread();"
    body = f'{head}\n#line 1 "kernel"\n{statements}\n}}\n'
    bound = tuple(TensorMapArgument(m) for m in maps)
    return run(body, "small", threads, blocks, shared_bytes, arrays, maps=bound, **options)
