"""The kernels that call each atom once compile for every architecture, without local memory."""

from __future__ import annotations

import pytest
from kernelagent.dsl.atoms import atom
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from kernelagent.dsl.targets.cuda.promises import count
from kernelagent.dsl.targets.cuda.sass import read_all
from support.cuda import needs_binary_tools, needs_compiler
from support.gpu_cases import conformance, probes

pytestmark = needs_compiler


@pytest.mark.parametrize("arch", archs())
def test_each_atom_has_a_kernel(arch: str) -> None:
    atoms = conformance.covered(arch)
    compiled = cached_cubin(prelude(arch) + "".join(map(conformance.kernel, atoms)), arch).compiled
    assert {r.function for r in compiled.resources} == {f"test_{a.name}" for a in atoms}
    assert not [r.function for r in compiled.resources if r.spills or r.stack_bytes]


@needs_binary_tools
def test_each_probe_has_the_opcodes_of_its_atoms() -> None:
    """And no local memory, no remark of the assembler, and the registers that roles can trade."""
    every = probes.probes()
    source = "".join(probe.source for probe in every)
    compiled = cached_cubin(prelude(probes.ARCH, source) + source, probes.ARCH).compiled
    assert compiled.notes == ()
    assert not [r.function for r in compiled.resources if r.spills or r.stack_bytes]
    assert compiled.kernel("probe_registers").registers == 65536 // 384 // 8 * 8
    code = read_all(compiled.cubin)
    for probe in every:
        absent = [a for a in map(atom, probe.atoms) if not count(a, code[probe.name])]
        assert not absent, (probe.name, absent[0].name, sorted(code[probe.name].opcodes))
