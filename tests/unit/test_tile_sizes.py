"""Tiles that fit no machine are refused with their numbers, before anything is compiled; the others are not."""

from __future__ import annotations

import pytest
from kernelagent.dsl import parse
from kernelagent.dsl.check_gpu import GpuCalls, check_gpu
from kernelagent.dsl.check_text import check
from kernelagent.dsl.diagnostics import KernelError
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from kernelagent.dsl.targets.cpu.build import emit
from kernelagent.dsl.targets.cpu.features import detect

SUMS = """edition(1)

@kernel
def gemm(a: In[T, M, K], b: In[T, N, K], c: Out[T, M, N], BM={rows}, BN={columns}, BK=32):
    for i, j in tiles((M, N), (BM, BN)):
        acc = zeros((BM, BN), f32)
        for k in pipeline(0, K, BK):
            acc += mma(load(a, (i, k), (BM, BK)), load(b, (j, k), (BN, BK)).T)
        store(c, (i, j), cast(acc, T))
"""
PASSING = """edition(1)

@kernel
def f(x: In[f32, R, C], y: Out[f32, R, C], BR={size}, BC={size}):
    for i, j in tiles((R, C), (BR, BC)):
        v = load(x, (i, j), (BR, BC))
        store(y, (i, j), exp(v))
"""
IN_F32 = Choices({"T": "f32"}, {}, {}, {})


def sums(rows: int, columns: int) -> str:
    return SUMS.format(rows=rows, columns=columns)


def test_gigabytes_of_sums_are_refused_for_the_cpu() -> None:
    report = check(sums(32768, 32768))
    assert not report.ok
    (told,) = report.diagnostics
    assert (told.code, told.severity, told.span and told.span.line) == ("tile-memory", "error", 6)
    assert "4.0 GiB" in told.message
    assert "32768x32768 f32" in (told.hint or "")
    assert told.facts["bytes"] > told.facts["limit"]


def test_the_compiler_refuses_them_too() -> None:
    calls = concrete_calls(parse(sums(32768, 32768)), IN_F32)
    with pytest.raises(KernelError) as refused:
        emit(calls, detect().level, True)
    assert refused.value.diagnostics[0].code == "tile-memory"


def test_hundreds_of_megabytes_are_a_warning() -> None:
    report = check(sums(4096, 8192))
    assert report.ok
    assert [(d.code, d.severity) for d in report.diagnostics] == [("tile-memory", "warning")]


@pytest.mark.parametrize("text", [sums(128, 128), PASSING.format(size=65536)])
def test_what_takes_no_memory_is_told_nothing(text: str) -> None:
    """However large the tile, its elements may pass straight through."""
    report = check(text)
    assert report.ok
    assert not report.diagnostics


@pytest.mark.parametrize("target", ["cuda", "emu"])
@pytest.mark.parametrize("size", [512, 65536])
def test_tiles_beyond_all_registers_are_refused_for_a_gpu(size: int, target: str) -> None:
    report = check_gpu(PASSING.format(size=size), target)  # type: ignore[arg-type]
    assert not report.ok
    told = report.diagnostics[-1]
    assert (told.code, told.span and told.span.line) == ("cuda-spills", 6)
    assert f"takes {size * size // 128} registers of each thread of `f`, which has 255 on sm_80" in told.message
    assert report.seconds < 30


def test_the_same_on_hopper_and_in_a_schedule_by_hand() -> None:
    from kernelagent.dsl.level2 import print_schedule
    from kernelagent.dsl.lower.device import Machine, lower_device
    from kernelagent.dsl.lower.device.policy import Policy
    from kernelagent.dsl.targets.cuda.archs import arch

    assert check_gpu(PASSING.format(size=512), "cuda", GpuCalls("sm_90a")).diagnostics[-1].code == "cuda-spills"
    (call,) = concrete_calls(parse(PASSING.format(size=512)), Choices({}, {}, {}, {}), "sm_80")
    written = print_schedule(
        lower_device(call.kernel, Machine("sm_80", arch("sm_80").shared_per_block), Policy(), True)
    )
    report = check_gpu(written, "cuda")
    assert report.diagnostics[-1].code == "cuda-spills"
