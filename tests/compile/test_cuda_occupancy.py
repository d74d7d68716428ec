"""Occupancy against cuda_occupancy.h, the calculator that comes with the toolkit's headers."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from kernelagent.dsl.targets.cuda import tools
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.occupancy import occupancy

_PROGRAM = r"""
#include <cstdio>
#include "cuda_occupancy.h"
int main() {
    cudaOccDeviceProp chip;
    int threads, registers, barriers; size_t is_static, dynamic;
    chip.warpSize = 32;
    while (scanf("%d %d %d %d %d %d %zu %zu %zu %d %d %zu %zu %d", &chip.computeMajor, &chip.computeMinor,
                 &chip.maxThreadsPerBlock, &chip.maxThreadsPerMultiprocessor, &chip.regsPerBlock,
                 &chip.regsPerMultiprocessor, &chip.sharedMemPerMultiprocessor, &chip.sharedMemPerBlockOptin,
                 &chip.reservedSharedMemPerBlock, &threads, &registers, &is_static, &dynamic, &barriers) == 14) {
        chip.sharedMemPerBlock = 48 * 1024; chip.numSms = 1;
        cudaOccFuncAttributes kernel;
        kernel.maxThreadsPerBlock = 1024; kernel.partitionedGCConfig = PARTITIONED_GC_OFF;
        kernel.numRegs = registers;
        kernel.sharedSizeBytes = is_static;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        kernel.maxDynamicSharedSizeBytes = dynamic;
        kernel.numBlockBarriers = barriers;
        cudaOccDeviceState state;
        state.cacheConfig = CACHE_PREFER_SHARED;
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult result;
        int failed = cudaOccMaxActiveBlocksPerMultiprocessor(&result, &chip, &kernel, &state, threads, dynamic);
        printf("%d %d\n", failed, failed ? -1 : result.activeBlocksPerMultiprocessor);
    }
}
"""


def _header() -> Path | None:
    folders = [tools.wheel_folder("include"), *(root / "include" for root in tools.toolkit_folders())]
    return next((f for f in folders if f and (f / "cuda_occupancy.h").is_file()), None)


HEADER = _header()
COMPILER = shutil.which("g++") or shutil.which("clang++")
pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(HEADER is None or COMPILER is None, reason="needs cuda_occupancy.h and a C++ compiler"),
]


def _cases() -> list[tuple[str, int, int, int, int, int]]:
    draw = random.Random(4)
    return [
        (
            draw.choice(sorted(archs())),
            draw.choice([32, 64, 128, 160, 192, 256, 384, 512, 768, 1024, draw.randint(1, 1024)]),
            draw.randint(1, 255),
            draw.randint(0, 48 * 1024),
            draw.choice([0, 0, draw.randint(0, 180_000)]),
            draw.randint(1, 16),
        )
        for _ in range(4000)
    ]


def test_four_thousand_random_kernels(tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text(_PROGRAM)
    program = tmp_path / "main"
    command = [str(COMPILER), "-O1", "-w", f"-I{HEADER}", "-o", str(program), str(tmp_path / "main.cpp")]
    subprocess.run(command, check=True)
    cases = _cases()
    lines = []
    for name, threads, registers, static, dynamic, barriers in cases:
        a = archs()[name]
        chip = (*a.capability, a.threads_per_block, a.threads_per_sm, a.registers_per_block, a.registers_per_sm)
        shared = (a.shared_per_sm, a.shared_per_block, a.shared_reserved_per_block)
        lines.append(" ".join(map(str, (*chip, *shared, threads, registers, static, dynamic, barriers))))
    done = subprocess.run([str(program)], input="\n".join(lines), capture_output=True, text=True, check=True)
    theirs = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    ours = [occupancy(archs()[n], t, r, s + d, b).blocks for n, t, r, s, d, b in cases]
    wrong = [(c, o, t) for c, o, t in zip(cases, ours, theirs, strict=True) if t != (0, o)]
    assert wrong == []
    assert len(set(ours)) > 15
