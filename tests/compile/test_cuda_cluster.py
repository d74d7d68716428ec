"""Hopper's calls: each compiles without a word, a whole body keeps its registers, serialised products are noticed."""

from __future__ import annotations

import re
from functools import cache

import pytest
from kernelagent.dsl.atoms import Atom, atoms
from kernelagent.dsl.atoms.shared_operand import encode
from kernelagent.dsl.targets.cuda.compiler import Compiled, CudaCompilerFailed, Toolchain, compile_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.sass import read_sass
from support.atom_kernels import kernel
from support.cuda import TOOLCHAINS, each_toolchain, needs_binary_tools, needs_compiler, source

pytestmark = needs_compiler

ARCH = "sm_90a"


def built(body: str, toolchain: Toolchain | None = None) -> Compiled:
    return compile_cubin(f'{prelude(ARCH, body)}#line 1 "kernel"\n{body}', ARCH, toolchain=toolchain or TOOLCHAINS[0])


@cache
def gemm(toolchain: Toolchain) -> Compiled:
    return built(source("gemm_sm_90a.cu"), toolchain)


def control() -> str:
    """Each call that is no product, with boxes of every rank."""
    boxes = ""
    for rank in range(1, 6):
        corner = ", ".join(f"{axis} * M" for axis in range(rank))
        boxes += f"""
        ka_tma_load<{rank}>(1024, map_0, 8, {corner});
        ka_tma_load_multicast<{rank}>(2048, map_0, 8, 3, {corner});
        ka_tma_store<{rank}>(map_1, 1024, {corner});
        ka_tma_add<{rank}>(map_1, 1024, {corner});"""
    return f"""
KA_CLUSTER_KERNEL(control, 256, 1, 2)(int M, KA_MAP map_0, KA_MAP map_1) {{
    KA_PROLOGUE
    if (ka_thread() == 0) {{ ka_mbar_init(8, 2); ka_mbar_fence_init(); }}
    ka_cluster_barrier();
    if (ka_thread() >= 128) ka_registers_less<40>();
    else ka_registers_more<216>();
    if (ka_thread() < 32 && ka_elect()) {{{boxes}
        ka_mbar_expect(8, 4096);
        ka_tma_commit();
        ka_tma_wait_read<1>();
        ka_tma_wait<0>();
    }}
    ka_mbar_wait(8, M & 1);
    ka_mbar_arrive(8);
    ka_mbar_arrive_at(8, ka_cluster_rank() ^ 1);
    ka_fence_async();
    if (ka_thread() < 128) ka_named_barrier<1>(256);
    else ka_named_arrive<1>(256);
    ka_cluster_barrier();
}}
"""


@each_toolchain
def test_every_call_but_products_compiles_without_a_word(toolchain: Toolchain) -> None:
    compiled = built(control(), toolchain)
    assert not re.search(r"warning|error", compiled.log), compiled.log
    assert compiled.notes == ()
    assert not compiled.kernel("control").spills


def widest() -> tuple[Atom, ...]:
    return tuple(a for a in atoms("wgmma", ARCH) if a.shape[1] in (104, 112, 256) and not a.name.endswith("_ra"))


def test_wide_products_keep_their_registers() -> None:
    compiled = built("".join(map(kernel, widest())))
    assert compiled.notes == ()
    assert not any(r.spills or r.stack_bytes for r in compiled.resources)
    assert len(compiled.resources) == len(widest()) == 3 * 5 + 2


@pytest.mark.parametrize("n", [40, 56, 72, 88, 248])
def test_integer_products_have_no_odd_multiples_of_8_above_32(n: int) -> None:
    """What `wgmma.sizes` leaves out the assembler refuses."""
    narrow = next(a for a in atoms("wgmma", ARCH) if a.name == "wgmma_m64n8k32_s8")
    body = kernel(narrow)
    text = (prelude(ARCH, body) + body).replace("m64n8k32.s32", f"m64n{n}k32.s32")
    with pytest.raises(CudaCompilerFailed):
        compile_cubin(text, ARCH, toolchain=TOOLCHAINS[0])


def test_only_called_products_are_in_the_prelude() -> None:
    assert "ka_wgmma_m64" not in prelude(ARCH)
    one = prelude(ARCH, "ka_wgmma_m64n64k16_bf16_ra<1>(d, a, b)")
    assert re.findall(r"\bka_wgmma_m64\w+", one) == ["ka_wgmma_m64n64k16_bf16_ra"]
    assert "ka_tma_load" not in prelude("sm_89")


@pytest.mark.parametrize("swizzle", [0, 32, 64, 128])
def test_descriptors_have_the_bits_of_the_records(swizzle: int) -> None:
    cases = ((0, 0, 1024), (0x5000400, 8192, 1024), (0x38C00, 32768, 256))
    bits = f"ka_descriptor_bits<{swizzle}>"
    checks = "".join(f"static_assert({bits}({c[0]}u, {c[1]}, {c[2]}) == {encode(*c, swizzle)}ull);\n" for c in cases)
    built(checks + "KA_KERNEL(nothing, 32, 1)() {}\n")


# A whole body --------------------------------------------------------------------------------------------------


@each_toolchain
def test_a_product_of_matrices_overlaps_and_does_not_spill(toolchain: Toolchain) -> None:
    compiled = gemm(toolchain)
    found = compiled.kernel("gemm")
    assert compiled.notes == compiled.serialised == ()
    assert (found.spills, found.stack_bytes) == (False, 0)
    assert found.registers == 65536 // 384 // 8 * 8  # what the launch gives, before roles trade


@needs_binary_tools
def test_it_uses_the_units_that_it_asks_for() -> None:
    instructions = read_sass(gemm(TOOLCHAINS[0]).cubin, "gemm").instructions
    families = {i.family for i in instructions}
    assert families >= {"HGMMA", "UTMALDG", "UTMASTG", "SYNCS", "USETMAXREG", "STSM", "BAR", "FENCE", "UCGABAR_ARV"}
    assert not families & {"LDL", "STL", "HMMA", "LDS"}
    first = next(n for n, i in enumerate(instructions) if i.family == "UTMALDG")
    assert "ELECT" not in {i.family for i in instructions[first : first + 8]}  # one thread, and the compiler knows it


# Notes ---------------------------------------------------------------------------------------------------------

SERIAL = """
KA_KERNEL(serial, 128, 1)(ka_f32* c, ka_u64 a, ka_u64 b) {
    ka_f32 d[32];
    for (int i = 0; i < 32; ++i) d[i] = c[32 * ka_thread() + i];
    ka_wgmma_settle<32>(d);
    ka_wgmma_fence();
    ka_wgmma_m64n64k16_bf16<0, 0>(d, a, b);
    %s
    ka_wgmma_m64n64k16_bf16<0, 0>(d, a + 2, b + 2);
    ka_wgmma_commit();
    ka_wgmma_wait<0>();
    ka_wgmma_settle<32>(d);
    for (int i = 0; i < 32; ++i) c[32 * ka_thread() + i] = d[i];
}
"""


@each_toolchain
def test_touching_a_product_in_flight_is_noticed(toolchain: Toolchain) -> None:
    compiled = built(SERIAL % "d[0] *= 2.0f;", toolchain)
    assert any("wgmma.mma_async instructions are serialized" in note for note in compiled.serialised)
    assert set(compiled.serialised) <= set(compiled.notes)
    assert "function 'serial'" in " ".join(compiled.serialised)


@each_toolchain
def test_products_side_by_side_are_not(toolchain: Toolchain) -> None:
    assert built(SERIAL % "", toolchain).notes == ()
