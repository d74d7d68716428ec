"""Hand-built schedules as machine code: no spills, the instructions that their statements stand for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from kernelagent.dsl.device import DeviceKernel
from kernelagent.dsl.targets.cuda.compiler import Compiled, compile_cubin
from kernelagent.dsl.targets.cuda.emit import emit, entry_name
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.sass import read_sass
from support.cuda import needs_binary_tools, needs_compiler
from support.emit_kernels import gemm, scaled_sum

pytestmark = [pytest.mark.compile, needs_compiler]


def compiled(kernel: DeviceKernel, arch: str) -> Compiled:
    return compile_cubin(prelude(arch) + "\n" + emit(kernel), arch)


@pytest.mark.parametrize("arch", ["sm_80", "sm_89"])
@pytest.mark.parametrize("make", [gemm, scaled_sum])
def test_registers_do_not_spill(make: Callable[[], DeviceKernel], arch: str) -> None:
    kernel = make()
    used = compiled(kernel, arch).kernel(entry_name(kernel))
    assert used.spill_store_bytes == used.spill_load_bytes == 0
    assert used.registers <= 255


@needs_binary_tools
def test_a_product_is_matrix_instructions_fed_by_wide_copies() -> None:
    """Two k steps of 16 over 4 x 8 atoms: 64 products; 4 + 4 loads of four matrices a step; copies of 16 bytes."""
    code = read_sass(compiled(gemm(), "sm_80").cubin)
    opcodes = [i.opcode for i in code.instructions]
    assert sum(o.startswith("HMMA.16816.F32.BF16") for o in opcodes) == 64
    assert sum(o.startswith("LDSM.16.M88.4") for o in opcodes) == 16
    assert {o.endswith(".128") for o in opcodes if o.startswith("LDGSTS")} == {True}


@needs_binary_tools
def test_elementwise_tiles_move_in_accesses_of_16_bytes() -> None:
    opcodes = [i.opcode for i in read_sass(compiled(scaled_sum(), "sm_80").cubin).instructions]
    moves = [o for o in opcodes if o.startswith(("LDG", "STG"))]
    assert moves
    assert all(".128" in o for o in moves)
