"""The kernels that call each atom once compile for every architecture, without local memory."""

from __future__ import annotations

import pytest
from kernelagent.dsl.targets.cuda.archs import archs
from kernelagent.dsl.targets.cuda.cache import cached_cubin
from kernelagent.dsl.targets.cuda.prelude import prelude
from support.cuda import needs_compiler
from support.gpu_cases import conformance

pytestmark = needs_compiler


@pytest.mark.parametrize("arch", archs())
def test_each_atom_has_a_kernel(arch: str) -> None:
    atoms = conformance.covered(arch)
    compiled = cached_cubin(prelude(arch) + "".join(map(conformance.kernel, atoms)), arch).compiled
    assert {r.function for r in compiled.resources} == {f"test_{a.name}" for a in atoms}
    assert not [r.function for r in compiled.resources if r.spills or r.stack_bytes]
