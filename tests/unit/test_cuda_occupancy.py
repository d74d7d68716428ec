"""Occupancy against cases worked out by hand from the programming guide's table, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.cuda.archs import arch, archs
from kernelagent.dsl.targets.cuda.occupancy import occupancy

ARCHS = st.sampled_from(sorted(archs()))
THREADS = st.integers(1, 1024)
REGISTERS = st.integers(1, 255)
SHARED = st.integers(0, 240_000)


@pytest.mark.parametrize(
    ("name", "threads", "registers", "shared", "blocks", "limiter"),
    [
        ("sm_80", 256, 32, 0, 8, "threads"),  # 64 warps / 8
        ("sm_80", 256, 33, 0, 6, "registers"),  # 33*32 -> 1280 a warp; 16384/1280 = 12 a partition; 48 warps / 8
        ("sm_80", 128, 255, 0, 2, "registers"),  # 255*32 -> 8192 a warp; two a partition; 8 warps / 4
        ("sm_80", 32, 16, 0, 32, "block slots"),
        ("sm_80", 128, 32, 40 * 1024, 4, "shared memory"),  # 164 KB / 41 KB
        ("sm_80", 128, 32, 163 * 1024, 1, "shared memory"),
        ("sm_80", 128, 32, 163 * 1024 + 1, 0, "shared memory"),
        ("sm_86", 64, 16, 0, 16, "block slots"),
        ("sm_86", 1024, 32, 0, 1, "threads"),  # 48 warps / 32
        ("sm_89", 64, 16, 0, 24, "threads"),  # 48 warps / 2, as many as block slots
        ("sm_89", 128, 64, 48 * 1024, 2, "shared memory"),  # 100 KB / 49 KB
        ("sm_90a", 384, 168, 200 * 1024, 1, "registers"),  # 5376 a warp; 3 a partition; 12 warps / 12
        ("sm_90a", 1024, 65, 0, 0, "registers"),  # 65*32 -> 2304 a warp, more than 65536 a block
    ],
)
def test_by_hand(name: str, threads: int, registers: int, shared: int, blocks: int, limiter: str) -> None:
    found = occupancy(arch(name), threads, registers, shared)
    assert (found.blocks, found.limiter) == (blocks, limiter)


def test_barriers_limit_hopper() -> None:
    assert occupancy(arch("sm_90a"), 32, 16, 0, barriers=8).limits["barriers"] == 8
    assert "barriers" not in occupancy(arch("sm_80"), 32, 16, 0, barriers=8).limits


@given(ARCHS, THREADS, REGISTERS, SHARED)
def test_resident_blocks_fit(name: str, threads: int, registers: int, shared: int) -> None:
    chip = arch(name)
    found = occupancy(chip, threads, registers, shared)
    assert found.blocks * threads <= chip.threads_per_sm
    assert found.blocks * threads * registers <= chip.registers_per_sm
    assert found.blocks * (shared + chip.shared_reserved_per_block) <= chip.shared_per_sm
    assert found.blocks == min(found.limits.values()) == found.limits[found.limiter]
    assert 0 <= found.fraction <= 1


@given(ARCHS, THREADS, REGISTERS, SHARED, st.integers(0, 64), st.integers(0, 10_000))
def test_more_never_makes_more_resident(
    name: str, threads: int, registers: int, shared: int, further: int, bytes_more: int
) -> None:
    chip = arch(name)
    less = occupancy(chip, threads, registers, shared)
    assert occupancy(chip, threads, registers + further, shared).blocks <= less.blocks
    assert occupancy(chip, threads, registers, shared + bytes_more).blocks <= less.blocks


def test_the_table_agrees_with_itself() -> None:
    for chip in archs().values():
        assert chip.threads_per_sm == 32 * chip.warps_per_sm
        assert chip.shared_per_block + chip.shared_reserved_per_block == chip.shared_per_sm
        assert "".join(map(str, chip.capability)) == chip.name.removeprefix("sm_").rstrip("a")


@pytest.mark.parametrize(("wrong", "hint"), [("sm_90", "sm_90a"), ("sm80", "sm_80"), ("gfx942", "known: sm_80")])
def test_an_unknown_architecture(wrong: str, hint: str) -> None:
    with pytest.raises(KernelError) as failure:
        arch(wrong)
    (found,) = failure.value.diagnostics
    assert found.code == "unknown-arch"
    assert wrong in found.message
    assert hint in (found.hint or "")
