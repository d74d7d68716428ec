"""What schedules promise of their machine code, kept by real kernels and found where it is not kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from kernelagent.dsl import device as dev
from kernelagent.dsl import parse
from kernelagent.dsl.targets.calls import Choices
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.emit import entry_name
from kernelagent.dsl.targets.cuda.inspect import Inspection, inspect
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.promises import broken, opcode, promised
from kernelagent.dsl.targets.cuda.units import DeviceCode, device_units
from support.cuda import needs_binary_tools, needs_compiler
from support.gpu_cases import CASES

pytestmark = [needs_compiler, needs_binary_tools]
ARCH = "sm_90a"


def lowered(name: str, arch: str = ARCH) -> DeviceCode:
    case = next(c for c in CASES if c.name == name)
    (unit,) = device_units(parse(case.text), Choices(dict(case.dtypes), {}, {}, {}), arch)
    return unit.classes[0]


def inspected(schedule: dev.DeviceKernel, body: str) -> Inspection:
    compiled = cached_cubin(prelude(schedule.target, body) + body, schedule.target).compiled
    return inspect(compiled, schedule.target, schedule.threads, schedule.shared_bytes, entry_name(schedule))


GEMM = lowered("gemm_nt_bf16")


@pytest.mark.parametrize(
    ("name", "arch", "wanted"),
    [
        ("gemm_nt_bf16", ARCH, ["HGMMA.64x256x16.F32.BF16", "UTMALDG.2D", "UTMASTG.2D", "USETMAXREG.TRY_ALLOC"]),
        ("gemm_int8", ARCH, ["IGMMA.64x128x32.S8.S8", "UTMALDG.2D", "UTMASTG.2D"]),
        ("gemm_fp8", ARCH, ["QGMMA.64x128x32.F32.E4M3.E4M3", "UTMALDG.2D", "UTMASTG.2D", "BAR.SYNC"]),
        ("gemm_nt_bf16", "sm_80", ["HMMA.16816.F32.BF16", "LDGSTS.E.BYPASS.LTC128B.128", "STG.E.128", "BAR.SYNC"]),
        ("softmax_f32", "sm_80", ["LDG.E.128", "STG.E.128", "MUFU.EX2"]),
    ],
)
def test_opcodes_follow_from_the_schedule(name: str, arch: str, wanted: list[str]) -> None:
    code = lowered(name, arch)
    assert {opcode(a, arch) for a in promised(code.schedule)} >= set(wanted)
    assert list(broken(code.schedule, inspected(code.schedule, code.body))) == []


EDITS: Mapping[str, tuple[tuple[str, str], str]] = {
    "no product": (("ka_wgmma_m64n256k16_bf16<0, 0>(acc_2 + 0, ", "(void)("), "no HGMMA.64x256x16.F32.BF16"),
    "no store through a map": (("ka_tma_store<2>(map_2, ", "(void)("), "no UTMASTG.2D (tma_store_2d)"),
    "other registers": (("ka_registers_more<232>", "ka_registers_more<224>"), "declare [40, 232] registers, the code"),
    "registers kept": (("ka_registers_less<40>();", ""), "no USETMAXREG.DEALLOC (registers_less)"),
    "sums touched": (("ka_wgmma_commit();", "acc_2[0] *= 2.0f; ka_wgmma_commit();"), "warpgroup.wait is injected"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_not_kept_is_named(name: str) -> None:
    (old, new), says = EDITS[name]
    assert old in GEMM.body
    found = list(broken(GEMM.schedule, inspected(GEMM.schedule, GEMM.body.replace(old, new))))
    assert any(says in line for line in found), found


def test_registers_and_shared_memory_within_the_chip() -> None:
    found = inspected(GEMM.schedule, GEMM.body)
    producer, consumer = GEMM.schedule.roles
    much = replace(GEMM.schedule, roles=(replace(producer, registers=96), consumer))
    assert any("roles take 12288 + 59392 registers" in line for line in broken(much, found))
    assert any("233000 bytes" in b for b in broken(GEMM.schedule, replace(found, dynamic_shared_bytes=233000)))
    assert any("384 threads of 176 registers" in b for b in broken(GEMM.schedule, replace(found, registers=176)))
